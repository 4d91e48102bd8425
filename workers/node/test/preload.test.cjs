"use strict";

const assert = require("node:assert");
const { fork } = require("node:child_process");
const { once } = require("node:events");
const path = require("node:path");
const { test } = require("node:test");
const { Sids } = require("../preload/sids.cjs");
const { KEY, PRELOAD, Worker, soon, start } = require("./supervisor.cjs");

const POLLING = "/socket.io/?EIO=4&transport=polling";
const get = (target) => `GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`;
const acts = ({ said }) => said.map(({ act }) => act);

/** Waits until `worker` has said that `total` connections are closed. */
async function closed(worker, total) {
  const sum = () => worker.said.reduce((count, { act, count: more }) => count + (act === "closed" ? more : 0), 0);
  while (sum() < total) await soon(once(worker, "closed"), `${total} closed connections, not ${sum()}`);
  assert.strictEqual(sum(), total);
}

test("a worker says hello first, and what kind of server asks to listen", async (t) => {
  const { workers } = await start(t, "server.cjs", 1);
  assert.deepStrictEqual(workers[0].said[0], { cmd: "NODE_STICKY", act: "hello", version: 2 });
  assert.strictEqual(workers[0].query.sticky, "http");
});

test("neither grandchildren nor worker threads see anything of it", async (t) => {
  const worker = new Worker("environment.cjs", { options: "--no-deprecation --title=mine" });
  t.after(() => worker.stop());
  const [{ self, grandchild, thread }] = await soon(once(worker.child, "message"), "what they see");
  const options = "--no-deprecation --title=mine";
  assert.deepStrictEqual(self, [null, options]);
  assert.deepStrictEqual(grandchild, [null, options, 0]);
  assert.deepStrictEqual(thread, [null, options, 0]);
});

test("a process that is no worker is left alone", async (t) => {
  const child = fork(path.join(__dirname, "apps", "environment.cjs"), {
    env: {
      ...process.env,
      NODE_OPTIONS: `--require "${PRELOAD}"`,
      STICKY_NODE: JSON.stringify({ incarnation: 1, key: KEY, keepAlive: "close" }),
    },
  });
  t.after(() => child.kill("SIGKILL"));
  child.on("internalMessage", (message) => assert.fail(JSON.stringify(message)));
  const [{ self }] = await soon(once(child, "message"), "what it sees");
  assert.deepStrictEqual(self, [null, null]);
});

test("every connection is counted once when it is closed, however that is", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  const unused = await dial(0);
  unused.socket.destroy();
  const reset = await dial(0);
  reset.socket.resetAndDestroy();
  const used = await dial(0);
  used.write(get("/"));
  await used.answers(1);
  used.socket.end();
  await closed(workers[0], 3);
  const given = await dial(0);
  given.write(get("/"));
  await given.answers(1);
  workers[0].once("handback", (message, socket) => socket.destroy());
  given.write(get(`${POLLING}&sid=elsewhere`));
  await closed(workers[0], 4);
});

test("an id of the app's own is announced before the client knows it, and over when it falls silent", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  const client = await dial(0);
  client.write(get(`/handshake${POLLING}`));
  await client.until((text) => text.includes("own-id"), "the handshake");
  if (!acts(workers[0]).includes("session")) await soon(once(workers[0], "session"), "the announcement");
  assert.deepStrictEqual(workers[0].said.at(-1), { cmd: "NODE_STICKY", act: "session", key: "own-id" });
  client.write(get(`${POLLING}&sid=own-id`));
  await client.answers(1);
  assert.ok(!acts(workers[0]).includes("handback"));
  const [end] = await soon(once(workers[0], "end"), "the end");
  assert.strictEqual(end.key, "own-id");
  const later = await dial(0);
  later.write(get("/"));
  await later.answers(1);
  later.write(get(`${POLLING}&sid=own-id`));
  await soon(once(workers[0], "handback"), "a session that is over to be foreign");
});

test("an announced session lasts as long as its WebSocket", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  const client = await dial(0);
  client.write(get(`/handshake${POLLING}`));
  await client.until((text) => text.includes("own-id"), "the handshake");
  const upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n";
  client.write(get("/?EIO=4&transport=websocket&sid=own-id").replace("\r\n\r\n", `\r\n${upgrade}\r\n`));
  await client.until((text) => text.includes("101 "), "the upgrade");
  const other = await dial(0);
  other.write(get(`/handshake${POLLING}`));
  await other.until((text) => text.includes("own-id"), "another answer with the same id");
  const ended = once(workers[0], "end");
  client.socket.destroy();
  await soon(ended, "the end after the WebSocket");
  assert.deepStrictEqual(acts(workers[0]).filter((act) => act === "session" || act === "end"), ["session", "end"]);
});

for (const keepAlive of ["close", "handback", "off"]) {
  test(`mode ${keepAlive} closes after the answers to polling, or not at all`, async (t) => {
    const { dial } = await start(t, "server.cjs", 1, { keepAlive });
    const client = await dial(0);
    const sid = new Sids(0, Buffer.from(KEY, "hex")).mint();
    for (const target of ["/", "/?EIO=4", `/?EIO=4&transport=websocket&sid=${sid}`, `${POLLING}&sid=${sid}`]) {
      client.write(get(target));
      await client.until((text) => text.includes('"digest"'), "an answer");
      const closes = keepAlive === "close" && target.startsWith(POLLING);
      assert.match(client.text, closes ? /^Connection: close\r$/m : /^Connection: keep-alive\r$/m, target);
      client.text = "";
      if (closes) await client.closed();
    }
  });
}

test("a package's worker takes what others gave back, and stays open", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  const other = new Worker("package.cjs");
  t.after(() => other.stop());
  await soon(once(other, "package"), "the package");
  workers[0].on("handback", ({ head }, socket) => other.pass(socket, head));
  // The first is taken before the package has had any connection, the second after.
  for (let i = 0; i < 2; i++) {
    const client = await dial(0);
    client.write(get("/"));
    await client.answers(1);
    client.write(get(`${POLLING}&sid=elsewhere`));
    await client.until((text) => text.endsWith("a package's answer"), "the answer");
    client.socket.destroy();
    await closed(other, i + 1);
  }
  other.child.send("ask");
  const [events] = await soon(once(other.child, "message"), "what its server went through");
  assert.deepStrictEqual(events, ["connection", "connection"]);
  await closed(workers[0], 2);
});

test("a drained worker ends when its answers are written", async (t) => {
  const { workers, dial } = await start(t, "server.cjs", 1);
  const [idle, busy] = [await dial(0), await dial(0)];
  for (const client of [idle, busy]) {
    client.write(get("/"));
    await client.answers(1);
  }
  busy.write(get("/").replace("\r\n\r\n", "\r\nDelay: 300\r\n\r\n"));
  const counted = once(workers[0].child, "message");
  workers[0].child.send("count");
  await soon(counted, "the request to be there");
  const exit = once(workers[0].child, "exit");
  const begun = process.hrtime.bigint();
  workers[0].drain();
  await busy.answers(1);
  await Promise.all([idle.closed(), busy.closed()]);
  assert.deepStrictEqual(await soon(exit, "the end of the worker"), [0, null]);
  // Node's own keep-alive would have held it for 5 s.
  assert.ok(process.hrtime.bigint() - begun < 4_000_000_000n);
});
