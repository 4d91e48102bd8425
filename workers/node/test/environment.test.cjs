"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { test } = require("node:test");
const { takeConfig, withoutRequire } = require("../preload/environment.cjs");

const SELF = "/run/a b/index.cjs";
const KEY = "0f".repeat(32);

test("our own require goes and the rest stays byte for byte", () => {
  const cases = [
    ['--require "/run/a b/index.cjs"', ""],
    [' --require "/run/a b/index.cjs"', ""],
    ['--max-old-space-size=99 --require "/run/a b/index.cjs"', "--max-old-space-size=99"],
    ['  --a   "b  c"   --require "/run/a b/index.cjs"', '  --a   "b  c"  '],
    ['--require "/run/a b/index.cjs" --enable-source-maps', "--enable-source-maps"],
    ['--a -r "/run/a b/index.cjs" --b', "--a --b"],
    ['--a "--require=/run/a b/index.cjs" --b', "--a --b"],
    ['--a --require="/run/a b/index.cjs"', "--a"],
    ['--a --require /run/"a b"/index.cjs', "--a"],
    ['--a --require "/run/a\\ b/index.cjs"', "--a"],
    ['--require ./index.cjs --require "/run/a b/index.cjs"', "--require ./index.cjs"],
    ['--require "/run/a b/index.cjs" --require "/run/a b/index.cjs"', '--require "/run/a b/index.cjs"'],
  ];
  for (const [before, after] of cases) assert.strictEqual(withoutRequire(before, SELF), after, before);
});

test("options without our require are left alone", () => {
  for (const options of [
    "",
    "--require",
    "--require /else/index.cjs",
    "--import /run/index.cjs",
    '--title "/run/a b/index.cjs"',
    '"--require /run/a b/index.cjs"',
  ]) {
    assert.strictEqual(withoutRequire(options, SELF), options);
  }
});

test("our require is known through a symbolic link", (t) => {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "preload-")));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  fs.mkdirSync(path.join(folder, "real"));
  fs.symlinkSync("real", path.join(folder, "link"));
  const self = path.join(folder, "real", "index.cjs");
  fs.writeFileSync(self, "");
  assert.strictEqual(withoutRequire(`--a --require "${folder}/link/index.cjs"`, self), "--a");
});

const CONFIG = {
  incarnation: 7,
  key: KEY,
  keepAlive: "handback",
  by: ["sid", "cookie:id"],
  trust: ["10.0.0.0/8"],
  forwarded: "x-forwarded-for",
  memory: { announced: 2, presented: 1 },
  ports: [80],
};

test("the configuration is taken out of the environment", () => {
  const environment = {
    STICKY_NODE: JSON.stringify({ ...CONFIG, other: 1 }),
    NODE_OPTIONS: `--require "${SELF}"`,
    OTHER: "1",
  };
  assert.deepStrictEqual(takeConfig(environment, SELF), CONFIG);
  assert.deepStrictEqual(environment, { OTHER: "1" });
});

test("without our variable nothing is touched", () => {
  const environment = { NODE_OPTIONS: `--require "${SELF}"` };
  assert.strictEqual(takeConfig(environment, SELF), null);
  assert.deepStrictEqual(environment, { NODE_OPTIONS: `--require "${SELF}"` });
});

test("a configuration that makes no sense is taken out and not used", () => {
  for (const bad of [
    "",
    "null",
    "[]",
    JSON.stringify({ ...CONFIG, incarnation: 16384 }),
    JSON.stringify({ ...CONFIG, incarnation: -1 }),
    JSON.stringify({ ...CONFIG, incarnation: "1" }),
    JSON.stringify({ ...CONFIG, key: "0f" }),
    JSON.stringify({ ...CONFIG, keepAlive: "maybe" }),
    JSON.stringify({ ...CONFIG, by: "cookie:id" }),
    JSON.stringify({ ...CONFIG, by: [1] }),
    JSON.stringify({ ...CONFIG, trust: undefined }),
    JSON.stringify({ ...CONFIG, forwarded: 1 }),
    JSON.stringify({ ...CONFIG, memory: { announced: 1 } }),
  ]) {
    const environment = { STICKY_NODE: bad };
    assert.strictEqual(takeConfig(environment, SELF), null, bad);
    assert.deepStrictEqual(environment, {});
  }
});
