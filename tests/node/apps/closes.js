// A server that stays, at PORT, and others that are closed: one at OTHER_PORT at once, and one of whatever port is free
// when `/swap?ms=100` is asked for, after the worker has stood still for so long. A third one takes the place of that.
"use strict";
const http = require("node:http");
const { who, where } = require("./who.js");

const make = (name) => http.createServer((request, response) => {
  response.setHeader("Connection", "close");
  response.end(who(request, { server: name }));
});
const say = (name, what) => process.stderr.write(`server ${name} ${what}\n`);

const first = make("first");
const main = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://test");
  response.setHeader("Connection", "close");
  if (pathname === "/swap") {
    response.flushHeaders();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(searchParams.get("ms")));
    first.close();
    const second = make("second");
    second.listen({ ...where, port: 0 }, () => say("second", second.address().port));
  }
  response.end(who(request, { server: "main" }));
});

const other = make("other");
main.listen(where, () => {
  first.listen({ ...where, port: 0 }, () => say("first", first.address().port));
  other.listen({ ...where, port: Number(process.env.OTHER_PORT) }, () => other.close(() => say("other", "closed")));
});
