/**
 * The way to the supervisor: internal messages on Node's channel. A `cmd` that begins with `NODE_`
 * is never shown to the app.
 */
"use strict";

const CMD = "NODE_STICKY";

// Taken now: an app may put something else into its place.
const { send } = process;

const ignore = () => {};

const PONG = Object.freeze({ cmd: CMD, act: "pong" });
const PLAIN = Object.freeze({});

/** Who hears which `act`. */
const listeners = new Map();

/**
 * Says something, in order with everything else that this process says.
 *
 * @param {string} act
 * @param {object} fields
 * @param {import("net").Socket} [socket] goes with it and is gone here
 * @param {() => void} [done] called when it is on its way, or never will be
 */
function tell(act, fields, socket, done = ignore) {
  // With a function to tell it to, Node does not make an error an event.
  const say = () => send.call(process, { cmd: CMD, act, ...fields }, socket, {}, () => done());
  if (socket) say();
  else overtaking(say);
}

/**
 * Says something before the descriptors that wait for their turn. Node sends one at a time and keeps
 * everything else back until that has arrived, so that what a client must not overtake would be late.
 *
 * @param {() => void} say sends no descriptor
 */
function overtaking(say) {
  const queue = process._handleQueue;
  process._handleQueue = null;
  try {
    say();
  } finally {
    process._handleQueue = queue;
  }
}

/**
 * Says something about a key.
 *
 * @param {string} act
 * @param {string} key a character for each byte
 * @param {() => void} [done] see `tell`
 */
function tellKey(act, key, done) {
  const plain = !/[^\x00-\x7f]/.test(key);
  tell(act, plain ? { key } : { bytes: Buffer.from(key, "latin1").toString("base64") }, undefined, done);
}

/**
 * Hears what the supervisor says.
 *
 * @param {string} act
 * @param {(message: object, socket?: import("net").Socket) => void} listener the only one for `act`
 */
function hear(act, listener) {
  if (listeners.size === 0) {
    process.on("internalMessage", (message, socket) => {
      if (message.cmd === CMD) listeners.get(message.act)?.(message, socket);
    });
  }
  listeners.set(act, listener);
}

/** Answers each `ping` of the supervisor from the event loop, to show that it turns. */
function answerPings() {
  hear("ping", () => void send.call(process, PONG, undefined, PLAIN, ignore));
}

/** Whether there still is somebody to talk to. */
function connected() {
  return process.connected === true;
}

module.exports = { CMD, answerPings, connected, hear, overtaking, tell, tellKey };
