/**
 * Says that connections have arrived, many at once. Node says it of each in two messages of its own
 * (`NODE_HANDLE_ACK`, and `accepted` for one of its servers), each a system call here and a wake-up
 * there; `taken` stands for all of them that came in one turn of the event loop.
 *
 * It also tells how many have ended meanwhile. It leaves at the end of that turn, before Node can read the first byte of any of them, so what was
 * not said of a worker that dies was not begun by it either.
 */
"use strict";

const { CMD, overtaking } = require("./supervisor.cjs");

class Arrivals {
  /** How many have arrived and were not told. */
  #count = 0;
  #handles;
  #send;
  #servers;

  /**
   * @param {import("./handles.cjs").Handles} handles the connections, which also end
   * @param {import("./servers.cjs").Servers} servers what they are for
   */
  constructor(handles, servers) {
    this.#handles = handles;
    this.#servers = servers;
  }

  install() {
    const send = process._send;
    if (typeof send !== "function") return;
    this.#send = send;
    const arrivals = this;
    process._send = function (message, ...rest) {
      if (arrivals.#swallow(message)) return true;
      return send.call(this, message, ...rest);
    };
  }

  /** Whether `message` need not be sent, since `taken` will say it. */
  #swallow(message) {
    if (message?.cmd === "NODE_HANDLE_ACK") {
      if (this.#count++ === 0) setImmediate(() => this.#tell());
      return true;
    }
    if (message?.cmd === "NODE_CLUSTER" && this.#count > 0) {
      if (message.accepted === true) {
        // An app that sees a connection before its first byte may talk to it, or throw: from now on
        // it is this worker's.
        if (this.#servers.showAtOnce()) this.#tell();
        return true;
      }
      // This one came and was refused: Node's own words say that.
      if (message.accepted === false) {
        this.#count--;
        this.#tell();
        this.#say({ cmd: "NODE_HANDLE_ACK" });
        return false;
      }
    }
    // Whatever else is said comes after what has arrived before.
    this.#tell();
    return false;
  }

  #tell() {
    if (this.#count === 0) return;
    const count = this.#count;
    this.#count = 0;
    this.#say({ cmd: CMD, act: "taken", count, closed: this.#handles.takeClosed() });
  }

  #say(message) {
    if (!process.connected) return;
    overtaking(() => this.#send.call(process, message, undefined, { swallowErrors: true }, () => {}));
  }
}

module.exports = { Arrivals };
