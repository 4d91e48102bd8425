// One WebSocket of the npm package `ws` to `chat`, past any Socket.IO client: connects, meets its
// worker, and closes.
//
//   node plain.js '{"url": "ws://127.0.0.1:3000"}'
//
// Prints the packets it got, as one JSON array.

import WebSocket from "ws";

const { url } = JSON.parse(process.argv[2]);
const packets = [];
const socket = new WebSocket(`${url}/socket.io/?EIO=4&transport=websocket`);
socket.on("message", (data) => {
  const packet = data.toString();
  packets.push(packet);
  if (packet.startsWith("0{")) socket.send("40");
  if (packet.startsWith('42["worker"')) socket.close();
});
socket.on("error", (error) => packets.push(error.message));
socket.on("close", () => console.log(JSON.stringify(packets)));
