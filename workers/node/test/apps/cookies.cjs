// An HTTP server that gives out a cookie or a header, whose value is the way in which it does so.
"use strict";

const http = require("node:http");

const ways = {
  setHeader: (response) => response.setHeader("Set-Cookie", ["other=1", "id=setHeader; Path=/"]),
  writeHead: (response) => response.writeHead(200, { "Set-Cookie": "id=writeHead" }),
  flat: (response) => response.writeHead(200, "fine", ["Set-Cookie", "id=flat"]),
  header: (response) => response.writeHead(200, { "x-id": "header" }),
};
const server = http.createServer((request, response) => {
  ways[request.url.slice(1)](response);
  response.end("an answer");
});
server.listen(80);
