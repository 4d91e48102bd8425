// Express as its documentation starts: one route, and a body that is parsed.
"use strict";
const express = require("express");
const { who, where } = require("./who.js");

const app = express();
app.use(express.json({ limit: "5mb" }));
app.get("/", (request, response) => response.send(who(request, { framework: "express" })));
app.post("/echo", (request, response) => response.json(request.body));
app.listen(where.port, ...(where.host ? [where.host] : []));
