/**
 * The servers of this process: what kind each is when it asks to listen, which one a connection is
 * for, and how their connections end when the supervisor drains this worker.
 */
"use strict";

const cluster = require("cluster");
const diagnostics = require("diagnostics_channel");
const http = require("http");
const net = require("net");
const { Http2 } = require("./http2.cjs");

class Servers {
  /** @type {Map<import("net").Server, string>} those that listen, by the supervisor, and its name of each */
  #listening = new Map();
  /** The name in the answer that Node reads. */
  #answered = null;
  /** @type {WeakSet<import("net").Server>} */
  #known = new WeakSet();
  /** @type {Set<WeakRef<import("net").Server>>} all that listened, for they may have connections still */
  #all = new Set();
  /** The HTTP server that was given a connection last: a package's server does not listen. */
  #latest = null;
  #draining = false;
  #http2 = new Http2();
  #saysClose = false;
  #released = false;

  install() {
    const servers = this;
    process.prependListener("internalMessage", (message) => {
      if (message.cmd === "NODE_CLUSTER" && message.ack !== undefined) this.#answered = message.key;
    });
    const getServer = cluster._getServer;
    cluster._getServer = function (server, options, callback) {
      if (!(server instanceof net.Server) || !options) return getServer.apply(this, arguments);
      options.sticky = kind(server);
      return getServer.call(this, server, options, function (error, handle) {
        const result = callback.apply(this, arguments);
        if (!error && handle) servers.#begin(server, handle);
        return result;
      });
    };
    process.on("internalMessage", (message) => {
      if (message.cmd === "NODE_CLUSTER" && message.act === "disconnect") this.drain();
    });
    this.#closeTwice();
  }

  /** `server` listens, until `handle` closes. Of an event it would be seen that somebody listens to it. */
  #begin(server, handle) {
    this.#listening.set(server, this.#answered);
    if (!this.#known.has(server)) {
      this.#known.add(server);
      this.#all.add(new WeakRef(server));
      this.#http2.watch(server);
    }
    const { close } = handle;
    handle.close = (...args) => {
      handle.close = close;
      this.#listening.delete(server);
      this.#hold();
      return close.apply(handle, args);
    };
    this.#hold();
  }

  /** From now on the channel keeps this process alive only while a server listens, as its own sockets would. */
  release() {
    this.#released = true;
    this.#hold();
  }

  #hold() {
    if (!this.#released) return;
    if (this.#listening.size > 0) process.channel?.ref();
    else process.channel?.unref();
  }

  /** Whether there was any server. */
  any() {
    return this.#all.size > 0;
  }

  /** Whether an app sees connections before their first byte. Of HTTP, Node itself is the one listener. */
  showAtOnce() {
    for (const server of this.#listening.keys()) {
      if (!(server instanceof http.Server) || server.listenerCount("connection") > 1) return true;
    }
    return false;
  }

  /** `server` was given a connection. */
  feed(server) {
    if (this.#latest?.deref() !== server) this.#latest = new WeakRef(server);
  }

  /**
   * The server for a connection of HTTP. One of `net` finds the HTTP server itself.
   *
   * @param {string | null} key the supervisor's name of the server, unless a package takes the connection
   * @param {number | null} port
   * @returns {import("net").Server | undefined}
   */
  find(key, port) {
    const candidates = [...this.#listening.keys()].filter((server) => kind(server) !== "tls");
    const named = candidates.find((server) => typeof key === "string" && this.#listening.get(server) === key);
    const exact = named ?? candidates.find((server) => port !== null && server.address()?.port === port);
    return exact ?? this.#latest?.deref() ?? candidates.find((server) => server instanceof http.Server);
  }

  /**
   * From now on each answer says that it closes its connection, also those that are not begun yet; sessions
   * of HTTP/2 are told to end.
   */
  sayClose() {
    if (this.#saysClose) return;
    this.#saysClose = true;
    this.#http2.end();
    const close = (response) => void (response.shouldKeepAlive = false);
    diagnostics.channel("http.server.request.start").subscribe(({ response }) => close(response));
    for (const handle of process._getActiveHandles?.() ?? []) {
      if (handle._httpMessage instanceof http.ServerResponse) close(handle._httpMessage);
    }
  }

  /** Closes the connections that wait for a request. Node 18.0 and 18.1 cannot. */
  closeIdle() {
    for (const reference of this.#all) {
      const server = reference.deref();
      if (server) closeIdle(server);
      else this.#all.delete(reference);
    }
    closeIdle(this.#latest?.deref());
  }

  /** Connections end with the answer that they are at, idle ones now. Node 19 and later do the last by themselves. */
  drain() {
    if (this.#draining) return;
    this.sayClose();
    diagnostics.channel("http.server.response.finish").subscribe(({ server }) => {
      setImmediate(closeIdle, server);
    });
    this.closeIdle();
    this.#draining = true;
  }

  /**
   * A drain closes the servers before the app is asked to end. An app that closes them then, as most
   * do on SIGTERM, shall hear what it waits for, and not that there is nothing to close. It may have
   * kept the function since it started.
   */
  #closeTwice() {
    const servers = this;
    const { close } = net.Server.prototype;
    net.Server.prototype.close = function (callback) {
      const isClosed = servers.#draining && !this._handle && servers.#known.has(this);
      if (!isClosed) return close.apply(this, arguments);
      if (typeof callback === "function") this.once("close", () => callback());
      // It says `close` again, when its connections are over.
      return close.call(this);
    };
  }
}

function closeIdle(server) {
  server?.closeIdleConnections?.();
}

/** What the first bytes of a connection to `server` are. */
function kind(server) {
  if (server instanceof http.Server) return "http";
  // Only a TLS server has session ticket keys to share; this way tls need not be loaded.
  return typeof server._getServerData === "function" ? "tls" : "tcp";
}

module.exports = { Servers };
