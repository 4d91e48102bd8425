/**
 * The end of this worker. The supervisor asks for it (`close`), or for one that waits for no connection
 * (`close-now`), and sends TERM only when it is for a handler of the app (`handles-term`) or came to be
 * needed. An app that has none ends as by Node's own `cluster.disconnect()`: its handlers of `disconnect`
 * and `exit` run.
 */
"use strict";

const cluster = require("cluster");
const { connected, hear, tell } = require("./supervisor.cjs");

/** How long an app may go on after it has disconnected, in milliseconds; longer if it has a listener for that. */
const REST = { usual: 500, listens: 4_000 };
/** The same when it shall not wait for its connections: TERM comes soon. */
const SHORT_REST = { usual: 0, listens: 250 };
/** `signal-exit` and its kin: they end the process by the same signal, unless somebody else listens. */
const PASSES_ON = [/\.listeners\(/, /\.kill\(/];

class Close {
  #asked = false;
  #exits = false;
  #rest = REST;
  #handles;
  #packages;
  #servers;

  /** @param {object} parts see index.cjs */
  constructor({ handles, packages, servers }) {
    this.#handles = handles;
    this.#packages = packages;
    this.#servers = servers;
  }

  install() {
    hear("close", () => this.#close());
    hear("close-now", () => this.#closeNow());
  }

  #close() {
    if (this.#asked) return;
    if (handlesTerm()) return this.#leaveToApp();
    this.#asked = true;
    this.#exitWhenDisconnected();
    this.#servers.drain();
    const disconnect = () => {
      // As Node's own primary says it: the servers close, and the channel when their connections have ended.
      process.emit("internalMessage", { cmd: "NODE_CLUSTER", act: "disconnect" });
    };
    // A package's server does not listen, and Node would wait for nothing.
    if (this.#packages.found()) this.#handles.whenEmpty(disconnect);
    else disconnect();
  }

  #closeNow() {
    if (!this.#asked && handlesTerm()) return this.#leaveToApp();
    this.#rest = SHORT_REST;
    this.#exitWhenDisconnected();
    cluster.worker.exitedAfterDisconnect = true;
    if (connected()) process.disconnect();
  }

  /**
   * The app ends itself, as if it were alone: then what it listens on would keep its process, and no channel.
   * Its listener may be another one by the time that TERM comes, and ours must not be seen then.
   */
  #leaveToApp() {
    this.#asked = true;
    this.#servers.sayClose();
    process.prependOnceListener("SIGTERM", () => {
      this.#servers.release();
      // The app's is gone meanwhile: without ours, this signal would have ended the process.
      if (process.listenerCount("SIGTERM") === 0) process.kill(process.pid, "SIGTERM");
    });
    cluster.worker.exitedAfterDisconnect = true;
    process.once("beforeExit", () => connected() && process.disconnect());
    tell("handles-term", {});
  }

  /**
   * Once this process has disconnected, it exits by itself if nothing is left to do. What is left may never
   * end, as a pool of connections to a database, so it has only a little time.
   */
  #exitWhenDisconnected() {
    if (this.#exits) return;
    this.#exits = true;
    // One listener is Node's own.
    const listens = process.listenerCount("disconnect") > 1 || cluster.worker.listenerCount("disconnect") > 0;
    process.once("disconnect", () => {
      setTimeout(() => process.exit(), listens ? this.#rest.listens : this.#rest.usual).unref();
    });
  }
}

/** Whether the app has a listener that knows how to end. */
function handlesTerm() {
  const knows = (listener) => {
    const text = Function.prototype.toString.call(listener);
    return !PASSES_ON.every((part) => part.test(text));
  };
  return process.listeners("SIGTERM").some(knows);
}

module.exports = { Close };
