/**
 * Giving a connection back to the supervisor because its next request belongs to another worker, and
 * taking one that another worker gave back.
 *
 * Giving: Node is told that the request upgrades to another protocol. It then stops at the end of the
 * head, lets go of the connection and gives us every byte behind it, which is exactly what is wanted,
 * whatever the body is like and whether or not the next requests are there already. The descriptor
 * is taken out of the socket, the socket ends as if its client had gone, and the descriptor goes to the
 * supervisor together with the bytes that were read.
 */
"use strict";

const net = require("net");
const { writeHead } = require("./requests.cjs");
const { hear, tell } = require("./supervisor.cjs");

/** What Node's parser takes as "stop behind the head, it is an upgrade". */
const UPGRADE = 2;

/** The supervisor takes so much of a connection, in bytes; it ends a worker that wants more of it (`MAX_HANDED_BACK`). */
const MOST = 256 * 1024;

/** Requests whose connections are about to be given back. */
const leaving = new WeakSet();

/** Connections that another worker gave back, and the supervisor passed on because of their next request. */
const passed = new WeakSet();

const ignore = () => {};

/**
 * Begins to give back the connection of `request`.
 *
 * @param {import("http").Server} server
 * @param {import("http").IncomingMessage} request
 * @returns {number} the answer for the parser
 */
function leave(server, request) {
  const { socket } = request;
  // What is still in the kernel is for the other worker; `_paused` keeps Node from reading on.
  socket._paused = true;
  socket._handle.reading = false;
  socket._handle.readStop();
  request.upgrade = true;
  leaving.add(request);
  // Node 24 destroys a connection whose upgrade nobody listens for.
  server.on("upgrade", ignore);
  return UPGRADE;
}

/** Whether `request` is one that leaves; true once. */
function hasLeft(server, request) {
  if (!leaving.delete(request)) return false;
  server.removeListener("upgrade", ignore);
  return true;
}

/**
 * Gives `socket` back, once the answers to earlier requests are written. If more was read of it than the
 * supervisor takes, this worker serves it.
 *
 * @param {import("http").Server} server
 * @param {import("http").IncomingMessage} request its next request
 * @param {import("net").Socket} socket
 * @param {Buffer} rest everything that was read behind the head of `request`
 */
function give(server, request, socket, rest) {
  // Node took its own listeners away with the parser.
  socket.on("error", ignore);
  whenAnswered(socket, () => {
    const handle = socket._handle;
    if (!handle || socket.destroyed || socket.writableEnded) return;
    const unread = socket.readableLength > 0 ? socket.read() : null;
    const head = Buffer.concat([writeHead(request), rest, unread ?? Buffer.alloc(0)]);
    if (head.length > MOST) {
      socket.removeListener("error", ignore);
      passed.add(socket);
      server.emit("connection", socket);
      return void socket.unshift(head);
    }
    socket._handle = null;
    socket.once("close", () => {
      tell("handback", { head: head.toString("base64") }, new net.Socket({ handle, manualStart: true }));
    });
    socket.destroy();
  });
}

/** Calls `then` when the answers that are due on `socket` are with the kernel. */
function whenAnswered(socket, then) {
  const answer = socket._httpMessage;
  if (answer) {
    const drained = () => answer.emit("drain");
    socket.on("drain", drained);
    answer.once("finish", () => {
      socket.removeListener("drain", drained);
      whenAnswered(socket, then);
    });
  } else if (socket.writableLength > 0) {
    socket.write("", then);
  } else {
    then();
  }
}

/**
 * Takes what the supervisor sends on from another worker.
 *
 * @param {object} parts see index.cjs
 */
function install({ packages, servers }) {
  hear("conn", ({ head, server: key, port }, socket) => {
    if (!socket) return;
    passed.add(socket);
    const server = servers.find(key, port);
    if (server) receive(server, socket);
    else if (!packages.receive(socket)) return void socket.destroy();
    socket.unshift(Buffer.from(head, "base64"));
  });
}

/** Whether the supervisor has seen the next request of `socket`, whichever server accepted it. */
function wasPassed(socket) {
  return passed.has(socket);
}

/** Makes `socket` a connection of `server`, as if it had been accepted. */
function receive(server, socket) {
  socket.allowHalfOpen = server.allowHalfOpen;
  if (server.pauseOnConnect) socket.pause();
  // A package's server does not listen and counts nothing: with the end of the first connection that
  // it counted, it would be closed.
  if (server._handle || server._connections > 0) {
    socket._server = server;
    server._connections++;
  }
  server.emit("connection", socket);
}

module.exports = { give, hasLeft, install, leave, wasPassed };
