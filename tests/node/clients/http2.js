// Asks once by HTTP/2, says when the answer has begun, and then how all of it ended.
"use strict";
const http2 = require("node:http2");

const { url } = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const session = http2.connect(url);
let goaways = 0;
let body = "";
const errors = [];
session.on("goaway", (code) => (code === 0 ? goaways++ : errors.push(`GOAWAY ${code}`)));
session.on("error", (error) => errors.push(error.code));
const request = session.request({ ":path": "/?ms=800" });
request.setEncoding("utf8");
request.once("data", () => say("begun"));
request.on("data", (text) => (body += text));
request.on("error", (error) => errors.push(error.code));
session.on("close", () => say({ whole: body.includes("pid="), goaway: goaways > 0, errors }));
