// Plain WebSockets against ../apps/ws.js: each sends text and bytes and compares what comes back.
//
//   node websockets.js '{"url": "ws://127.0.0.1:3000", "sockets": 60, "messages": 10}'
//
// Prints `{"workers": {PID: sockets}, "right", "wrong", "errors"}`.
"use strict";
const { randomBytes } = require("node:crypto");
const { once } = require("node:events");
const WebSocket = require("ws");

const { url, sockets, messages } = JSON.parse(process.argv[2]);
const verdict = { workers: {}, right: 0, wrong: 0, errors: [] };

async function talk() {
  const socket = new WebSocket(url);
  // What comes with the answer to the upgrade is there at once.
  const [hello] = await once(socket, "message");
  const { pid } = JSON.parse(hello);
  verdict.workers[pid] = (verdict.workers[pid] ?? 0) + 1;
  for (let nth = 0; nth < messages; nth++) {
    const message = nth % 2 ? randomBytes(100_000) : Buffer.from(`message ${nth}`);
    socket.send(message, { binary: nth % 2 === 1 });
    const [answer, binary] = await once(socket, "message");
    verdict[answer.equals(message) && binary === (nth % 2 === 1) ? "right" : "wrong"] += 1;
  }
  socket.close();
  await once(socket, "close");
}

Promise.allSettled(Array.from({ length: sockets }, talk)).then((results) => {
  verdict.errors = results.filter(({ reason }) => reason).map(({ reason }) => reason.message);
  console.log(JSON.stringify(verdict));
});
