/**
 * The preload of sticky-run: `--require`d into every worker that is a Node process.
 *
 * It makes an unmodified app tell the supervisor what it needs to know, over the channel that Node
 * has with the process that started it. Every part is a file:
 *
 * - `engine.cjs` has engine.io mint session ids (`sids.cjs`) that tell which worker they live on;
 * - `sessions.cjs` keeps the ids that were made otherwise, and announces them;
 * - `connections.cjs` looks at the requests of each HTTP connection (`requests.cjs` and `keys.cjs` read them);
 * - `answers.cjs` announces cookies and headers of answers that the supervisor goes by;
 * - `homes.cjs` knows which keys belong here;
 * - `handback.cjs` gives back a connection whose next request belongs to another worker, and takes one in;
 * - `arrivals.cjs` says of many connections at once that they have arrived;
 * - `drain.cjs` lets its sessions end while another worker takes its place, `close.cjs` ends the worker;
 * - `handles.cjs` counts the connections that came from the supervisor and are closed;
 * - `servers.cjs` knows the servers of this process and how their connections end;
 * - `messages.cjs` tells of messages to the primary that nobody hears;
 * - `http2.cjs` ends sessions of HTTP/2;
 * - `packages.cjs` notices the packages that take connections by message;
 * - `probes.cjs` has apps find their port free that look before they listen;
 * - `supervisor.cjs` is the way to the supervisor and answers its pings, `environment.cjs` what it left in the environment.
 *
 * It does nothing in any process but a direct worker, on its main thread. A part that cannot be
 * installed is left out: an app must never fail because of its preload.
 */
"use strict";

const { isMainThread } = require("worker_threads");
const { takeConfig } = require("./environment.cjs");

/** The version of the messages between this preload and the supervisor. */
const VERSION = 2;

// A worker thread shares the environment of its process, which the main thread has cleaned.
const config = isMainThread ? takeConfig(process.env, __filename) : null;
if (config && isWorker()) install(config);

/** Whether the process at the other end of the channel plays Node's cluster primary for us. */
function isWorker() {
  const cluster = require("cluster");
  enter(cluster);
  return cluster.isWorker && Boolean(cluster.worker) && process.connected === true;
}

/**
 * Makes a program without a file, such as `node -e`, a worker of the cluster. Node makes one of a script
 * only, and leaves the others waiting for an answer that they do not read.
 */
function enter(cluster) {
  if (process.argv[1] || cluster.worker || !process.env.NODE_UNIQUE_ID || !process.connected) return;
  cluster._setupWorker?.();
  delete process.env.NODE_UNIQUE_ID;
}

function install({ incarnation, key, keepAlive, by, trust, forwarded, memory, ports }) {
  const { answerPings, tell } = require("./supervisor.cjs");
  tell("hello", { version: VERSION });

  const { Arrivals } = require("./arrivals.cjs");
  const { Close } = require("./close.cjs");
  const { Drain } = require("./drain.cjs");
  const { Handles } = require("./handles.cjs");
  const { Homes } = require("./homes.cjs");
  const { KeyList } = require("./keys.cjs");
  const { Packages } = require("./packages.cjs");
  const { Servers } = require("./servers.cjs");
  const { Sessions } = require("./sessions.cjs");
  const { Sids } = require("./sids.cjs");
  const sids = new Sids(incarnation, Buffer.from(key, "hex"));
  const parts = { identities: new WeakMap(), keepAlive, memory, ports, sids };
  parts.keyList = new KeyList(by, trust, forwarded);
  parts.sessions = new Sessions(sids);
  parts.homes = new Homes(parts);
  parts.handles = new Handles();
  parts.servers = new Servers();
  parts.packages = new Packages();
  parts.drain = new Drain(parts);

  for (const part of [
    () => new Arrivals(parts.handles, parts.servers).install(),
    () => parts.handles.install(),
    () => parts.servers.install(),
    () => parts.packages.install(),
    () => parts.drain.install(),
    () => new Close(parts).install(),
    () => answerPings(),
    () => require("./engine.cjs").install(parts),
    () => require("./connections.cjs").install(parts),
    () => require("./answers.cjs").install(parts),
    () => require("./handback.cjs").install(parts),
    () => require("./messages.cjs").install(),
    () => require("./probes.cjs").install(parts),
  ]) {
    try {
      part();
    } catch {
      // What this part does is missed; the app is not.
    }
  }
}
