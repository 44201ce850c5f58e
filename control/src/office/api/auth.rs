//! Who asks: `Authorization: Bearer TOKEN`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::api::Time;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;
use crate::access::Caller;
use crate::log;

/// Failures of an address in [`WINDOW`] after which it only hears that it is too many.
const FAILURES_MAX: u32 = 10;
const WINDOW_S: u32 = 60;
const WINDOW: Duration = Duration::from_secs(WINDOW_S as u64);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4_096;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who failed lately, by address.
///
/// A good token is taken whatever its address did before: behind a proxy all come from one, and nobody can guess 256 bits.
/// The limit keeps failures cheap, and the log readable.
#[derive(Debug, Default)]
pub(super) struct Failures {
    by_address: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

/// An IPv6 customer has a /64 to fail from.
fn origin(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(a) => match a.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(a) & (u128::MAX << 64)).into()),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Failures {
    /// Counts one more; how many there were in this window.
    fn count(&self, address: IpAddr, now: Instant) -> u32 {
        let mut all = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES_MAX {
            all.retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
            if all.len() >= ADDRESSES_MAX {
                // Whoever has so many addresses is not kept off by any.
                all.clear();
            }
        }
        let entry = all.entry(origin(address)).or_insert((now, 0));
        if now.saturating_duration_since(entry.0) >= WINDOW {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        entry.1
    }
}

/// The secret of a request, and nothing else that might be one.
fn secret(headers: &HeaderMap) -> Result<&str, &'static str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (all.next(), all.next()) {
        (Some(one), None) => one,
        (None, _) => return Err("there is no header Authorization"),
        (Some(_), Some(_)) => return Err("there are several headers Authorization"),
    };
    let (scheme, secret) = value
        .to_str()
        .ok()
        .and_then(|v| v.split_once(' '))
        .ok_or("the header Authorization is not `Bearer TOKEN`")?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("the header Authorization is not `Bearer TOKEN`");
    }
    Ok(secret.trim())
}

/// Lets nobody through without a good token. No message ever repeats what was sent: it may be a secret with a typing error.
pub(super) async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    // The connection puts it there.
    let Some(Peer(from)) = request.extensions().get::<Peer>().copied() else {
        return Problem::odd().into_response();
    };
    let why = match secret(request.headers()) {
        Ok(secret) => match api.ring.find(secret, Time::now()) {
            Some(key) => {
                let who = format!("token:{}", key.name);
                let caller = Caller { who, role: key.role, token: Some(key.id), from: Some(from) };
                request.extensions_mut().insert(caller);
                // Handlers have no use for it, and what they do not have they cannot tell.
                request.headers_mut().remove(header::AUTHORIZATION);
                return next.run(request).await;
            }
            None => "this token is not known, was revoked, or its time is over",
        },
        Err(why) => why,
    };
    let failures = api.failures.count(from, Instant::now());
    let hint = "send `Authorization: Bearer TOKEN`; `cordon token create NAME --role ROLE` makes one";
    if failures <= FAILURES_MAX {
        if failures == 1 {
            log::warning(&format!("HTTP API: {from} was refused: {why}"));
        }
        return Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", why, hint).into_response();
    }
    if failures == FAILURES_MAX + 1 {
        log::warning(&format!("HTTP API: {from} fails again and again; more is not logged for a minute"));
    }
    let text = format!("more than {FAILURES_MAX} requests without a good token in a minute; the last: {why}");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-failures", text, hint)
        .retry_after(WINDOW_S)
        .into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn failures_are_counted_by_address_and_forgotten() {
        let f = Failures::default();
        let at = Instant::now();
        let a: IpAddr = "192.0.2.1".parse().unwrap();
        for i in 1..=20 {
            assert_eq!(f.count(a, at), i);
        }
        assert_eq!(f.count("192.0.2.2".parse().unwrap(), at), 1, "others are not blamed");
        assert_eq!(f.count("::ffff:192.0.2.1".parse().unwrap(), at), 21);
        let v6 = |t: &str| f.count(t.parse().unwrap(), at);
        assert_eq!((v6("2001:db8::1"), v6("2001:db8::2"), v6("2001:db8:0:1::1")), (1, 2, 1));
        assert_eq!(f.count(a, at + WINDOW), 1);
        for i in 0..10_000u32 {
            f.count(IpAddr::from(i.to_be_bytes()), at);
        }
        assert!(f.by_address.lock().unwrap().len() <= ADDRESSES_MAX);
    }

    #[test]
    fn only_one_bearer_is_a_secret() {
        let with = |values: &[&str]| {
            let mut h = HeaderMap::new();
            for v in values {
                h.append(header::AUTHORIZATION, v.parse().unwrap());
            }
            secret(&h).map(str::to_owned).ok()
        };
        assert_eq!(with(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(with(&["bearer  abc "]).as_deref(), Some("abc"));
        for bad in [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(with(bad), None, "{bad:?}");
        }
    }
}
