// Counts the visits of each client in a session that only this process knows.
import express from "express";
import session from "express-session";

const { HOST = "127.0.0.1", PORT = 3000, SECRET = "not a secret" } = process.env;
const app = express();
app.use(session({ secret: SECRET, resave: false, saveUninitialized: false }));

app.get("/", ({ session }, response) => {
  session.visits = (session.visits ?? 0) + 1;
  response.type("text").send(`process ${process.pid}, visit ${session.visits}\n`);
});

app.listen(PORT, HOST, () => console.log(`process ${process.pid}: visits on http://${HOST}:${PORT}`));
