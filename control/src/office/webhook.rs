//! One webhook to one program: a signed POST over HTTP/1.1, as standardwebhooks.com describes it.
//!
//! `webhook-id` is the same at every attempt, `webhook-timestamp` (seconds since 1970) is that of the attempt, and
//! `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`, once for each key. There are no
//! redirects, proxies or cookies here: nothing is ever sent to another host than the one that is configured.

use std::sync::Arc;
use std::time::Duration;

use api::Time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::Webhook;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::deliver::{Trouble, told};
use super::secret;

/// More of an answer is not read.
const ANSWER_MAX: usize = 64 << 10;
/// An answer may put the next attempt off by at most this.
const PUT_OFF_MAX: Duration = Duration::from_secs(3600);
/// What a key begins with.
const KEY: &str = "whsec_";

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    /// Not now, and not before `wait` is over.
    Later {
        error: String,
        wait: Option<Duration>,
    },
    /// Never: the program says that it is gone for good.
    Refused(String),
}

/// A program that is told, with its keys and certificates.
pub(super) struct Endpoint {
    hook: Webhook,
    keys: Vec<Vec<u8>>,
    tls: Option<Arc<ClientConfig>>,
}

/// An open connection.
pub(super) struct Line {
    send: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The keys of a file: one a line, so that a new one can be added before the old one goes.
fn keys(text: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let keys: Option<Vec<Vec<u8>>> = lines
        .map(|l| STANDARD.decode(l.strip_prefix(KEY)?).ok().filter(|k| (24..=64).contains(&k.len())))
        .collect();
    match keys {
        Some(keys) if !keys.is_empty() => Ok(keys),
        _ => Err("every line has to be whsec_ and the base64 of 24 to 64 random bytes: \
                  echo whsec_$(openssl rand -base64 32)"),
    }
}

fn signature(keys: &[Vec<u8>], id: &str, seconds: i64, body: &[u8]) -> String {
    let sign = |key: &Vec<u8>| {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    keys.iter().filter_map(sign).collect::<Vec<_>>().join(" ")
}

/// The seconds of a `Retry-After`; those that name a date are not understood.
fn put_off(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(PUT_OFF_MAX))
}

fn judge(status: StatusCode, wait: Option<Duration>) -> Answer {
    if status.is_success() {
        Answer::Taken
    } else if status == StatusCode::GONE {
        Answer::Refused(format!(
            "{status}: it wants no more of them; take its [[webhook]] out, or mend its url"
        ))
    } else if status.is_redirection() {
        Answer::Later { error: format!("{status}: redirects are not followed; set url to where it is"), wait }
    } else {
        Answer::Later { error: format!("it answers {status}"), wait }
    }
}

impl Endpoint {
    /// Reads keys and certificates.
    pub(super) async fn open(hook: &Webhook) -> Result<Endpoint, Trouble> {
        let text = secret::read("secret_file", &hook.secret_file).await.map_err(Trouble)?;
        let shown = hook.secret_file.display();
        let keys = keys(&String::from_utf8_lossy(&text))
            .map_err(|e| Trouble(format!("secret_file {shown} has no key: {e}")))?;
        let tls = if hook.url.scheme_str() == Some("https") { Some(tls(hook).await?) } else { None };
        Ok(Endpoint { hook: hook.clone(), keys, tls })
    }

    /// Sends one message, over the connection that is open or a new one.
    pub(super) async fn send(
        &self,
        line: &mut Option<Line>,
        id: &str,
        body: &str,
        now: Time,
    ) -> Result<Answer, Trouble> {
        let deadline = Instant::now() + self.hook.timeout;
        loop {
            let kept = line.take().filter(|l| l.send.is_ready());
            let reused = kept.is_some();
            let mut open = match kept {
                Some(open) => open,
                None => self.connect(deadline).await?,
            };
            let request = self.request(id, body, now)?;
            match timeout_at(deadline, exchange(&mut open, request)).await {
                Ok(Ok((answer, whole))) => {
                    *line = whole.then_some(open);
                    return Ok(answer);
                }
                // A connection that the other side has closed meanwhile says nothing of the message.
                Ok(Err(_)) if reused => {}
                Ok(Err(error)) => return Ok(Answer::Later { error, wait: None }),
                Err(_) => {
                    let error = format!("no answer for {} s", self.hook.timeout.as_secs());
                    return Ok(Answer::Later { error, wait: None });
                }
            }
        }
    }

    fn request(&self, id: &str, body: &str, now: Time) -> Result<Request<Full<Bytes>>, Trouble> {
        let seconds = now.unix_ms() / 1000;
        let url = &self.hook.url;
        let path = url.path_and_query().map_or("/", |p| p.as_str());
        let host = url.authority().map(|a| a.as_str()).unwrap_or_default();
        Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("cordon/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature(&self.keys, id, seconds, body.as_bytes()))
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|e| Trouble(format!("the request cannot be written: {e}")))
    }

