// Fastify, which on some hosts listens on more than one address.
"use strict";
const fastify = require("fastify")({ bodyLimit: 5_000_000 });
const { who, where } = require("./who.js");

fastify.get("/", async (request) => who(request.raw, { framework: "fastify" }));
fastify.post("/echo", async (request) => request.body);
fastify.listen(where);
