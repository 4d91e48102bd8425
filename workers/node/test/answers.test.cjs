"use strict";

const assert = require("node:assert");
const { once } = require("node:events");
const http2 = require("node:http2");
const { test } = require("node:test");
const { fields, given } = require("../preload/answers.cjs");
const { KeyList } = require("../preload/keys.cjs");
const { soon, start } = require("./supervisor.cjs");

const wanted = new KeyList(["cookie:id", "header:Mcp-Session-Id"]);
const found = (lines, sent = []) => {
  const head = ["HTTP/1.1 200 OK", ...lines, "", ""].join("\r\n");
  return wanted.mayBeGivenIn(head) ? given(fields(head), sent, wanted) : [];
};

test("keys are the cookies and headers that are wanted, as clients send them back", () => {
  const cases = [
    [["Set-Cookie: id=a.b%2F; Path=/; HttpOnly"], ["a.b%2F"]],
    [["set-cookie: other=a", 'set-cookie: id="quoted"'], ["quoted"]],
    [['set-cookie: id="half', 'set-cookie: id=a"b', "set-cookie: id = spaced "], ['"half', 'a"b', "spaced"]],
    [["Mcp-Session-Id: 17", "Set-Cookie: id=a"], ["17", "a"]],
    [["Set-Cookie: ID=a", "Set-Cookie: other=id=a", "X-Set-Cookie: id=a", "Cookie: id=a"], []],
    [["Set-Cookie: id=; Max-Age=0", "Set-Cookie: id", "Mcp-Session-Id: "], []],
    [["Set-Cookie: id=gone; Max-Age=0", "Set-Cookie: id=gone; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], []],
    [["Set-Cookie: id=kept; Expires=Thu, 01 Jan 2970 00:00:00 GMT; Max-Age=9"], ["kept"]],
    [[`Set-Cookie: id=${"x".repeat(300)}`, "Mcp-Session-Id: \u00e4", "Mcp-Session-Id: two words"], ["x".repeat(300), "\u00e4", "two words"]],
  ];
  for (const [lines, keys] of cases) assert.deepStrictEqual(found(lines), keys, lines);
});

test("an answer without a line that could give out a key is not read", () => {
  const head = (line) => `HTTP/1.1 200 OK\r\nDate: now\r\n${line}\r\n\r\n`;
  for (const line of ["Content-Length: 0", "X-Set-Cookie: id=a", "X: Mcp-Session-Id: 17"]) assert(!wanted.mayBeGivenIn(head(line)), line);
  for (const line of ["SET-COOKIE: other=a", "mcp-session-id: 17"]) assert(wanted.mayBeGivenIn(head(line)), line);
  assert(!new KeyList(["sid", "ip"]).mayBeGivenIn(head("Set-Cookie: id=a")));
  assert(!new KeyList(["header:a.b"]).mayBeGivenIn(head("axb: 1")));
});

test("a key that the client has sent is not told again", () => {
  const lines = ["Set-Cookie: id=a", "Mcp-Session-Id: 17"];
  assert.deepStrictEqual(found(lines, ["Cookie", "x=y; id=a", "mcp-session-id", "17"]), []);
  assert.deepStrictEqual(found(lines, ["Cookie", "id=b", "mcp-session-id", "18"]), ["a", "17"]);
  assert.deepStrictEqual(found(lines, ["Cookie", "xid=a"]), ["a", "17"]);
});

/** Waits until the last key that `worker` announced is `key`. */
async function announced(worker, key) {
  const last = () => worker.said.filter(({ act }) => act === "session").at(-1);
  while (last()?.key !== key) await soon(once(worker, "session"), `the announcement of ${key}`);
}

// While a descriptor waits for its acknowledgement, Node keeps back what is said.
test("a key is announced before the client knows it, however the app gives it out", async (t) => {
  const { workers, dial } = await start(t, "cookies.cjs", 1, { by: ["cookie:id", "header:X-Id"] });
  for (const way of ["setHeader", "writeHead", "flat", "header", "early", "upgrade", "corked", "queued"]) {
    const client = await dial(0);
    const upgrade = ["upgrade", "corked"].includes(way) ? "Connection: Upgrade\r\nUpgrade: x\r\n" : "";
    client.write(`GET /${way} HTTP/1.1\r\nHost: a\r\n${upgrade}\r\n`);
    await client.until((text) => text.includes("an answer"), "the answer");
    await announced(workers[0], way);
  }
});

test("answers of HTTP/2 announce keys too", async (t) => {
  const { workers, dial } = await start(t, "h2.cjs", 1, { by: ["cookie:id", "header:X-Id"] });
  const socket = await dial(0, true);
  const session = http2.connect("http://a", { createConnection: () => socket });
  t.after(() => session.destroy());
  for (const way of ["compat", "stream", "early"]) {
    const stream = session.request({ ":path": `/${way}` });
    stream.resume();
    await soon(once(stream, "end"), "the answer");
    await announced(workers[0], way);
  }
});

test("without keys nothing is announced", async (t) => {
  const { workers, dial } = await start(t, "cookies.cjs", 1);
  const client = await dial(0);
  client.write("GET /setHeader HTTP/1.1\r\nHost: a\r\n\r\n");
  await client.until((text) => text.includes("an answer"), "the answer");
  client.socket.destroy();
  await soon(once(workers[0], "closed"), "the end");
  assert.ok(!workers[0].said.some(({ act }) => act === "session"));
});
