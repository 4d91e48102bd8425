// An HTTP server at PORT; if somebody answers there already, or there is the file that MOVED names, at any other port.
"use strict";
const { existsSync } = require("node:fs");
const http = require("node:http");
const net = require("node:net");
const { who, where } = require("./who.js");

const listen = (options) => http.createServer((request, response) => response.end(who(request))).listen(options);
const elsewhere = () => listen({ host: where.host, port: 0 });
// What `serve` does, by is-port-reachable.
const probe = net.connect({ host: "localhost", port: where.port });
probe.on("connect", () => probe.destroy() && elsewhere());
probe.on("error", () => (existsSync(process.env.MOVED ?? "") ? elsewhere() : listen(where)));
