// A worker that knows nothing of stickiness: under Node's cluster, and under sticky-run.
"use strict";

const { httpServer } = require("./server");

httpServer.listen(0, "127.0.0.1", () => process.send("ready"));
