// Writes what a real Node sends, for the unit tests beside it: one frame a line, its name before it.
//
//     node capture.cjs [other-node] > frames.txt
//
// Each `value` message carries a value before the fields that matter, so that a codec which skips
// the value wrongly cannot find them. The `listen` messages are Node's own.
"use strict";
const { spawn } = require("child_process");

function values() {
  const shared = { deep: [1, { a: 2 }] };
  const circle = { name: "circle" };
  circle.self = circle;
  const sparse = [];
  sparse[1000] = "far";
  sparse.named = true;
  const holes = [1, , "three", , undefined];
  holes.extra = { a: 1 };
  const error = withStack(new TypeError("wrong", { cause: withStack(new RangeError("why")) }));
  const bytes = Uint8Array.from([0, 0x0a, 0x7b, 0x6f, 0xff, 0x24, 0x40, 0x5c]).buffer;
  const views = {};
  for (const view of [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array,
    Uint32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array]) {
    views[view.name] = new view(bytes);
  }
  let nested = "bottom";
  for (let depth = 0; depth < 500; depth++) nested = depth % 2 ? [nested] : { nested };
  class Custom { constructor() { this.own = 1; } }
  return {
    undefined: undefined, null: null, true: true, false: false,
    integers: [0, -1, 1, 127, 128, -(2 ** 31), 2 ** 31 - 1, 2 ** 31, 2 ** 32, -0],
    doubles: [0.5, -1e300, NaN, Infinity, -Infinity, Number.MAX_SAFE_INTEGER],
    bigints: [0n, 1n, -1n, 2n ** 64n, -(2n ** 200n)],
    strings: ["", "ascii", "latin \u00e9\u00ff", "two bytes \u20ac", "x\u20ac", "\u{1f600}", "\ud800 alone",
      "quotes \" \\ \n \u2028", "y".repeat(200), "\u20ac".repeat(200)],
    keys: { "\u00e9": 1, "\u20ac": 2, 7: 3, 4294967294: 4, 4294967295: 5, "-1": 6, "": 7 },
    boxed: [new Boolean(true), new Boolean(false), new Number(1.5), new String("s"), new String("\u20ac"), Object(5n)],
    date: [new Date(0), new Date(NaN), new Date(1e12)],
    regexp: [/a\/b[c]/gimsuy, /\u20ac/],
    map: new Map([["a", 1], [{ k: 1 }, new Map([[1, 2]])], [undefined, null]]),
    set: new Set([1, "two", new Set(), [3]]),
    error, aggregate: withStack(new AggregateError([withStack(new Error("one"))], "many")),
    array_buffer: bytes, resizable: new ArrayBuffer(4, { maxByteLength: 16 }), data_view: new DataView(bytes, 1, 3), ...views,
    buffer: Buffer.from("GET / HTTP/1.1\r\n\r\n"), empty_buffer: Buffer.alloc(0),
    part_of_pool: Buffer.from("pooled").subarray(2), views_of_one: [new Uint8Array(bytes), new Uint16Array(bytes, 2)],
    array: [1, "two", [3, [4]], {}], empty: [[], {}], doubles_array: [1.5, 2.5], sparse, holes,
    shared: [shared, shared], circle, nested, custom: new Custom(), arguments: (function () { return arguments; })(1, 2),
    decoy: { cmd: "NODE_CLUSTER", act: "online", key: "wrong" },
    without_prototype: Object.assign(Object.create(null), { a: 1 }),
  };
}

// The real stack would tell where this file lies.
function withStack(error) {
  return Object.assign(error, { stack: error.name + ": \u20ac\n    at somewhere" });
}

function speak() {
  const send = (name, message) => {
    try {
      process.send({ cmd: "NODE_NAME", name });
      process.send(message);
    } catch { /* V8 cannot write it */ }
  };
  for (const [name, value] of Object.entries(values())) {
    send("value " + name, { before: value, cmd: "NODE_CLUSTER", act: "close", key: "k" });
  }
  const itself = { cmd: "NODE_CLUSTER", act: "close", key: "k" };
  send("value itself", Object.assign(itself, { itself }));
  const plain = { string: "sticky:balance", number: 17, array: ["NODE_CLUSTER"], null: null, long: "x".repeat(300) };
  for (const [name, value] of Object.entries(plain)) send("user " + name, value);
  listen(send);
}

function listen(send) {
  const net = require("net");
  const quiet = (server) => server.on("error", () => {});
  const listeners = {
    any: () => require("http").createServer().listen(3000),
    port0: () => net.createServer().listen(0),
    ipv4: () => net.createServer().listen({ host: "127.0.0.1", port: 3001, backlog: 17 }),
    ipv6only: () => net.createServer().listen({ host: "::1", port: 3002, ipv6Only: true }),
    unix: () => net.createServer().listen("/tmp/a.sock"),
    descriptor: () => net.createServer().listen({ fd: 9 }),
    https: () => require("https").createServer({}).listen(3443),
    udp4: () => require("dgram").createSocket("udp4").bind(5353),
    udp6: () => require("dgram").createSocket("udp6").bind(5354, "::1"),
  };
  const wait = Object.entries(listeners);
  (function next() {
    if (!wait.length) return send("end", {});
    const [name, start] = wait.shift();
    process.send({ cmd: "NODE_NAME", name: "listen " + name });
    quiet(start());
    setTimeout(next, 50);
  })();
}

function hear(node) {
  const env = { NODE_CHANNEL_FD: "3", NODE_CHANNEL_SERIALIZATION_MODE: "advanced", NODE_UNIQUE_ID: "7" };
  const child = spawn(node, ["--no-warnings", __filename, "speak"], { env, stdio: ["ignore", "inherit", "inherit", "pipe"] });
  let rest = Buffer.alloc(0), name = "online";
  child.stdio[3].on("data", (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (let length; (length = cut(rest)); rest = rest.subarray(length)) {
      const frame = rest.subarray(0, length);
      const said = /NODE_NAME.*?name""?.([\w -]+)/s.exec(frame.toString("latin1"));
      if (said) name = said[1].replace(/\W*$/, "");
      else if (name === "end") child.kill();
      else console.log(name + "\t" + frame.toString("hex"));
    }
  });
}

const cut = (bytes) => {
  const length = bytes.length >= 4 ? bytes.readUInt32BE() + 4 : Infinity;
  return bytes.length >= length ? length : 0;
};

if (process.argv[2] === "speak") speak();
else hear(process.argv[2] || process.execPath);
