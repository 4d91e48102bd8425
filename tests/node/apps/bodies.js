// Large bodies in both directions. `POST /` answers with the length and the digest of what came; `/bytes?count=N` answers
// with N bytes, in chunks with `&chunked=1`; `POST /mirror` sends back what comes, as it comes.
"use strict";
const { createHash } = require("node:crypto");
const http = require("node:http");
const { pipeline } = require("node:stream");
const { bytes } = require("../clients/bytes.js");
const { who, where } = require("./who.js");

function digest(request, response) {
  const hash = createHash("sha256");
  let length = 0;
  request.on("data", (data) => { hash.update(data); length += data.length; });
  request.on("end", () => response.end(who(request, { length, digest: hash.digest("hex") })));
}

http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://test");
  const count = Number(searchParams.get("count"));
  if (pathname === "/mirror") return pipeline(request, response, () => {});
  if (request.method === "POST") return digest(request, response);
  if (pathname !== "/bytes") return response.end(who(request));
  if (!searchParams.has("chunked")) response.setHeader("Content-Length", count);
  pipeline(bytes(count), response, () => {});
}).listen(where);
