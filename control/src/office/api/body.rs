//! What a request brings along: parts of the path, the query, the body. All that is wrong with it is told as a problem.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Longest body, in bytes.
pub(super) const BODY_MAX: usize = 64 << 10;
/// A body has to arrive within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of the path.
#[derive(Debug)]
pub(super) struct Segment<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segment<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Segment<T>, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Segment(value)),
            Err(e) => Err(Problem::bad(format!("the path: {}", e.body_text()), "see /api/v1/openapi.json")),
        }
    }
}

/// The query. A field that is not known is refused, never ignored: a list must not be longer than was asked for.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Query(value)),
            Err(e) => {
                let text = e.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                Err(Problem::bad(
                    format!("the query: {text}"),
                    "see /api/v1/openapi.json for what this route takes",
                ))
            }
        }
    }
}

/// Nothing at all in the query.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &S) -> Result<Body<T>, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let mime = kind.split(';').next().unwrap_or("").trim();
        if !mime.eq_ignore_ascii_case("application/json") {
            let said = if kind.is_empty() {
                "there is no Content-Type".to_owned()
            } else {
                format!("`{kind}` is not understood")
            };
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                said,
                "send JSON with `Content-Type: application/json`",
            ));
        }
        DefaultBodyLimit::apply(DefaultBodyLimit::max(BODY_MAX), &mut request);
        let bytes = match tokio::time::timeout(PATIENCE, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(e)) => return Err(unread(&e)),
            Err(_) => {
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "slow",
                    format!("the body was not complete within {} s", PATIENCE.as_secs()),
                    "send it at once",
                ));
            }
        };
        serde_json::from_slice(&bytes).map(Body).map_err(|e| {
            let text = e.to_string();
            let place = format!(" at line {} column {}", e.line(), e.column());
            let text = text.strip_suffix(&place).unwrap_or(&text);
            Problem::bad(format!("the body: {text}"), "see /api/v1/openapi.json for what this route takes")
                .at(e.line().max(1), e.column().max(1))
        })
    }
}

fn unread(e: &BytesRejection) -> Problem {
    if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(
            e.status(),
            "too-large",
            format!("the body is longer than {BODY_MAX} bytes"),
            "use a shorter note, or fewer exceptions",
        );
    }
    Problem::bad(format!("the body cannot be read: {}", e.body_text()), "send it again")
}
