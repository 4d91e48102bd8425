// Listens on the Unix socket at SOCKET as most apps do that know no better: a file that is there is old.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const { who } = require("./who.js");

const path = process.env.SOCKET;
fs.rmSync(path, { force: true });
const server = http.createServer((request, response) => {
  response.setHeader("Connection", "close");
  response.end(who(request));
});
server.listen(path, () => fs.chmodSync(path, 0o666));
