// An HTTP server at PORT, and later one at OTHER_PORT, unless there is the file that NOT names, or once there is the one
// that WHEN names.
"use strict";
const { existsSync } = require("node:fs");
const { createServer } = require("node:http");
const { who, where } = require("./who.js");

const answer = (request, response) => response.end(who(request));
createServer(answer).listen(where);
const { NOT, WHEN, OTHER_PORT } = process.env;
const later = () => {
  if (WHEN && !existsSync(WHEN)) setTimeout(later, 10);
  else createServer(answer).listen({ ...where, port: Number(OTHER_PORT) });
};
if (!existsSync(NOT)) setTimeout(later, WHEN ? 0 : 300);
