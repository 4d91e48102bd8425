"use strict";

const assert = require("node:assert");
const { createHash, randomBytes } = require("node:crypto");
const { once } = require("node:events");
const { test } = require("node:test");
const { Sids } = require("../preload/sids.cjs");
const { KEY, soon, start } = require("./supervisor.cjs");

const mint = (incarnation) => new Sids(incarnation, Buffer.from(KEY, "hex")).mint();
const url = (sid, transport = "polling") => `/socket.io/?EIO=4&transport=${transport}&sid=${sid}`;
const get = (target, headers = "") => `GET ${target} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`;
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** Two workers; what one gives back goes to the other. */
async function pair(t, options) {
  const both = await start(t, "server.cjs", 2, options);
  both.workers.forEach((worker, id) => {
    worker.on("handback", ({ head }, socket) => both.workers[1 - id].pass(socket, head));
  });
  const backs = () => both.workers.flatMap(({ said }) => said.filter(({ act }) => act === "handback"));
  return { ...both, backs };
}

test("a request of another worker's session reaches it on the same connection, as it was", async (t) => {
  const { dial, backs } = await pair(t);
  const client = await dial(0);
  client.write(get("/"));
  assert.strictEqual((await client.answers(1))[0].id, "0");
  const target = url(mint(1));
  client.write(get(target, "X-A: 1\r\nx-a: 2\r\n"));
  const [answer] = await client.answers(1);
  assert.deepStrictEqual([answer.id, answer.method, answer.url], ["1", "GET", target]);
  assert.deepStrictEqual(answer.rawHeaders, ["Host", "a", "X-A", "1", "x-a", "2"]);
  assert.strictEqual(backs().length, 1);
});

test("a connection goes back and forth as often as its requests ask for it", async (t) => {
  const { dial, backs } = await pair(t);
  const client = await dial(0);
  client.write(get("/"));
  await client.answers(1);
  for (let i = 0; i < 100; i++) {
    const id = 1 - (i % 2);
    client.write(get(url(mint(id))));
    assert.strictEqual((await client.answers(1))[0].id, String(id));
  }
  assert.strictEqual(backs().length, 100);
});

test("what is not for another worker stays", async (t) => {
  const { dial, backs } = await pair(t);
  const client = await dial(0);
  // The first request was routed by the supervisor, whatever it carries.
  // The supervisor led its key here a moment ago.
  for (const target of [url(mint(1)), url(mint(0)), "/", "/?sid=", "/?SID=x", "/x#sid=x", "/?sid=", url(mint(0))]) {
    client.write(get(target));
    assert.strictEqual((await client.answers(1))[0].id, "0", target);
  }
  assert.strictEqual(backs().length, 0);
});

