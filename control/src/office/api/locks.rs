//! The lock list.

use ::api::{Direction, LockRow, Payload, Reason, Request, Target, Time};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::{Body, Nothing, Query, Segment};
use super::problem::Problem;
use super::{Api, BASE};
use crate::access::Caller;

/// Rows of a page, and most rows.
pub(super) const PAGE: u16 = 100;
pub(super) const PAGE_MAX: u16 = 1_000;
/// Longest note and case number, in characters.
const NOTE_MAX: usize = 2_000;
const CASE_MAX: usize = 100;
/// Most exceptions of one lock.
const EXCEPT_MAX: usize = 16;

/// How many rows a page has.
pub(super) fn page(limit: Option<u16>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(PAGE);
    if limit == 0 || limit > PAGE_MAX {
        return Err(Problem::bad(
            format!("limit = {limit} is out of range"),
            format!("choose a number from 1 to {PAGE_MAX}"),
        ));
    }
    Ok(limit.into())
}

/// Which locks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LockFilter {
    /// Only locks for this reason.
    reason: Option<Reason>,
    /// Only locks that meet this address or prefix, or are on this server.
    target: Option<Target>,
    /// Only locks on servers of this customer, as the inventory has it.
    customer: Option<String>,
    /// Only the lock that was asked for under this reference.
    external_ref: Option<String>,
    /// `next` of the page before.
    after: Option<u64>,
    /// Rows of a page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// A page of the lock list, in order of row numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LockPage {
    /// Its rows.
    locks: Vec<LockRow>,
    /// Pass it as `after` for the next page; none: this is the last one.
    next: Option<u64>,
}

/// Rows that were touched.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Locks {
    /// The rows.
    locks: Vec<LockRow>,
}

fn rows(payload: Payload) -> Result<Vec<LockRow>, Problem> {
    match payload {
        Payload::Locks(rows) => Ok(rows),
        Payload::Lock(row) => Ok(vec![*row]),
        _ => Err(Problem::odd()),
    }
}

/// The lock list
#[utoipa::path(get, path = "/locks", tag = "locks", params(LockFilter), responses((status = 200, body = LockPage)))]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(f): Query<LockFilter>,
) -> Result<Json<LockPage>, Problem> {
    let limit = page(f.limit)?;
    if f.after.is_some_and(|n| i64::try_from(n).is_err()) {
        return Err(Problem::bad("after is beyond every row number", "pass what `next` said"));
    }
    let LockFilter { reason, target, customer, external_ref, after, .. } = f;
    // One more than is shown tells whether there is another page.
    let request = Request::Locks {
        reason,
        target,
        customer,
        external_ref,
        after: after.unwrap_or(0),
        limit: limit + 1,
    };
    let mut locks = rows(api.ask(caller, request).await?)?;
    let more = locks.len() > limit;
    locks.truncate(limit);
    let next = locks.last().map(|r| r.id).filter(|_| more);
    Ok(Json(LockPage { locks, next }))
}

/// Reasons that people have; those of detectors are found, not given.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ByHand {
    /// Invoices are not paid.
    NonPayment,
    /// Phishing, malware, copyright.
    Abuse,
}

/// A lock to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLock {
    /// Address, prefix, or `server:ID`.
    target: Target,
    /// Why.
    reason: ByHand,
    /// Which way; `both` if it is left out.
    #[serde(default)]
    direction: Option<Direction>,
    /// Your case number.
    #[serde(default)]
    #[schema(max_length = 100)]
    case: Option<String>,
    /// A note for whoever reads it later.
    #[serde(default)]
    #[schema(max_length = 2000)]
    note: Option<String>,
    /// It ends by itself then.
    #[serde(default)]
    until: Option<Time>,
    /// Remote prefixes that may still reach the target.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 16)]
    except: Vec<IpNet>,
    /// Even if it is on the never-lock list.
    #[serde(default)]
    force: bool,
    /// Your name for this request, such as `whmcs:invoice-4711`. The same request under the same reference is done once.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    external_ref: Option<String>,
}

fn short(what: &str, text: Option<&String>, most: usize) -> Result<(), Problem> {
    match text.map(|t| t.chars().count()) {
        Some(n) if n > most => {
            Err(Problem::bad(format!("{what} has {n} characters, {most} are allowed"), "make it shorter"))
        }
        _ => Ok(()),
    }
}

