//! The operator's command, as a program calls it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Finished, bin, run};

const ANSWER: Duration = Duration::from_secs(40);
/// What cordond may take on a busy machine.
const PATIENCE: &str = "30s";

/// `cordon` on one control socket.
pub(crate) struct Cli {
    socket: PathBuf,
}

/// What it says when it does not do it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Exit code, as `cordon --help` lists them.
    pub(crate) code: i32,
    /// Standard error.
    pub(crate) message: String,
}

impl Cli {
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Cli {
        Cli { socket: socket.into() }
    }

    /// Runs it as a person does.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.call(&[], arguments)
    }

    /// Runs it as a program does; the answer is JSON, or nothing.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value, Refused> {
        let done = self.call(&["--json"], arguments);
        if !done.status.success() {
            return Err(Refused { code: done.status.code().unwrap_or(-1), message: done.stderr });
        }
        if done.stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&done.stdout)
            .unwrap_or_else(|e| panic!("cordon {arguments:?}: {e}: {}", done.stdout)))
    }

    fn call(&self, options: &[&str], arguments: &[&str]) -> Finished {
        let mut command = Command::new(bin("cordon"));
        command.arg("--socket").arg(&self.socket).args(["--timeout", PATIENCE]).args(options).args(arguments);
        run(&command, ANSWER)
    }
}
