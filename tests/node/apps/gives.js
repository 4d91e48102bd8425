// A worker that sends the socket of `/give?ms=100` to the supervisor, after it has stood still for so long; and one that says
// something long to the others, as a cluster adapter does, at `/shout?length=40000`.
"use strict";
const http = require("node:http");
const { who, where } = require("./who.js");

http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://test");
  if (pathname === "/shout") {
    const data = "x".repeat(Number(searchParams.get("length")));
    process.send({ source: "_sio_adapter", uid: String(process.pid), nsp: "/", type: 3, data });
  }
  if (pathname === "/give") {
    response.setHeader("Connection", "close");
    response.flushHeaders();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(searchParams.get("ms")));
    // Node asks the process that gets a socket of a server about it before the server can close.
    request.socket.server = null;
    process.send("a socket", request.socket);
    return;
  }
  response.end(who(request));
}).listen(where);
