// Logs by log4js, on standard error.
"use strict";
const http = require("node:http");
const log4js = require("log4js");
const { who, where } = require("./who.js");

log4js.configure({
  appenders: { err: { type: "stderr", layout: { type: "messagePassThrough" } } },
  categories: { default: { appenders: ["err"], level: "info" } },
});
const logger = log4js.getLogger();
http.createServer((request, response) => response.end(who(request))).listen(where, () => logger.info("logged by log4js"));
