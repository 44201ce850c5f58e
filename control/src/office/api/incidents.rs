//! What was found.

use ::api::{IncidentRow, Payload, Request, Target};
use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Nothing, Query, Segment};
use super::locks::page;
use super::problem::Problem;
use crate::access::Caller;

/// Which incidents.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct IncidentFilter {
    /// Only open ones.
    open: Option<bool>,
    /// Only those about this address, or about one of this prefix.
    target: Option<Target>,
    /// `next` of the page before.
    before: Option<String>,
    /// Rows of a page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// A page of the incidents, latest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IncidentPage {
    /// Its rows.
    incidents: Vec<IncidentRow>,
    /// Pass it as `before` for the next page; none: this is the last one.
    next: Option<String>,
}

/// Incidents: those that are open, and the latest closed ones
#[utoipa::path(get, path = "/incidents", tag = "incidents", params(IncidentFilter),
    responses((status = 200, body = IncidentPage)))]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(f): Query<IncidentFilter>,
) -> Result<Json<IncidentPage>, Problem> {
    let limit = page(f.limit)?;
    let IncidentFilter { open, target, before, .. } = f;
    let request = Request::IncidentPage { open: open.unwrap_or(false), target, before, limit: limit + 1 };
    let Payload::Incidents(mut incidents) = api.ask(caller, request).await? else {
        return Err(Problem::odd());
    };
    let more = incidents.len() > limit;
    incidents.truncate(limit);
    let next = incidents.last().map(|r| r.id.clone()).filter(|_| more);
    Ok(Json(IncidentPage { incidents, next }))
}

/// One incident in full
#[utoipa::path(get, path = "/incidents/{id}", tag = "incidents",
    params(("id" = String, Path, description = "Such as C-2026-000123")),
    responses((status = 200, body = IncidentRow)))]
pub(super) async fn one(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<String>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<IncidentRow>, Problem> {
    match api.ask(caller, Request::Incident { id }).await? {
        Payload::Incident(row) => Ok(Json(*row)),
        _ => Err(Problem::odd()),
    }
}
