// Socket.IO sessions that talk to ../apps/sessions.js and account for every message.
//
//   node load.js '{"url": "http://127.0.0.1:3000", "sessions": 60, "millis": 2000, "transport": "upgrade"}'
//
// Prints `{"connected": {PID: sessions}}` when every session has met its worker, and at the end its verdict, a JSON object
// a line. said = answered + lost, where lost are those that were under way when their connection ended. Without `millis`
// they talk until its input ends. `defaults` has the other arguments.
"use strict";
const { randomBytes } = require("node:crypto");
const http = require("node:http");

const defaults = {
  transport: "upgrade", // or polling, websocket
  client: "socket.io-client", // the package, by the name it is installed as
  agent: "none", // shared: one pool of kept connections for all sessions
  path: "/socket.io/",
  broadcasts: false, // needs a cluster adapter in the app
  addresses: false, // each session has an address 127.0.x.y of its own, with a pool of its own
  cluster: false, // at the end the questions that a cluster adapter answers
  reconnection: true,
  // Wait for all upgrades before anything else. If a server is killed while a session upgrades, engine.io-client may stay
  // in the middle of it until its next ping, also with one server and nothing in between.
  upgraded: false,
};
const options = { ...defaults, ...JSON.parse(process.argv[2]) };
const PATIENCE = 30_000; // ms that any one answer may take on a busy machine
const BIG = 150_000; // bytes of every tenth message
const io = require(options.client);
const shared = options.agent === "shared" ? new http.Agent({ keepAlive: true }) : undefined;
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

const verdict = {
  said: 0, answered: 0, lost: 0, wrong: 0, strangers: 0, binary: 0,
  greetings: {}, disconnects: {}, reconnected: {}, transports: {}, addresses: [], statuses: {}, errors: [], slowest: 0,
};
const count = (table, name, by = 1) => { table[name] = (table[name] ?? 0) + by; };
const complain = (text) => { if (verdict.errors.length < 20) verdict.errors.push(text); };
const rest = (millis) => new Promise((done) => setTimeout(done, millis));
const same = (sent, got) =>
  Buffer.isBuffer(sent) ? Buffer.isBuffer(got) && sent.equals(got) : sent === got;

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE;
  while (!condition()) {
    if (Date.now() > deadline) return complain(`not in ${PATIENCE} ms: ${what}`);
    await rest(10);
  }
}

/** An address of this machine for each session. */
function poolOf(number) {
  if (!options.addresses) return shared;
  const localAddress = `127.0.${1 + (number >> 7)}.${1 + (number & 127)}`;
  return new http.Agent({ keepAlive: true, localAddress });
}

/** The status of the answer that an error is about, and its text. */
function describe(error) {
  const status = error?.context?.status ?? error?.description?.status ?? error?.description;
  const text = String(error?.context?.responseText ?? "").slice(0, 80);
  if (typeof status === "number") count(verdict.statuses, status);
  return `${error?.message ?? error} (${status?.message ?? status ?? "no status"}) ${text}`;
}

function open(number) {
  const agent = poolOf(number);
  const socket = io(options.url, {
    transports: transports[options.transport], forceNew: true, reconnection: options.reconnection, path: options.path,
    reconnectionDelay: 50, reconnectionDelayMax: 300, timeout: PATIENCE, ...(agent ? { agent } : {}),
  });
  const session = { number, socket, worker: null, last: null, over: false, pending: new Map(), heard: new Map() };
  socket.on("worker", ({ pid, address }) => {
    if (session.last !== null) count(verdict.reconnected, session.last);
    session.worker = session.last = pid;
    count(verdict.greetings, pid);
    if (options.addresses) verdict.addresses.push(address);
  });
  const refused = (error) => {
    complain(`session ${number} cannot connect: ${describe(error)}`);
    session.over = !options.reconnection;
  };
  socket.on("connect_error", refused);
  // Socket.IO 2 has this instead for its namespaces.
  if (options.client.endsWith("-2")) socket.on("error", refused);
  socket.on("disconnect", (reason) => {
    count(verdict.disconnects, session.worker ?? "none");
    session.worker = null;
    session.reason = reason;
    session.over = !options.reconnection;
    for (const lose of [...session.pending.values()]) lose();
  });
  socket.on("said", (nth, data) => {
    if (!session.heard.has(nth)) session.heard.set(nth, []);
    session.heard.get(nth).push(data);
  });
  socket.on("asked", (data, reply) => reply(data));
  return session;
}

