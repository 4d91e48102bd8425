//! A Socket.IO chat over socketioxide and axum. Each worker is a room of its own, so people see at
//! once that they come back to theirs. Every answer tells the page who gave it, over which connection.
//!
//! Events: `say` (a text) goes to everybody on this worker as `said`; `echo` comes back as it is, as
//! an acknowledgement and as an event.

use std::env;
use std::process::{self, ExitCode};

use anyhow::Context;
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderValue;
use axum::middleware::{Next, from_fn};
use axum::response::{Html, Response};
use axum::routing::get;
use rmpv::Value;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use sticky_worker::axum::ClientAddr;
use sticky_worker::tokio::Listener;
use sticky_worker::tower::EngineIoLayer;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The largest message by polling, in bytes. A WebSocket's may be 64 MiB, the library's default.
const MAX_MESSAGE: u64 = 16 * 1024 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> anyhow::Result<()> {
    let terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let listener = Listener::from_env_or_bind(address())?;
    if let Some(bound) = listener.local_addr() {
        eprintln!("chat: alone on http://{}", bound.context("cannot tell the bound address")?);
    }
    let (socket_io, io) = SocketIo::builder().max_payload(MAX_MESSAGE).build_layer();
    let slot = slot();
    let worker = format!("worker {slot} (pid {})", process::id());
    io.ns("/", async move |socket: SocketRef| greet(&socket, &worker));
    let told = HeaderValue::from_str(&slot).context("STICKY_WORKER_ID is no header's value")?;
    // The announcing layer goes outside of the server, where the handshake's answer passes last.
    let app = Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/who", get(async || ()))
        .layer(socket_io)
        .layer(EngineIoLayer::new(listener.sessions()))
        .layer(from_fn(move |request, next| tell(told.clone(), request, next)))
        .into_make_service_with_connect_info::<ClientAddr>();
    let gone = listener.gone();
    let stopped = async move {
        stop(terminate, gone).await;
        // Ends the waiting polls, which would keep the server otherwise.
        io.close().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await.context("cannot serve")
}

/// The first argument, else `$PORT` on the loopback, else port 3000 there.
#[expect(clippy::disallowed_methods, reason = "a server's own settings")]
fn address() -> String {
    let port = || env::var("PORT").unwrap_or_else(|_| "3000".into());
    env::args().nth(1).unwrap_or_else(|| format!("127.0.0.1:{}", port()))
}

/// The slot of this worker, or `alone`.
#[expect(clippy::disallowed_methods, reason = "a server's own settings")]
fn slot() -> String {
    env::var("STICKY_WORKER_ID").unwrap_or_else(|_| "alone".into())
}

/// Tells in an answer which worker gives it and over which connection, by the port of the client.
async fn tell(slot: HeaderValue, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<ConnectInfo<ClientAddr>>().copied();
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-worker", slot);
    if let Some(ConnectInfo(ClientAddr::Inet(client))) = client {
        response.headers_mut().insert("x-connection", client.port().into());
    }
    response
}

/// Waits until the supervisor says stop, by a signal or by being gone.
async fn stop(mut terminate: Signal, gone: impl Future<Output = ()>) {
    tokio::select! {
        _ = terminate.recv() => {}
        () = gone => {}
    }
}

fn greet(socket: &SocketRef, worker: &str) {
    told(socket.emit("worker", worker));
    socket.on("say", async |socket: SocketRef, Data::<String>(text)| {
        told(socket.broadcast().emit("said", &text).await);
        told(socket.emit("said", &text));
    });
    socket.on("echo", async |socket: SocketRef, Data::<Value>(data), ack: AckSender| {
        told(ack.send(&data));
        told(socket.emit("echo", &data));
    });
}

/// A client that is gone or does not read is told nothing; that is its own doing.
fn told<E: std::fmt::Display>(sent: Result<(), E>) {
    if let Err(error) = sent {
        eprintln!("chat: cannot send to a client: {error}");
    }
}
