/** Seeing modules when they are loaded, by `require` or by `import`, as far as they are CommonJS. */
"use strict";

const Module = require("module");

/**
 * Calls `see` each time when a module is asked for by a name that contains `name`, and with those
 * that are loaded already.
 *
 * @param {string} name
 * @param {(exports: any, parent: string) => any} see the exports and the file that asks; what it returns,
 *   if anything, takes the place of the exports. If it fails, nothing happened.
 */
function onLoad(name, see) {
  const load = Module._load;
  Module._load = function (request, parent) {
    const exports = load.apply(this, arguments);
    if (typeof request !== "string" || !request.includes(name)) return exports;
    return attempt(see, exports, parent?.filename ?? "") ?? exports;
  };
  for (const [file, module] of Object.entries(require.cache)) {
    if (file.includes(name)) attempt(see, module.exports, "");
  }
}

function attempt(see, exports, parent) {
  try {
    return see(exports, parent);
  } catch {
    return undefined;
  }
}

module.exports = { onLoad };
