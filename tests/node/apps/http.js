// A plain HTTP server, which can be asked to be slow, to keep a connection, or to take few of them.
"use strict";
const http = require("node:http");
const { who, where } = require("./who.js");

const server = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://test");
  const millis = Number(searchParams.get("ms") ?? 0);
  if (pathname === "/block") {
    // The whole worker stands still, as with a long computation. The client sees the head before that.
    response.setHeader("Connection", "close");
    response.flushHeaders();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis);
  }
  if (pathname === "/spin") return response.end(who(request), () => { for (;;); });
  const answer = () => response.end(who(request, { url: request.url }));
  if (pathname === "/wait") setTimeout(answer, millis);
  else answer();
});
if (process.env.MAX_CONNECTIONS) server.maxConnections = Number(process.env.MAX_CONNECTIONS);
server.listen(where);
