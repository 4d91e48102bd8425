// Two Socket.IO servers in each process: one at the path `/one/` of a server, and one at `/two/` of another, at PORT and
// at OTHER_PORT.
"use strict";
const { createServer } = require("node:http");
const { Server } = require("socket.io");
const { serve } = require("./sessions.js");
const { who, where } = require("./who.js");

for (const [path, port] of [["/one/", where.port], ["/two/", Number(process.env.OTHER_PORT)]]) {
  const server = createServer((request, response) => response.end(who(request, { path })));
  serve(new Server(server, { path, maxHttpBufferSize: 5e6 }));
  server.listen({ ...where, port });
}
