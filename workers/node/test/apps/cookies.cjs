// An HTTP server that gives out a cookie or a header, whose value is the way in which it does so.
"use strict";

const http = require("node:http");

const ways = {
  setHeader: (response) => response.setHeader("Set-Cookie", ["other=1", "id=setHeader; Path=/"]),
  writeHead: (response) => response.writeHead(200, { "Set-Cookie": "id=writeHead" }),
  flat: (response) => response.writeHead(200, "fine", ["Set-Cookie", "id=flat"]),
  header: (response) => response.writeHead(200, { "x-id": "header" }),
  early: (response) => response.writeEarlyHints({ link: "</a>", "x-id": "early" }),
  queued: (response) => {
    process._handleQueue = [];
    response.setHeader("x-id", "queued");
  },
};
const server = http.createServer((request, response) => {
  ways[request.url.slice(1)](response);
  response.end("an answer");
});
server.on("upgrade", (request, socket) => {
  const lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: x"];
  if (request.url === "/upgrade") return void socket.write([...lines, "Set-Cookie: id=upgrade", "", "an answer"].join("\r\n"));
  socket.cork();
  for (const line of lines) socket.write(`${line}\r\n`);
  socket.write(Buffer.from("X-Id: corked\r\n"));
  socket.write("\r\nan answer");
  socket.uncork();
});
server.listen(80);
