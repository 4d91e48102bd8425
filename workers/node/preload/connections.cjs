/**
 * Looks at every request of an HTTP connection, before anything else does: in the function that
 * Node's parser calls with a complete head. There a request can still be refused unanswered, with its
 * body unread.
 *
 * The supervisor routes a connection by its first request. The others come because the client, or a
 * proxy, uses its connection again, perhaps for somebody else. Each of them has to be where the supervisor
 * would bring it on a new connection: what cannot be known to be right here is given back.
 */
"use strict";

const http = require("http");
const net = require("net");
const { hold, watchSocket } = require("./answers.cjs");
const { give, hasLeft, leave, wasPassed } = require("./handback.cjs");
const { LOOK, readHandshake, readUrl } = require("./requests.cjs");
const { connected, tell } = require("./supervisor.cjs");

/** What is to be done with most requests: nothing. */
const ORDINARY = { foreign: false, handshake: false, close: false };

/**
 * What is known of a connection.
 *
 * @typedef {object} Identity
 * @property {string | null} key of its last request, or that an answer on it gave out
 * @property {number} until when it is right here without another look at it
 * @property {boolean} routed the supervisor has seen the next request and chosen this worker for it
 * @property {boolean} fresh there was no request yet
 */

/** @param {object} parts see index.cjs */
function install(parts) {
  const { drain, handles, homes, identities, keepAlive, keyList, sessions } = parts;
  /** Whether the supervisor knows of streams that cannot be given back. */
  let warned = false;
  /** The last request for a new session: its answer tells the client the id. */
  let handshake = null;
  const { emit } = http.Server.prototype;

  http.Server.prototype.emit = function (event, first, second, third) {
    if (event === "request") {
      if (first === handshake) {
        handshake = null;
        watchAnswer(second, sessions);
      }
    } else if (event === "connection") {
      const result = emit.apply(this, arguments);
      attempt(() => meet(this, first));
      return result;
    } else if (event === "upgrade" && hasLeft(this, first)) {
      give(this, first, second, third);
      return true;
    } else if (event === "upgrade" || event === "connect") {
      attempt(() => watchSocket(first, second, parts));
    }
    return emit.apply(this, arguments);
  };

  /** `server` was given `socket`. */
  function meet(server, socket) {
    if (!passable(socket)) {
      if (socket.destroyed || warned || !keyList.reads || keepAlive === "off") return;
      warned = true;
      return tell("streams", {});
    }
    if (!handles.has(socket._handle)) return;
    parts.servers.feed(server);
    // A server of `net` may speak first, so the supervisor has not looked at what its clients say.
    const accepted = socket._server;
    const unseen = accepted && !(accepted instanceof http.Server) && !wasPassed(socket);
    const key = unseen ? keyList.ofConnection(socket) : null;
    /** @type {Identity} */
    const identity = { key, until: Infinity, routed: !unseen, fresh: true };
    identities.set(socket, identity);
    watchRequests(server, socket, identity);
  }

  function watchRequests(server, socket, identity) {
    const { parser } = socket;
    const { onIncoming } = parser;
    parser.onIncoming = function (request, keepAlive) {
      const verdict = attempt(() => judge(request, identity)) ?? ORDINARY;
      const answer = verdict.foreign && attempt(() => leave(server, request));
      if (answer) return answer;
      if (verdict.handshake) handshake = request;
      return onIncoming.call(this, request, keepAlive && !verdict.close);
    };
  }

  /** What is to be done with `request`. */
  function judge(request, identity) {
    const key = keyList.of(request, request.socket);
    const engine = readUrl(request.url);
    const opens = engine !== null && engine.sid === null;
    if (engine !== null && !opens) {
      sessions.hear(engine.sid);
      if (request.upgrade) sessions.hold(engine.sid, request.socket);
    }
    const stays = identity.routed || keepAlive === "off" || request.method === "CONNECT" || !connected();
    if (!stays && isForeign(key, opens, identity)) return { foreign: true, handshake: false, close: false };
    serve(key, identity);
    return {
      foreign: false,
      handshake: opens && engine.polling,
      close: keepAlive === "close" && keyList.sid && engine !== null && engine.polling,
    };
  }

  /** Whether a request, which `opens` a session of Engine.IO, might belong elsewhere. */
  function isForeign(key, opens, identity) {
    if (key !== null) return !(key === identity.key && performance.now() < identity.until) && !homes.owns(key);
    // Where this connection was brought without a key, others without one are right as well. But what begins
    // a session is placed anew, or all of a pool's would be with one worker.
    if (identity.fresh) return false;
    const another = identity.key !== null && keyList.isGivenOut;
    return opens || another || drain.hasBegun();
  }

  function serve(key, identity) {
    if (identity.routed) identity.until = key === null ? Infinity : homes.lead(key);
    else if (key !== identity.key) identity.until = 0;
    identity.key = key;
    identity.routed = false;
    identity.fresh = false;
  }
}

/** What `action` returns, or undefined if it fails: then Node goes on as without us. */
function attempt(action) {
  try {
    return action();
  } catch {
    return undefined;
  }
}

/** Whether `socket` is served by Node's own parser and could be sent to another process. */
function passable(socket) {
  const name = socket instanceof net.Socket && !socket.encrypted && socket._handle?.constructor.name;
  return (name === "TCP" || name === "Pipe") && typeof socket.parser?.onIncoming === "function";
}

/** Holds the answer to a handshake until the supervisor is told of the session, if it has to be. */
function watchAnswer(response, sessions) {
  let body = Buffer.alloc(0);
  for (const method of ["write", "end"]) {
    const original = response[method];
    response[method] = function (chunk, encoding) {
      if (body !== null) attempt(() => look(chunk, typeof encoding === "string" ? encoding : "utf8"));
      return original.apply(this, arguments);
    };
  }

  function look(chunk, encoding) {
    if (typeof chunk !== "string" && !(chunk instanceof Uint8Array)) return;
    body = Buffer.concat([body, typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk]);
    // Headers that are given to `writeHead` alone stand nowhere else.
    const [, written] = /^content-encoding: *([^\r]*)/im.exec(response._header ?? "") ?? [];
    const session = readHandshake(body, written ?? response.getHeader("content-encoding"));
    if (session) hold(response.req.socket, (done) => sessions.begin(session, done));
    if (session || body.length > LOOK) body = null;
  }
}

module.exports = { install };
