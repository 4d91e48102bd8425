// Listens on one Unix socket after the other, in the directory that it is in, and says what came of it: for each a line of
// what can be seen of it, or the error. A last server, at SOCKET, has it ready.
"use strict";
const cluster = require("node:cluster");
const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");

const version = Number.parseInt(process.versions.node, 10);

const cases = [
  { path: "plain" },
  { path: "readable", readableAll: true },
  { path: "writable", writableAll: true },
  { path: "both", readableAll: true, writableAll: true, backlog: 5 },
  // Before, Node fills the name up with null bytes, or knows no such names.
  ...(version >= 22 ? [{ path: `\0${process.env.NAME}` }] : []),
  { path: "missing/socket" },
  { path: "a-file" },
  { fd: 0 },
];
fs.writeFileSync("a-file", "");

const look = (options) => new Promise((done) => {
  const server = http.createServer((request, response) => response.end("answer"));
  const tell = (what) => {
    server.close();
    done(what);
  };
  server.on("error", (error) => done(error.code));
  server.listen(options, () => {
    // A worker of Node's cluster has one of its own.
    const count = (name) => server.listenerCount(name) - (name === "listening" && cluster.isWorker ? 1 : 0);
    const listeners = server.eventNames().map((name) => `${String(name)}:${count(name)}`).join();
    // Newer versions take the other permissions away.
    const mode = fs.existsSync(options.path) ? fs.statSync(options.path).mode : 0;
    const all = `read ${!options.readableAll || (mode & 0o044) === 0o044}, write ${(mode & 0o022) === 0o022}`;
    const seen = `${JSON.stringify(server.address())} ${all} ${listeners}`;
    const client = net.connect(options.path, () => client.end() && tell(seen));
    client.on("error", (error) => tell(`${seen} ${error.code}`));
  });
});

(async () => {
  for (const options of cases) process.stderr.write(`case ${JSON.stringify(options)}: ${await look(options)}\n`);
  process.stderr.write("no more cases\n");
  http.createServer(() => {}).listen(process.env.SOCKET);
})();