/// Locks; on disk and in force when it is answered
///
/// 201 for a new lock; 200 with the same row when this request was made before under the same `external_ref`; 409 when the
/// reference was used for something else, or its lock was lifted meanwhile.
#[utoipa::path(post, path = "/locks", tag = "locks", request_body = NewLock, responses(
    (status = 201, body = LockRow, headers(("Location" = String, description = "The path of the lock"))),
    (status = 200, body = LockRow, description = "It was made before, under this reference"),
))]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(Nothing {}): Query<Nothing>,
    Body(new): Body<NewLock>,
) -> Result<Response, Problem> {
    short("note", new.note.as_ref(), NOTE_MAX)?;
    short("case", new.case.as_ref(), CASE_MAX)?;
    if new.except.len() > EXCEPT_MAX {
        return Err(Problem::bad(
            format!("except has {} prefixes, {EXCEPT_MAX} are allowed", new.except.len()),
            "use fewer or wider prefixes",
        ));
    }
    let request = Request::Lock {
        target: new.target,
        reason: match new.reason {
            ByHand::NonPayment => Reason::NonPayment,
            ByHand::Abuse => Reason::Abuse,
        },
        direction: new.direction.unwrap_or(Direction::Both),
        note: new.note,
        case: new.case,
        until: new.until,
        except: new.except,
        force: new.force,
        external_ref: new.external_ref,
    };
    match api.ask(caller, request).await? {
        Payload::Lock(row) => Ok(Json(row).into_response()),
        Payload::Locks(mut rows) => {
            let row = rows.pop().ok_or_else(Problem::odd)?;
            let place = format!("{BASE}/locks/{}", row.id);
            Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(row)).into_response())
        }
        _ => Err(Problem::odd()),
    }
}

/// Which locks to lift.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LiftFilter {
    /// Locks on just this target.
    target: Target,
    /// Locks for this reason.
    reason: Reason,
}

/// Lifts the locks on a target for a reason
#[utoipa::path(delete, path = "/locks", tag = "locks", params(LiftFilter), responses(
    (status = 200, body = Locks, description = "The rows that were lifted"),
))]
pub(super) async fn lift(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(f): Query<LiftFilter>,
) -> Result<Json<Locks>, Problem> {
    let request = Request::Unlock { target: f.target, reason: Some(f.reason), all: false, until: None };
    Ok(Json(Locks { locks: rows(api.ask(caller, request).await?)? }))
}

/// One lock
#[utoipa::path(get, path = "/locks/{id}", tag = "locks", params(("id" = u64, Path, description = "Number of the row")),
    responses((status = 200, body = LockRow)))]
pub(super) async fn one(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<u64>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<LockRow>, Problem> {
    let mut rows = rows(api.ask(caller, Request::LockById { id }).await?)?;
    rows.pop().map(Json).ok_or_else(Problem::odd)
}

/// Lifts one lock
#[utoipa::path(delete, path = "/locks/{id}", tag = "locks", params(("id" = u64, Path, description = "Number of the row")),
    responses((status = 200, body = LockRow, description = "The row that was lifted")))]
pub(super) async fn lift_one(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment<u64>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<LockRow>, Problem> {
    let mut rows = rows(api.ask(caller, Request::UnlockById { id }).await?)?;
    // Somebody else has lifted it between the question and the disk.
    let gone = || {
        Problem::not_found(format!("there is no lock {id}, or it was lifted"), "GET /api/v1/locks lists them")
    };
    rows.pop().map(Json).ok_or_else(gone)
}

/// Lets a customer in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Maintenance {
    /// Locks on just this target.
    target: Target,
    /// Locks for this reason; left out: those of detectors.
    #[serde(default)]
    reason: Option<Reason>,
    /// They are enforced again then, by themselves; at most 7 days from now.
    until: Time,
}

/// Suspends locks for a time, so that the server can be repaired
#[utoipa::path(post, path = "/maintenance", tag = "locks", request_body = Maintenance, responses(
    (status = 200, body = Locks, description = "All rows that cover the target; `suspended` says which are suspended"),
))]
pub(super) async fn suspend(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(Nothing {}): Query<Nothing>,
    Body(m): Body<Maintenance>,
) -> Result<Json<Locks>, Problem> {
    let request = Request::Unlock { target: m.target, reason: m.reason, all: false, until: Some(m.until) };
    Ok(Json(Locks { locks: rows(api.ask(caller, request).await?)? }))
}

/// Whose maintenance.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MaintenanceFilter {
    /// Locks on just this target.
    target: Target,
}

/// Ends a maintenance before its time
#[utoipa::path(delete, path = "/maintenance", tag = "locks", params(MaintenanceFilter), responses(
    (status = 200, body = Locks, description = "All rows that cover the target"),
))]
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(f): Query<MaintenanceFilter>,
) -> Result<Json<Locks>, Problem> {
    Ok(Json(Locks { locks: rows(api.ask(caller, Request::Resume { target: f.target }).await?)? }))
}
