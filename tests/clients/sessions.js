// Socket.IO sessions against `chat`: each sends echoes one after the other and compares what comes
// back, as an acknowledgement and as an event.
//
//   node sessions.js '{"url": "http://127.0.0.1:3000", "sessions": 60, "millis": 2000, ...}'
//
// Prints `{"connected": ...}` when every session has met its worker, and at the end its verdict, a
// JSON object a line. Without `millis` they talk until its input ends. All other arguments are optional;
// see `defaults`.

import { randomBytes } from "node:crypto";
import http from "node:http";
import { io } from "socket.io-client";

const defaults = {
  transports: ["polling", "websocket"],
  upgrade: true,
  keepAlive: false, // one pool of kept connections for all sessions, instead of one connection a request
  reconnection: false,
};
const options = { ...defaults, ...JSON.parse(process.argv[2]) };
const PATIENCE = 30_000; // ms that any one answer may take on a busy machine
const BIG = 150_000; // bytes of every tenth message
const agent = options.keepAlive ? new http.Agent({ keepAlive: true }) : undefined;

const rest = (millis) => new Promise((done) => setTimeout(done, millis));
const within = (promise, what) => {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`${what}: nothing in ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};
const same = (sent, got) =>
  Buffer.isBuffer(sent) ? Buffer.isBuffer(got) && sent.equals(got) : sent === got;

/** Starts a session; `record` is what the verdict says of it. */
function session(number) {
  const { transports, upgrade, reconnection } = options;
  const socket = io(options.url, {
    transports, upgrade, reconnection, agent,
    forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 500, timeout: PATIENCE,
  });
  const record = { workers: [], echoes: 0, binary: 0, wrong: 0, errors: [], disconnects: [] };
  const expected = [];
  const met = new Promise((done) => {
    socket.on("worker", (name) => { record.workers.push(name); done(); });
    if (!reconnection) socket.on("connect_error", done);
  });
  socket.on("connect_error", (error) => {
    record.errors.push(`${error.message} (${error.context?.status ?? error.description ?? "no status"})`);
  });
  socket.on("disconnect", (reason) => { record.disconnects.push(reason); expected.length = 0; });
  socket.on("echo", (data) => { if (!same(expected.shift(), data)) record.wrong += 1; });
  return { number, socket, record, expected, met };
}

/** When the time is over. */
let until = Infinity;

/** Sends echoes until the time is over, but never fewer than ten. */
async function talk({ number, socket, record, expected }) {
  await rest((number * 37) % 200);
  for (let count = number; count < number + 10 || Date.now() < until; count++) {
    while (options.reconnection && !socket.connected && Date.now() < until + PATIENCE) await rest(20);
    if (!socket.connected) return;
    const message = count % 10 === 9 ? randomBytes(BIG) : `message ${count} of session ${number}`;
    const before = record.disconnects.length;
    expected.push(message);
    try {
      const answer = await socket.timeout(PATIENCE).emitWithAck("echo", message);
      record.echoes += 1;
      if (Buffer.isBuffer(message)) record.binary += 1;
      if (!same(message, answer)) record.wrong += 1;
    } catch (error) {
      // The answer to what was under way at a disconnect is lost, and that is counted there.
      if (record.disconnects.length === before) record.errors.push(`echo: ${error.message}`);
    }
    await rest(50 + ((number * 13 + count * 7) % 50));
  }
}

/** The event follows its acknowledgement; at the end both have to be there. */
async function settle({ record, expected, socket }) {
  for (let waited = 0; expected.length > 0 && socket.connected; waited += 10) {
    if (waited > PATIENCE) return record.errors.push(`${expected.length} echo events are missing`);
    await rest(10);
  }
}

const sessions = Array.from({ length: options.sessions }, (_, number) => session(number));
await Promise.all(sessions.map(({ number, met, record }) =>
  within(met, `session ${number} and its worker`).catch(({ message }) => record.errors.push(message))));
console.log(JSON.stringify({ connected: sessions.map(({ record }) => record.workers[0] ?? null) }));

if (options.millis) until = Date.now() + options.millis;
else process.stdin.resume().on("end", () => { until = Date.now(); });
await Promise.all(sessions.map(talk));
await Promise.all(sessions.map(settle));
const verdict = sessions.map(({ record, socket }) => ({
  ...record,
  connected: socket.connected,
  transport: socket.io.engine?.transport?.name,
}));
console.log(JSON.stringify({ sessions: verdict }));
// The servers are told that the sessions are over.
for (const { socket } of sessions) socket.disconnect();
setTimeout(() => process.exit(0), PATIENCE).unref();
