// Socket.IO in an ES module, which listens by itself. Bundled by esbuild it is the app whose engine.io is no module.
import { Server } from "socket.io";
import sessions from "./sessions.js";
import who from "./who.js";

sessions.serve(new Server(who.where.port, { maxHttpBufferSize: 5e6 }));
