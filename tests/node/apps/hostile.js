// A worker that misuses its channel: `/NAME` does what is listed here, past Node, on the channel's own descriptor. In slot 0, for as
// long as there is the file of `STORM`, it does one after the other by itself.
// `/slow` takes its time.
"use strict";
const { randomBytes, randomInt } = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const v8 = require("node:v8");
const { slot, who, where } = require("./who.js");

/** A value as a frame of this worker's codec. */
function frame(value) {
  const payload = v8.serialize(value);
  return Buffer.concat([length(payload.length), payload]);
}

function length(count) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(count);
  return bytes;
}

/** A frame of these bytes, whatever they mean. */
const raw = (bytes) => Buffer.concat([length(bytes.length), bytes]);

function nested(depth) {
  let value = {};
  for (let level = 0; level < depth; level++) value = { msg: value };
  return value;
}

const cluster = (act, more) => frame({ cmd: "NODE_CLUSTER", act, seq: 1000, ...more });
const sticky = (act, more) => frame({ cmd: "NODE_STICKY", act, ...more });
const abuses = {
  garbage: () => randomBytes(100_000),
  frames: () => Buffer.concat(Array.from({ length: 1000 }, () => raw(randomBytes(100)))),
  "length-huge": () => Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
  "length-zero": () => Buffer.concat(Array.from({ length: 1000 }, () => length(0))),
  endless: () => Buffer.alloc(80_000_000, 0x20),
  half: () => frame({ cmd: "NODE_CLUSTER", act: "listening" }).subarray(0, 9),
  deep: () => raw(Buffer.concat([Buffer.from([0xff, 0x0f]), Buffer.alloc(200_000, "A\x01")])),
  nested: () => frame(nested(500)),
  "unknown-tag": () => raw(Buffer.from([0xff, 0x0f, 0x99, 1, 2, 3])),
  "wrong-types": () => Buffer.concat([
    cluster("queryServer", { port: "x", address: 5, addressType: {}, index: -1, backlog: [] }),
    cluster("queryServer", { port: 70000, address: "127.0.0.1", addressType: 4 }),
    cluster("close", { key: 5 }), cluster(5), frame({ cmd: "NODE_" }), frame({ cmd: 7 }), frame([]), frame(null), frame("x"),
    sticky("session", { key: "x".repeat(100_000) }), sticky("closed", { count: -1 }), sticky("closed", { count: 1e300 }),
    sticky("package", { name: {} }), sticky("hello", { version: 99 }), sticky("nonsense"), frame({ cmd: "NODE_STICKY" }),
  ]),
  acknowledgements: () => Buffer.concat(Array.from({ length: 1000 }, (_, seq) =>
    Buffer.concat([frame({ cmd: "NODE_HANDLE_ACK" }), cluster(undefined, { ack: seq, accepted: seq % 2 === 0 })]))),
  refusals: () => Buffer.concat(Array.from({ length: 1000 }, () => frame({ cmd: "NODE_HANDLE_NACK" }))),
  queries: () => Buffer.concat(Array.from({ length: 5000 }, (_, index) =>
    cluster("queryServer", { address: "127.0.0.1", port: 0, addressType: 4, index, backlog: 0, data: null }))),
  // Ports that are opened and closed again, under a name that it can guess.
  cycles: () => Buffer.concat(Array.from({ length: 5000 }, (_, index) => Buffer.concat([
    cluster("queryServer", { address: "127.0.0.1", port: 0, addressType: 4, index }),
    cluster("close", { key: `127.0.0.1:0:V4::${index}` }),
  ]))),
  // One that is served already, under names that are no addresses.
  names: () => Buffer.concat(Array.from({ length: 5000 }, (_, index) =>
    cluster("queryServer", { address: `name-${index}`, port: where.port, addressType: 4 }))),
  datagrams: () => Buffer.concat(Array.from({ length: 5000 }, (_, index) =>
    cluster("queryServer", { address: "127.0.0.1", port: 0, addressType: "udp4", index }))),
  terminal: () => {
    const name = "/no/no\n2026 INFO stopped\x1b[2J\x9b31m\u202ewhere";
    return Buffer.concat([cluster("queryServer", { address: name, addressType: -1 }), sticky("package", { name })]);
  },
  sessions: () => Buffer.concat(Array.from({ length: 50_000 }, () =>
    sticky("session", { key: randomBytes(15).toString("base64url") }))),
  handback: () => Buffer.concat([
    frame({ cmd: "NODE_HANDLE", type: "net.Socket", msg: { cmd: "NODE_STICKY", act: "handback", head: "%%%" } }),
    sticky("handback", { head: "R0VUIC8=" }), frame({ cmd: "NODE_HANDLE", type: "net.Native", msg: {} }),
  ]),
  adapter: () => Buffer.concat([
    frame({ source: "_sio_adapter" }), frame({ source: "_sio_adapter", uid: 5, nsp: {}, type: "x", requesterUid: [] }),
    frame({ source: "_sio_adapter", uid: "x", type: 3, requesterUid: "nobody" }),
  ]),
};

/** What ends with its worker only, and so is not for the storm. */
const lasting = {
  asks: () => {
    let index = 0;
    setInterval(() => write(Buffer.concat([
      cluster("queryServer", { address: "127.0.0.1", port: 0, addressType: 4, index: ++index }),
      cluster("queryServer", { address: "127.0.0.1", port: 0, addressType: "udp4", index }),
    ])), 50);
    return Buffer.alloc(0);
  },
  leaves: () => Buffer.concat([
    cluster("exitedAfterDisconnect"), cluster("queryServer", { address: "127.0.0.1", port: 0, addressType: 4, index: 1 }),
    sticky("package", { name: "the last word" }),
  ]),
};

/** Writes all of it. The descriptor does not block, and the supervisor may take its time, but not for ever. */
function write(bytes) {
  const deadline = Date.now() + 5000;
  for (let done = 0; done < bytes.length && Date.now() < deadline;) {
    try {
      done += fs.writeSync(process.channel.fd, bytes, done);
    } catch (error) {
      if (error.code !== "EAGAIN") return;
    }
  }
}

// What ends its worker, or Node itself: rare in a storm, or nothing else would be seen of it.
const fatal = new Set(["garbage", "length-huge", "endless", "half", "handback"]);

/** Does one after the other, and looks after its clients in between. */
function storm() {
  const names = Object.keys(abuses);
  const name = names[randomInt(names.length)];
  const isWanted = !fatal.has(name) || randomInt(50) === 0;
  if (isWanted && fs.existsSync(process.env.STORM)) write(abuses[name]());
  setTimeout(storm, 5);
}

const server = http.createServer((request, response) => {
  const name = request.url.slice(1);
  const abuse = abuses[name] ?? lasting[name];
  if (request.url === "/slow") {
    response.flushHeaders();
    setTimeout(() => response.end(), 400);
    return;
  }
  response.end(who(request), () => { if (abuse) write(abuse()); });
});
// A connection that ends is one that the abuse has ended.
server.keepAliveTimeout = 60_000;
server.listen(where);
if (process.env.STORM && slot === 0) storm();
