//! HTTP for Prometheus: `GET /metrics` and nothing else.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use prometheus::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::metrics;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// A connection is ended after this time, idle or not: those of slow clients must not pile up. Prometheus makes a new one.
const LIFE: Duration = Duration::from_secs(60);

/// Serves until it is dropped, or says why it cannot. Without a socket there is nothing to do.
pub(super) async fn serve(listener: Option<TcpListener>, registry: Registry) -> String {
    let Some(listener) = listener else { return std::future::pending().await };
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(l) => Limited { listener: l, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)) },
        Err(e) => return format!("taking over the listening socket: {e}"),
    };
    let ended = axum::serve(listener, router(registry)).await;
    format!("serving HTTP: {ended:?}")
}

fn router(registry: Registry) -> Router {
    let scrape = move || {
        let registry = registry.clone();
        async move { answer(&registry) }
    };
    let elsewhere = || async { (StatusCode::NOT_FOUND, "There is nothing here. Metrics are at /metrics.\n") };
    Router::new().route("/metrics", get(scrape)).fallback(elsewhere)
}

fn answer(registry: &Registry) -> Response {
    match metrics::text(registry) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(e) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {e}\n")).into_response()
        }
    }
}

/// A listener that waits while too many connections are open.
struct Limited {
    listener: tokio::net::TcpListener,
    free: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.free).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let connection = Connection { stream, end: Box::pin(tokio::time::sleep(LIFE)), _place: place };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with a place among the permitted ones, and an end.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(cx).is_ready()
    }
}

fn over<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) { over() } else { Pin::new(&mut self.stream).poll_read(cx, buf) }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(cx) { over() } else { Pin::new(&mut self.stream).poll_write(cx, buf) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
