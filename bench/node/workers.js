// What the primaries share: when their workers are ready, and the line that the bench waits for.
"use strict";

const cluster = require("node:cluster");

/** How many workers the bench wants. */
exports.WORKERS = Number(process.argv[2]);

/** Says on stderr where the clients find the workers, as soon as each of them has said "ready" and the address is known, whichever comes last. */
exports.sayWhenReady = (address) => {
  let ready = 0;
  const say = () => {
    if (ready === exports.WORKERS && address()) console.error(`listening on 127.0.0.1:${address().port}`);
  };
  cluster.on("message", (worker, message) => {
    if (message === "ready") ready++;
    say();
  });
  cluster.on("listening", say);
};
