// Looks for a free port before it listens, as packages do that find one: it listens with a plain server and closes that, on
// every ADDRESS in turn, and goes on to the next port if one is taken. What is served then is the app in APP.
"use strict";
const net = require("node:net");

/** Whether the port is free at this address. */
const isFree = (port, host) => new Promise((done, fail) => {
  const server = net.createServer();
  server.on("error", (error) => (error.code === "EADDRINUSE" ? done(false) : fail(error)));
  server.listen({ port, host }, () => server.close(() => done(true)));
});

async function find(port, hosts) {
  for (const host of hosts) {
    if (!await isFree(port, host)) return find(port + 1, hosts);
  }
  return port;
}

const hosts = (process.env.ADDRESSES ?? process.env.HOST).split(" ").map((host) => host || undefined);
find(Number(process.env.PORT), hosts).then((port) => {
  process.stderr.write(`found ${port}\n`);
  process.env.PORT = String(port);
  require(process.env.APP);
});
