//! What goes wrong is said, with what to do, and with an exit code for scripts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use api::{ErrorCode, Payload};
use common::{DEADLINE, Fake, Ran, command, connect_until_full, cordon, lock};

#[test]
fn without_cordond_the_operator_hears_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cordon.sock");
    cordon(&socket, &["status"]).is(
        3,
        &[],
        &["cordond does not run here", "systemctl start cordond", "--socket"],
    );
    drop(UnixListener::bind(&socket).unwrap());
    cordon(&socket, &["status"]).is(3, &[], &["nobody listens on", "journalctl", "bypass on --direct"]);
    let json = cordon(&socket, &["status", "--json"]).is(3, &[], &[]).err;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["error"]["code"], "unreachable");
    let long = Path::new("/tmp").join("x".repeat(120));
    cordon(&long, &["status"]).is(2, &[], &["107 bytes"]);
}

#[test]
fn an_answer_that_makes_no_sense_is_no_crash() {
    for garbage in
        [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"\xff\xfe\x00\n", b"{}\n", b"{\"ok\":{\"type\":\"x\"}}\n"]
    {
        Fake::says(garbage.to_vec(), false).run(&["status"]).is(3, &[], &["not understood", "--version"]);
    }
    for cut in [&b""[..], b"{\"ok\":"] {
        Fake::says(cut.to_vec(), false).run(&["reload"]).is(
            3,
            &[],
            &["closed the connection", "look before"],
        );
    }
}

#[test]
fn a_cordond_that_hangs_is_given_up_in_time() {
    let started = Instant::now();
    let fake = Fake::says(b"{\"ok\":".to_vec(), true);
    fake.run(&["list", "--timeout", "200ms"]).is(3, &[], &["has not answered within 200ms", "--timeout 30s"]);

    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cordon.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let _held = connect_until_full(&socket);
    cordon(&socket, &["list", "--timeout", "200ms"]).is(3, &[], &["does not accept", "restart cordond"]);
    assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
}

#[test]
fn what_cordond_refuses_has_its_exit_code() {
    for (code, exit) in [
        (ErrorCode::Refused, 1),
        (ErrorCode::Failed, 1),
        (ErrorCode::BadRequest, 2),
        (ErrorCode::NotFound, 4),
        (ErrorCode::Permission, 5),
    ] {
        Fake::failure(code, "it is so", "do this").run(&["reload"]).is(
            exit,
            &[],
            &["cordon: it is so\n  do this"],
        );
    }
}

/// Runs a copy of the command as nobody, when this is root: root may do everything.
fn as_nobody(dir: &Path, words: &[&str]) -> Ran {
    let binary = dir.join("cordon");
    if !binary.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_cordon"), &binary).unwrap();
    }
    let mut c = Command::new(&binary);
    c.args(words);
    if nix::unistd::geteuid().is_root() {
        c.uid(65_534).gid(65_534).current_dir("/");
    }
    c.output().unwrap().into()
}

#[test]
fn who_may_not_is_told_whom_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = dir.path().join("cordon.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, Permissions::from_mode(0o400)).unwrap();
    let shown = socket.to_str().unwrap();
    as_nobody(dir.path(), &["list", "--socket", shown]).is(5, &[], &["you may not use", "root", "group"]);

    let run = dir.path().join("run");
    std::fs::create_dir(&run).unwrap();
    std::fs::set_permissions(&run, Permissions::from_mode(0o555)).unwrap();
    let in_run = run.join("cordon.sock");
    let words = ["bypass", "on", "--direct", "--socket", in_run.to_str().unwrap()];
    as_nobody(dir.path(), &words).is(5, &[], &["create", "bypass", "run as root"]);
    assert!(!run.join("bypass").exists());
}

#[test]
fn the_direct_bypass_works_with_cordond_dead() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let config = dir.path().join("cordon.toml");
    std::fs::write(&config, format!("[run]\ndir = \"{}\"\n", run.display())).unwrap();
    let by_config = ["--config", config.to_str().unwrap()];
    let ran = |words: &[&str]| Ran::from(command(words).args(by_config).output().unwrap());
    let switch = run.join("bypass");

    ran(&["bypass", "on", "--direct"]).is(
        0,
        &["is there now", "undo: cordon --config", "bypass off --direct"],
        &[],
    );
    assert!(switch.exists());
    ran(&["bypass", "on", "--direct"]).is(0, &["was there already"], &[]);
    let done = ran(&["bypass", "off", "--direct", "--json"]).is(0, &["is gone"], &[]).out;
    assert!(serde_json::from_str::<serde_json::Value>(&done).unwrap()["done"].is_string());
    assert!(!switch.exists());
    ran(&["bypass", "off", "--direct"]).is(0, &["was not there"], &[]);

    // The folder of the socket is the folder of the switch where only the socket is named.
    cordon(&run.join("cordon.sock"), &["bypass", "on", "--direct"]).is(0, &["is there now"], &[]);
    assert!(switch.exists());
    let nowhere = dir.path().join("nowhere").join("cordon.sock");
    for state in ["on", "off"] {
        cordon(&nowhere, &["bypass", state, "--direct"]).is(
            4,
            &[],
            &["no dataplane of this configuration", "--config"],
        );
    }
}

