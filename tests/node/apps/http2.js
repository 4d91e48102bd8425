// HTTP/2 without TLS; what is asked for comes in two parts, after `ms`.
"use strict";
const http2 = require("node:http2");
const { who, where } = require("./who.js");

const server = http2.createServer((request, response) => {
  const ms = Number(new URL(request.url, "http://test").searchParams.get("ms"));
  response.write("begun\n");
  setTimeout(() => response.end(who(request)), ms);
});
server.listen(where);
