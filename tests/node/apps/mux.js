// One port, two protocols: lines that begin with #, and HTTP with Socket.IO, told apart by their first byte.
"use strict";
const http = require("node:http");
const net = require("node:net");
const { Server } = require("socket.io");
const { serve } = require("./sessions.js");
const { who, slot, where } = require("./who.js");

const inner = http.createServer((request, response) => response.end(who(request)));
inner.keepAliveTimeout = 60_000;
serve(new Server(inner, { maxHttpBufferSize: 5e6 }));
net.createServer((socket) => {
  socket.once("readable", () => {
    const bytes = socket.read();
    if (bytes === null) return;
    socket.unshift(bytes);
    if (bytes[0] === 0x23) socket.end(`line ${slot}\n`);
    else inner.emit("connection", socket);
  });
}).listen(where);
