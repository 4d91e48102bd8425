// A server that throws when a client comes from POISON: in a listener of its own, or, as tools do that wrap `emit`, before
// anybody hears of the connection. KIND is tcp, http or emit.
"use strict";
const http = require("node:http");
const net = require("node:net");
const { who, where } = require("./who.js");

const { KIND, POISON } = process.env;
const look = ({ remoteAddress }) => {
  if (remoteAddress === POISON) throw new Error("poisoned");
};
const answer = (request, response) => response.end(who(request));
class Wrapped extends http.Server {
  emit(name, ...rest) {
    if (name === "connection") look(rest[0]);
    return super.emit(name, ...rest);
  }
}
const kinds = {
  tcp: () => net.createServer((socket) => socket.end(who({ socket }))).on("connection", look),
  http: () => http.createServer(answer).on("connection", look),
  emit: () => new Wrapped(answer),
};
kinds[KIND]().listen(where);
