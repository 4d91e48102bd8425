// A supervisor of a few lines: it plays Node's cluster primary for one worker, whose real one is in Rust.
"use strict";

const { fork } = require("node:child_process");
const { EventEmitter, once } = require("node:events");
const net = require("node:net");
const path = require("node:path");

const PRELOAD = path.join(__dirname, "..", "preload", "index.cjs");
const KEY = "5a".repeat(32);
/** For how long the supervisor remembers keys, in milliseconds. */
const memory = { announced: 86_400_000, presented: 3_600_000 };
/** How long a test waits for anything, in milliseconds. */
const DEADLINE = 20_000;

/** A worker. Emits the `act` of everything that its preload says, and 'listening'. */
class Worker extends EventEmitter {
  #sequence = 0;
  #waiting = new Map();

  constructor(app, { keepAlive = "handback", incarnation = 1, by = ["sid"], trust = [], forwarded = null, env = {}, options = "" } = {}) {
    super();
    this.said = [];
    this.child = fork(path.join(__dirname, "apps", app), {
      env: {
        ...process.env,
        NODE_UNIQUE_ID: "1",
        NODE_OPTIONS: `${options} --require "${PRELOAD}"`.trim(),
        STICKY_NODE: JSON.stringify({ incarnation, key: KEY, keepAlive, by, trust, forwarded, memory }),
        ...env,
      },
    });
    process.once("exit", () => this.child.kill("SIGKILL"));
    this.child.on("internalMessage", (message, handle) => this.#hear(message, handle));
  }

  #hear(message, handle) {
    if (message.cmd === "NODE_CLUSTER") {
      if (message.act === "queryServer") {
        this.query = message;
        const sockname = { address: "::", family: "IPv6", port: message.port };
        this.#say({ ack: message.seq, errno: 0, key: "the key", data: message.data, sockname });
      } else if (message.act === "listening") {
        this.emit("listening");
      } else if (message.ack !== undefined) {
        this.#waiting.get(message.ack)?.(message.accepted);
      }
    } else if (message.act === "taken") {
      for (let i = 0; i < message.count; i++) this.#taken();
      // It tells of both, the beginnings and the ends.
      this.said.push({ act: "closed", count: message.closed });
      this.emit("closed");
    } else if (message.cmd === "NODE_STICKY") {
      // Node has begun to read here; what is in the kernel is not for us.
      if (handle) handle._handle.readStop();
      this.said.push(message);
      this.emit(message.act, message, handle);
    }
  }

  /** The oldest connection under way has arrived, which Node here would have heard in its own words. */
  #taken() {
    this.child.emit("internalMessage", { cmd: "NODE_HANDLE_ACK" });
    const [oldest] = this.#waiting.entries();
    if (!oldest) return;
    this.#waiting.delete(oldest[0]);
    oldest[1](true);
  }

  #say(message, handle) {
    const seq = this.#sequence++;
    this.child.send({ cmd: "NODE_CLUSTER", ...message, seq }, handle);
    return seq;
  }

  /** Gives `socket`, which was accepted paused, to the worker's server. */
  async connect(socket) {
    const seq = this.#say({ act: "newconn", key: "the key" }, socket._handle);
    const accepted = await new Promise((done) => this.#waiting.set(seq, done));
    socket.destroy();
    return accepted;
  }

  /** Gives `socket`, which another worker gave back with `head`, to the worker. */
  pass(socket, head) {
    this.child.send({ cmd: "NODE_STICKY", act: "conn", head, port: 80 }, socket);
  }

  /** Tells the preload something. */
  tell(act) {
    this.child.send({ cmd: "NODE_STICKY", act });
  }

  drain() {
    this.#say({ act: "disconnect" });
  }

  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill("SIGKILL");
    await once(this.child, "exit");
  }
}

/** `count` workers of `app` that listen, and a `dial` that connects a client, or its mere socket, to the one of a number. */
async function start(t, app, count, options = {}) {
  const workers = [];
  for (let id = 0; id < count; id++) {
    workers.push(new Worker(app, { ...options, incarnation: id, env: { ...options.env, ID: String(id) } }));
  }
  const server = net.createServer({ pauseOnConnect: true, noDelay: true });
  t.after(async () => {
    server.close();
    for (const worker of workers) await worker.stop();
  });
  const ready = workers.map((worker) => soon(once(worker, "listening"), "a worker that listens"));
  await Promise.all([...ready, once(server.listen(0, "127.0.0.1"), "listening")]);
  const dial = async (id, raw = false) => {
    const arrived = once(server, "connection");
    const client = net.connect(server.address().port, "127.0.0.1");
    const [[socket]] = await Promise.all([arrived, once(client, "connect")]);
    await soon(workers[id].connect(socket), "an accepted connection");
    t.after(() => client.destroy());
    return raw ? client : new Client(client);
  };
  return { workers, dial };
}

/** The client's end of a connection: what was received so far, and waiting for more. */
class Client {
  constructor(socket) {
    this.socket = socket;
    this.text = "";
    this.ended = false;
    socket.setEncoding("latin1");
    socket.on("data", (text) => (this.text += text));
    socket.on("error", () => {});
    socket.on("close", () => (this.ended = true));
  }

  write(bytes) {
    this.socket.write(bytes);
  }

  /** Waits until `condition` holds for what was received. */
  async until(condition, what) {
    const seen = async () => {
      while (!condition(this.text)) {
        if (this.ended) throw new Error(`closed while waiting for ${what}: ${this.text.slice(-500)}`);
        await Promise.race([once(this.socket, "data"), once(this.socket, "close")]);
      }
    };
    await soon(seen(), what);
  }

  /** The JSON bodies of the next `count` answers, which have to be the next thing to come. */
  async answers(count) {
    const bodies = () => [...this.text.matchAll(/\{"id":.*?"digest":"\w+"\}/gs)].map(([body]) => JSON.parse(body));
    await this.until(() => bodies().length >= count, `${count} answers`);
    const found = bodies();
    this.text = "";
    return found;
  }

  /** Waits until the other end has closed. */
  async closed() {
    if (!this.ended) await soon(once(this.socket, "close"), "a close");
  }
}

/** What `promise` gives, if it does before the deadline. */
async function soon(promise, what) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`waited too long for ${what}`)), DEADLINE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

module.exports = { KEY, PRELOAD, Worker, soon, start };
