/**
 * The sessions of this worker. Those whose ids were minted here are only counted. The supervisor is told
 * of all others, an app's own `generateId` or an engine.io that is bundled into the app, before the
 * client can know the id.
 *
 * The end is known where engine.io is a module. Elsewhere a session is over when no request of it
 * came for twice the time after which Engine.IO itself gives up, and none of its WebSockets is open.
 */
"use strict";

const { bytesOf } = require("./keys.cjs");
const { tellKey } = require("./supervisor.cjs");

/** How often silent sessions are looked for, in milliseconds. */
const SWEEP = 5_000;

class Sessions {
  #sids;
  /**
   * By the bytes of their ids. `waiting`: who wants to know that it is told, until it is.
   * @type {Map<string, {patience: number, heard: number, held: number, waiting: (() => void)[] | null}>}
   */
  #announced = new Map();
  #timer = null;
  /** How many there are whose ids were minted here. */
  #minted = 0;
  #watcher = null;
  /** What the watcher knows. */
  #any = false;

  /** @param {import("./sids.cjs").Sids} sids */
  constructor(sids) {
    this.#sids = sids;
  }

  /** Whether a session lives here whose id, as the key `sid`, was announced. */
  has(sid) {
    return this.#announced.has(sid);
  }

  /**
   * A session begins, or did so already.
   *
   * @param {{sid: string, patience: number}} session patience in milliseconds
   * @param {() => void} [done] called when the client may learn the id
   */
  begin({ sid, patience }, done = () => {}) {
    const key = bytesOf(sid);
    const known = this.#announced.get(key);
    if (known?.waiting) return void known.waiting.push(done);
    if (known || this.#sids.isMine(key)) return done();
    const session = { patience, heard: performance.now(), held: 0, waiting: [done] };
    this.#announced.set(key, session);
    this.#timer ??= setInterval(() => this.#sweep(), SWEEP).unref();
    tellKey("session", key, () => {
      session.waiting.forEach((done) => done());
      session.waiting = null;
    });
    this.#changed();
  }

  /** A request with the key `sid` came. */
  hear(sid) {
    const session = this.#announced.get(sid);
    if (session) session.heard = performance.now();
  }

  /** The key `sid` lives at least as long as `socket`, its WebSocket, is open. */
  hold(sid, socket) {
    const session = this.#announced.get(sid);
    if (!session) return;
    session.held++;
    socket.once("close", () => {
      session.held--;
      session.heard = performance.now();
    });
  }

  /** `sid` lives exactly as long as `socket`, its session in engine.io. */
  follow(sid, socket) {
    const key = bytesOf(sid);
    const session = this.#announced.get(key);
    if (session) {
      session.held++;
      socket.once("close", () => this.#end(key));
      return;
    }
    this.#minted++;
    socket.once("close", () => {
      this.#minted--;
      this.#changed();
    });
    this.#changed();
  }

  /** Calls `watcher` with whether there is any session, now and whenever that changes. */
  watch(watcher) {
    this.#watcher = watcher;
    this.#any = this.#hasAny();
    watcher(this.#any);
  }

  #hasAny() {
    return this.#minted + this.#announced.size > 0;
  }

  #changed() {
    if (!this.#watcher || this.#any === this.#hasAny()) return;
    this.#any = !this.#any;
    this.#watcher(this.#any);
  }

  #end(key) {
    if (!this.#announced.delete(key)) return;
    tellKey("end", key);
    this.#changed();
    if (this.#announced.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #sweep() {
    const now = performance.now();
    for (const [key, { patience, heard, held }] of this.#announced) {
      if (held === 0 && now - heard > 2 * patience) this.#end(key);
    }
  }
}

module.exports = { Sessions };
