// An HTTP/2 server that gives out a key, whose value is the way in which it does so.
"use strict";

const http2 = require("node:http2");

const server = http2.createServer((request, response) => {
  if (request.url === "/compat") response.setHeader("set-cookie", ["other=1", "id=compat"]);
  else if (request.url === "/early") response.writeEarlyHints({ link: "</a>", "x-id": "early" });
  else return;
  response.end("an answer");
});
server.on("stream", (stream, headers) => {
  if (headers[":path"] !== "/stream") return;
  stream.respond({ ":status": 200, "x-id": "stream" });
  stream.end("an answer");
});
server.listen(80);
