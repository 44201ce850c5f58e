//! Errors as RFC 9457 has them: what is wrong, where, and what to do.

use ::api::{ErrorCode, Failure};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::office::desk::Silence;

/// Why something was not done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:cordon:problem:CODE`
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: Box<str>,
    /// The HTTP status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// For programs: `bad-request`, `not-found`, `conflict`, `refused`, `permission`, `unauthenticated`, …
    code: &'static str,
    /// What is wrong.
    #[schema(value_type = String)]
    detail: Box<str>,
    /// What to do.
    #[schema(value_type = String)]
    hint: Box<str>,
    /// Line of the body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// Column of that line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    /// Seconds after which to ask again.
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Box<str>>,
        hint: impl Into<Box<str>>,
    ) -> Problem {
        Problem {
            kind: format!("urn:cordon:problem:{code}").into(),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            hint: hint.into(),
            line: None,
            column: None,
            retry_after_s: None,
        }
    }

    pub(super) fn bad(detail: impl Into<Box<str>>, hint: impl Into<Box<str>>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail, hint)
    }

    pub(super) fn not_found(detail: impl Into<Box<str>>, hint: impl Into<Box<str>>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail, hint)
    }

    /// An answer of control that does not fit the question.
    pub(super) fn odd() -> Problem {
        let detail = "cordond gave an answer that does not fit the question";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail, "report this")
    }

    pub(super) fn at(mut self, line: usize, column: usize) -> Problem {
        // A body has at most 64 KiB.
        self.line = u32::try_from(line).ok();
        self.column = u32::try_from(column).ok();
        self
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Problem {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl From<Failure> for Problem {
    fn from(f: Failure) -> Problem {
        let (status, code) = match f.code {
            ErrorCode::BadRequest => (StatusCode::BAD_REQUEST, "bad-request"),
            ErrorCode::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            ErrorCode::Refused => (StatusCode::CONFLICT, "refused"),
            ErrorCode::Conflict => (StatusCode::CONFLICT, "conflict"),
            ErrorCode::Permission => (StatusCode::FORBIDDEN, "permission"),
            ErrorCode::Failed | ErrorCode::Unreachable => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        };
        Problem::new(status, code, f.message, f.hint)
    }
}

impl From<Silence> for Problem {
    fn from(s: Silence) -> Problem {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        match s {
            Silence::Busy => Problem::new(
                busy,
                "busy",
                "too many requests wait; nothing was done",
                "ask again in a second",
            )
            .retry_after(1),
            Silence::NotBegun => Problem::new(
                busy,
                "busy",
                "cordond did not get to it within 5 s; nothing was done",
                "ask again; `cordon status` says what is wrong",
            )
            .retry_after(5),
            Silence::Late => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "late",
                "the disk of cordond does not answer: whether it is done is not known",
                "ask again under the same external_ref: what was done is not done twice",
            )
            .retry_after(30),
            Silence::Gone => Problem::new(busy, "stopping", "cordond stops", "ask again when it is back"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Strings and numbers always can be written.
        let text = serde_json::to_string(&self).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cordon\""));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// For a path that is no route.
pub(super) async fn nowhere(uri: Uri) -> Problem {
    Problem::not_found(
        format!("there is nothing at {}", uri.path()),
        "GET /api/v1/openapi.json describes everything that there is",
    )
}

/// For a method that a route does not have.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        // The router adds what there is.
        return StatusCode::NO_CONTENT.into_response();
    }
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!("{method} is nothing that {} can do", uri.path()),
        "the header Allow names what it can",
    )
    .into_response()
}
