//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::{Direction, Reason, Role, Target, Time, TopBy};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or cordond could not do it; check, reload: the file is wrong
  2  the command line is wrong
  3  cordond is not reachable, or its answer makes no sense
  4  there is no such lock, incident, rule or file
  5  not permitted

With cordond dead, packets are still forwarded and locks still enforced. To enforce nothing then:
  cordon bypass on --direct";

/// The operator's command: shows and changes what Cordon counts, warns and locks.
#[derive(Debug, Parser)]
#[command(name = "cordon", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The control socket [default: $CORDON_SOCKET, or as the configuration says]
    #[arg(long, global = true, help_heading = "Common options", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The configuration file [default: /etc/cordon/cordon.toml]
    #[arg(long, global = true, help_heading = "Common options", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// JSON for programs; errors as JSON on standard error
    #[arg(long, global = true, help_heading = "Common options")]
    pub(crate) json: bool,
    /// Longest wait for cordond
    #[arg(long, global = true, help_heading = "Common options", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How everything is; begins with what needs attention
    Status,
    /// The servers that move most at present
    Top {
        /// Order
        #[arg(long, value_enum, default_value_t)]
        by: Order,
        /// Direction; both adds them
        #[arg(long, default_value = "both", value_parser = direction())]
        direction: Direction,
        /// Most rows
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: usize,
    },
    /// The lock list
    List,
    /// Everything about an address, prefix, server or MAC address
    Show {
        /// Address, prefix, server:ID or MAC address
        target: Target,
    },
    /// Did an address really send what somebody claims? From Cordon's own counters
    Evidence {
        /// One address of a server of yours
        target: Target,
        /// From: a time, or a duration ago such as 2h [default: 24h]
        #[arg(long, value_name = "WHEN", value_parser = since)]
        since: Option<Time>,
        /// To: a time, or a duration ago [default: now]
        #[arg(long, value_name = "WHEN", value_parser = since)]
        until: Option<Time>,
        /// So many addresses or ports it is said to have scanned
        #[arg(long, value_name = "NUMBER")]
        claimed: Option<u64>,
    },
    /// Lock by hand: on disk and in force when the command returns
    #[command(group(ArgGroup::new("end").args(["for", "until"])))]
    Lock {
        /// Address, prefix, server:ID or MAC address
        target: Target,
        /// Why
        #[arg(long, value_parser = reason())]
        reason: Reason,
        /// A note; the customer reads it in the mail
        #[arg(long)]
        note: Option<String>,
        /// Your case number; the customer reads it too
        #[arg(long)]
        case: Option<String>,
        /// What is locked: what the server sends (out), what it is sent (in), or both
        #[arg(long, default_value = "both", value_parser = direction())]
        direction: Direction,
        /// Ends by itself after this time, such as 2h
        #[arg(long, value_name = "TIME", value_parser = duration)]
        r#for: Option<Duration>,
        /// Ends by itself at this time, such as 2026-11-24T18:00:00Z
        #[arg(long, value_name = "WHEN")]
        until: Option<Time>,
        /// A remote prefix that may still reach it (repeatable)
        #[arg(long, value_name = "PREFIX", value_parser = prefix)]
        except: Vec<IpNet>,
        /// Even if it is on the never-lock list
        #[arg(long)]
        force: bool,
    },
    /// Lift locks: of a target, or everything that a rule did since a time
    #[command(group(ArgGroup::new("what").args(["target", "rule"]).required(true)))]
    Unlock {
        /// Address, prefix, server:ID or MAC address
        target: Option<Target>,
        /// Only locks for this reason
        #[arg(long, value_parser = reason(), conflicts_with = "rule")]
        reason: Option<Reason>,
        /// Locks for whatever reason
        #[arg(long, conflicts_with_all = ["rule", "reason"])]
        all: bool,
        /// Take back what this rule did
        #[arg(long, requires = "since")]
        rule: Option<String>,
        /// Since when: a time, or a duration ago such as 2h
        #[arg(long, value_name = "WHEN", value_parser = since, requires = "rule")]
        since: Option<Time>,
        /// Only say what would be lifted
        #[arg(long, requires = "rule")]
        dry_run: bool,
        /// Only for this time, to repair the server, such as 30m: then it is locked again by itself
        #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "rule")]
        r#for: Option<Duration>,
    },
    /// End a maintenance unlock (unlock --for) before its time
    Resume {
        /// Address, prefix, server:ID or MAC address
        target: Target,
    },
    /// Incidents, latest first
    Incidents {
        /// Only open ones
        #[arg(long)]
        open: bool,
        /// Most rows
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: usize,
    },
    /// One incident in full
    Incident {
        /// Its id, such as C-2026-000123
        id: String,
    },
    /// What customers and the desk are told: what waits, what failed, what went out
    Outbox {
        #[command(subcommand)]
        what: Option<Outbox>,
    },
    /// Blackholes upstream: routers there drop what is sent to a locked address
    Rtbh {
        #[command(subcommand)]
        what: Option<Rtbh>,
    },
    /// The circuit breaker: rules that locked too many servers, and were stopped
    Breaker {
        #[command(subcommand)]
        what: Breaker,
    },
    /// Tokens of the HTTP API: who may use it, for what
    Token {
        #[command(subcommand)]
        what: Token,
    },
    /// A rule leaves a target alone for a while
    Exempt {
        /// Address or prefix
        target: Target,
        /// The rule, such as syn-out
        #[arg(long)]
        rule: String,
        /// For how long, such as 24h
        #[arg(long, value_name = "TIME", value_parser = duration)]
        r#for: Duration,
    },
    /// Let a rule only observe, or act again; no reload needed
    Rule {
        /// The rule, such as syn-out
        rule: String,
        /// What it may do
        mode: Mode,
    },
    /// Let cordond read the configuration again; no packet is lost
    Reload,
    /// Forward everything and enforce nothing, or end that
    Bypass {
        /// On or off
        state: Switch,
        /// Without cordond: a file in [run] dir, which the dataplane looks for
        #[arg(long)]
        direct: bool,
    },
    /// Validate a configuration file, with line and column of every mistake
    Check {
        /// The file [default: --config, or /etc/cordon/cordon.toml]
        file: Option<PathBuf>,
    },
    /// Completions for a shell, on standard output
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Breaker {
    /// Which rules are latched, and what waits
    Status,
    /// Lock what a latched rule would have locked; the rule stays latched
    Approve {
        /// The rule
        rule: String,
        /// Only these; all that wait if none is named
        targets: Vec<Target>,
    },
    /// Let a rule lock again
    Reset {
        /// The rule
        rule: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rtbh {
    /// What is announced, or was until lately
    List,
    /// Announce a locked address
    Announce {
        /// The address
        address: IpAddr,
        /// For how long, such as 1h; then withdrawn, to see whether the attack goes on
        #[arg(long, value_name = "TIME", value_parser = duration)]
        r#for: Option<Duration>,
        /// A note for whoever reads it later
        #[arg(long)]
        note: Option<String>,
    },
    /// Withdraw an announcement
    Withdraw {
        /// The address
        address: IpAddr,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print its secret, once: cordond keeps only a digest of it
    Create {
        /// Its name, such as that of the program that uses it: what stands in lock list and audit log
        name: String,
        /// What it may do
        #[arg(long, value_parser = role())]
        role: Role,
        /// Good for this time, such as 90d [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        r#for: Option<Duration>,
    },
    /// All tokens, also those that were revoked
    List,
    /// Make a token useless, at once
    Revoke {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Outbox {
    /// What waits or has failed, oldest first
    List {
        /// Also what was delivered, merged into a digest, or withdrawn
        #[arg(long)]
        all: bool,
        /// Most rows, the latest
        #[arg(long, short = 'n', default_value_t = 200)]
        limit: usize,
    },
    /// Try a row again, at once
    Retry {
        /// Its id
        id: String,
    },
    /// Withdraw a row: it will not be sent
    Drop {
        /// Its id
        id: String,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Order {
    #[default]
    Packets,
    Bits,
    Syn,
}

impl From<Order> for TopBy {
    fn from(o: Order) -> TopBy {
        match o {
            Order::Packets => TopBy::Packets,
            Order::Bits => TopBy::Bits,
            Order::Syn => TopBy::Syn,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// It records what it would have done
    Observe,
    /// It does what the configuration allows
    Enforce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Enforce nothing
    On,
    /// Enforce again
    Off,
}

fn direction() -> impl TypedValueParser<Value = Direction> {
    PossibleValuesParser::new(Direction::ALL.iter().map(|d| d.name())).try_map(|s| s.parse::<Direction>())
}

fn reason() -> impl TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.iter().map(|r| r.name())).try_map(|s| s.parse::<Reason>())
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.iter().map(|r| r.name())).try_map(|s| s.parse::<Role>())
}

fn duration(s: &str) -> Result<Duration, String> {
    match humantime::parse_duration(s) {
        Ok(d) if !d.is_zero() => Ok(d),
        Ok(_) => Err("it must be longer than nothing".to_owned()),
        Err(e) => Err(format!("{e}; write a number and a unit, like 30s, 10min, 2h or 7days")),
    }
}

fn since(s: &str) -> Result<Time, String> {
    if let Ok(t) = s.parse::<Time>() {
        return Ok(t);
    }
    let ago = humantime::parse_duration(s).map_err(|_| {
        format!("`{s}` is neither a time like 2026-11-24T12:00:00Z nor a duration ago like 2h")
    })?;
    Ok(Time::now().plus_ms(-milliseconds(ago)))
}

/// A remote prefix; an address is one of full length.
fn prefix(s: &str) -> Result<IpNet, String> {
    match s.parse::<Target>() {
        Ok(Target::Prefix(net)) => Ok(net),
        Ok(Target::Server(_) | Target::Mac(_)) => {
            Err("only an address or a prefix can be excepted".to_owned())
        }
        Err(e) => Err(e),
    }
}

/// A duration in milliseconds, the longest possible where it is longer.
pub(crate) fn milliseconds(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}
