"use strict";

const assert = require("node:assert");
const { once } = require("node:events");
const { test } = require("node:test");
const { Sids } = require("../preload/sids.cjs");
const { KEY, soon, start } = require("./supervisor.cjs");

const POLLING = "/socket.io/?EIO=4&transport=polling";
const CLOSES = /^Connection: close\r$/m;
const get = (target, headers = "") => `GET ${target} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`;
const news = ({ said }) => said.map(({ act }) => act).filter((act) => act === "quiet" || act === "busy");

test("a ping is answered at once, and only a ping", async (t) => {
  const { workers } = await start(t, "server.cjs", 1);
  for (let i = 0; i < 3; i++) {
    const pong = once(workers[0], "pong");
    workers[0].tell("dance");
    workers[0].tell("ping");
    await soon(pong, "a pong");
  }
  assert.strictEqual(workers[0].said.filter(({ act }) => act === "pong").length, 3);
});

test("a worker without sessions is quiet at once, says so once, and serves on", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  const quiet = once(workers[0], "quiet");
  workers[0].tell("drain");
  workers[0].tell("drain");
  await soon(quiet, "quiet");
  const client = await dial(0);
  client.write(get("/"));
  await client.until((text) => text.includes('"digest"'), "an answer");
  assert.match(client.text, CLOSES);
  await client.closed();
  assert.deepStrictEqual(news(workers[0]), ["quiet"]);
});

for (const keepAlive of ["close", "handback", "off"]) {
  test(`in mode ${keepAlive}, a request under way ends its connection, and an idle one ends soon`, async (t) => {
    const { workers, dial } = await start(t, "server.cjs", 1, { keepAlive });
    const [idle, busy, unused] = [await dial(0), await dial(0), await dial(0)];
    for (const client of [idle, busy]) {
      client.write(get("/"));
      await client.answers(1);
    }
    busy.write(get("/", "Delay: 300\r\n"));
    const counted = once(workers[0].child, "message");
    workers[0].child.send("count");
    await soon(counted, "the request to be there");
    const begun = process.hrtime.bigint();
    workers[0].tell("drain");
    await busy.until((text) => text.includes('"digest"'), "the answer");
    assert.match(busy.text, CLOSES);
    await Promise.all([idle.closed(), busy.closed()]);
    // Node's own keep-alive lasts 5 s.
    assert.ok(process.hrtime.bigint() - begun < 4_000_000_000n);
    // A connection whose first request is still to come was not idle.
    unused.write(get("/"));
    await unused.answers(1);
  });
}

test("a connection that is used again just when the drain begins is answered", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  // No other worker is there.
  workers[0].on("handback", ({ head }, socket) => workers[0].pass(socket, head));
  const client = await dial(0);
  client.write(get("/"));
  await client.answers(1);
  const quiet = once(workers[0], "quiet");
  workers[0].tell("drain");
  await soon(quiet, "quiet");
  client.write(get("/"));
  await client.until((text) => text.includes('"digest"'), "the answer");
  assert.match(client.text, CLOSES);
});

test("an upgrade stays an upgrade, and its connection stays open", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  const [before, after] = [await dial(0), await dial(0)];
  const sid = new Sids(0, Buffer.from(KEY, "hex")).mint();
  const upgrade = get(`/?EIO=4&transport=websocket&sid=${sid}`, "Connection: Upgrade\r\nUpgrade: echo\r\n");
  before.write(upgrade);
  await before.until((text) => text.includes("101 "), "the upgrade");
  const quiet = once(workers[0], "quiet");
  workers[0].tell("drain");
  await soon(quiet, "quiet");
  after.write(upgrade);
  await after.until((text) => text.includes("101 "), "the upgrade");
  const idle = await dial(0);
  idle.write(get("/"));
  await idle.closed();
  for (const client of [before, after]) {
    assert.doesNotMatch(client.text, /close/);
    client.write("still here");
    await client.until((text) => text.endsWith("still here"), "the echo");
  }
});

test("sessions of engine.io are waited for, however often they come", async (t) => {
  const { workers } = await start(t, "engine.cjs", 1);
  const { child } = workers[0];
  child.send("open");
  child.send("open");
  const busy = once(workers[0], "busy");
  workers[0].tell("drain");
  await soon(busy, "busy");
  child.send("close");
  for (const [message, expected] of [["close", "quiet"], ["open", "busy"], ["close", "quiet"]]) {
    const said = once(workers[0], expected);
    child.send(message);
    await soon(said, expected);
  }
  assert.deepStrictEqual(news(workers[0]), ["busy", "quiet", "busy", "quiet"]);
});

test("a session with an id of the app's own is waited for", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  const quiet = once(workers[0], "quiet");
  workers[0].tell("drain");
  await soon(quiet, "quiet");
  const client = await dial(0);
  client.write(get(`/handshake${POLLING}`));
  await client.until((text) => text.includes("own-id"), "the handshake");
  await soon(once(workers[0], "quiet"), "the end of the session");
  const acts = workers[0].said.map(({ act }) => act).filter((act) => act !== "closed");
  assert.deepStrictEqual(acts, ["hello", "quiet", "session", "busy", "end", "quiet"]);
});

for (const [keepAlive, leaves] of [["close", true], ["handback", true], ["off", false]]) {
  test(`in mode ${keepAlive}, what is not its own ${leaves ? "leaves a worker that drains" : "stays"}`, async (t) => {
    const { workers, dial } = await start(t, "server.cjs", 2, { keepAlive });
    workers[0].on("handback", ({ head }, socket) => workers[1].pass(socket, head));
    const [before, after] = [await dial(0), await dial(0)];
    for (const client of [before, after]) {
      client.write(get("/"));
      await client.answers(1);
    }
    before.write(get("/"));
    assert.strictEqual((await before.answers(1))[0].id, "0");
    const quiet = once(workers[0], "quiet");
    workers[0].tell("drain");
    await soon(quiet, "quiet");
    after.write(get("/"));
    assert.strictEqual((await after.answers(1))[0].id, leaves ? "1" : "0");
  });
}
