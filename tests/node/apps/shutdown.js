// Closes its server when it is asked to end, in the way of WAY, says what came of it, and ends by itself only then.
"use strict";
const net = require("node:net");
const http = require("node:http");
const { promisify } = require("node:util");
const { who, where } = require("./who.js");

const server = http.createServer((request, response) => {
  setTimeout(() => response.end(who(request)), Number(new URL(request.url, "http://test").searchParams.get("ms")));
});
const said = (error) => {
  process.stderr.write(`closed: ${error?.code ?? "well"}\n`);
  process.exit(error ? 1 : 0);
};
// What packages do that keep the function which they find at start.
const kept = promisify(server.close.bind(server));
const { close } = net.Server.prototype;
const ways = {
  callback: () => server.close(said),
  promise: () => kept().then(said, said),
  inherited: () => close.call(server, said),
  event: () => server.once("close", () => said()).close(),
};
process.on("SIGTERM", ways[process.env.WAY]);
setInterval(() => {}, 1000);
server.listen(where);
