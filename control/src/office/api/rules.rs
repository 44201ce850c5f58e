//! Rules, their breakers, and whom they leave alone.

use ::api::{BreakerRow, ExemptionRow, LockRow, Payload, Request, RuleRow, Target, Time};
use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::{Body, Nothing, Query, Segment};
use super::problem::Problem;
use crate::access::Caller;

/// All rules.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rules {
    /// The rules.
    rules: Vec<RuleRow>,
}

/// Latched rules.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Breakers {
    /// The rules.
    breakers: Vec<BreakerRow>,
}

/// Whom rules leave alone.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Exemptions {
    /// The exemptions.
    exemptions: Vec<ExemptionRow>,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// A sentence for people.
    done: String,
}

fn done(payload: Payload) -> Result<Json<Done>, Problem> {
    match payload {
        Payload::Done(done) => Ok(Json(Done { done })),
        _ => Err(Problem::odd()),
    }
}

/// All rules, and what they may do
#[utoipa::path(get, path = "/rules", tag = "rules", responses((status = 200, body = Rules)))]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Rules>, Problem> {
    match api.ask(caller, Request::Rules).await? {
        Payload::Rules(rules) => Ok(Json(Rules { rules })),
        _ => Err(Problem::odd()),
    }
}

/// What a rule may do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleMode {
    /// True: it only observes. False: it does what the configuration allows.
    observing: bool,
}

/// Takes a rule's hands off, or not
#[utoipa::path(put, path = "/rules/{rule}", tag = "rules", params(("rule" = String, Path, description = "Such as syn-out")),
    request_body = RuleMode, responses((status = 200, body = Done)))]
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(rule): Segment<String>,
    Query(Nothing {}): Query<Nothing>,
    Body(mode): Body<RuleMode>,
) -> Result<Json<Done>, Problem> {
    done(api.ask(caller, Request::Rule { rule, observe: mode.observing }).await?)
}

/// Rules that locked too many, and what waits for an approval
#[utoipa::path(get, path = "/breakers", tag = "rules", responses((status = 200, body = Breakers)))]
pub(super) async fn breakers(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Breakers>, Problem> {
    match api.ask(caller, Request::BreakerStatus).await? {
        Payload::Breaker(breakers) => Ok(Json(Breakers { breakers })),
        _ => Err(Problem::odd()),
    }
}

/// Which of those that wait.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Approval {
    /// At least one of those that wait.
    #[schema(min_items = 1)]
    targets: Vec<Target>,
}

/// Locks that were approved of.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Approved {
    /// The rows.
    locks: Vec<LockRow>,
}

/// Locks what a latched rule would have locked; the rule stays latched
#[utoipa::path(post, path = "/breakers/{rule}/approve", tag = "rules",
    params(("rule" = String, Path, description = "Such as syn-out")),
    request_body = Approval, responses((status = 200, body = Approved)))]
pub(super) async fn approve(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(rule): Segment<String>,
    Query(Nothing {}): Query<Nothing>,
    Body(a): Body<Approval>,
) -> Result<Json<Approved>, Problem> {
    // For the command none means all; a program that has computed an empty list does not mean that.
    if a.targets.is_empty() {
        return Err(Problem::bad("targets is empty", "name those that are to be locked"));
    }
    match api.ask(caller, Request::BreakerApprove { rule, targets: a.targets }).await? {
        Payload::Locks(locks) => Ok(Json(Approved { locks })),
        _ => Err(Problem::odd()),
    }
}

/// Lets a latched rule lock again
#[utoipa::path(post, path = "/breakers/{rule}/reset", tag = "rules",
    params(("rule" = String, Path, description = "Such as syn-out")), responses((status = 200, body = Done)))]
pub(super) async fn reset(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Segment(rule): Segment<String>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Done>, Problem> {
    done(api.ask(caller, Request::BreakerReset { rule }).await?)
}

/// Whom rules leave alone
#[utoipa::path(get, path = "/exemptions", tag = "rules", responses((status = 200, body = Exemptions)))]
pub(super) async fn exemptions(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Exemptions>, Problem> {
    match api.ask(caller, Request::Exemptions).await? {
        Payload::Exemptions(exemptions) => Ok(Json(Exemptions { exemptions })),
        _ => Err(Problem::odd()),
    }
}

/// A rule that is to leave a target alone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewExemption {
    /// Address or prefix.
    target: Target,
    /// The rule, such as `syn-out`.
    rule: String,
    /// Until when.
    until: Time,
}

/// Lets a rule leave a target alone for a while
#[utoipa::path(post, path = "/exemptions", tag = "rules", request_body = NewExemption,
    responses((status = 200, body = Done)))]
pub(super) async fn exempt(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(Nothing {}): Query<Nothing>,
    Body(e): Body<NewExemption>,
) -> Result<Json<Done>, Problem> {
    let request = Request::Exempt { target: e.target, rule: e.rule, until: e.until };
    done(api.ask(caller, request).await?)
}
