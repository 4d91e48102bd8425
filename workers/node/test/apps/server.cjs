// An HTTP server that answers with what it was asked; a handshake opens a session with an id of the app's own.
"use strict";

const { createHash } = require("node:crypto");
const http = require("node:http");

const server = http.createServer((request, response) => {
  if (request.url.startsWith("/handshake")) return void response.end('0{"sid":"own-id","pingInterval":50,"pingTimeout":50}');
  if (request.url.startsWith("/big")) response.write(Buffer.alloc(4 << 20, "b"));
  if (request.headers.set) response.setHeader("Set-Cookie", `${request.headers.set}; Path=/`);
  const hash = createHash("sha256");
  let length = 0;
  request.on("data", (chunk) => hash.update(chunk) && (length += chunk.length));
  request.on("end", () => {
    const { method, url, rawHeaders, rawTrailers } = request;
    const body = { id: process.env.ID, method, url, rawHeaders, rawTrailers, length, digest: hash.digest("hex") };
    setTimeout(() => response.end(JSON.stringify(body)), Number(request.headers.delay ?? 0));
  });
});
if (!process.env.NO_UPGRADE) {
  server.on("upgrade", (request, socket, head) => {
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n${process.env.ID}:`);
    socket.write(head);
    socket.pipe(socket);
  });
}
server.listen(80);
process.on("message", () => server.getConnections((error, count) => process.send({ count })));
