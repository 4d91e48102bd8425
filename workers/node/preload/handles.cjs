/**
 * The connections that came from the supervisor, from their arrival to their end. They are counted
 * at the handle, so that those which are refused, given away or never used count too.
 */
"use strict";

const { tell } = require("./supervisor.cjs");

/** How long ends are gathered before they are told, in milliseconds. */
const GATHER = 10;

class Handles {
  #ours = new WeakSet();
  #closed = 0;
  #open = 0;
  #emptied = null;
  #timer = null;
  #close = this.#ending("close");
  #reset = this.#ending("reset");

  install() {
    process.on("internalMessage", (message, handle) => {
      if (message.cmd !== "NODE_HANDLE" || !handle) return;
      if (message.type === "net.Native" || message.type === "net.Socket") this.#arrive(handle);
    });
  }

  /** Whether the supervisor gave us `handle`. */
  has(handle) {
    return this.#ours.has(handle);
  }

  #arrive(handle) {
    this.#open++;
    this.#ours.add(handle);
    handle.close = this.#close;
    handle.reset = this.#reset;
  }

  /** A method of a handle that ends it, and counts it the first time. */
  #ending(method) {
    const left = () => this.#left();
    return function (...args) {
      delete this.close;
      delete this.reset;
      left();
      return this[method](...args);
    };
  }

  /** How many have ended since they were told the last time; they count as told. */
  takeClosed() {
    const closed = this.#closed;
    this.#closed = 0;
    return closed;
  }

  /** Calls `then` when none is left. */
  whenEmpty(then) {
    if (this.#open === 0) return void then();
    this.#emptied = then;
  }

  #left() {
    this.#open--;
    if (this.#open === 0 && this.#emptied) setImmediate(this.#emptied);
    this.#closed++;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      const count = this.takeClosed();
      if (count > 0) tell("closed", { count });
    }, GATHER).unref();
  }
}

module.exports = { Handles };
