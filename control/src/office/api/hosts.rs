//! How everything is, and one server.

use ::api::{HostReport, Payload, Request, StatusReport, Target};
use axum::extract::State;
use axum::{Extension, Json};

use super::Api;
use super::body::{Nothing, Query, Segment};
use super::problem::Problem;
use crate::access::Caller;

/// How everything is
#[utoipa::path(get, path = "/status", tag = "status", responses((status = 200, body = StatusReport)))]
pub(super) async fn status(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<StatusReport>, Problem> {
    match api.ask(caller, Request::Status).await? {
        Payload::Status(s) => Ok(Json(*s)),
        _ => Err(Problem::odd()),
    }
}

/// Is it locked, and why: counters, locks and incidents of an address
///
/// `enforced` says which way packets are dropped at present, `locks` why. A prefix is written with `%2F`. Tokens for billing
/// see no incidents.
#[utoipa::path(get, path = "/hosts/{address}", tag = "hosts",
    params(("address" = Target, Path, description = "Address, prefix, or `server:ID`")),
    responses((status = 200, body = HostReport)))]
pub(super) async fn host(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(target): Segment<Target>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<HostReport>, Problem> {
    match api.ask(caller, Request::Show { target }).await? {
        Payload::Host(h) => Ok(Json(*h)),
        _ => Err(Problem::odd()),
    }
}