    async fn connect(&self, deadline: Instant) -> Result<Line, Trouble> {
        let place = place(&self.hook.url);
        let late =
            |_| Trouble(format!("connecting to {place}: no answer for {} s", self.hook.timeout.as_secs()));
        timeout_at(deadline, self.try_connect())
            .await
            .map_err(late)?
            .map_err(|e| Trouble(format!("connecting to {place}: {e}")))
    }

    async fn try_connect(&self) -> Result<Line, String> {
        let (host, port) = (host(&self.hook.url), port(&self.hook.url));
        let stream = TcpStream::connect((host, port)).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| format!("TCP_NODELAY: {e}"))?;
        match &self.tls {
            None => talk(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
                let connector = TlsConnector::from(Arc::clone(tls));
                talk(connector.connect(name, stream).await.map_err(|e| told(&e))?).await
            }
        }
    }
}

fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_matches(['[', ']'])
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 })
}

/// A URL without its path, which may hold a token.
fn place(url: &Uri) -> String {
    format!("{}:{}", url.host().unwrap_or_default(), port(url))
}

async fn talk<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(io: T) -> Result<Line, String> {
    let (send, connection) = handshake(TokioIo::new(io)).await.map_err(|e| told(&e))?;
    // Its errors are also those of the exchange, which tells them.
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(Line { send, driver })
}

/// One request and its answer, which has to be whole to count; and whether the connection can be used again.
async fn exchange(line: &mut Line, request: Request<Full<Bytes>>) -> Result<(Answer, bool), String> {
    line.send.ready().await.map_err(|e| told(&e))?;
    let response = line.send.send_request(request).await.map_err(|e| told(&e))?;
    let answer = judge(response.status(), put_off(response.headers()));
    match Limited::new(response.into_body(), ANSWER_MAX).collect().await {
        Ok(_) => Ok((answer, true)),
        Err(e) if e.is::<LengthLimitError>() => Ok((answer, false)),
        Err(e) => Err(format!("its answer breaks off: {}", told(e.as_ref()))),
    }
}

async fn tls(hook: &Webhook) -> Result<Arc<ClientConfig>, Trouble> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &hook.ca_file {
        let pem = secret::read("ca_file", file).await.map_err(Trouble)?;
        let wrong = |e: String| Trouble(format!("ca_file {}: {e}", file.display()));
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("there is no certificate in it".to_owned()));
        }
    }
    let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|e| Trouble(format!("reading the system's certificates: {e}")))?;
    roots.add_parsable_certificates(native.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Trouble(format!("preparing TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_the_standard_says() {
        // The example of the specification (standardwebhooks.com).
        let keys = keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("a key");
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_is_refused_when_it_is_short_or_none_and_several_sign_each() {
        let long = format!("{KEY}{}", STANDARD.encode([7u8; 32]));
        let short = format!("{KEY}{}", STANDARD.encode([7u8; 16]));
        for bad in ["", "\n", "secret", short.as_str(), "whsec_%%%", &long[KEY.len()..]] {
            assert!(keys(bad).is_err_and(|e| e.contains("openssl")), "{bad}");
        }
        let both = keys(&format!("{long}\n\n  {long}  \n")).expect("two keys");
        assert_eq!(signature(&both, "a", 1, b"x").split(' ').count(), 2);
    }

    #[test]
    fn an_answer_is_taken_for_what_it_means() {
        let later = |status: u16| {
            matches!(judge(StatusCode::from_u16(status).expect("a status"), None), Answer::Later { .. })
        };
        assert_eq!(judge(StatusCode::NO_CONTENT, None), Answer::Taken);
        assert!(matches!(judge(StatusCode::GONE, None), Answer::Refused(_)));
        assert!([301, 307, 400, 401, 404, 408, 429, 500, 503].into_iter().all(later));
        let mut headers = HeaderMap::new();
        assert_eq!(put_off(&headers), None);
        headers.insert(RETRY_AFTER, "90".parse().expect("a value"));
        assert_eq!(put_off(&headers), Some(Duration::from_secs(90)));
        headers.insert(RETRY_AFTER, "99999999".parse().expect("a value"));
        assert_eq!(put_off(&headers), Some(PUT_OFF_MAX));
    }

    #[test]
    fn a_place_tells_no_path() {
        let url: Uri = "https://[2001:db8::1]/hooks?token=x".parse().expect("a url");
        assert_eq!((place(&url).as_str(), host(&url)), ("[2001:db8::1]:443", "2001:db8::1"));
    }
}
