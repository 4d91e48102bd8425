// People in the chats of ../../../examples: all in one room but the last, who is alone in another.
//
//   node chat.js '{"url": "http://127.0.0.1:3000", "people": 12, "transport": "polling", "across": false}'
//
// Each says three things when all are there. `across` is whether those in other processes hear it. Prints
// `{"processes": {PID: people}, "right": people who heard what they should, "errors"}`.
"use strict";
const { once } = require("node:events");
const io = require("socket.io-client");

const { url, people, transport, across } = JSON.parse(process.argv[2]);
const PATIENCE = 30_000; // ms that all of it may take on a busy machine
const TEXTS = ["one", "two", "größer als drei"];
const transports = { polling: ["polling"], upgrade: ["polling", "websocket"] }[transport];
const verdict = { processes: {}, right: 0, errors: [] };

async function enter(number) {
  const room = number === people - 1 ? "alone" : "all";
  const socket = io(url, { transports, forceNew: true, auth: { name: `person ${number}`, room } });
  const person = { name: `person ${number}`, room, socket, heard: [] };
  socket.on("said", ({ name, pid }, text) => person.heard.push(`${pid} ${name}: ${text}`));
  socket.on("connect_error", (error) => verdict.errors.push(`${person.name}: ${error.message}`));
  socket.on("disconnect", (reason) => verdict.errors.push(`${person.name}: ${reason}`));
  const [{ name, pid }, entered] = await once(socket, "welcome");
  if (name !== person.name || entered !== room) verdict.errors.push(`${person.name} is ${name} in ${entered}`);
  verdict.processes[pid] = (verdict.processes[pid] ?? 0) + 1;
  return { ...person, pid };
}

async function main() {
  const all = await Promise.all(Array.from({ length: people }, (_, number) => enter(number)));
  const hears = (one, other) => one.room === other.room && (across || one.pid === other.pid);
  const due = (one) => all.filter((other) => hears(one, other))
    .flatMap(({ name, pid }) => TEXTS.map((text) => `${pid} ${name}: ${text}`)).sort();
  const deadline = Date.now() + PATIENCE;
  for (const text of TEXTS) for (const { socket } of all) socket.emit("say", text);
  for (const person of all) {
    const expected = due(person);
    while (person.heard.length < expected.length && Date.now() < deadline) {
      await new Promise((done) => setTimeout(done, 10));
    }
    if (person.heard.sort().join() === expected.join()) verdict.right += 1;
    else verdict.errors.push(`${person.name} heard ${person.heard.join()} instead of ${expected.join()}`);
  }
  console.log(JSON.stringify(verdict));
  process.exit(0);
}

main();
