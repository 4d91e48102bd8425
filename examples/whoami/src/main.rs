//! Says which worker answered: plain HTTP/1.1 by hand, a thread for each connection.
//!
//! Each connection is answered once and closed, so a body is nobody's second request.

use std::env;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use sticky_worker::{Connection, Listener};

/// The longest request head that is read, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// How much of a body is read and thrown away, in bytes.
const MAX_BODY: u64 = 1024 * 1024;
/// How long a silent client may hold its thread.
const SILENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whoami: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    let name = Arc::new(format!("worker {} (pid {})", slot(), process::id()));
    let listener = Listener::from_env_or_bind(address())?;
    if let Some(bound) = listener.local_addr() {
        eprintln!("whoami: alone on http://{}", bound.context("cannot tell the bound address")?);
    }
    let requests = Arc::new(AtomicU64::new(0));
    while let Some(connection) = listener.accept()? {
        let (name, requests) = (Arc::clone(&name), Arc::clone(&requests));
        let answer = move || {
            // A client that goes away or sends garbage is no event for the server.
            drop(answer(connection, &name, &requests));
        };
        // Without a thread the connection is dropped with the closure, and so closed and counted.
        if let Err(error) = thread::Builder::new().spawn(answer) {
            eprintln!("whoami: cannot start a thread, one connection refused: {error}");
        }
    }
    Ok(())
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

fn answer(mut connection: Connection, name: &str, requests: &AtomicU64) -> io::Result<()> {
    connection.stream().set_read_timeout(Some(SILENCE))?;
    connection.stream().set_write_timeout(Some(SILENCE))?;
    let text = if read_head(&mut connection)? {
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        let client =
            connection.client().map_or_else(|| "a Unix socket".into(), |at| at.to_string());
        response("200 OK", &format!("{name}, you are {client}, request {number}\n"))
    } else {
        response("400 Bad Request", "this is no HTTP/1 request\n")
    };
    connection.write_all(text.as_bytes())?;
    // Closing over unread bytes would reset the connection before the client has the answer.
    connection.stream().shutdown(Shutdown::Write)?;
    io::copy(&mut connection.take(MAX_BODY), &mut io::sink()).map(drop)
}

/// Reads a request's head; false when what comes is none.
fn read_head(connection: &mut Connection) -> io::Result<bool> {
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    while head.len() < MAX_HEAD {
        match connection.read(&mut chunk)? {
            0 => return Ok(false),
            length => head.extend_from_slice(&chunk[..length]),
        }
        let mut headers = [httparse::EMPTY_HEADER; 100];
        match httparse::Request::new(&mut headers).parse(&head) {
            Ok(httparse::Status::Complete(_)) => return Ok(true),
            Ok(httparse::Status::Partial) => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(false)
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
