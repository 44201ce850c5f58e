//! Files of evidence.
//!
//! A file is only opened under a name that control has given for the incident, and never through a link: a request cannot
//! make a path.

use std::os::unix::fs::OpenOptionsExt;

use ::api::{IncidentRow, Payload, Request};
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;

use super::Api;
use super::body::{Nothing, Query, Segment};
use super::problem::Problem;
use crate::access::Caller;
use crate::store::evidence_path;

/// A file of evidence.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EvidenceFile {
    /// Its name.
    name: String,
    /// Its media type.
    media_type: String,
    /// Where it is.
    path: String,
}

/// The files of an incident.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EvidenceFiles {
    /// The files.
    files: Vec<EvidenceFile>,
}

fn media_type(name: &str) -> &'static str {
    if name.ends_with(".log") {
        "text/plain; charset=utf-8"
    } else if name.ends_with(".json") {
        "application/json"
    } else {
        "application/octet-stream"
    }
}

async fn incident(api: &Api, caller: Caller, id: String) -> Result<IncidentRow, Problem> {
    match api.ask(caller, Request::Incident { id }).await? {
        Payload::Incident(row) => Ok(*row),
        _ => Err(Problem::odd()),
    }
}

/// The evidence of an incident: names of files
#[utoipa::path(get, path = "/incidents/{id}/files", tag = "incidents",
    params(("id" = String, Path, description = "Such as C-2026-000123")),
    responses((status = 200, body = EvidenceFiles)))]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<String>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<EvidenceFiles>, Problem> {
    let row = incident(&api, caller, id).await?;
    let file = |name: String| EvidenceFile {
        media_type: media_type(&name).to_owned(),
        path: format!("{}/incidents/{}/files/{name}", super::BASE, row.id),
        name,
    };
    Ok(Json(EvidenceFiles { files: row.files.into_iter().map(file).collect() }))
}

/// A file of evidence
#[utoipa::path(get, path = "/incidents/{id}/files/{name}", tag = "incidents",
    params(("id" = String, Path, description = "Such as C-2026-000123"), ("name" = String, Path, description = "Such as summary.log")),
    responses((status = 200, description = "The file", content(
        (String = "text/plain"), (Vec<u8> = "application/octet-stream"), (serde_json::Value = "application/json")))))]
pub(super) async fn file(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment((id, name)): Segment<(String, String)>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Response, Problem> {
    let row = incident(&api, caller, id).await?;
    let none = || {
        Problem::not_found(
            format!("incident {} has no such file", row.id),
            format!("GET {}/incidents/{}/files lists them", super::BASE, row.id),
        )
    };
    let name = row.files.iter().find(|f| **f == name).ok_or_else(none)?;
    let path = evidence_path(&api.state, &row.id, name).ok_or_else(none)?;
    let opened = tokio::fs::OpenOptions::from({
        let mut options = std::fs::OpenOptions::new();
        options.read(true).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
        options
    })
    .open(&path)
    .await;
    // Files of evidence are written whole and renamed: their length does not change.
    let measured = match opened {
        Ok(file) => file.metadata().await.map(|m| (file, m.len())),
        Err(e) => Err(e),
    };
    let (file, length) = match measured {
        Ok(measured) => measured,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(none()),
        Err(e) => {
            crate::log::error(&format!("reading {}: {e}", path.display()));
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "failed",
                "the file cannot be read",
                "see the log of cordond",
            ));
        }
    };
    let headers = [
        (header::CONTENT_TYPE, media_type(name).to_owned()),
        // A browser that is shown it by somebody must not run it.
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}-{name}\"", row.id)),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, 64 << 10))).into_response())
}
