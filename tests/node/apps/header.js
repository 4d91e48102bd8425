// Gives each client a session in this process, in a header or, if COOKIE is its name, in a cookie, and counts what it asks.
"use strict";
const { randomUUID } = require("node:crypto");
const http = require("node:http");
const { who, where } = require("./who.js");

const name = "Mcp-Session-Id";
const { COOKIE } = process.env;
const sessions = new Map();
const sent = ({ headers }) => (COOKIE ? headers.cookie?.split("=")[1] : headers[name.toLowerCase()]);
http.createServer((request, response) => {
  const known = sent(request);
  const id = known ?? randomUUID();
  const count = (sessions.get(id) ?? 0) + 1;
  sessions.set(id, count);
  if (!known) response.setHeader(COOKIE ? "Set-Cookie" : name, COOKIE ? `${COOKIE}=${id}; Path=/` : id);
  response.end(who(request, { count, session: id }));
}).listen(where);
