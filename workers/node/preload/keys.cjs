/**
 * The key of a request: what identifies its client, by the rules of `--by`. The first source that is
 * present decides. The supervisor reads the first request of a connection by the same rules
 * (`src/logic/route/key.rs`, `head.rs` and `src/logic/origin`); both are held to the examples in
 * `workers/node/test/keys.json`.
 *
 * A key is a string of bytes, one a character, since headers are bytes.
 */
"use strict";

const net = require("net");

/** The most bytes that a key may have which a worker announces, and an Engine.IO sid. */
const MAX_KEY = 4096;
/** More proxies than this stand before nobody's server. */
const MOST_HOPS = 32;
/** What an address begins with; no text does. */
const ADDRESS = "\0ip";

class KeyList {
  #sources;
  #peers = new net.BlockList();
  /** Whether peers over a Unix socket are trusted. */
  #unix;
  #forwarded;
  /** The beginning of a line in an answer that gives out a key. */
  #giving;

  /**
   * @param {string[]} names `sid`, `ip`, `query:NAME`, `header:NAME`, `cookie:NAME`
   * @param {string[]} trust addresses and networks of proxies, and `unix`
   * @param {string | null} forwarded the header in which those name their clients, in lower case
   */
  constructor(names, trust = [], forwarded = null) {
    const networks = trust.filter((peers) => peers !== "unix");
    for (const [address, length] of networks.map((network) => network.split("/"))) {
      this.#peers.addSubnet(address, Number(length), family(address));
    }
    this.#unix = trust.includes("unix");
    this.#forwarded = trust.length > 0 ? forwarded : null;
    this.#sources = names.map((name) => this.#source(name));
    /** Whether the requests of a connection can have different keys. */
    this.reads = this.#forwarded !== null || names.some((name) => name !== "ip");
    /** Whether session ids of Engine.IO count. */
    this.sid = names.includes("sid");
    /** The headers (in lower case) and cookies that count, which clients have from answers. */
    this.headers = named(names, "header").map((name) => name.toLowerCase());
    this.cookies = named(names, "cookie");
    this.isGivenOut = this.headers.length + this.cookies.length > 0;
    const lines = this.cookies.length > 0 ? ["set-cookie", ...this.headers] : this.headers;
    this.#giving = new RegExp(`^(?:${lines.map((line) => line.replace(/[^\w-]/g, "\\$&")).join("|")}):`, "im");
  }

  /** Whether the head of an answer may give out a key. */
  mayBeGivenIn(head) {
    return this.isGivenOut && this.#giving.test(head);
  }

  /**
   * The key of a request, or null.
   *
   * @param {{url: string, rawHeaders: string[]}} request
   * @param {{remoteAddress?: string}} socket
   */
  of(request, socket) {
    for (const source of this.#sources) {
      const key = source(request, socket);
      if (key !== null) return key;
    }
    return null;
  }

  /** The key of a connection of which nothing was read. */
  ofConnection(socket) {
    return this.of({ url: "", rawHeaders: [] }, socket);
  }

  #source(name) {
    const [kind, rest] = split(name);
    switch (kind) {
      case "sid":
        return ({ url }) => {
          const sid = queryValue(url, "sid");
          return sid !== null && sid.length > MAX_KEY ? null : text(sid);
        };
      case "query":
        return ({ url }) => text(queryValue(url, rest));
      case "header": {
        const header = rest.toLowerCase();
        return ({ rawHeaders }) => text(headerValues(rawHeaders, header)[0] ?? null);
      }
      case "cookie":
        return ({ rawHeaders }) => text(cookieValues(rawHeaders, rest)[0] ?? null);
      case "ip":
        return ({ rawHeaders }, socket) => this.#origin(rawHeaders, socket);
      default:
        throw new Error(`no source of keys: ${name}`);
    }
  }

  /** The part of a client's address that stays with it. */
  #origin(rawHeaders, socket) {
    let origin = address(socket.remoteAddress?.replace(/%.*/, "") ?? "");
    if (this.#forwarded !== null && this.#trusts(origin)) {
      for (const hop of hops(this.#forwarded, allValues(rawHeaders, this.#forwarded))) {
        if (hop === null || !this.#trusts(origin)) break;
        origin = hop;
      }
    }
    return origin === null ? null : ADDRESS + stable(origin);
  }

  #trusts(ip) {
    return ip === null ? this.#unix : this.#peers.check(ip, family(ip));
  }
}

function named(names, kind) {
  return names.map(split).filter((name) => name[0] === kind).map((name) => name[1]);
}

function split(name) {
  const colon = name.indexOf(":");
  return colon === -1 ? [name, ""] : [name.slice(0, colon), name.slice(colon + 1)];
}

/** A key that is text; one that looks like an address is told apart by a second NUL. */
function text(value) {
  return value !== null && value[0] === "\0" ? `\0${value}` : value;
}

/** The text as a string of its bytes. */
function bytesOf(value) {
  return /[^\x00-\x7f]/.test(value) ? Buffer.from(value).toString("latin1") : value;
}

/** The first parameter `name` of a query, as the bytes that it stands for; an empty one is none. */
function queryValue(url, name) {
  const mark = url.indexOf("?");
  if (mark === -1) return null;
  const fragment = url.indexOf("#", mark);
  const end = fragment === -1 ? url.length : fragment;
  for (let start = mark + 1, next; start < end; start = next + 1) {
    next = url.indexOf("&", start);
    if (next === -1 || next > end) next = end;
    const equals = url.indexOf("=", start);
    const nameEnd = equals === -1 || equals > next ? next : equals;
    if (decoded(url.slice(start, nameEnd)) === name && nameEnd > start) {
      return decoded(url.slice(nameEnd + 1, next)) || null;
    }
  }
  return null;
}

