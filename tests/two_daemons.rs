//! Both daemons as systemd starts them: in any order, and as different users that share a group.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::dataplane::{Appliance, SOON};
use common::{Cli, Daemon, bin, eventually, run, skip};
use nix::sys::signal::Signal;

/// Like SOON, and longer than any wait of the dataplane's own.
const STARTED: Duration = Duration::from_secs(60);

fn appliance() -> Appliance {
    let mut appliance = Appliance::new("net_null0", "net_null1");
    // Longer than cordond takes to start: what the dataplane says tells whether it waited in vain.
    appliance.start_wait = "60s";
    appliance
}

fn config(appliance: &Appliance) -> String {
    appliance.config() + "[control]\nmetrics = \"off\"\n"
}

/// A command as the user and group of a unit, with its capabilities.
fn as_user(uid: u32, gid: u32, capabilities: &str, program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &uid.to_string(),
        "--regid",
        &gid.to_string(),
        "--clear-groups",
        "--no-new-privs",
    ]);
    command.args(["--inh-caps=-all", &format!("--bounding-set={capabilities}"), "--", "sh", "-c"]);
    command.arg("umask 0027; exec \"$0\" \"$@\"").arg(program).args(arguments);
    command
}

fn enforces(cli: &Cli) {
    eventually("locks are enforced", STARTED, || {
        let status = cli.json(&["status"]).ok()?;
        (status["enforcing"] == true && status["dataplane"] == "forwarding").then_some(())
    });
}

#[test]
fn a_dataplane_that_waits_for_cordond_gets_its_policy() {
    let appliance = appliance();
    let path = appliance.write_config(&config(&appliance)).to_string_lossy().into_owned();
    let mut command = Command::new(bin("cordon-dataplane"));
    command.args(["--config", &path]);
    let dataplane = Daemon::spawn("cordon-dataplane", &command);
    dataplane.wait_for_line("waiting for cordond", SOON);
    let mut command = Command::new(bin("cordond"));
    command.args(["run", "--config", &path]);
    let cordond = Daemon::spawn("cordond", &command);
    dataplane.wait_for_line("policy attached", STARTED);
    dataplane.wait_for_line("forwarding: ", SOON);
    assert!(!dataplane.log().contains("WITHOUT ENFORCING"), "{}", dataplane.log());
    enforces(&Cli::new(appliance.path("run/cordon.sock")));
    assert!(cordond.term(SOON).success() && dataplane.term(SOON).success());
}

#[test]
fn daemons_of_different_users_share_their_files_through_the_group() {
    const USER: u32 = 65_534;
    const GROUP: u32 = 60;
    const MEMBER: u32 = 2;
    let reachable = bin("cordond");
    let reaches = || {
        let probe = as_user(USER, GROUP, "-all", &reachable, &["--version"]);
        run(&probe, SOON).status.success()
    };
    if !nix::unistd::geteuid().is_root() || !reaches() {
        skip!("needs root, and programs that other users may run");
    }
    let appliance = appliance();
    let config = appliance.write_config(&config(&appliance));
    // As cordon.tmpfiles.conf and the units make them.
    for (name, uid, mode) in [("run", 0, 0o2771), ("tables", 0, 0o2770), ("state", USER, 0o750)] {
        let dir = appliance.path(name);
        std::fs::create_dir(&dir).unwrap();
        chown(&dir, Some(uid), Some(GROUP)).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
    }
    let folder = config.parent().unwrap();
    chown(folder, None, Some(GROUP)).unwrap();
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o751)).unwrap();
    chown(&config, None, Some(GROUP)).unwrap();
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o640)).unwrap();

    let path = config.to_string_lossy().into_owned();
    let caps = "-all,+net_admin,+net_raw,+ipc_lock,+sys_nice";
    let mut command = as_user(0, GROUP, caps, &bin("cordon-dataplane"), &["--config", &path]);
    command.env("RUNTIME_DIRECTORY", appliance.path("run"));
    let dataplane = Daemon::spawn("cordon-dataplane", &command);
    dataplane.wait_for_line("waiting for cordond", SOON);
    let command = as_user(USER, GROUP, "-all", &bin("cordond"), &["run", "--config", &path]);
    let cordond = Daemon::spawn("cordond", &command);
    let socket = appliance.path("run/cordon.sock");
    let cli = Cli::new(&socket);
    enforces(&cli);

    // A member of the group may ask, and use the switch that works without cordond; others may not.
    let ask = |gid: &str, words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &MEMBER.to_string(), "--regid", &MEMBER.to_string(), "--groups", gid, "--"]);
        command.arg(bin("cordon")).arg("--socket").arg(&socket).args(words);
        run(&command, SOON).status.code()
    };
    let (group, other) = (GROUP.to_string(), MEMBER.to_string());
    assert_eq!(ask(&group, &["lock", "10.77.0.9", "--reason", "abuse"]), Some(0));
    assert_eq!(ask(&other, &["list"]), Some(5));
    assert_eq!(ask(&other, &["bypass", "on", "--direct"]), Some(5));
    assert_eq!(ask(&group, &["bypass", "on", "--direct"]), Some(0));
    dataplane.wait_for_line("bypass (direct) on", SOON);
    assert_eq!(ask(&group, &["bypass", "off", "--direct"]), Some(0));
    dataplane.wait_for_line("bypass (direct) off", SOON);

    // Either comes back to what the other has.
    cordond.signal(Signal::SIGKILL);
    cordond.wait_exit(SOON);
    let command = as_user(USER, GROUP, "-all", &bin("cordond"), &["run", "--config", &path]);
    let cordond = Daemon::spawn("cordond", &command);
    cordond.wait_for_line("attached to the dataplane", STARTED);
    assert!(dataplane.term(SOON).success());
    let mut command = as_user(0, GROUP, caps, &bin("cordon-dataplane"), &["--config", &path]);
    command.env("RUNTIME_DIRECTORY", appliance.path("run"));
    let dataplane = Daemon::spawn("cordon-dataplane", &command);
    dataplane.wait_for_line("policy attached", STARTED);
    enforces(&cli);
    assert_eq!(cli.json(&["list"]).unwrap()[0]["target"], "10.77.0.9");
    assert!(cordond.term(SOON).success() && dataplane.term(SOON).success());
}
