// Large bodies in both directions. `POST /` answers with the length and the digest of what came; `/bytes?count=N` answers
// with N bytes, in chunks with `&chunked=1`; `POST /mirror` sends back what comes, as it comes.
"use strict";
const http = require("node:http");
const { pipeline } = require("node:stream");
const { bytes } = require("../clients/bytes.js");
const { digest } = require("./digest.js");
const { who, where } = require("./who.js");

/** How many ms a head may take to come, if that is asked for; what is late is noticed soon. */
const timeout = Number(process.env.HEADERS_TIMEOUT ?? 0);
const options = timeout ? { headersTimeout: timeout, connectionsCheckingInterval: timeout / 10 } : {};

http.createServer(options, (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://test");
  const count = Number(searchParams.get("count"));
  if (pathname === "/mirror") return pipeline(request, response, () => {});
  if (request.method === "POST") return digest(request, response);
  if (pathname !== "/bytes") return response.end(who(request));
  if (!searchParams.has("chunked")) response.setHeader("Content-Length", count);
  pipeline(bytes(count), response, () => {});
}).listen(where);
