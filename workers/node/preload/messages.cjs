/**
 * Messages of the app to its primary, which is not there. The supervisor is told once who sends what, so that
 * nobody waits for an answer in silence. What can do without a primary is told so: log4js writes what it logs
 * in its worker, as with its own option `disableClustering`.
 */
"use strict";

const { onLoad } = require("./loading.cjs");
const { tell } = require("./supervisor.cjs");

/** What is passed on or means something to the supervisor, and what says only that an app is ready. */
const SOURCES = ["_sio_adapter"];
const TYPES = ["sticky:connection", "sticky:disconnection", "close"];
const GREETINGS = ["ready", "online"];
/** How much of a message is shown, in characters. */
const SHOWN = 120;
/** How many callers are looked at. */
const CALLERS = 40;

function install() {
  const send = process._send;
  if (typeof send === "function") {
    process._send = function (message, ...rest) {
      if (isUnheard(message)) {
        process._send = send;
        tell("unheard", { name: sender(), message: shown(message) });
      }
      return send.call(this, message, ...rest);
    };
  }
  const seen = new WeakSet();
  onLoad("./configuration", (exports, parent) => {
    if (!/[\\/]log4js[\\/]/.test(parent) || seen.has(exports)) return;
    seen.add(exports);
    const { configure } = exports;
    exports.configure = (config) => configure({ disableClustering: true, ...config });
  });
}

function isUnheard(message) {
  if (message?.cmd?.startsWith?.("NODE_")) return false;
  return !(SOURCES.includes(message?.source) || TYPES.includes(message?.type) || GREETINGS.includes(message));
}

/** The package that sends, or the file if it is none; empty if that cannot be known. */
function sender() {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = CALLERS;
  const callers = new Error().stack ?? "";
  Error.stackTraceLimit = stackTraceLimit;
  const [, name] = /[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)[\\/]/.exec(callers) ?? [];
  if (name) return name;
  const files = [...callers.matchAll(/\(?((?:file:\/\/)?\/[^():\n]+):\d+:\d+\)?$/gm)].map(([, file]) => file);
  return files.find((file) => !file.startsWith(__dirname)) ?? "";
}

function shown(message) {
  let text;
  try {
    text = JSON.stringify(message);
  } catch {
    // It is sent in another way.
  }
  text ??= String(message);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
}

module.exports = { install };
