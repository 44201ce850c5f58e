//! What needs no cordond: finding its socket, checking a file, the bypass switch.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use api::{ErrorCode, Failure};
use config::{Config, ConfigErrors, IpNet};
use serde_json::json;

use crate::Outcome;
use crate::args::Arguments;
use crate::human::count;

const DEFAULT_DIR: &str = "/run/cordon";
/// Environment variable that names the control socket, for a shell that talks to one cordond, such as the demo's.
const SOCKET_VARIABLE: &str = "CORDON_SOCKET";

/// Where things are.
pub(crate) struct Places {
    pub(crate) socket: PathBuf,
    /// `[run] dir`
    pub(crate) run_dir: PathBuf,
    /// `[run] state`, where a configuration says it.
    pub(crate) state: Option<PathBuf>,
    /// Something that the operator should know.
    pub(crate) warning: Option<String>,
}

impl Places {
    /// From --socket, --config, the environment, or the usual file, the first of them that is there. Only a file that was
    /// named has to be good: a broken one in the usual place must not take the operator's command away.
    pub(crate) fn find(arguments: &Arguments) -> Result<Places, Failure> {
        let variable = || std::env::var_os(SOCKET_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let named = arguments.socket.clone().or_else(variable);
        if let (Some(socket), None) = (named, &arguments.config) {
            let run_dir = socket.parent().filter(|p| !p.as_os_str().is_empty());
            let run_dir = run_dir.unwrap_or(Path::new(".")).to_owned();
            return Ok(Places { socket, run_dir, state: None, warning: None });
        }
        let (config, warning) = match &arguments.config {
            Some(path) => (Some(Config::load(path).map_err(|e| wrong_file(&e))?), None),
            None => match std::fs::read_to_string(config::DEFAULT_PATH) {
                Ok(text) => match Config::parse(&text, config::DEFAULT_PATH) {
                    Ok(c) => (Some(c), None),
                    Err(_) => {
                        let warning = format!(
                            "{} has mistakes (see `cordon check`): {DEFAULT_DIR} is used",
                            config::DEFAULT_PATH
                        );
                        (None, Some(warning))
                    }
                },
                Err(_) => (None, None),
            },
        };
        let mut places = match config {
            Some(c) => {
                Places { socket: c.control.socket, run_dir: c.run.dir, state: Some(c.run.state), warning }
            }
            None => {
                let run_dir = PathBuf::from(DEFAULT_DIR);
                Places { socket: run_dir.join("cordon.sock"), run_dir, state: None, warning }
            }
        };
        if let Some(socket) = &arguments.socket {
            places.socket = socket.clone();
        }
        Ok(places)
    }
}

fn wrong_file(e: &ConfigErrors) -> Failure {
    Failure::new(ErrorCode::BadRequest, e.to_string(), "correct the file, or name the socket with --socket")
}

/// `cordon check`
pub(crate) fn check(arguments: &Arguments, file: Option<&Path>) -> Outcome {
    let path = file.or(arguments.config.as_deref()).unwrap_or(Path::new(config::DEFAULT_PATH));
    let found = Config::load(path)
        .and_then(|c| c.validate_for_run().map(|()| c))
        .and_then(|c| c.load_inventory().map(|i| (c, i)));
    let wrong = found.as_ref().map(|(c, _)| wrong_templates(c)).unwrap_or_default();
    if !wrong.is_empty() {
        return Outcome { code: 1, ..templates_outcome(arguments, path, &wrong) };
    }
    match found {
        Ok((c, inventory)) if arguments.json => Outcome::done(json!({
            "file": path,
            "ok": true,
            "wires": c.wires.len(),
            "networks": c.networks.len(),
            "inventory": inventory.map(|i| json!({
                "file": i.source(),
                "servers": i.servers().len(),
                "complete": i.is_complete,
                "notices": i.notices(),
            })),
        })),
        Ok((c, inventory)) => {
            let ipv4: u64 = c.networks.iter().map(|n| size(&n.prefix)).sum();
            let mut text = format!(
                "{} is good: {}, {} with {} IPv4 addresses, {} of limits.\n",
                path.display(),
                plural(c.wires.len(), "wire"),
                plural(c.networks.len(), "network"),
                count(ipv4),
                plural(c.groups.len() + 1, "group"),
            );
            if let Some(i) = inventory {
                let scope =
                    if i.is_complete { "every server and address is listed" } else { "others may exist" };
                text +=
                    &format!("{} is good: {}; {scope}.\n", i.source(), plural(i.servers().len(), "server"));
                for notice in i.notices() {
                    text += &format!("  Note: {notice}.\n");
                }
            }
            text += "`cordon reload` puts it in force; [dataplane], [tables] and [[wire]] need a restart of cordon-dataplane.\n";
            Outcome::done(text)
        }
        Err(e) if arguments.json => {
            let problems: Vec<_> = e
                .placed()
                .map(|(at, p)| {
                    let (line, column) = at.unzip();
                    json!({"line": line, "column": column, "message": p.message, "advice": p.advice})
                })
                .collect();
            Outcome {
                code: 1,
                ..Outcome::done(
                    json!({"file": e.source(), "ok": false, "count": e.count(), "problems": problems}),
                )
            }
        }
        Err(e) => Outcome {
            code: 1,
            text: String::new(),
            note: Some(format!("{e}\n{}", plural(e.count(), "mistake"))),
        },
    }
}

/// What is wrong with the templates that a configuration names.
fn wrong_templates(config: &Config) -> Vec<letters::Problem> {
    let dir = config.mail.as_ref().and_then(|m| m.templates.as_deref());
    dir.and_then(|d| letters::Templates::load(d).err()).unwrap_or_default()
}

fn templates_outcome(arguments: &Arguments, path: &Path, wrong: &[letters::Problem]) -> Outcome {
    if arguments.json {
        let problems: Vec<_> = wrong
            .iter()
            .map(|p| json!({"file": p.file, "line": p.line, "message": p.message, "advice": "correct the template, or remove it: the one that is built in is used then"}))
            .collect();
        return Outcome::done(json!({"file": path, "ok": false, "problems": problems}));
    }
    let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let note = format!(
        "{}\n      = correct the template, or remove it: the one that is built in is used then\n{}",
        lines.join("\n"),
        plural(wrong.len(), "mistake")
    );
    Outcome { text: String::new(), note: Some(note), code: 1 }
}

fn size(prefix: &IpNet) -> u64 {
    match prefix {
        IpNet::V4(p) => 1 << (32 - u32::from(p.prefix_len())),
        IpNet::V6(_) => 0,
    }
}

fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `cordon bypass --direct`. Says what it did.
pub(crate) fn bypass(run_dir: &Path, on: bool) -> Result<String, Failure> {
    let file = run_dir.join(config::BYPASS_FILE);
    let shown = file.display();
    let failed = |call: &str, e: &std::io::Error| {
        let (code, hint) = match e.kind() {
            ErrorKind::PermissionDenied => {
                (ErrorCode::Permission, "run as root, or as a member of the directory's group")
            }
            ErrorKind::NotFound => (
                ErrorCode::NotFound,
                "no dataplane of this configuration runs here: name the right one with --config",
            ),
            _ => (
                ErrorCode::Failed,
                "see the cause; stopping cordon-dataplane takes the wire down, a bypass NIC does not",
            ),
        };
        Failure::new(code, format!("{call} {shown}: {e}"), hint)
    };
    if on {
        match OpenOptions::new().write(true).create_new(true).open(&file) {
            Ok(_) => Ok(format!(
                "{shown} is there now: a running cordon-dataplane forwards everything and enforces no lock within a second."
            )),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(format!(
                "{shown} was there already: cordon-dataplane forwards everything and enforces no lock."
            )),
            Err(e) => Err(failed("create", &e)),
        }
    } else {
        match std::fs::remove_file(&file) {
            Ok(()) => Ok(format!(
                "{shown} is gone: a running cordon-dataplane enforces its locks again within a second, \
                 unless `cordon bypass on` was said as well."
            )),
            Err(e) if e.kind() == ErrorKind::NotFound && run_dir.is_dir() => Ok(format!(
                "{shown} was not there: the direct bypass is off. `cordon bypass off` ends the other one."
            )),
            Err(e) => Err(failed("remove", &e)),
        }
    }
}
