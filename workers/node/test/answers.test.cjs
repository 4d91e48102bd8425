"use strict";

const assert = require("node:assert");
const { once } = require("node:events");
const { test } = require("node:test");
const { given } = require("../preload/answers.cjs");
const { soon, start } = require("./supervisor.cjs");

const head = (...lines) => ["HTTP/1.1 200 OK", ...lines, "", ""].join("\r\n");
const wanted = new Set(["cookie:id", "header:mcp-session-id"]);

test("keys are the cookies and headers that are wanted, as clients send them back", () => {
  const cases = [
    [["Set-Cookie: id=a.b%2F; Path=/; HttpOnly"], ["a.b%2F"]],
    [["set-cookie: other=a", 'set-cookie: id="quoted"'], ["quoted"]],
    [["Mcp-Session-Id: 17", "Set-Cookie: id=a"], ["17", "a"]],
    [["Set-Cookie: ID=a", "Set-Cookie: other=id=a", "X-Set-Cookie: id=a", "Cookie: id=a"], []],
    [["Set-Cookie: id=; Max-Age=0", "Set-Cookie: id", "Mcp-Session-Id: "], []],
    [[`Set-Cookie: id=${"x".repeat(129)}`, "Mcp-Session-Id: \u00e4", "Mcp-Session-Id: two words"], []],
  ];
  for (const [lines, keys] of cases) assert.deepStrictEqual(given(head(...lines), {}, wanted), keys, lines);
});

test("a key that the client has sent is not told again", () => {
  const answer = head("Set-Cookie: id=a", "Mcp-Session-Id: 17");
  assert.deepStrictEqual(given(answer, { cookie: "x=y; id=a", "mcp-session-id": "17" }, wanted), []);
  assert.deepStrictEqual(given(answer, { cookie: "id=b", "mcp-session-id": "18" }, wanted), ["a", "17"]);
});

test("a cookie is announced before the client knows it, however the app sets it", async (t) => {
  const { workers, dial } = await start(t, "cookies.cjs", 1, { keys: ["cookie:id", "header:X-Id"] });
  for (const way of ["setHeader", "writeHead", "flat", "header"]) {
    const client = await dial(0);
    client.write(`GET /${way} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await client.until((text) => text.includes("an answer"), "the answer");
    const last = () => workers[0].said.filter(({ act }) => act === "session").at(-1);
    while (last()?.key !== way) await soon(once(workers[0], "session"), `the announcement of ${way}`);
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
