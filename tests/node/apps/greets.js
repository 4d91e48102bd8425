// A server that speaks first, as those of mail do.
"use strict";
const net = require("node:net");
const { who, where } = require("./who.js");

net.createServer((socket) => socket.end(who({ socket }))).listen(where);
