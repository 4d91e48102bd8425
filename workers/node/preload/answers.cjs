/**
 * Keys that clients learn from an answer: the cookies and headers that the supervisor goes by, such as
 * `connect.sid` and `mcp-session-id`. Whoever gives one out keeps what belongs to it, so the supervisor
 * is told before the answer is written.
 */
"use strict";

const http = require("http");
const { tell } = require("./supervisor.cjs");

/** What the supervisor takes as a key, and a client sends back as it is. */
const KEY = /^[\x21-\x7e]{1,128}$/;

/** @param {{keys: string[]}} parts keys as in `--by`, `cookie:NAME` or `header:NAME` */
function install({ keys }) {
  if (keys.length === 0) return;
  const wanted = new Set(keys.map(normal));
  const { writeHead } = http.ServerResponse.prototype;
  http.ServerResponse.prototype.writeHead = function () {
    const result = writeHead.apply(this, arguments);
    try {
      // The head is complete, and nothing of it has left.
      for (const key of given(this._header, this.req.headers, wanted)) tell("session", { key });
    } catch {
      // It is the app's answer all the same.
    }
    return result;
  };
}

/** The names of headers are the same in small letters, those of cookies are not. */
function normal(key) {
  return key.startsWith("header:") ? key.toLowerCase() : key;
}

/**
 * The wanted keys in the head of an answer, without those that the client has sent itself.
 *
 * @param {string} head
 * @param {import("http").IncomingHttpHeaders} sent
 * @param {Set<string>} wanted
 * @returns {string[]}
 */
function given(head, sent, wanted) {
  const keys = [];
  for (const [, name, value] of head.matchAll(/^([^:\r\n]+): *([^\r\n]*)/gm)) {
    const header = name.toLowerCase();
    if (wanted.has(`header:${header}`) && value !== sent[header]) keys.push(value);
    if (header !== "set-cookie") continue;
    const [, cookie, text] = /^([^=]+)="?([^";]+)/.exec(value) ?? [];
    if (wanted.has(`cookie:${cookie}`) && !sent.cookie?.includes(`${cookie}=${text}`)) keys.push(text);
  }
  return keys.filter((key) => KEY.test(key));
}

module.exports = { given, install };
