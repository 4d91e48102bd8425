// Raw Engine.IO handshakes, each followed by the client's next request 0 ms after the answer that
// told it the session id, on a new connection each.
//
//   node handshakes.js '{"url": "http://127.0.0.1:3000", "handshakes": 300, "clients": 16}'
//
// Every other client has the connection for its next request open already, so that nothing but the
// request itself lies between the answer and the look-up of its id. With `"pages": ["/"]` each client
// asks for these after its handshake, and all requests of all clients share one pool of connections
// that are kept open where the server allows it. Prints its verdict as JSON.

import http from "node:http";
import net from "node:net";

const { url, handshakes, clients, pages } = JSON.parse(process.argv[2]);
const { hostname, port } = new URL(url);
const PATH = "/socket.io/?EIO=4&transport=polling";
const agent = pages ? new http.Agent({ keepAlive: true }) : false;
const statuses = {};
const errors = [];

const dial = () => new Promise((done, fail) => {
  const socket = net.connect({ host: hostname, port, noDelay: true }, () => done(socket));
  socket.once("error", fail);
});

/** Asks, and answers as soon as the body says `enough`, which may be before its end. */
function ask({ sid, path = sid ? `${PATH}&sid=${sid}` : PATH, method = "GET", body, socket, enough = () => false }) {
  const createConnection = socket && (() => socket);
  return new Promise((done, fail) => {
    const request = http.request({ hostname, port, path, method, agent, createConnection });
    request.on("error", fail);
    request.on("response", (answer) => {
      statuses[answer.statusCode] = (statuses[answer.statusCode] ?? 0) + 1;
      let text = "";
      answer.on("error", fail);
      answer.on("data", (data) => { text += data; if (enough(text)) done(text); });
      answer.on("end", () => done(text));
    });
    request.end(body);
  });
}

async function handshake(number) {
  const socket = !pages && number % 2 ? await dial() : undefined;
  const open = await ask({ enough: (text) => text.includes("}") });
  const { sid } = JSON.parse(open.slice(open.indexOf("{")));
  for (const path of pages ?? []) await ask({ path });
  const posted = await ask({ sid, method: "POST", body: "40", socket });
  if (posted !== "ok") throw new Error(`the post was answered with ${posted}`);
  // The server's first ping may have a poll of its own.
  let polled = await ask({ sid });
  if (polled === "2") polled = await ask({ sid });
  if (!polled.split("\x1e").some((packet) => packet.startsWith("40{"))) {
    throw new Error(`the poll was answered with ${polled}`);
  }
  await ask({ sid, method: "POST", body: "1" });
}

let next = 0;
let done = 0;
async function client() {
  while (next < handshakes) {
    const number = next++;
    await handshake(number).then(() => done++, (error) => errors.push(error.message));
  }
}
await Promise.all(Array.from({ length: clients }, client));
console.log(JSON.stringify({ done, statuses, errors: errors.slice(0, 10) }));
process.exit(0);
