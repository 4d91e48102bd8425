/**
 * Which keys are this worker's own: those that it minted or announced, and those that the supervisor led
 * here a moment ago. Of any other key the supervisor is asked, by giving the connection back.
 *
 * What is forgotten here is only asked about once more, so both memories are small and short. That also
 * shows the supervisor which keys are in use that come over kept connections alone.
 */
"use strict";

const { tellKey } = require("./supervisor.cjs");

/** How many keys are remembered of each sort. */
const MOST = 16_384;
/** For how long a key of any client is this worker's after the supervisor has led it here, in milliseconds. */
const MOMENT = 5_000;
/** For how long it is on the connection by which it came. */
const WHILE = 60_000;

class Homes {
  #announced;
  #led;
  #sessions;
  #sids;
  #while;

  /** @param {object} parts see index.cjs; `memory`: for how long the supervisor remembers keys, in milliseconds */
  constructor({ memory, sessions, sids }) {
    this.#sessions = sessions;
    this.#sids = sids;
    this.#announced = new Recent(memory.announced / 4);
    this.#led = new Recent(Math.min(MOMENT, memory.presented / 4));
    this.#while = Math.min(WHILE, memory.presented / 4);
  }

  /** Whether `key` was made here. */
  made(key) {
    return this.#announced.has(key) || this.#sessions.has(key) || this.#sids.isMine(key);
  }

  /** Whether requests with `key` may be served here without asking. */
  owns(key) {
    return this.#led.has(key) || this.made(key);
  }

  /** The supervisor has led `key` here. Returns until when that holds for its connection. */
  lead(key) {
    this.#led.add(key);
    return performance.now() + this.#while;
  }

  /**
   * A client is about to learn `key`, which belongs to this worker from now on.
   *
   * @param {string} key
   * @param {() => void} done called when the client may
   */
  announce(key, done) {
    if (this.#sids.isMine(key)) return done();
    this.#announced.add(key);
    tellKey("session", key, done);
  }
}

/** The newest keys, each for a time. */
class Recent {
  #life;
  #until = new Map();

  /** @param {number} life in milliseconds */
  constructor(life) {
    this.#life = life;
  }

  add(key) {
    this.#until.delete(key);
    if (this.#until.size >= MOST) this.#until.delete(this.#until.keys().next().value);
    this.#until.set(key, performance.now() + this.#life);
  }

  has(key) {
    const until = this.#until.get(key);
    if (until === undefined) return false;
    if (performance.now() < until) return true;
    this.#until.delete(key);
    return false;
  }
}

module.exports = { Homes };
