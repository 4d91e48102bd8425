// Large bodies against ../apps/bodies.js, or uploads against whatever answers with `length=` and `digest=`.
//
//   node bodies.js '{"url": "http://127.0.0.1:3000", "direction": "upload", "bytes": 200000000, "chunked": true}'
//
// Prints `{"status", "pid", "length", "right"}`, where right means that the digests are equal. `pauses` is a number of ms
// that is waited for before each tenth of an upload.
"use strict";
const { createHash } = require("node:crypto");
const http = require("node:http");
const { pipeline } = require("node:stream/promises");
const { bytes, digest } = require("./bytes.js");

const { url, direction, bytes: count, chunked = false, pauses = 0 } = JSON.parse(process.argv[2]);
const rest = (millis) => new Promise((done) => setTimeout(done, millis));
const answerOf = (request) => new Promise((done, fail) => request.on("response", done).on("error", fail));
const say = (what) => console.log(JSON.stringify(what));

async function* slowly(stream) {
  let next = 0;
  let sent = 0;
  for await (const piece of stream) {
    if (pauses && sent >= next) { next += count / 10; await rest(pauses); }
    sent += piece.length;
    yield piece;
  }
}

async function upload() {
  const headers = chunked ? { "Transfer-Encoding": "chunked" } : { "Content-Length": count };
  const request = http.request(url, { method: "POST", headers, agent: false });
  const answer = answerOf(request);
  await pipeline(bytes(count), slowly, request);
  const response = await answer;
  const text = (await response.setEncoding("utf8").toArray()).join("");
  const value = (name) => new RegExp(`^${name}=(.*)$`, "m").exec(text)?.[1];
  say({
    status: response.statusCode, pid: Number(value("pid")),
    length: Number(value("length")), right: value("digest") === digest(count),
  });
}

async function download() {
  const response = await answerOf(http.get(`${url}/bytes?count=${count}${chunked ? "&chunked=1" : ""}`, { agent: false }));
  const hash = createHash("sha256");
  let length = 0;
  for await (const piece of response) { hash.update(piece); length += piece.length; }
  say({ status: response.statusCode, pid: 0, length, right: hash.digest("hex") === digest(count) });
}

({ upload, download })[direction]();
