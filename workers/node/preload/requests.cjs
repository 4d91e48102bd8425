/** Reading and writing as much of HTTP and Engine.IO as is needed. Nothing here has a side effect. */
"use strict";

/** How much of a handshake's answer is looked at, in characters; the session's id stands in front. */
const LOOK = 1024;

/**
 * What a request line asks of Engine.IO.
 *
 * @param {string} url
 * @returns {{sid: string | null, polling: boolean} | null} null if it is not for Engine.IO
 */
function readUrl(url) {
  if (url.indexOf("EIO=") === -1) return null;
  const start = url.indexOf("?");
  if (start === -1) return null;
  const fragment = url.indexOf("#", start);
  const query = new URLSearchParams(url.slice(start + 1, fragment === -1 ? url.length : fragment));
  const transport = query.get("transport");
  if (!transport || !query.has("EIO")) return null;
  return { sid: query.get("sid") || null, polling: transport === "polling" };
}

/**
 * The session that the answer to a handshake opens: `0{"sid":"..."`, with a length in front in
 * protocol 3, and with escaped quotes in JSONP.
 *
 * @param {unknown} body
 * @returns {{sid: string, patience: number} | null} patience: after how many milliseconds of
 *   silence the session is over
 */
function readHandshake(body) {
  let text;
  if (typeof body === "string") text = body.slice(0, LOOK);
  else if (body instanceof Uint8Array) text = Buffer.from(body.subarray(0, LOOK)).toString("latin1");
  else return null;
  const found = /0\{\\?"sid\\?":\\?"([^"\\]+)/.exec(text);
  if (!found) return null;
  const number = (name, otherwise) => Number(new RegExp(`${name}\\\\?":(\\d{1,9})`).exec(text)?.[1] ?? otherwise);
  return { sid: found[1], patience: number("pingInterval", 25_000) + number("pingTimeout", 20_000) };
}

/**
 * The head of a request again, as it was.
 *
 * @param {import("http").IncomingMessage} request
 * @returns {Buffer}
 */
function writeHead(request) {
  let head = `${request.method} ${request.url} HTTP/${request.httpVersion}\r\n`;
  const { rawHeaders } = request;
  for (let i = 0; i < rawHeaders.length; i += 2) head += `${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`;
  return Buffer.from(`${head}\r\n`, "latin1");
}

module.exports = { readHandshake, readUrl, writeHead };
