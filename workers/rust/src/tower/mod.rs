//! A layer that announces the sessions of an Engine.IO server, such as socketioxide.
//!
//! The polling handshake answers with an *open packet*, which tells the client its session id: from
//! then on each of the client's connections must come to this worker. The server offers no moment
//! between making the id and sending it, so the layer reads the id off the answer's body, announces
//! it, and only then lets the answer go.
//!
//! - Connections may be kept open: a [`Connection`](crate::tokio::Connection) whose next request belongs to
//!   another worker goes there. Where nobody looks, under an older sticky-run or in a server that
//!   has taken a connection [apart](crate::tokio::Connection::into_parts), every polling answer over HTTP/1
//!   gets `Connection: close`, and the server has to close all others that a browser may get.
//! - A client that starts with a WebSocket has its whole session on that one connection. There is
//!   nothing to announce.
//! - A session is over when no request of it is being answered, its server keeps none of its
//!   requests, and both have been so for the ping interval and ping timeout of its open packet and 5
//!   seconds more. An Engine.IO server has closed such a session itself. socketioxide keeps the
//!   handshake's request as long as the session lives, on whatever transport (the layer leaves a mark
//!   in the request's extensions); a server that keeps none only forgets sessions after their upgrade
//!   to a WebSocket, when no further connection asks for them.
//! - Engine.IO 3 and 4 are read, JSONP polling is not.
//!
//! Put it outside of the Engine.IO server and of anything that changes the path or compresses bodies:
//!
//! ```
//! use axum::{Router, routing::get};
//! use sticky_worker::tower::EngineIoLayer;
//!
//! # fn app(listener: &sticky_worker::tokio::Listener, engine_io: Router) -> Router {
//! Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .fallback_service(engine_io)
//!     .layer(EngineIoLayer::new(listener.sessions()))
//! # }
//! ```

mod body;
mod packet;
mod request;
mod table;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::header::{CONNECTION, HeaderValue};
use ::http::{Request, Response, StatusCode, Version};
use ::http_body::Body as HttpBody;
use ::tower_layer::Layer;
use ::tower_service::Service;
use pin_project_lite::pin_project;

pub use body::Body;
use body::look;
use packet::OpenPacket;
use request::{Asks, Paths};
use table::{Held, Table};

use crate::patience::say;
use crate::tokio::Sessions;

/// Wraps an Engine.IO server; see the [module](self).
#[derive(Clone, Debug)]
pub struct EngineIoLayer {
    paths: Paths,
    table: Arc<Table>,
}

impl EngineIoLayer {
    /// Announces through these sessions what answers below `/socket.io/` tell.
    pub fn new(sessions: Sessions) -> Self {
        Self { paths: Paths::new("/socket.io/"), table: Arc::new(Table::new(sessions)) }
    }

    /// Sets the path of the Engine.IO server.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.paths = Paths::new(path);
        self
    }
}

impl<S> Layer<S> for EngineIoLayer {
    type Service = EngineIoService<S>;

    fn layer(&self, inner: S) -> EngineIoService<S> {
        EngineIoService { inner, layer: self.clone() }
    }
}

/// What [`EngineIoLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct EngineIoService<S> {
    inner: S,
    layer: EngineIoLayer,
}

impl<S, Q, B> Service<Request<Q>> for EngineIoService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Send,
{
    type Response = Response<Body<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let Some(asks) = self.layer.paths.look(request.uri()) else {
            let inner = self.inner.call(request);
            return ResponseFuture { answer: Answer::Other { inner } };
        };
        let table = &self.layer.table;
        let held = match &asks {
            Asks::Handshake => Some(Held::new()),
            Asks::Session(id) => table.find(id),
            Asks::Upgraded => None,
        };
        if let Some(held) = &held {
            request.extensions_mut().insert(held.clone());
        }
        let exchange = Exchange {
            table: Arc::clone(table),
            is_handshake: asks == Asks::Handshake,
            is_http1: request.version() <= Version::HTTP_11,
            held,
        };
        let answer = self.inner.call(request);
        let inner = Box::pin(async move {
            let answer = answer.await?;
            Ok(exchange.pass(answer).await)
        });
        ResponseFuture { answer: Answer::EngineIo { inner } }
    }
}

/// One request of an Engine.IO client and its answer.
struct Exchange {
    table: Arc<Table>,
    is_handshake: bool,
    is_http1: bool,
    /// Keeps the session, known or to come, until the answer is out.
    held: Option<Held>,
}

impl Exchange {
    async fn pass<B: HttpBody>(self, answer: Response<B>) -> Response<Body<B>> {
        let (mut head, body) = answer.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Response::from_parts(head, Body::plain(body, self.held));
        }
        if self.is_http1 && !self.table.may_keep_connections() {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if !self.is_handshake || head.status != StatusCode::OK {
            return Response::from_parts(head, Body::plain(body, self.held));
        }
        let (found, body) = look(body).await;
        if let (Some(open), Some(held)) = (found, &self.held) {
            self.announce(&open, held).await;
        }
        Response::from_parts(head, body.holding(self.held))
    }

    /// Announces the session. A client is answered also when that fails: the supervisor is gone then,
    /// and this connection outlives it.
    async fn announce(&self, open: &OpenPacket, held: &Held) {
        if let Err(error) = self.table.announce(open, held).await {
            say(&format!("cannot announce session {:?}: {error}", open.sid));
        }
    }
}

pin_project! {
    /// The answer to come.
    pub struct ResponseFuture<F, T> {
        #[pin]
        answer: Answer<F, T>,
    }
}

pin_project! {
    #[project = AnswerOf]
    enum Answer<F, T> {
        // Not a request of an Engine.IO client.
        Other { #[pin] inner: F },
        // An answer that is looked at.
        EngineIo { inner: Pin<Box<dyn Future<Output = T> + Send>> },
    }
}

impl<F, B, E> Future for ResponseFuture<F, Result<Response<Body<B>>, E>>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody,
{
    type Output = Result<Response<Body<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().answer.project() {
            AnswerOf::Other { inner } => {
                let answer = ready!(inner.poll(context))?;
                Poll::Ready(Ok(answer.map(|body| Body::plain(body, None))))
            }
            AnswerOf::EngineIo { inner } => inner.as_mut().poll(context),
        }
    }
}
