/**
 * The sessions of HTTP/2, each of which carries many requests: how they end when no more are to come. The
 * client is told to send nothing new (GOAWAY), what is under way is finished.
 */
"use strict";

/** From the first word of the end to the last: what the client has sent meanwhile is served (RFC 9113, 6.8), in milliseconds. */
const NOTICE = 500;
/** More than any stream's number. */
const ANY_STREAM = 2 ** 31 - 1;
/** So many sessions are kept in mind before those that are gone are looked for. */
const MANY = 64;

class Http2 {
  /** @type {Set<WeakRef<import("http2").ServerHttp2Session>>} a listener of ours would be seen on them */
  #sessions = new Set();
  #many = MANY;
  #ending = false;
  #watched = new WeakSet();

  /** `server` listens; its sessions are kept in mind, if it has any. */
  watch(server) {
    const prototype = Object.getPrototypeOf(server);
    if (typeof server.updateSettings !== "function" || this.#watched.has(prototype)) return;
    this.#watched.add(prototype);
    const { emit } = prototype;
    const begin = (session) => this.#begin(session);
    prototype.emit = function (event, session) {
      if (event === "session") begin(session);
      return emit.apply(this, arguments);
    };
  }

  /** Ends all sessions, those too that begin from now on. */
  end() {
    if (this.#ending) return;
    this.#ending = true;
    for (const session of this.#living()) end(session);
  }

  #begin(session) {
    this.#sessions.add(new WeakRef(session));
    if (this.#sessions.size > this.#many) this.#many = Math.max(MANY, 2 * [...this.#living()].length);
    if (this.#ending) setImmediate(end, session);
  }

  *#living() {
    for (const reference of this.#sessions) {
      const session = reference.deref();
      if (session && !session.destroyed) yield session;
      else this.#sessions.delete(reference);
    }
  }
}

function end(session) {
  if (session.destroyed || session.closed) return;
  session.goaway(0, ANY_STREAM);
  setTimeout(() => session.close(), NOTICE).unref();
}

module.exports = { Http2 };
