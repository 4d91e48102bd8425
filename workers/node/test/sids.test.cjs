"use strict";

const assert = require("node:assert");
const { createHmac } = require("node:crypto");
const { test } = require("node:test");
const { Sids } = require("../preload/sids.cjs");

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const KEY = Buffer.alloc(32, 7);

test("an id has 20 characters that need no escaping, and is never the same", () => {
  const sids = new Sids(5, KEY);
  const minted = new Set(Array.from({ length: 1000 }, () => sids.mint()));
  assert.strictEqual(minted.size, 1000);
  for (const sid of minted) assert.match(sid, /^[\w-]{20}$/);
});

test("an id holds its incarnation and its MAC where the supervisor reads them", () => {
  for (const incarnation of [0, 1, 255, 256, 8192, 16383]) {
    const sid = new Sids(incarnation, KEY).mint();
    let number = 0;
    for (const character of sid.slice(15)) number = number * 64 + ALPHABET.indexOf(character);
    const text = Buffer.concat([Buffer.from(sid.slice(0, 15)), Buffer.from([incarnation >> 8, incarnation & 255])]);
    const mac = createHmac("sha256", KEY).update(text).digest().readUInt16BE(0);
    assert.strictEqual(Math.floor(number / 65536), incarnation);
    assert.strictEqual(number % 65536, mac);
  }
});

test("only an id of the same incarnation and the same key is mine", () => {
  const sids = new Sids(5, KEY);
  const sid = sids.mint();
  assert.ok(sids.isMine(sid));
  assert.ok(new Sids(5, KEY).isMine(sid));
  assert.ok(!new Sids(6, KEY).isMine(sid));
  assert.ok(!new Sids(5, Buffer.alloc(32, 8)).isMine(sid));
  assert.ok(!sids.isMine(""));
  assert.ok(!sids.isMine(`${sid}A`));
  assert.ok(!sids.isMine((sid[0] === "A" ? "B" : "A") + sid.slice(1)));
  assert.ok(!sids.isMine("é".repeat(20)));
});
