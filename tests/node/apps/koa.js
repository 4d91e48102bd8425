// Koa: one middleware.
"use strict";
const Koa = require("koa");
const { who, where } = require("./who.js");

const app = new Koa();
app.use((context) => { context.body = who(context.req, { framework: "koa" }); });
app.listen(where);
