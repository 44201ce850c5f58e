//! The HTTP API, `/api/v1`: for billing and ticket systems, panels, and whoever else writes programs.
//!
//! The office decides nothing. A handler turns what it was asked into the request that the control socket would carry, asks
//! control by the [`super::desk`], and turns the answer back. Who asks is found out here, by the token; what they may is
//! decided by control.

mod auth;
mod body;
mod connection;
mod document;
mod evidence;
mod hosts;
mod incidents;
mod locks;
mod problem;
mod rules;
mod tls;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ::api::{Payload, Request, Response};
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::desk::Line;
use super::work::Door;
use crate::access::Caller;
use crate::keys::Ring;
use auth::Failures;
pub(super) use connection::serve;
use problem::Problem;

/// Where everything begins.
const BASE: &str = "/api/v1";

/// What outlives an office: where the API is served, and with what.
#[derive(Debug)]
pub struct Site {
    config: config::Api,
    door: Door,
    api: Api,
    /// Counts reloads: certificates are read again.
    reloads: AtomicU64,
    /// Written by the office; read by control, which does not wait for it.
    trouble: Mutex<Option<String>>,
}

impl Site {
    /// Puts one together. `state`: where evidence lies.
    pub fn new(config: config::Api, line: Line, ring: Arc<Ring>, state: PathBuf) -> Site {
        let api = Api { line, ring, state: state.into(), failures: Arc::new(Failures::default()) };
        Site {
            door: Door::new(config.listen),
            config,
            api,
            reloads: AtomicU64::new(0),
            trouble: Mutex::new(None),
        }
    }

    /// Certificates are to be read again.
    pub fn reload(&self) {
        self.reloads.fetch_add(1, Relaxed);
    }

    /// What is wrong, if anything. What an office says at this very moment is seen the next time.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.try_lock().ok().and_then(|t| t.clone())
    }

    fn say(&self, trouble: Option<String>) {
        let mut said = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != trouble {
            if let Some(text) = &trouble {
                crate::log::error(&format!("the HTTP API is not served as configured: {text}"));
            }
            *said = trouble;
        }
    }

    fn listener(&self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.door.listener()?)
    }
}

/// What handlers share.
#[derive(Clone, Debug)]
struct Api {
    line: Line,
    ring: Arc<Ring>,
    state: Arc<Path>,
    failures: Arc<Failures>,
}

impl Api {
    async fn ask(&self, caller: Caller, request: Request) -> Result<Payload, Problem> {
        match self.line.ask(caller, request).await {
            Ok(Response::Ok(payload)) => Ok(payload),
            Ok(Response::Error(failure)) => Err(Problem::from(failure)),
            Err(silence) => Err(Problem::from(silence)),
        }
    }
}

/// All routes, and the document that describes them: one cannot be had without the other.
fn routes(api: Api) -> (Router, String) {
    let described = OpenApiRouter::new()
        .routes(routes!(hosts::status))
        .routes(routes!(hosts::host))
        .routes(routes!(locks::list, locks::create, locks::lift))
        .routes(routes!(locks::one, locks::lift_one))
        .routes(routes!(locks::suspend, locks::resume))
        .routes(routes!(incidents::list))
        .routes(routes!(incidents::one))
        .routes(routes!(evidence::list))
        .routes(routes!(evidence::file))
        .routes(routes!(rules::list))
        .routes(routes!(rules::set))
        .routes(routes!(rules::breakers))
        .routes(routes!(rules::approve))
        .routes(routes!(rules::reset))
        .routes(routes!(rules::exemptions, rules::exempt));
    let (router, described) =
        OpenApiRouter::with_openapi(document::head()).nest(BASE, described).split_for_parts();
    let text = document::text(described);
    let router = router
        .route_layer(middleware::from_fn_with_state(api.clone(), auth::authenticate))
        .method_not_allowed_fallback(problem::wrong_method)
        .with_state(api);
    (router, text)
}

fn router(api: Api) -> Router {
    let (router, text) = routes(api);
    let document = move || {
        let text = text.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], text) }
    };
    router
        .route(&format!("{BASE}/openapi.json"), axum::routing::get(document))
        .method_not_allowed_fallback(problem::wrong_method)
        .fallback(problem::nowhere)
        .layer(middleware::from_fn(finish))
}

/// What every answer has. There are no CORS headers: no browser needs this API.
async fn finish(request: axum::extract::Request, next: Next) -> axum::response::Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
