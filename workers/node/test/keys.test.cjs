"use strict";

const assert = require("node:assert");
const { once } = require("node:events");
const http = require("node:http");
const net = require("node:net");
const { test } = require("node:test");
const { KeyList } = require("../preload/keys.cjs");
const { soon } = require("./supervisor.cjs");
// The supervisor reads the same examples, see `src/logic/route/tests/examples.rs`.
const examples = require("./keys.json");

test("the key of a request is the one that the supervisor finds", async (t) => {
  const server = http.createServer();
  t.after(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  for (const { by, head, key, trust = [], forwarded = null } of examples) {
    const client = net.connect(server.address().port, "127.0.0.1");
    client.end(head, "latin1");
    const [request, response] = await soon(once(server, "request"), head);
    const found = new KeyList(by.split(","), trust, forwarded).of(request, request.socket);
    assert.strictEqual(found?.replace(/^\0ip/, "ip ") ?? null, key, JSON.stringify({ by, head, trust }));
    response.end();
    client.destroy();
  }
});

test("addresses are read as they are written anywhere", () => {
  const list = new KeyList(["ip"]);
  const of = (remoteAddress) => list.ofConnection({ remoteAddress });
  assert.strictEqual(of("192.0.2.1"), of("::ffff:192.0.2.1"));
  assert.strictEqual(of("2001:db8::1"), of("2001:db8:0:0:ffff::2"));
  assert.notStrictEqual(of("fe80::1"), of("fe80::2"));
  assert.strictEqual(of("fe80::1%eth0"), of("fe80::1"));
  assert.strictEqual(of(undefined), null);
  const text = new KeyList(["query:q"]).of({ url: "/?q=%00ip192.0.2.1", rawHeaders: [] }, {});
  assert.notStrictEqual(text, of("192.0.2.1"));
});
