/**
 * Has engine.io (3 to 6) mint ids of ours, and knows which sessions it has. Its own method is replaced on the prototype when the module
 * is loaded; an app that sets another on its server, as the documentation allows, still wins.
 */
"use strict";

const { onLoad } = require("./loading.cjs");

/** @param {{sids: import("./sids.cjs").Sids, sessions: import("./sessions.cjs").Sessions}} parts */
function install({ sids, sessions }) {
  const seen = new WeakSet();
  onLoad("engine.io", (exports) => {
    const prototype = minter(exports);
    if (!prototype || seen.has(prototype)) return;
    seen.add(prototype);
    mintIds(prototype, sids);
    noticeSessions(prototype, sessions);
  });
}

/** The prototype that has `generateId`, whichever class of the module that is. */
function minter(exports) {
  let prototype = exports?.Server?.prototype;
  while (prototype && !Object.hasOwn(prototype, "generateId")) prototype = Object.getPrototypeOf(prototype);
  return prototype && typeof prototype.generateId === "function" ? prototype : null;
}

function mintIds(prototype, sids) {
  prototype.generateId = function generateId() {
    return sids.mint();
  };
}

/** A session of this engine is over when its socket closes. */
function noticeSessions(prototype, sessions) {
  const { emit } = prototype;
  prototype.emit = function (event, socket) {
    if (event === "connection" && typeof socket?.id === "string") sessions.follow(socket.id, socket);
    return emit.apply(this, arguments);
  };
}

module.exports = { install };
