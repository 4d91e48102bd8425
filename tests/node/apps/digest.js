// Answers a request with the length and the digest of its body.
"use strict";
const { createHash } = require("node:crypto");
const { who } = require("./who.js");

exports.digest = (request, response) => {
  const hash = createHash("sha256");
  let length = 0;
  request.on("data", (data) => { hash.update(data); length += data.length; });
  request.on("end", () => response.end(who(request, { length, digest: hash.digest("hex") })));
};