function decoded(value) {
  if (!/[%+]/.test(value)) return value;
  return value.replace(/\+/g, " ").replace(/%([\da-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** The values of all headers `name`, which is in lower case, without the white space around them. */
function allValues(rawHeaders, name) {
  const values = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const header = rawHeaders[i];
    if (header.length === name.length && header.toLowerCase() === name) values.push(trimmed(rawHeaders[i + 1]));
  }
  return values;
}

/** Likewise, without empty ones. */
function headerValues(rawHeaders, name) {
  return allValues(rawHeaders, name).filter((value) => value !== "");
}

/** The values of all cookies `name`, without quotes and without empty ones. */
function cookieValues(rawHeaders, name) {
  const values = [];
  for (const header of allValues(rawHeaders, "cookie")) {
    if (!header.includes(name)) continue;
    for (const part of header.split(";")) {
      if (!part.includes(name)) continue;
      const cookie = trimmed(part);
      if (!cookie.startsWith(`${name}=`)) continue;
      const value = unquoted(cookie.slice(name.length + 1));
      if (value !== "") values.push(value);
    }
  }
  return values;
}

function unquoted(value) {
  return value.length > 1 && value[0] === '"' && value.endsWith('"') ? value.slice(1, -1) : value;
}

/** Without the white space of ASCII around it. */
function trimmed(value) {
  return /^[\t\n\f\r ]|[\t\n\f\r ]$/.test(value) ? value.replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, "") : value;
}

/** The addresses in headers of this name, the last one first; null is one that is not told. */
function* hops(name, lines) {
  let left = MOST_HOPS;
  for (const line of [...lines].reverse()) {
    for (const part of fromTheRight(line, ",")) {
      const element = trimmed(part);
      if (element === "") continue;
      if (left-- === 0) return;
      yield name === "forwarded" ? forwardedFor(element) : node(element);
    }
  }
}

/** The address in an element such as `for="[2001:db8::1]:4711";proto=https`. */
function forwardedFor(element) {
  const values = [];
  for (const pair of fromTheRight(element, ";")) {
    const equals = pair.indexOf("=");
    if (equals !== -1 && trimmed(pair.slice(0, equals)).toLowerCase() === "for") values.push(trimmed(pair.slice(equals + 1)));
  }
  return values.length === 1 ? node(unquoted(values[0])) : null;
}

/** An address, perhaps with a port: the `node` of RFC 7239, and an IPv6 address without brackets. */
function node(value) {
  if (value[0] === "[") {
    const end = value.indexOf("]");
    const port = value.slice(end + 1);
    const named = port === "" || (port[0] === ":" && isPort(port.slice(1)));
    return end !== -1 && named && net.isIPv6(value.slice(1, end)) ? address(value.slice(1, end)) : null;
  }
  const colon = value.lastIndexOf(":");
  if (colon === -1 || value.indexOf(":") !== colon) return address(value);
  const ip = value.slice(0, colon);
  return isPort(value.slice(colon + 1)) && net.isIPv4(ip) ? ip : null;
}

/** A number, or a name that begins with `_`. */
function isPort(value) {
  return /^_[\w.-]+$/.test(value) || (/^\+?\d+$/.test(value) && Number(value) <= 65_535);
}

/** The parts of a text, the last one first; a separator inside quotes separates nothing. */
function* fromTheRight(value, separator) {
  let end = value.length;
  let quoted = false;
  for (let at = end - 1; at >= 0; at--) {
    if (value[at] === '"' && !isEscaped(value, at)) quoted = !quoted;
    if (value[at] !== separator || quoted) continue;
    yield value.slice(at + 1, end);
    end = at;
  }
  yield value.slice(0, end);
}

function isEscaped(value, at) {
  let slashes = 0;
  while (value[at - 1 - slashes] === "\\") slashes++;
  return slashes % 2 === 1;
}

/** An address in the one form that it has here: one of IPv4, also where it is mapped, or eight numbers. Null for other text. */
function address(value) {
  if (net.isIPv4(value)) return value;
  if (!net.isIPv6(value) || value.includes("%")) return null;
  const groups = numbers(value);
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (!mapped) return groups.map((group) => group.toString(16)).join(":");
  return groups.slice(6).flatMap((group) => [group >> 8, group & 255]).join(".");
}

/** The eight numbers of an IPv6 address. */
function numbers(value) {
  const dotted = /\d+\.\d+\.\d+\.\d+$/.exec(value)?.[0];
  const [a, b, c, d] = dotted?.split(".").map(Number) ?? [];
  const hex = (number) => number.toString(16);
  const plain = dotted ? `${value.slice(0, -dotted.length)}${hex((a << 8) | b)}:${hex((c << 8) | d)}` : value;
  const [left, right] = plain.split("::").map((half) => (half === "" ? [] : half.split(":").map((group) => parseInt(group, 16))));
  return right === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill(0), ...right];
}

/** The part of an address that stays with a client: all of an IPv4 or a link-local one, else the /64. */
function stable(ip) {
  if (!ip.includes(":")) return ip;
  const groups = ip.split(":");
  return (parseInt(groups[0], 16) & 0xffc0) === 0xfe80 ? ip : groups.slice(0, 4).join(":");
}

function family(ip) {
  return ip.includes(":") ? "ipv6" : "ipv4";
}

module.exports = { KeyList, MAX_KEY, bytesOf, cookieValues, headerValues, queryValue, trimmed, unquoted };