for (const late of [false, true]) {
  test(`a body sent ${late ? "after" : "before"} the change reaches the other worker, of any size`, async (t) => {
    const { workers, dial, backs } = await pair(t);
    const client = await dial(0);
    let id = 0;
    for (const size of [0, 1, 1000, 65_536, 300_000, 5_000_000]) {
      for (const chunked of [false, true]) {
        const body = randomBytes(size);
        const framing = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${size}`;
        client.write(get("/"));
        await client.answers(1);
        const gone = once(workers[id], "handback");
        id = 1 - id;
        client.write(get(url(mint(id)), `${framing}\r\n`).replace("GET", "POST"));
        if (late) await soon(gone, "the hand-back");
        client.write(chunked ? frame(body) : body);
        const [answer] = await client.answers(1);
        assert.deepStrictEqual([answer.id, answer.length, answer.digest], [String(id), size, digest(body)]);
        if (chunked) assert.deepStrictEqual(answer.rawTrailers, ["X-End", "1"]);
      }
    }
    assert.strictEqual(backs().length, 12);
  });
}

/** `body` in chunks of odd sizes, with a trailer. */
function frame(body) {
  const parts = [];
  for (let at = 0, size = 7; at < body.length; at += size, size = Math.min(size * 3, 99_999)) {
    const chunk = body.subarray(at, at + size);
    parts.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from("\r\n"));
  }
  return Buffer.concat([...parts, Buffer.from("0\r\nX-End: 1\r\n\r\n")]);
}

test("a request that expects 100-continue gets it from the other worker, once", async (t) => {
  const { dial } = await pair(t);
  const client = await dial(0);
  client.write(get("/"));
  await client.answers(1);
  client.write(get(url(mint(1)), "Expect: 100-continue\r\nContent-Length: 5\r\n").replace("GET", "POST"));
  await client.until((text) => text.includes("\r\n\r\n"), "100 Continue");
  assert.strictEqual(client.text, "HTTP/1.1 100 Continue\r\n\r\n");
  client.write("hello");
  const [answer] = await client.answers(1);
  assert.deepStrictEqual([answer.id, answer.digest], ["1", digest("hello")]);
});

test("an upgrade goes to the other worker with what was sent behind it", async (t) => {
  const { dial } = await pair(t);
  const client = await dial(0);
  client.write(get("/"));
  await client.answers(1);
  client.write(`${get(url(mint(1), "websocket"), "Connection: Upgrade\r\nUpgrade: echo\r\n")}first`);
  await client.until((text) => text.endsWith("1:first"), "the echo");
  client.write("second");
  await client.until((text) => text.endsWith("1:firstsecond"), "the second echo");
});

test("requests sent at once are each answered by the right worker, in order", async (t) => {
  const { dial, backs } = await pair(t);
  const client = await dial(0);
  const post = get(url(mint(1)), "Content-Length: 3\r\n").replace("GET", "POST");
  client.write(`${get("/1")}${get("/2", "Delay: 100\r\n")}${post}abc${get("/4")}${get(url(mint(0)))}${get("/6")}`);
  const answers = await client.answers(6);
  assert.deepStrictEqual(answers.map(({ id }) => id), ["0", "0", "1", "1", "0", "0"]);
  assert.strictEqual(answers[2].digest, digest("abc"));
  assert.strictEqual(backs().length, 2);
});

test("half a request behind the foreign one is not lost", async (t) => {
  const { dial } = await pair(t);
  const client = await dial(0);
  client.write(get("/"));
  await client.answers(1);
  const next = get("/next", "X-Half: way\r\n");
  client.write(get(url(mint(1))) + next.slice(0, 20));
  assert.strictEqual((await client.answers(1))[0].id, "1");
  client.write(next.slice(20));
  assert.deepStrictEqual((await client.answers(1))[0].rawHeaders, ["Host", "a", "X-Half", "way"]);
});

test("a big answer that is still being read arrives whole before the connection goes", async (t) => {
  const { dial } = await pair(t);
  const client = await dial(0);
  client.write(get("/big") + get(url(mint(1))));
  client.socket.pause();
  await new Promise(setImmediate);
  client.socket.resume();
  await client.until((text) => (text.match(/"digest"/g) ?? []).length === 2, "both answers");
  assert.strictEqual(client.text.match(/b{1000,}/g).join("").length >= 4 << 20, true);
  const answers = await client.answers(2);
  assert.deepStrictEqual(answers.map(({ id }) => id), ["0", "1"]);
});

test("a server that takes no upgrades gives back all the same", async (t) => {
  const { dial } = await pair(t, { env: { NO_UPGRADE: "1" } });
  const client = await dial(0);
  client.write(get("/"));
  await client.answers(1);
  client.write(get(url(mint(1))));
  assert.strictEqual((await client.answers(1))[0].id, "1");
});

test("a client that goes away meanwhile harms nobody", async (t) => {
  const { dial, workers } = await pair(t);
  const gone = await dial(0);
  gone.write(get("/", "Delay: 50\r\n") + get(url(mint(1))));
  gone.socket.resetAndDestroy();
  const reset = await dial(0);
  reset.write(get("/"));
  await reset.answers(1);
  reset.write(get(url(mint(1))));
  reset.socket.destroy();
  const client = await dial(0);
  client.write(get("/"));
  await client.answers(1);
  client.write(get(url(mint(1))));
  assert.strictEqual((await client.answers(1))[0].id, "1");
  assert.deepStrictEqual(workers.map(({ child }) => child.exitCode), [null, null]);
});

const cookie = (value) => get("/", `Cookie: a=1; id=${value}\r\n`);
const login = (value) => get("/", `Set: id=${value}\r\n`);
const header = (value) => get("/", `x-id: ${value}\r\n`);
const from = (ip) => get("/", `X-Forwarded-For: ${ip}\r\n`);
const opening = get("/?EIO=4&transport=polling");
const PROXY = { by: ["ip"], trust: ["127.0.0.0/8"], forwarded: "x-forwarded-for" };
const STRANGER = { ...PROXY, trust: ["10.0.0.0/8"] };
/** By options: what requests on one connection show, the requests, and which of them go to the other worker. */
const cases = [
  [{ by: ["cookie:id"] }, [
    ["clients without a cookie stay", [get("/"), get("/")], []],
    ["an unknown cookie goes", [get("/"), cookie("a")], [1]],
    ["a cookie that was routed here stays", [cookie("b"), cookie("b")], []],
    ["and comes back by any connection", [get("/"), cookie("b")], []],
    ["a cookie that was given out here stays", [login("c"), cookie("c")], []],
    ["a client without a cookie does not share the connection of one that has it", [login("d"), get("/")], [1]],
    ["a minted id is a key in a cookie", [get("/"), cookie(mint(0)), cookie(mint(1))], [2]],
    ["a handshake by websocket goes", [get("/"), get("/?EIO=4&transport=websocket")], [1]],
  ]],
  [{ by: ["header:X-Id", "sid"] }, [
    ["a minted id is a key in a header", [get("/"), header(mint(0)), header(mint(1))], [2]],
    ["a handshake by polling goes", [get("/"), opening], [1]],
    ["the first key that is present decides", [header("a"), header("a").replace("/", url(mint(1)))], []],
  ]],
  [{ by: ["sid", "ip"] }, [["a handshake stays where the address decides", [opening, opening, get("/")], []]]],
  [PROXY, [["another client of a proxy goes", [from("10.0.0.1"), from("10.0.0.1"), from("10.0.0.2")], [2]]]],
  [STRANGER, [["what others say is nothing", [from("10.0.0.1"), from("10.0.0.2")], []]]],
];
for (const [options, each] of cases) {
  test(`a request goes where the supervisor would bring it by ${options.by} (${options.trust ?? "nobody"} trusted)`, async (t) => {
    const { dial, backs } = await pair(t, options);
    for (const [name, requests, goes] of each) {
      const client = await dial(0);
      const seen = [];
      for (const [number, request] of requests.entries()) {
        const before = backs().length;
        client.write(request);
        await client.answers(1);
        if (backs().length > before) seen.push(number);
      }
      assert.deepStrictEqual(seen, goes, name);
      client.socket.destroy();
    }
  });
}

test("the giver's server forgets the connection and the taker's knows it", async (t) => {
  const { dial, workers } = await pair(t);
  const count = async (worker) => {
    worker.child.send("count");
    return (await soon(once(worker.child, "message"), "a count"))[0].count;
  };
  const client = await dial(0);
  client.write(get("/"));
  await client.answers(1);
  assert.deepStrictEqual([await count(workers[0]), await count(workers[1])], [1, 0]);
  client.write(get(url(mint(1))));
  await client.answers(1);
  assert.deepStrictEqual([await count(workers[0]), await count(workers[1])], [0, 1]);
});

test("nothing is given back in mode off", async (t) => {
  const { dial, backs } = await pair(t, { keepAlive: "off" });
  const client = await dial(0);
  for (const target of ["/", url(mint(1))]) {
    client.write(get(target));
    assert.strictEqual((await client.answers(1))[0].id, "0");
  }
  assert.strictEqual(backs().length, 0);
});
