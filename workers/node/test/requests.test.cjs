"use strict";

const assert = require("node:assert");
const { test } = require("node:test");
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

test("the session is read off the answer to a handshake, of every protocol", () => {
  const open = '0{"sid":"a-b_c","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}';
  const session = { sid: "a-b_c", patience: 500 };
  assert.deepStrictEqual(readHandshake(open), session);
  assert.deepStrictEqual(readHandshake(Buffer.from(open)), session);
  assert.deepStrictEqual(readHandshake(`${open.length}:${open}2:40`), session);
  assert.deepStrictEqual(readHandshake(`___eio[0](${JSON.stringify(open)});`), session);
  const binary = Buffer.concat([Buffer.from([0, 9, 7, 255]), Buffer.from(open)]);
  assert.deepStrictEqual(readHandshake(binary), session);
  assert.deepStrictEqual(readHandshake('0{"sid":"a"}'), { sid: "a", patience: 45_000 });
});

test("another answer opens no session", () => {
  const texts = ["", "ok", "3probe", '{"sid":"a"}', '4{"sid":"a"}', '0{"sid":""}'];
  for (const body of [...texts, undefined, null, 5, Buffer.alloc(9), () => {}]) {
    assert.strictEqual(readHandshake(body), null);
  }
});

test("a head is written as it was read", () => {
  const rawHeaders = ["Host", "a", "X-Twice", "1", "x-twice", "2", "X-Latin", "\u00e9", "Content-Length", "3"];
  const head = writeHead({ method: "POST", url: "/?a=%20", httpVersion: "1.1", rawHeaders });
  const headers = "Host: a\r\nX-Twice: 1\r\nx-twice: 2\r\nX-Latin: \u00e9\r\nContent-Length: 3\r\n";
  const text = `POST /?a=%20 HTTP/1.1\r\n${headers}\r\n`;
  assert.deepStrictEqual(head, Buffer.from(text, "latin1"));
});
