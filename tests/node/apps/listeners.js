// Listens on everything in LISTEN, a JSON list of `{"name", "kind"?, "keep"?, ...what listen() takes}`, and says on standard error
// what came of each: `listener NAME {...}`.
"use strict";
const dgram = require("node:dgram");
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { who, slot } = require("./who.js");

function say(name, what) {
  process.stderr.write(`listener ${name} ${JSON.stringify({ slot, pid: process.pid, ...what })}\n`);
}

const kinds = {
  http: (answer) => http.createServer(answer),
  https: (answer, { key, cert }) =>
    https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) }, answer),
};

for (const { name, kind = "http", ...options } of JSON.parse(process.env.LISTEN)) {
  if (kind === "udp") listenForDatagrams(name, options);
  else listen(name, kind, options);
}

function listen(name, kind, options) {
  const server = kinds[kind]((request, response) => {
    if (!options.keep) response.setHeader("Connection", "close");
    response.end(who(request, { listener: name }));
  }, options);
  server.on("error", ({ code }) => say(name, { error: code }));
  server.listen(options, () => {
    const keys = kind === "https" ? { keys: server.getTicketKeys().toString("hex") } : {};
    say(name, { address: server.address(), ...keys });
  });
}

function listenForDatagrams(name, { type = "udp4", ...options }) {
  const socket = dgram.createSocket(type);
  socket.on("error", ({ code }) => say(name, { error: code }));
  socket.on("message", (message, { port, address }) => socket.send(`${slot} ${message}`, port, address));
  socket.bind(options, () => say(name, { address: socket.address() }));
}
