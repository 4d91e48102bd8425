// An HTTP server at PORT, and later one at OTHER_PORT, unless there is the file that NOT names.
"use strict";
const { existsSync } = require("node:fs");
const { createServer } = require("node:http");
const { who, where } = require("./who.js");

const answer = (request, response) => response.end(who(request));
createServer(answer).listen(where);
if (!existsSync(process.env.NOT)) {
  const later = () => createServer(answer).listen({ ...where, port: Number(process.env.OTHER_PORT) });
  setTimeout(later, 300);
}
