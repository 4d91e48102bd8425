// A chat with rooms. The sessions of Socket.IO, and who is in which room, are in the memory of this process.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { Server } from "socket.io";

const { HOST = "127.0.0.1", PORT = 3000 } = process.env;
const page = await readFile(new URL("index.html", import.meta.url));
const httpServer = createServer((request, response) => {
  if (request.url.split("?")[0] !== "/") return response.writeHead(404).end("not here\n");
  response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(page);
});
const io = new Server(httpServer);

/** The text that a client sent, within bounds, if it is one. */
const read = (text, length) => (typeof text === "string" ? text.trim().slice(0, length) : "");

io.on("connection", (socket) => {
  const { auth } = socket.handshake;
  const me = { name: read(auth.name, 30) || `guest ${socket.id.slice(0, 4)}`, pid: process.pid };
  const room = read(auth.room, 30) || "lobby";
  socket.join(room);
  socket.emit("welcome", me, room);
  socket.to(room).emit("came", me);
  socket.on("say", (text) => io.to(room).emit("said", me, read(text, 1000)));
  socket.on("disconnect", () => io.to(room).emit("left", me));
});

httpServer.listen(PORT, HOST, () => console.log(`process ${process.pid}: chat on http://${HOST}:${PORT}`));
