// A plain HTTP server that notes whom it picks up, in the ledger of `tests/it/support/ledger.rs`.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const { who, where } = require("./who.js");

const ledger = fs.openSync(process.env.STICKY_TEST_LEDGER, "a");
const server = http.createServer((request, response) => response.end(who(request)));
server.on("connection", ({ remoteAddress, remotePort }) => {
  // A client that is gone already has no address.
  if (remoteAddress) fs.writeSync(ledger, `${process.pid} ${process.hrtime.bigint()} ${remoteAddress}:${remotePort}\n`);
});
server.listen(where);
