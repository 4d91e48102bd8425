// Gives each client a session in this process, in a header, and counts what it asks.
"use strict";
const { randomUUID } = require("node:crypto");
const http = require("node:http");
const { who, where } = require("./who.js");

const name = "Mcp-Session-Id";
const sessions = new Map();
http.createServer((request, response) => {
  const known = request.headers[name.toLowerCase()];
  const id = known ?? randomUUID();
  const count = (sessions.get(id) ?? 0) + 1;
  sessions.set(id, count);
  if (!known) response.setHeader(name, id);
  response.end(who(request, { count }));
}).listen(where);
