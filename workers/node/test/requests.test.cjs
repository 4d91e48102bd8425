"use strict";

const assert = require("node:assert");
const { test } = require("node:test");
const zlib = require("node:zlib");
const { readHandshake, readUrl, writeHead } = require("../preload/requests.cjs");

test("the sid is the first parameter of exactly this name, as the supervisor reads it", () => {
  const sid = (query) => readUrl(`/socket.io/?EIO=4&transport=polling&${query}`).sid;
  assert.strictEqual(sid("sid=abc"), "abc");
  assert.strictEqual(sid("appsid=evil&sid=abc"), "abc");
  assert.strictEqual(sid("sid=abc&sid=second"), "abc");
  assert.strictEqual(sid("%73id=a%62c&sid=no"), "abc");
  assert.strictEqual(sid("sid=a+b%2Bc"), "a b+c");
  assert.strictEqual(sid("sid=abc#&x"), "abc");
  assert.strictEqual(sid("sid="), null);
  assert.strictEqual(sid("SID=abc"), null);
  assert.strictEqual(sid("x#sid=abc"), null);
});

test("a request is for Engine.IO if it has its parameters", () => {
  assert.deepStrictEqual(readUrl("/?EIO=3&transport=polling"), { sid: null, polling: true });
  assert.deepStrictEqual(readUrl("http://host/?transport=websocket&EIO=4&sid=a"), { sid: "a", polling: false });
  const others = ["/", "*", "/EIO=4", "/?EIO=4", "/?transport=polling&sid=a"];
  for (const url of [...others, "/?xEIO=4&transport=polling", "/?a#EIO=4&transport=polling"]) {
    assert.strictEqual(readUrl(url), null, url);
  }
});

const OPEN = '0{"sid":"a-b_c","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}';
const read = (text, encoding) => readHandshake(Buffer.from(text), encoding);

test("the session is read off the answer to a handshake, of every protocol", () => {
  const session = { sid: "a-b_c", patience: 500 };
  assert.deepStrictEqual(read(OPEN), session);
  assert.deepStrictEqual(read(`${OPEN.length}:${OPEN}2:40`), session);
  assert.deepStrictEqual(read(`___eio[0](${JSON.stringify(OPEN)});`), session);
  const binary = Buffer.concat([Buffer.from([0, 9, 7, 255]), Buffer.from(OPEN)]);
  assert.deepStrictEqual(readHandshake(binary), session);
  assert.deepStrictEqual(read('0{"sid":"a"}'), { sid: "a", patience: 45_000 });
});

test("an id may hold any characters and be long", () => {
  for (const sid of ['a"b\\c', "\u00e9\u20ac", "a b/+=&%#", "x".repeat(4096)]) {
    const packet = `0${JSON.stringify({ sid, pingInterval: 1, pingTimeout: 1 })}`;
    for (const text of [packet, `___eio[0](${JSON.stringify(packet)});`]) {
      assert.deepStrictEqual(read(text), { sid, patience: 2 }, text);
    }
  }
});

test("a handshake is read also where it is compressed, and as soon as it can be", () => {
  const encodings = { gzip: zlib.gzipSync, deflate: zlib.deflateSync, br: zlib.brotliCompressSync };
  for (const [encoding, compress] of Object.entries(encodings)) {
    const whole = compress(OPEN);
    assert.strictEqual(read(whole, encoding)?.sid, "a-b_c", encoding);
    assert.strictEqual(read(whole.subarray(0, 5), encoding), null, encoding);
    assert.strictEqual(read(whole.subarray(0, -4), encoding)?.sid, "a-b_c", encoding);
    assert.strictEqual(read(OPEN, encoding), null, encoding);
  }
});

test("another answer opens no session", () => {
  for (const body of ["", "ok", "3probe", '{"sid":"a"}', '4{"sid":"a"}', '0{"sid":""}', '0{"sid":"\\x"}', Buffer.alloc(9)]) {
    assert.strictEqual(read(body), null);
  }
});

test("a head is written as it was read", () => {
  const rawHeaders = ["Host", "a", "X-Twice", "1", "x-twice", "2", "X-Latin", "\u00e9", "Content-Length", "3"];
  const head = writeHead({ method: "POST", url: "/?a=%20", httpVersion: "1.1", rawHeaders });
  const headers = "Host: a\r\nX-Twice: 1\r\nx-twice: 2\r\nX-Latin: \u00e9\r\nContent-Length: 3\r\n";
  const text = `POST /?a=%20 HTTP/1.1\r\n${headers}\r\n`;
  assert.deepStrictEqual(head, Buffer.from(text, "latin1"));
});
