// The worker of `sticky-session`, as its README has it. `/close` asks it to close, as a graceful stop does.
"use strict";
const http = require("node:http");
const sticky = require("sticky-session");
const { who, where } = require("./who.js");

const server = http.createServer((request, response) => {
  response.end(who(request));
  if (request.url === "/close") server.close();
});
if (!sticky.listen(server, where.port)) throw new Error("this is the primary");
