// As much of engine.io as the preload knows: a server that makes ids and says when a session begins.
"use strict";

const { EventEmitter } = require("node:events");

class Server extends EventEmitter {
  generateId() {
    return "an id of its own";
  }
}

module.exports = { Server };
