//! Connections: how many there may be, and how long each part of one may take.
//!
//! Every connection ends: the head of a request, its body, a handshake and each piece of an answer have their time, and the
//! whole has one too. Without that a few hundred slow clients would keep everybody else out.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::auth::Peer;
use super::{Site, router, tls};

/// Connections at a time, in all and from one address. Loopback has no share: a proxy there speaks for everybody.
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_EACH: usize = 64;
/// The head of a request has to arrive within this time; an idle connection ends after it.
const HEAD: Duration = Duration::from_secs(10);
/// A TLS handshake has to be done.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Some more of an answer has to be taken.
const STALL: Duration = Duration::from_secs(20);
/// A connection ends, whatever it does.
const LIFE: Duration = Duration::from_secs(600);
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// Pause after which what failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Serves as long as it can; says why it ended.
pub(in crate::office) async fn serve(site: Arc<Site>) -> String {
    let mut certificate = Certificate { acceptor: None, read_at: None };
    let listener = loop {
        let tried = match certificate.refresh(&site).await {
            Ok(()) => {
                site.listener().map_err(|e| format!("{e}; free the port, or choose another [api] listen"))
            }
            Err(e) => Err(e),
        };
        match tried {
            Ok(l) => break l,
            Err(e) => site.say(Some(e)),
        }
        sleep(AGAIN).await;
    };
    site.say(None);
    let router = router(site.api.clone());
    let guests = Arc::new(Guests::default());
    loop {
        // A new certificate is looked for also while nobody comes: whoever reloads wants to know whether it is good.
        let accepted = timeout(AGAIN, listener.accept()).await;
        site.say(certificate.refresh(&site).await.err());
        let (stream, peer) = match accepted {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(_)) => {
                // No file descriptor is left, or somebody went away at once.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(_) => continue,
        };
        let address = peer.ip().to_canonical();
        let Some(place) = guests.enter(address) else {
            refuse(&stream, certificate.acceptor.is_some());
            continue;
        };
        let (router, acceptor) = (router.clone(), certificate.acceptor.clone());
        tokio::spawn(async move {
            // An error is the client's: it hung up, was too slow, or speaks no HTTP.
            let _ = timeout(LIFE, converse(stream, address, acceptor, router)).await;
            drop(place);
        });
    }
}

/// The certificate in use.
struct Certificate {
    acceptor: Option<TlsAcceptor>,
    /// The count of reloads at its reading.
    read_at: Option<u64>,
}

impl Certificate {
    /// Reads it again after a reload. One that is no good leaves the old one in use, and is said at every attempt.
    async fn refresh(&mut self, site: &Site) -> Result<(), String> {
        let Some(files) = &site.config.tls else { return Ok(()) };
        let count = site.reloads.load(Relaxed);
        if self.read_at == Some(count) && self.acceptor.is_some() {
            return Ok(());
        }
        let read = timeout(AGAIN, tls::acceptor(files.clone())).await;
        self.acceptor =
            Some(read.unwrap_or_else(|_| Err("reading the certificate takes too long".to_owned()))?);
        self.read_at = Some(count);
        Ok(())
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Guests {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the permitted connections.
struct Place {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    fn enter(self: &Arc<Guests>, address: IpAddr) -> Option<Place> {
        let mut all = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= CONNECTIONS_MAX {
            return None;
        }
        let count = all.entry(address).or_default();
        if *count >= CONNECTIONS_EACH && !address.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Place { guests: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.guests.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Says that there is no place. Before a handshake nothing can be said.
fn refuse(stream: &TcpStream, encrypted: bool) {
    if encrypted {
        return;
    }
    let body = r#"{"type":"urn:cordon:problem:busy","title":"Service Unavailable","status":503,"code":"busy","detail":"too many connections","hint":"close some, and use one for several requests"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         Retry-After: 1\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // It fits into the socket's buffer; if not, the client sees the end of the connection.
    let _ = stream.try_write(answer.as_bytes());
}

async fn converse(
    stream: TcpStream,
    address: IpAddr,
    acceptor: Option<TlsAcceptor>,
    router: Router,
) -> io::Result<()> {
    // Answers are small and whole.
    let _ = stream.set_nodelay(true);
    let stream = Patient { stream, stalled: None };
    match acceptor {
        None => http(stream, address, router).await,
        Some(acceptor) => {
            let stream =
                timeout(HANDSHAKE, acceptor.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            http(stream, address, router).await
        }
    }
}

async fn http<S>(stream: S, address: IpAddr, router: Router) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(address));
        let answer = inner.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never: Infallible| match never {})) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

/// A stream that fails when nothing of what is written is taken for a while.
struct Patient {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Ready(done) => {
                self.stalled = None;
                Poll::Ready(done)
            }
            Poll::Pending => {
                let end = self
                    .stalled
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL)));
                match end.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
