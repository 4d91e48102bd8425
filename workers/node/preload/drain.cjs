/**
 * A drain: another worker takes this one's place, and its sessions stay until they end. The supervisor
 * says so (`drain`); it sends nothing new then, and wants to know when no session is left (`quiet`), and
 * when there is one again (`busy`). Where Node itself closes the servers, see `servers.cjs`.
 */
"use strict";

const { hear, tell } = require("./supervisor.cjs");

/**
 * How long connections stay open that wait for a request, in milliseconds. One that is closed
 * while its client begins to use it loses a request; one that is used meanwhile ends with its answer.
 */
const REST = 1_000;

class Drain {
  #begun = false;
  #servers;
  #sessions;

  /** @param {{servers: import("./servers.cjs").Servers, sessions: import("./sessions.cjs").Sessions}} parts */
  constructor({ servers, sessions }) {
    this.#servers = servers;
    this.#sessions = sessions;
  }

  install() {
    hear("drain", () => this.#begin());
  }

  /** Whether this worker drains. */
  hasBegun() {
    return this.#begun;
  }

  #begin() {
    if (this.#begun) return;
    this.#begun = true;
    this.#servers.sayClose();
    setInterval(() => this.#servers.closeIdle(), REST).unref();
    this.#sessions.watch((any) => tell(any ? "busy" : "quiet", {}));
  }
}

module.exports = { Drain };