/** Says something and resolves when it is answered or lost; one that is neither is a complaint. */
function say(session, message) {
  const worker = session.worker;
  const began = Date.now();
  verdict.said += 1;
  return new Promise((done) => {
    const key = Symbol("a message");
    const settle = () => { clearTimeout(timer); session.pending.delete(key); done(); };
    const timer = setTimeout(() => { complain(`session ${session.number} got no answer`); settle(); }, PATIENCE);
    session.pending.set(key, () => { verdict.lost += 1; settle(); });
    session.socket.emit("echo", message, (answer, pid) => {
      if (!session.pending.has(key)) return;
      verdict.answered += 1;
      verdict.slowest = Math.max(verdict.slowest, Date.now() - began);
      if (Buffer.isBuffer(message)) verdict.binary += 1;
      if (!same(message, answer)) verdict.wrong += 1;
      if (pid !== worker) verdict.strangers += 1;
      settle();
    });
  });
}

/** When the time is over. */
let end = Infinity;

/** Talks until the time is over, and says at least ten things. */
async function talk(session) {
  const { number } = session;
  await rest((number * 37) % 200);
  for (let nth = number; nth < number + 10 || Date.now() < end; nth++) {
    await until(`session ${number} is back (${session.reason})`, () => session.worker !== null || session.over);
    if (session.worker === null) return;
    const message = nth % 10 === 9 ? randomBytes(BIG) : `message ${nth} of session ${number}, größer als nichts`;
    await say(session, message);
    await rest(50 + ((number * 13 + nth * 7) % 50));
  }
}

/** Has one session after the other say something to all, text and binary in turns. */
async function broadcast(sessions) {
  const said = [];
  for (let nth = 0; nth < 4 || Date.now() < end; nth++) {
    const message = nth % 2 ? randomBytes(2000 + nth) : `broadcast ${nth}: ${"ä".repeat(nth)}`;
    said.push(message);
    sessions[(nth * 7) % sessions.length].socket.emit("say", nth, message);
    await rest(100);
  }
  const heard = { said: said.length, right: 0, wrong: 0, missing: 0, doubled: 0 };
  const all = (nth) => sessions.every((session) => session.heard.has(nth));
  await until("all broadcasts are heard", () => said.every((_, nth) => all(nth)));
  for (const session of sessions) {
    said.forEach((message, nth) => {
      const got = session.heard.get(nth) ?? [];
      if (got.length === 0) heard.missing += 1;
      else if (got.length > 1) heard.doubled += 1;
      else heard[same(message, got[0]) ? "right" : "wrong"] += 1;
    });
  }
  return heard;
}

/** What a cluster adapter answers: how many sockets there are, which servers, and what each client says. */
async function questions({ socket }) {
  const ask = (...words) => new Promise((done) => {
    const timer = setTimeout(() => done(["no answer"]), PATIENCE);
    socket.emit(...words, (...answer) => { clearTimeout(timer); done(answer); });
  });
  const [sockets] = await ask("count");
  const [serverError, servers] = await ask("ask servers");
  const [clientError, answers, right] = await ask("ask clients", randomBytes(3000));
  return { sockets, serverError, servers, clientError, answers, right };
}

/** Whether a session has met its worker, and has upgraded if that is waited for. */
function hasMet({ socket, worker }) {
  return worker !== null && (!options.upgraded || socket.io.engine.transport.name === "websocket");
}

async function main() {
  const sessions = Array.from({ length: options.sessions }, (_, number) => open(number));
  await until("all sessions are connected", () => sessions.every((session) => hasMet(session) || session.over));
  console.log(JSON.stringify({ connected: { ...verdict.greetings } }));
  if (options.millis) end = Date.now() + options.millis;
  else process.stdin.resume().on("end", () => { end = Date.now(); });
  const talks = sessions.map(talk);
  if (options.broadcasts) verdict.broadcasts = await broadcast(sessions);
  await Promise.all(talks);
  if (options.cluster) verdict.cluster = await questions(sessions[0]);
  for (const { socket } of sessions) {
    count(verdict.transports, socket.connected ? socket.io.engine.transport.name : "none");
  }
  console.log(JSON.stringify(verdict));
  // The servers are told that the sessions are over.
  for (const { socket } of sessions) socket.disconnect();
  setTimeout(() => process.exit(0), PATIENCE).unref();
}

main();
