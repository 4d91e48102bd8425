/** Reading and writing as much of HTTP and Engine.IO as is needed. Nothing here has a side effect. */
"use strict";

const zlib = require("zlib");
const { MAX_KEY, queryValue } = require("./keys.cjs");

/** How much of a handshake's answer is looked at, in bytes; the session's id stands in front, perhaps escaped. */
const LOOK = 4 * MAX_KEY;

/**
 * What a request line asks of Engine.IO.
 *
 * @param {string} url
 * @returns {{sid: string | null, polling: boolean} | null} null if it is not for Engine.IO
 */
function readUrl(url) {
  if (!url.includes("EIO=") || queryValue(url, "EIO") === null) return null;
  const transport = queryValue(url, "transport");
  return transport === null ? null : { sid: queryValue(url, "sid"), polling: transport === "polling" };
}

/**
 * The session that the answer to a handshake opens: `0{"sid":"..."`, with a length in front in
 * protocol 3, and inside a string in JSONP.
 *
 * @param {Buffer} body its beginning, as it is sent
 * @param {unknown} [encoding] its Content-Encoding
 * @returns {{sid: string, patience: number} | null} patience: after how many milliseconds of
 *   silence the session is over
 */
function readHandshake(body, encoding) {
  const text = decompress(body.subarray(0, LOOK), encoding).toString();
  return readPacket(text) ?? readPacket(unescape(text));
}

function readPacket(text) {
  const found = /0\{"sid":("(?:[^"\\]|\\.)+")/.exec(text);
  if (!found) return null;
  const number = (name, otherwise) => Number(new RegExp(`"${name}":(\\d{1,9})`).exec(text)?.[1] ?? otherwise);
  const patience = number("pingInterval", 25_000) + number("pingTimeout", 20_000);
  try {
    return { sid: JSON.parse(found[1]), patience };
  } catch {
    return null;
  }
}

/** The string that a script of JSONP is about, `___eio[0]("...")`. */
function unescape(text) {
  const [string] = /"(?:[^"\\]|\\.)+"/.exec(text) ?? ['""'];
  try {
    return JSON.parse(string);
  } catch {
    return "";
  }
}

/** As much as can be read of what is compressed. */
function decompress(body, encoding) {
  const [inflate, flush] =
    {
      gzip: [zlib.gunzipSync, zlib.constants.Z_SYNC_FLUSH],
      deflate: [zlib.inflateSync, zlib.constants.Z_SYNC_FLUSH],
      br: [zlib.brotliDecompressSync, zlib.constants.BROTLI_OPERATION_FLUSH],
      zstd: [zlib.zstdDecompressSync, zlib.constants.ZSTD_e_flush],
    }[encoding] ?? [];
  if (!inflate) return body;
  try {
    return inflate(body, { finishFlush: flush });
  } catch {
    return Buffer.alloc(0);
  }
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

module.exports = { LOOK, readHandshake, readUrl, writeHead };
