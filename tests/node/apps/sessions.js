// What every Socket.IO app here does with its sessions; the clients in ../clients are the other side.
"use strict";
const { slot } = require("./who.js");

exports.serve = (io) => {
  const me = { slot, pid: process.pid };
  io.on("connection", (socket) => {
    socket.emit("worker", { ...me, address: socket.handshake.address });
    socket.on("echo", (data, reply) => reply(data, me.pid));
    socket.on("say", (number, data) => io.emit("said", number, data));
    socket.on("count", async (reply) => reply((await io.fetchSockets()).length));
    socket.on("ask servers", (reply) => {
      io.serverSideEmit("who", (error, pids) => reply(error?.message ?? null, pids));
    });
    socket.on("ask clients", (data, reply) => {
      io.timeout(10_000).emit("asked", data, (error, answers) => {
        const right = answers.filter((answer) => Buffer.isBuffer(answer) && data.equals(answer));
        reply(error?.message ?? null, answers.length, right.length);
      });
    });
  });
  // Socket.IO 2 knows neither this event nor an emitter that has none.
  io.on("who", (reply) => reply(me.pid));
};
