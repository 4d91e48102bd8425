/**
 * What the supervisor left in the environment: its configuration, and the option that loads us.
 * Both are taken out, so that no process that the app starts sees them.
 */
"use strict";

const fs = require("fs");
const path = require("path");

const VARIABLE = "STICKY_NODE";
const KEEP_ALIVE = ["close", "handback", "off"];

/**
 * Takes the configuration out of `environment`, with the `--require` of the file `self`.
 *
 * @param {NodeJS.ProcessEnv} environment
 * @param {string} self the real path of the entry file
 * @returns {{incarnation: number, key: string, keepAlive: "close" | "handback" | "off", by: string[], trust: string[],
 *   forwarded: string | null, ports: number[], memory: {announced: number, presented: number}} | null}
 *   null if there is none, or none that can be understood
 */
function takeConfig(environment, self) {
  const text = environment[VARIABLE];
  if (text === undefined) return null;
  delete environment[VARIABLE];
  const options = withoutRequire(environment.NODE_OPTIONS ?? "", self);
  if (options) environment.NODE_OPTIONS = options;
  else delete environment.NODE_OPTIONS;
  return parseConfig(text);
}

function parseConfig(text) {
  let config;
  try {
    config = JSON.parse(text);
  } catch {
    return null;
  }
  const { incarnation, key, keepAlive, by, trust, forwarded, memory, ports = [] } = config ?? {};
  const texts = (list) => Array.isArray(list) && list.every((name) => typeof name === "string");
  const valid =
    Number.isInteger(incarnation) && incarnation >= 0 && incarnation < 1 << 14 &&
    typeof key === "string" && /^[0-9a-f]{64}$/i.test(key) &&
    KEEP_ALIVE.includes(keepAlive) &&
    texts(by) && texts(trust) && (forwarded === null || typeof forwarded === "string") &&
    memory?.announced > 0 && memory.presented > 0 &&
    Array.isArray(ports);
  return valid ? { incarnation, key, keepAlive, by, trust, forwarded, memory, ports } : null;
}

/**
 * `options` without the last `--require` of the file `self`; the rest stays byte for byte.
 *
 * @param {string} options a value of NODE_OPTIONS
 * @param {string} self
 */
function withoutRequire(options, self) {
  const words = split(options);
  for (let i = words.length - 1; i >= 0; i--) {
    const { text } = words[i];
    const joined = /^(?:--require|-r)=(.*)$/s.exec(text);
    const apart = i > 0 && /^(?:--require|-r)$/.test(words[i - 1].text);
    if (!(joined ? isFile(joined[1], self) : apart && isFile(text, self))) continue;
    const { start } = words[joined ? i : i - 1];
    // The one space that separated it goes with it.
    if (start > 0) return options.slice(0, start - 1) + options.slice(words[i].end);
    return options.slice(words[i].end).replace(/^ /, "");
  }
  return options;
}

/** The words of NODE_OPTIONS as Node splits them (ParseNodeOptionsEnvVar), and where they stand. */
function split(options) {
  const words = [];
  let word = null;
  let quoted = false;
  for (let i = 0; i < options.length; i++) {
    if (options[i] === " " && !quoted) {
      word = null;
      continue;
    }
    if (!word) words.push((word = { text: "", start: i, end: i }));
    if (options[i] === '"') quoted = !quoted;
    else if (options[i] === "\\" && quoted) word.text += options[++i] ?? "";
    else word.text += options[i];
    word.end = i + 1;
  }
  return words;
}

/** Whether `file` is `self`, which Node gives without symbolic links. */
function isFile(file, self) {
  if (path.basename(file) !== path.basename(self)) return false;
  try {
    return file === self || fs.realpathSync(file) === self;
  } catch {
    return false;
  }
}

module.exports = { takeConfig, withoutRequire };
