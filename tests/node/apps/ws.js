// WebSockets of the package `ws`, without Engine.IO: what comes goes back, text and binary.
"use strict";
const { WebSocketServer } = require("ws");
const { where, slot } = require("./who.js");

new WebSocketServer(where).on("connection", (socket) => {
  socket.send(JSON.stringify({ slot, pid: process.pid }));
  socket.on("message", (data, binary) => socket.send(data, { binary }));
});
