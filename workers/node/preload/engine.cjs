/**
 * Has engine.io (3 to 6) mint ids of ours, and knows which sessions it has. Its own method is replaced on the prototype when the module
 * is loaded; an app that sets another on its server, as the documentation allows, still wins. Its ids are announced
 * when their sessions open, before anything of them is written.
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
    announceOwn(exports.Socket?.prototype, sessions);
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

/** However an id was made, a socket has it when it opens. */
function announceOwn(prototype, sessions) {
  const onOpen = prototype?.onOpen;
  if (typeof onOpen !== "function") return;
  prototype.onOpen = function () {
    // Engine.IO 3 has its options in the server itself.
    const { pingInterval = 25_000, pingTimeout = 20_000 } = this.server?.opts ?? this.server ?? {};
    if (typeof this.id === "string") sessions.begin({ sid: this.id, patience: pingInterval + pingTimeout });
    return onOpen.apply(this, arguments);
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
