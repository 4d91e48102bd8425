//! The layer over a made-up Engine.IO server, with a supervisor that is this test.

#![cfg(feature = "tower")]

mod support;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use sticky_worker::tokio::Worker;
use sticky_worker::tower::EngineIoLayer;
use support::{Supervisor, supervisor};
use tokio::time::{pause, sleep};
use tower::{Layer, ServiceExt, service_fn};

const OPEN: &str = r#"0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;

/// A text that comes a byte at a time.
#[derive(Debug)]
struct Pieces(Bytes);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let byte = (!self.0.is_empty()).then(|| self.0.split_to(1));
        Poll::Ready(byte.map(|byte| Ok(Frame::data(byte))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// Requests that the server keeps after their answer.
type Kept = Arc<Mutex<Vec<http::Request<()>>>>;

/// The made-up server: its answer depends on the query.
fn answer(request: http::Request<()>, kept: &Kept) -> http::Response<Pieces> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    if query.contains("keep") {
        kept.lock().unwrap().push(request);
    }
    let (status, body) = match query {
        query if query.contains("websocket") => (101, ""),
        query if query.contains("sid=") => (200, "6"),
        query if query.contains("refused") => (400, OPEN),
        query if query.contains("strange") => (200, "<html>"),
        _ => (200, OPEN),
    };
    http::Response::builder().status(status).body(Pieces(body.into())).unwrap()
}

struct Engine {
    worker: Worker,
    supervisor: Supervisor,
    layer: EngineIoLayer,
    kept: Kept,
}

fn engine() -> Engine {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let layer = EngineIoLayer::new(worker.sessions());
    Engine { worker, supervisor, layer, kept: Kept::default() }
}

impl Engine {
    /// The head of the answer and its body, still to be read.
    async fn ask(&self, uri: &str) -> http::Response<sticky_worker::tower::Body<Pieces>> {
        self.ask_by(uri, http::Version::HTTP_11).await
    }

    async fn ask_by(
        &self,
        uri: &str,
        version: http::Version,
    ) -> http::Response<sticky_worker::tower::Body<Pieces>> {
        let kept = Arc::clone(&self.kept);
        let server = service_fn(move |request| {
            let answer = answer(request, &kept);
            async move { Ok::<_, Infallible>(answer) }
        });
        let request = http::Request::builder().uri(uri).version(version).body(()).unwrap();
        self.layer.layer(server).oneshot(request).await.unwrap()
    }
}

/// Whether the answer ends its connection.
fn closes<B>(answer: &http::Response<B>) -> bool {
    answer.headers().get(CONNECTION).is_some_and(|value| value == "close")
}

#[tokio::test]
async fn the_session_is_announced_before_the_head_leaves_and_the_body_is_whole() {
    let engine = engine();
    let answer = engine.ask("/socket.io/?EIO=4&transport=polling").await;
    assert_eq!(engine.supervisor.next(), "SESSION abc");
    assert!(closes(&answer));
    assert_eq!(answer.body().size_hint().exact(), Some(OPEN.len() as u64));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), OPEN);
    assert!(engine.supervisor.is_quiet());
}

#[tokio::test]
async fn nothing_else_is_announced() {
    let engine = engine();
    for (uri, closing) in [
        ("/socket.io/?transport=polling&refused", true),
        ("/socket.io/?transport=polling&strange", true),
        ("/socket.io/?transport=polling&sid=other", true),
        ("/socket.io/?transport=websocket", false),
        ("/socket.io/?transport=websocket&sid=other", false),
        ("/elsewhere?transport=polling", false),
        ("/socket.io/socket.io.js", false),
    ] {
        let answer = engine.ask(uri).await;
        assert_eq!(closes(&answer), closing, "{uri}");
        let length = answer.body().size_hint().exact().unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len() as u64, length, "{uri}");
    }
    assert!(engine.supervisor.is_quiet());
    let answer = engine.ask_by("/socket.io/?transport=polling", http::Version::HTTP_2).await;
    assert!(!closes(&answer), "HTTP/2 has no such header");
    assert_eq!(engine.supervisor.next(), "SESSION abc");
}

#[tokio::test]
async fn where_every_request_is_looked_at_answers_keep_their_connections() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "sid").unwrap();
    let layer = EngineIoLayer::new(worker.sessions());
    let engine = Engine { worker, supervisor, layer, kept: Kept::default() };
    assert!(!closes(&engine.ask("/socket.io/?transport=polling").await));
    assert_eq!(engine.supervisor.next(), "SESSION abc");
    // Until the server takes a connection apart.
    let _client = engine.supervisor.hand_over();
    let connection = engine.worker.accept().await.unwrap().unwrap();
    let _parts = connection.into_parts();
    assert!(closes(&engine.ask("/socket.io/?transport=polling&sid=abc").await));
}

#[tokio::test]
async fn the_path_can_be_set() {
    let mut engine = engine();
    engine.layer = EngineIoLayer::new(engine.worker.sessions()).path("/chat/ws/");
    assert!(!closes(&engine.ask("/socket.io/?transport=polling").await));
    assert!(closes(&engine.ask("/chat/ws/?transport=polling").await));
    assert_eq!(engine.supervisor.next(), "SESSION abc");
}

/// Lets this time pass; the runtime's clock stands still otherwise.
async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test]
async fn an_unused_session_ends_after_the_time_of_its_open_packet_and_not_before() {
    pause();
    let engine = engine();
    drop(engine.ask("/socket.io/?transport=polling").await);
    assert_eq!(engine.supervisor.next(), "SESSION abc");
    pass(44).await;
    drop(engine.ask("/socket.io/?transport=polling&sid=abc").await);
    pass(49).await;
    assert!(engine.supervisor.is_quiet(), "a poll prolongs the session");
    pass(10).await;
    assert_eq!(engine.supervisor.next(), "END abc");
}

#[tokio::test]
async fn a_session_in_use_does_not_end() {
    pause();
    let engine = engine();
    drop(engine.ask("/socket.io/?transport=polling&keep").await);
    assert_eq!(engine.supervisor.next(), "SESSION abc");
    pass(1000).await;
    assert!(engine.supervisor.is_quiet(), "the server keeps the request of the handshake");
    let poll = engine.ask("/socket.io/?transport=polling&sid=abc").await;
    engine.kept.lock().unwrap().clear();
    pass(1000).await;
    assert!(engine.supervisor.is_quiet(), "the answer of a poll is not out");
    drop(poll);
    pass(49).await;
    assert!(engine.supervisor.is_quiet());
    pass(10).await;
    assert_eq!(engine.supervisor.next(), "END abc");
}

#[tokio::test]
async fn alone_the_layer_lets_everything_pass() {
    let mut engine = engine();
    engine.layer = EngineIoLayer::new(sticky_worker::tokio::Sessions::alone());
    let answer = engine.ask("/socket.io/?transport=polling").await;
    assert!(!closes(&answer), "there is no other worker");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), OPEN);
    assert!(engine.supervisor.is_quiet());
}
