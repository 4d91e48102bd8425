/**
 * Keys that clients learn from an answer: the cookies and headers that the supervisor goes by, such as
 * `connect.sid` and `mcp-session-id`. Whoever gives one out keeps what belongs to it, so the supervisor
 * is told before the answer is written, however that is done: every head of HTTP/1 passes through
 * `_storeHeader` or `_writeRaw` or is written to a socket that has left HTTP, every one of HTTP/2 through
 * its stream.
 */
"use strict";

const cluster = require("cluster");
const http = require("http");
const { cookieValues, headerValues, trimmed, unquoted } = require("./keys.cjs");

/** How much of what is written to a socket is looked at for a head, in characters. */
const MOST = 64 * 1024;

/** The headers of the requests of streams of HTTP/2. */
const requests = new WeakMap();
/** The classes whose methods are replaced. */
const watched = new WeakSet();

/** @param {object} parts see index.cjs */
function install(parts) {
  if (!parts.keyList.isGivenOut) return;
  const { _storeHeader: storeHeader, _writeRaw: writeRaw } = http.ServerResponse.prototype;
  http.ServerResponse.prototype._storeHeader = function () {
    const result = storeHeader.apply(this, arguments);
    // The head is complete, and nothing of it has left.
    read(this._header, this.req, parts);
    return result;
  };
  // What is said before the answer proper, such as early hints.
  http.ServerResponse.prototype._writeRaw = function (data) {
    if (!this._header && typeof data === "string") read(data, this.req, parts);
    return writeRaw.apply(this, arguments);
  };
  const { _getServer: getServer } = cluster;
  cluster._getServer = function (server) {
    if (/^Http2(Secure)?Server$/.test(server?.constructor?.name)) watchStreams(server, parts);
    return getServer.apply(this, arguments);
  };
}

/** The class of streams is seen at the first of them only. */
function watchStreams(server, parts) {
  const { emit } = server;
  server.emit = function (event, stream, headers) {
    if (event === "stream") {
      requests.set(stream, Object.entries(headers).flat());
      watchHeads(Object.getPrototypeOf(stream), parts);
    }
    return emit.apply(this, arguments);
  };
}

/** The methods of a class of streams that write a head, and where its fields stand among their arguments. */
const HEADS = { respond: 0, respondWithFD: 1, respondWithFile: 1, additionalHeaders: 0 };

function watchHeads(prototype, parts) {
  if (watched.has(prototype)) return;
  watched.add(prototype);
  for (const [method, at] of Object.entries(HEADS)) {
    const original = prototype[method];
    prototype[method] = function (...args) {
      const head = Array.isArray(args[at]) ? pairs(args[at]) : Object.entries(args[at] ?? {});
      const each = head.flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));
      announce(each, { rawHeaders: requests.get(this) ?? [], socket: null }, parts);
      return original.apply(this, args);
    };
  }
}

function pairs(list) {
  return list.flatMap((name, i) => (i % 2 === 0 ? [[name, list[i + 1]]] : []));
}

/**
 * Looks at the head that is written to `socket` in answer to `request`, which leaves HTTP.
 *
 * @param {import("http").IncomingMessage} request
 * @param {import("net").Socket} socket
 * @param {object} parts see index.cjs
 */
function watchSocket(request, socket, parts) {
  if (!parts.keyList.isGivenOut) return;
  let head = "";
  for (const method of ["write", "end"]) {
    const original = socket[method];
    socket[method] = function (chunk, encoding) {
      if (head !== null && (typeof chunk === "string" || chunk instanceof Uint8Array)) {
        head += Buffer.from(chunk, typeof encoding === "string" ? encoding : "utf8").toString("latin1");
        const end = head.indexOf("\r\n\r\n");
        if (end !== -1) read(head.slice(0, end + 2), request, parts);
        if (end !== -1 || head.length > MOST) head = null;
      }
      return original.apply(this, arguments);
    };
  }
}

/** Reads the head of an answer, if there is anything in it that counts: in most there is not. */
function read(head, request, parts) {
  if (parts.keyList.mayBeGivenIn(head)) announce(fields(head), request, parts);
}

/** The names and values in a head. */
function fields(head) {
  return [...head.matchAll(/^([^:\r\n]+):([^\r\n]*)/gm)].map(([, name, value]) => [name, trimmed(value)]);
}

/** Tells the supervisor of the keys in the head of an answer, before its client can know of them. */
function announce(head, request, { homes, identities, keyList }) {
  try {
    for (const key of given(head, request.rawHeaders, keyList)) {
      const identity = request.socket && identities.get(request.socket);
      if (identity) Object.assign(identity, { key, until: 0 });
      hold(request.socket, (done) => homes.announce(key, done));
    }
  } catch {
    // It is the app's answer all the same.
  }
}

/**
 * Keeps what is written to `socket` from now on until `say` has called back.
 *
 * @param {import("net").Socket | null} socket
 * @param {(done: () => void) => void} say
 */
function hold(socket, say) {
  let said = false;
  let held = false;
  say(() => {
    said = true;
    if (held) socket.uncork();
  });
  if (said || typeof socket?.cork !== "function") return;
  held = true;
  socket.cork();
}

/**
 * The wanted keys in the head of an answer, without those that the client has sent itself.
 *
 * @param {[string, string][]} head
 * @param {string[]} sent the raw headers of the request
 * @param {import("./keys.cjs").KeyList} keyList
 * @returns {string[]}
 */
function given(head, sent, { cookies, headers }) {
  const keys = [];
  for (const [name, value] of head) {
    const header = name.toLowerCase();
    if (headers.includes(header) && !headerValues(sent, header).includes(value)) keys.push(value);
    if (header !== "set-cookie") continue;
    const [cookie, text] = setCookie(value);
    if (cookies.includes(cookie) && !cookieValues(sent, cookie).includes(text)) keys.push(text);
  }
  return keys.filter((key) => key !== "");
}

/** The name of a cookie that an answer sets, and its value as clients send it back; nothing if it takes the cookie away. */
function setCookie(value) {
  const [pair, ...attributes] = value.split(";");
  const equals = pair.indexOf("=");
  const isOver = attributes.some((attribute) => {
    const [, name, text] = /^\s*(max-age|expires)\s*=\s*(.*)$/i.exec(attribute) ?? [];
    if (name?.toLowerCase() === "max-age") return Number(text) <= 0;
    return name !== undefined && Date.parse(text) <= Date.now();
  });
  if (equals === -1 || isOver) return ["", ""];
  return [trimmed(pair.slice(0, equals)), unquoted(trimmed(pair.slice(equals + 1)))];
}

module.exports = { fields, given, hold, install, watchSocket };
