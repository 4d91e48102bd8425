"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { afterEach, beforeEach, test } = require("node:test");

const said = [];
// What is said is taken at the first require, so this has to be there before.
process.send = (message) => said.push(message);
const { Packages } = require("../preload/packages.cjs");

const PREFIX = "not used by the listener's text";
let packages;

beforeEach(() => {
  said.length = 0;
  packages = new Packages();
  packages.install();
});
afterEach(() => {
  for (const event of ["newListener", "message"]) process.removeAllListeners(event);
});

const found = (fields) => [{ cmd: "NODE_STICKY", act: "package", ...fields }];

test("a package is told when its listener is on, once", () => {
  const got = [];
  const listener = (message, socket) => {
    if (message.type === "sticky:connection") got.push(socket);
  };
  assert.deepStrictEqual(said, []);
  assert.strictEqual(packages.receive("early"), false);
  process.on("message", listener);
  process.on("message", listener);
  assert.deepStrictEqual(said, found({ name: "@socket.io/sticky" }));
  process.removeListener("message", listener);
  assert.ok(packages.receive("a socket"));
  assert.deepStrictEqual(got, ["a socket"]);
});

test("packages with the same message are told apart", () => {
  process.once("message", function (msg, socket) {
    if (msg[0] !== "sticky:balance" || !socket) return msg[1];
  });
  assert.deepStrictEqual(said, found({ name: "sticky-session-custom" }));
});

test("sticky-session is known by its message", () => {
  process.addListener("message", (msg, socket) => msg !== "sticky:balance" || !socket);
  assert.deepStrictEqual(said, found({ name: "sticky-session" }));
});

test("listeners of the app itself are no package", () => {
  process.on("message", (message) => message === "connection");
  process.on("message", (message) => PREFIX.listener(message));
  process.on("exit", () => "sticky:connection");
  assert.deepStrictEqual(said, []);
});

test("sticky-cluster is told with the message that its options make", (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "packages-"));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const lib = path.join(folder, "node_modules", "sticky-cluster", "lib");
  fs.mkdirSync(lib, { recursive: true });
  fs.writeFileSync(path.join(lib, "index.js"), 'module.exports = require("./workers")');
  const listen = 'process.on("message", (message) => message === options.prefix + "connection")';
  fs.writeFileSync(path.join(lib, "workers.js"), `module.exports = (options) => ${listen}`);
  require(path.join(lib, "index.js"))({ prefix: "mine:" });
  assert.deepStrictEqual(said, found({ name: "sticky-cluster", message: "mine:connection" }));
});
