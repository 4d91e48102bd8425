/**
 * The packages for sticky sessions, whose workers take their connections by a message. The supervisor
 * is told which one it is when its listener is put on the process.
 *
 * Most are known by the text of that listener, which names the message; so also in a bundle, or when
 * an app has code of its own for the same message. Two do not name it there: these are seen being loaded.
 */
"use strict";

const { onLoad } = require("./loading.cjs");
const { tell } = require("./supervisor.cjs");

/** Their names on npm, what their listeners contain, and the message that brings a connection. */
const PACKAGES = [
  {
    name: "@socket.io/sticky",
    text: /["'`]sticky:connection["'`]/,
    message: { type: "sticky:connection", data: "" },
  },
  { name: "sticky-session-custom", text: /["'`]sticky:balance["'`][^]*\bmsg\[1\]/, message: ["sticky:balance"] },
  { name: "sticky-session", text: /["'`]sticky:balance["'`]/, message: "sticky:balance" },
  { name: "socketio-sticky-session", text: /["'`]sticky-session:connection["'`]/, message: "sticky-session:connection" },
  { name: "socketio-sticky-session", text: /\.listener\(/, loaded: true, message: "sticky-session:connection" },
  { name: "sticky-cluster", text: /["'`]connection["'`]/, loaded: true, message: "sticky-cluster:connection" },
];

class Packages {
  #loaded = new Set();
  /** sticky-cluster's message begins with an option of the app. */
  #clusterPrefix = "sticky-cluster:";
  /** @type {{name: string, message: any} | null} the first whose listener was seen */
  #found = null;

  install() {
    onLoad("socketio-sticky-session", () => void this.#loaded.add("socketio-sticky-session"));
    onLoad("./workers", (exports, parent) => this.#seeCluster(exports, parent));
    process.on("newListener", (event, listener) => {
      if (event === "message" && !this.#found) this.#look(Function.prototype.toString.call(listener));
    });
  }

  /** Whether a package takes connections. */
  found() {
    return this.#found !== null;
  }

  /** Has the package take `socket`, as it takes those from the supervisor. False if there is none. */
  receive(socket) {
    return this.#found !== null && process.emit("message", this.#found.message, socket);
  }

  #look(source) {
    const found = PACKAGES.find(({ name, text, loaded }) => text.test(source) && (!loaded || this.#loaded.has(name)));
    if (!found) return;
    const { name } = found;
    if (name === "sticky-cluster") {
      const message = `${this.#clusterPrefix}connection`;
      this.#found = { name, message };
      tell("package", { name, message });
    } else {
      this.#found = found;
      tell("package", { name });
    }
  }

  /** sticky-cluster passes its options to its own module `./workers`. */
  #seeCluster(workers, parent) {
    if (!parent.includes("sticky-cluster") || typeof workers !== "function") return undefined;
    this.#loaded.add("sticky-cluster");
    return (options) => {
      if (typeof options?.prefix === "string") this.#clusterPrefix = options.prefix;
      return workers(options);
    };
  }
}

module.exports = { Packages };
