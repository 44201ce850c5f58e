//! `cordon`: the operator's command. It asks cordond over the control socket and shows the answer; `check`,
//! `completions` and `bypass --direct` need no cordond.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use api::{ErrorCode, Failure, Request, Time};
use clap::{CommandFactory, Parser};
use serde_json::{Value, json};

mod args;
mod client;
mod details;
mod evidence;
mod human;
mod lists;
mod local;
mod render;
mod status;
mod table;
mod token;

use args::{Arguments, Breaker, Command, Mode, Outbox, Rtbh, Switch, Token};
use human::Style;
use local::Places;

/// What the command has to say.
pub(crate) struct Outcome {
    /// To standard output.
    pub(crate) text: String,
    /// To standard error.
    pub(crate) note: Option<String>,
    /// Exit code.
    pub(crate) code: u8,
}

impl Outcome {
    /// JSON values get the end of line that they lack.
    pub(crate) fn done(text: impl Into<Value>) -> Outcome {
        let text = match text.into() {
            Value::String(s) => s,
            v => format!("{v}\n"),
        };
        Outcome { text, note: None, code: 0 }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = run(&arguments).unwrap_or_else(|f| {
        let note = if arguments.json {
            json!({ "error": f }).to_string()
        } else {
            let style = Style::for_stream(std::io::stderr().is_terminal());
            format!("{} {}\n  {}", style.red("cordon:"), human::clean(&f.message), human::clean(&f.hint))
        };
        Outcome { text: String::new(), note: Some(note), code: f.code.exit_code() }
    });
    if let Some(note) = &outcome.note {
        // Nobody can be told that this failed.
        let _ = writeln!(std::io::stderr(), "{note}");
    }
    let mut out = std::io::stdout().lock();
    match out.write_all(outcome.text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(outcome.code),
        // `cordon list | head` has seen enough.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => ExitCode::from(outcome.code),
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "cordon: standard output: {e}\n  is the disk full?");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::Check { file } => return Ok(local::check(arguments, file.as_deref())),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "cordon", &mut text);
            return Ok(Outcome::done(String::from_utf8_lossy(&text).into_owned()));
        }
        _ => {}
    }
    let places = Places::find(arguments)?;
    let now = Time::now();
    let (payload, request) = match &arguments.command {
        Command::Bypass { state, direct: true } => {
            let on = *state == Switch::On;
            (api::Payload::Done(local::bypass(&places.run_dir, on)?), None)
        }
        Command::Token { what: Token::Create { name, role, r#for } } => {
            return token::create(arguments, &places, now, name, *role, *r#for);
        }
        command => {
            let request = request(command, now)?;
            (client::ask(&places.socket, arguments.timeout, &request)?, Some(request))
        }
    };
    let data = if arguments.json {
        // The payload alone: `cordon list --json` is a list.
        serde_json::to_value(&payload).ok().and_then(|mut v| v.get_mut("data").map(Value::take))
    } else {
        None
    };
    let mut outcome = match data {
        Some(Value::String(done)) => Outcome::done(json!({ "done": done })),
        Some(data) => Outcome::done(data),
        None => {
            let style = Style::for_stream(std::io::stdout().is_terminal());
            let invocation = invocation(arguments);
            let undo = undo(&arguments.command);
            let state = places.state.as_deref();
            let page = render::Page { style, now, invocation: &invocation, state };
            Outcome::done(page.show(request.as_ref(), payload, undo.as_deref()))
        }
    };
    outcome.note = places.warning.map(|w| format!("cordon: {w}"));
    Ok(outcome)
}

/// The request that a command makes.
fn request(command: &Command, now: Time) -> Result<Request, Failure> {
    let later = |d| now.plus_ms(args::milliseconds(d));
    Ok(match command {
        Command::Status => Request::Status,
        Command::Top { by, direction, limit } => {
            Request::Top { by: (*by).into(), direction: *direction, limit: *limit }
        }
        Command::List => Request::List,
        Command::Show { target } => Request::Show { target: target.clone() },
        Command::Evidence { target, since, until, claimed } => {
            Request::Evidence { target: target.clone(), since: *since, until: *until, claimed: *claimed }
        }
        Command::Lock { target, reason, note, case, direction, r#for, until, except, force } => {
            if until.is_some_and(|t| t <= now) {
                let message = format!("--until {} is over", until.unwrap_or(now));
                return Err(Failure::new(
                    ErrorCode::BadRequest,
                    message,
                    "name a time to come, in UTC, or use --for",
                ));
            }
            Request::Lock {
                target: target.clone(),
                reason: *reason,
                direction: *direction,
                note: note.clone(),
                case: case.clone(),
                until: r#for.map(later).or(*until),
                except: except.clone(),
                force: *force,
                external_ref: None,
            }
        }
        Command::Unlock { target: Some(target), reason, all, r#for, .. } => {
            Request::Unlock { target: target.clone(), reason: *reason, all: *all, until: r#for.map(later) }
        }
        Command::Resume { target } => Request::Resume { target: target.clone() },
        Command::Unlock { rule: Some(rule), since: Some(since), dry_run, .. } => {
            Request::UnlockRule { rule: rule.clone(), since: *since, dry_run: *dry_run }
        }
        Command::Incidents { open, limit } => Request::Incidents { open: *open, limit: *limit },
        Command::Incident { id } => Request::Incident { id: id.clone() },
        Command::Outbox { what } => match what {
            None => Request::Outbox { all: false, limit: 200 },
            Some(Outbox::List { all, limit }) => Request::Outbox { all: *all, limit: *limit },
            Some(Outbox::Retry { id }) => Request::OutboxRetry { id: id.clone() },
            Some(Outbox::Drop { id }) => Request::OutboxDrop { id: id.clone() },
        },
        Command::Rtbh { what } => match what {
            None | Some(Rtbh::List) => Request::RtbhList,
            Some(Rtbh::Announce { address, r#for, note }) => {
                Request::RtbhAnnounce { address: *address, until: r#for.map(later), note: note.clone() }
            }
            Some(Rtbh::Withdraw { address }) => Request::RtbhWithdraw { address: *address },
        },
        Command::Token { what: Token::Revoke { name } } => Request::TokenRevoke { name: name.clone() },
        Command::Token { .. } => Request::Tokens,
        Command::Breaker { what: Breaker::Status } => Request::BreakerStatus,
        Command::Breaker { what: Breaker::Approve { rule, targets } } => {
            Request::BreakerApprove { rule: rule.clone(), targets: targets.clone() }
        }
        Command::Breaker { what: Breaker::Reset { rule } } => Request::BreakerReset { rule: rule.clone() },
        Command::Exempt { target, rule, r#for } => {
            Request::Exempt { target: target.clone(), rule: rule.clone(), until: later(*r#for) }
        }
        Command::Rule { rule, mode } => Request::Rule { rule: rule.clone(), observe: *mode == Mode::Observe },
        Command::Reload => Request::Reload,
        Command::Bypass { state, .. } => Request::Bypass { on: *state == Switch::On },
        // clap's groups leave nothing else; `run` has taken those that need no cordond.
        Command::Unlock { .. } | Command::Check { .. } | Command::Completions { .. } => {
            let message = "unlock needs a target, or --rule and --since".to_owned();
            return Err(Failure::new(ErrorCode::BadRequest, message, "see `cordon unlock --help`"));
        }
    })
}

/// The command that takes a command back, without the program's name.
fn undo(command: &Command) -> Option<String> {
    match command {
        Command::Lock { target, reason, .. } => Some(format!("unlock {target} --reason {reason}")),
        Command::Unlock { target: Some(target), r#for: Some(_), .. } => Some(format!("resume {target}")),
        Command::Rtbh { what: Some(Rtbh::Announce { address, .. }) } => {
            Some(format!("rtbh withdraw {address}"))
        }
        Command::Rule { rule, mode: Mode::Observe } => Some(format!("rule {rule} enforce")),
        Command::Rule { rule, mode: Mode::Enforce } => Some(format!("rule {rule} observe")),
        Command::Bypass { state: Switch::On, direct: true } => Some("bypass off --direct".to_owned()),
        Command::Bypass { state: Switch::On, direct: false } => Some("bypass off".to_owned()),
        Command::Bypass { state: Switch::Off, direct: true } => Some("bypass on --direct".to_owned()),
        Command::Bypass { state: Switch::Off, direct: false } => Some("bypass on".to_owned()),
        _ => None,
    }
}

/// How this command was called, for commands that a person copies.
fn invocation(arguments: &Arguments) -> String {
    let mut words = "cordon".to_owned();
    if let Some(p) = &arguments.config {
        words += &format!(" --config {}", human::quoted(&p.display().to_string()));
    }
    if let Some(p) = &arguments.socket {
        words += &format!(" --socket {}", human::quoted(&p.display().to_string()));
    }
    words
}