#[test]
fn check_says_where_and_what() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cordon.toml");
    let path = file.to_str().unwrap();
    let check = |words: &[&str]| Ran::from(command(&["check"]).args(words).output().unwrap());

    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../cordon.example.toml"), &file).unwrap();
    check(&[path]).is(0, &["is good: 1 wire, 2 networks with 256 IPv4 addresses, 2 groups"], &[]);
    check(&["--config", path, "--json"]).is(0, &["\"ok\":true"], &[]);

    std::fs::write(&file, "[tables]\nhosts = 300\n[rules.x]\n").unwrap();
    let ran = check(&[path]).is(
        1,
        &[],
        &["cordon.toml:2:9: ", "hosts = 300", "write 512", "cordon.toml:3:8: ", "2 mistakes"],
    );
    assert_eq!(ran.out, "");
    let out = check(&[path, "--json"]).is(1, &[], &[]).out;
    let v: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&v["ok"], &v["problems"][0]["line"], &v["problems"][1]["column"]),
        (&false.into(), &2.into(), &8.into())
    );

    // The inventory that a good configuration names.
    let inventory = dir.path().join("servers.csv");
    let example = include_str!("../../../cordon.example.toml");
    let key = "# file = \"/etc/cordon/inventory.toml\"";
    let named = example.replace(key, &format!("file = \"{}\"", inventory.display()));
    assert_ne!(named, example);
    std::fs::write(&file, &named).unwrap();
    check(&[path]).is(1, &[], &["servers.csv: cannot be read", "[inventory] file"]);
    std::fs::write(&inventory, "id,addresses\n1,192.0.2.10\n2,192.0.2.10\n3,x\n").unwrap();
    check(&[path]).is(
        1,
        &[],
        &["servers.csv:3:3: ", "another server on line 2", "servers.csv:4:3: ", "2 mistakes"],
    );
    let v: serde_json::Value = serde_json::from_str(&check(&[path, "--json"]).is(1, &[], &[]).out).unwrap();
    assert_eq!((&v["file"], &v["count"]), (&inventory.to_str().into(), &2.into()));
    std::fs::write(&inventory, "complete,true\nid,addresses\n1,192.0.2.10\n2,203.0.113.1\n").unwrap();
    let words = ["servers.csv is good: 2 servers; every server", "Note: 1 of its", "203.0.113.1 on line 4"];
    check(&[path]).is(0, &words, &[]);
    check(&[path, "--json"]).is(0, &["\"servers\":2", "\"complete\":true"], &[]);

    // A file that was named has to be good for the other commands too.
    std::fs::write(&file, "[tables]\nhosts = 300\n").unwrap();
    let ran = Ran::from(command(&["status", "--config", path]).output().unwrap());
    ran.is(2, &[], &["cordon.toml:2:9: ", "--socket"]);

    std::fs::write(&file, "").unwrap();
    check(&[path]).is(1, &[], &["[[wire]]", "[[network]]"]);
    check(&["/nowhere/cordon.toml"]).is(1, &[], &["/nowhere/cordon.toml", "cordon.example.toml"]);
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_asks_nobody() {
    let nowhere = Path::new("/nowhere/cordon.sock");
    for (words, hint) in [
        (&["lock", "192.0.2.1"][..], "--reason"),
        (&["lock", "192.0.2.1", "--reason", "sloth"], "non-payment"),
        (&["lock", "192.0.2.1/24", "--reason", "abuse"], "do you mean 192.0.2.0/24"),
        (&["lock", "192.0.2.1", "--reason", "abuse", "--for", "0s"], "longer than nothing"),
        (
            &["lock", "192.0.2.1", "--reason", "abuse", "--for", "2h", "--until", "2099-01-01T00:00:00Z"],
            "--until",
        ),
        (&["lock", "192.0.2.1", "--reason", "abuse", "--until", "2020-01-01T00:00:00Z"], "is over"),
        (&["lock", "192.0.2.1", "--reason", "abuse", "--except", "server:7"], "only an address or a prefix"),
        (&["unlock"], "TARGET"),
        (&["unlock", "192.0.2.1", "--rule", "syn-out", "--since", "2h"], "cannot be used with"),
        (&["unlock", "--rule", "syn-out"], "--since"),
        (&["unlock", "192.0.2.1", "--all", "--reason", "abuse"], "cannot be used with"),
        (&["unlock", "--rule", "x", "--since", "yesterday"], "neither a time"),
        (&["frobnicate"], "frobnicate"),
    ] {
        cordon(nowhere, words).is(2, &[], &[hint]);
    }
}

#[test]
fn help_documents_the_exit_codes_and_shells_are_completed() {
    Ran::from(command(&["--help"]).output().unwrap()).fits().is(
        0,
        &["Exit codes:", "3  cordond is not reachable", "5  not permitted", "bypass on --direct"],
        &[],
    );
    for (shell, words) in
        [("bash", "complete -F _cordon"), ("zsh", "#compdef cordon"), ("fish", "complete -c cordon")]
    {
        let ran = Ran::from(command(&["completions", shell]).output().unwrap());
        ran.is(0, &[words, "non-payment", "breaker"], &[]);
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let rows = (0..20_000).map(|i| lock(i, "192.0.2.1")).collect();
    let fake = Fake::ok(Payload::Locks(rows));
    let mut child = command(&["list", "--socket", fake.socket().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().unwrap());
    ran.is(0, &[], &[]);

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let fake = Fake::ok(Payload::Done("Done.".to_owned()));
    let mut c = command(&["reload", "--socket", fake.socket().to_str().unwrap()]);
    let ran = Ran::from(c.stdout(full).stderr(Stdio::piped()).output().unwrap());
    ran.is(1, &[], &["is the disk full?"]);
}
