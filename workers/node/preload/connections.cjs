/**
 * Looks at every request of an HTTP connection, before anything else does: in the function that
 * Node's parser calls with a complete head. There a request can still be refused unanswered, with its
 * body unread.
 *
 * The first request of a connection from the supervisor decided where the connection went. The
 * others came to this worker because the client, or a proxy, uses its connection again.
 */
"use strict";

const http = require("http");
const net = require("net");
const { give, hasLeft, leave } = require("./handback.cjs");
const { readHandshake, readUrl } = require("./requests.cjs");
const { connected } = require("./supervisor.cjs");

/** What is to be done with most requests: nothing. */
const ORDINARY = { foreign: false, handshake: false, close: false };

/** @param {object} parts see index.cjs */
function install(parts) {
  /** The last request for a new session: its answer tells the client the id. */
  let handshake = null;
  const { emit } = http.Server.prototype;

  http.Server.prototype.emit = function (event, first, second, third) {
    if (event === "request") {
      if (first === handshake) {
        handshake = null;
        watchAnswer(second, parts.sessions);
      }
    } else if (event === "connection") {
      const result = emit.apply(this, arguments);
      attempt(() => passable(first) && watchRequests(this, first));
      return result;
    } else if (event === "upgrade" && hasLeft(this, first)) {
      give(first, second, third, parts.handles.key(second._handle));
      return true;
    }
    return emit.apply(this, arguments);
  };

  function watchRequests(server, socket) {
    const given = parts.handles.has(socket._handle);
    if (given) parts.servers.feed(server);
    const { parser } = socket;
    const { onIncoming } = parser;
    let routed = given;
    parser.onIncoming = function (request, keepAlive) {
      const verdict = attempt(() => judge(request, routed)) ?? ORDINARY;
      routed = false;
      const answer = verdict.foreign && attempt(() => leave(server, request));
      if (answer) return answer;
      if (verdict.handshake) handshake = request;
      return onIncoming.call(this, request, keepAlive && !verdict.close);
    };
  }

  /** What is to be done with `request`; `routed`: the supervisor chose this worker for it. */
  function judge(request, routed) {
    const asked = readUrl(request.url);
    if (!asked) return ORDINARY;
    const { drain, keepAlive, sessions } = parts;
    const { sid, polling } = asked;
    const close = polling && keepAlive === "close";
    const stays = routed || keepAlive === "off" || request.method === "CONNECT" || !connected();
    // A new session begins where it can stay.
    if (!sid) return { foreign: !stays && drain.hasBegun(), handshake: polling, close };
    sessions.hear(sid);
    if (request.upgrade) sessions.hold(sid, request.socket);
    return { foreign: !stays && !sessions.has(sid), handshake: false, close };
  }
}

/** What `action` returns, or undefined if it fails: then Node goes on as without us. */
function attempt(action) {
  try {
    return action();
  } catch {
    return undefined;
  }
}

/** Whether `socket` is served by Node's own parser and could be sent to another process. */
function passable(socket) {
  const name = socket instanceof net.Socket && !socket.encrypted && socket._handle?.constructor.name;
  return (name === "TCP" || name === "Pipe") && typeof socket.parser?.onIncoming === "function";
}

/** Holds the answer to a handshake until the supervisor is told of the session, if it has to be. */
function watchAnswer(response, sessions) {
  response.end = function (...args) {
    delete this.end;
    const session = readHandshake(args[0]);
    if (!session) return this.end(...args);
    sessions.begin(session, () => this.end(...args));
    return this;
  };
}

module.exports = { install };
