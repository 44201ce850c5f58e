//! `cordon token create`: the secret is made here and shown here. It goes nowhere else, cordond gets its digest.

use std::time::Duration;

use api::{ErrorCode, Failure, Payload, Request, Role, Time};
use serde_json::json;

use crate::args::{self, Arguments};
use crate::human::clean;
use crate::local::Places;
use crate::{Outcome, client};

pub(crate) fn create(
    arguments: &Arguments,
    places: &Places,
    now: Time,
    name: &str,
    role: Role,
    lasts: Option<Duration>,
) -> Result<Outcome, Failure> {
    let secret = api::token::secret().map_err(|e| {
        Failure::new(ErrorCode::Failed, format!("reading /dev/urandom: {e}"), "the machine lacks resources")
    })?;
    let request = Request::TokenCreate {
        name: name.to_owned(),
        role,
        digest: api::token::digest(&secret),
        until: lasts.map(|d| now.plus_ms(args::milliseconds(d))),
    };
    let Payload::Tokens(rows) = client::ask(&places.socket, arguments.timeout, &request)? else {
        return Err(Failure::new(
            ErrorCode::Unreachable,
            "cordond gave an answer that does not fit the question",
            "cordon and cordond may be of different versions: compare cordon --version with cordon status",
        ));
    };
    if arguments.json {
        return Ok(Outcome::done(json!({ "secret": secret, "token": rows.first() })));
    }
    let until = rows.first().and_then(|r| r.until).map(|t| format!(", until {t}")).unwrap_or_default();
    Ok(Outcome::done(format!(
        "Token {} with the role {role}{until}; shown this once:\n\n  {secret}\n",
        clean(name)
    )))
}
