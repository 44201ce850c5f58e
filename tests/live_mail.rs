//! The mail to the desk about a real scan, read by programs of others: Python's mail library, and the validator of XARF.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::internet::{connect, server};
use common::site::{SOON, Site};
use common::{Namespaces, skip};
use serde_json::Value;

/// Nothing else listens in a namespace of one's own.
const PORT: &str = "2525";
const MAIL: &str = "[mail]\nserver = \"127.0.0.1\"\nport = 2525\ntls = \"none\"\nfrom = \"abuse@example.net\"\nprovider = \"P\"\n\
                    desk = [\"noc@example.net\"]\ndelay = \"0s\"\n";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The Python that has aiosmtpd: Debian's, or the one in front of it.
fn with_smtp() -> Option<&'static str> {
    let has = |p: &&'static str| {
        Command::new(p)
            .args(["-c", "import aiosmtpd"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has)
}

/// The Python that has the package xarf.
fn with_xarf() -> PathBuf {
    std::env::var_os("CORDON_XARF").map_or_else(|| "python3".into(), PathBuf::from)
}

/// A mail server beside cordond, and every line that it says.
struct Desk {
    child: Child,
    said: Receiver<Value>,
}

impl Desk {
    fn start(site: &Site, python: &str) -> Desk {
        let mut command = site.ns.command("box", python);
        command.arg(file("control/tests/mail/server.py")).arg(PORT);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, said) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        let desk = Desk { child, said };
        desk.said.recv_timeout(SOON).expect("a mail server");
        desk
    }

    /// The next mail about this address that says it is locked, as others find it beside the evidence.
    fn locked(&self, address: &str, evidence: &Path) -> Value {
        let subject = format!("from {address}: locked");
        loop {
            let taken = self.said.recv_timeout(SOON).expect("a mail");
            let seen = read(taken["mail"].as_str().unwrap(), evidence);
            if seen["subject"].as_str().unwrap().contains(&subject) {
                return seen;
            }
        }
    }
}

fn read(text: &str, evidence: &Path) -> Value {
    let raw: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let mut command = Command::new(with_xarf());
    command.arg(file("tests/oracle/mail.py")).arg(evidence);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&raw).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{text}");
    serde_json::from_slice(&out.stdout).unwrap()
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn xarf_reports_of_real_scans_are_valid_and_attachments_are_the_evidence() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["nmap", "hping3"]) {
        skip!("{tool} is not installed");
    }
    let Some(python) = with_smtp() else { skip!("python3-aiosmtpd is not installed") };
    let site = Site::new(MAIL);
    connect(&site);
    let desk = Desk::start(&site, python);
    let _cordond = site.start();
    // A wire on which nothing ever comes in tells nothing about answers.
    let ping = ["-q", "-n", "-i", "0.05", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];
    let _ping = site.ns.spawn("in", "ping", &ping);
    let scans = [
        ("hping3", "udp", "-n -q -2 -p 161 -i u1200 -c 1000 -I in0 -a SERVER --rand-dest 45.65.x.x"),
        (
            "nmap",
            "icmp",
            "-n -sn -PE --max-retries 0 --min-rate 500 --max-rate 900 --send-ip -e in0 -S SERVER 45.65.16.0/22",
        ),
    ];
    for (number, (tool, protocol, options)) in (20..).zip(scans) {
        let address = server(&site, number);
        let options = options.replace("SERVER", &address);
        let words: Vec<&str> = options.split_whitespace().collect();
        let running = site.ns.spawn("in", tool, &words);
        let row = site.wait_locked(&address);
        let id = row["incident"].as_str().unwrap();
        let log = site.evidence(id, "netscan.log");
        let seen = desk.locked(&address, log.parent().unwrap());
        drop(running);
        let subject = seen["subject"].as_str().unwrap();
        assert!(subject.contains(id), "{tool}: {subject}");
        assert_eq!(
            (&seen["defects"], &seen["different"]),
            (&Value::Array(vec![]), &Value::Array(vec![])),
            "{tool}"
        );
        let names: Vec<&str> =
            seen["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        let mut expected = vec!["dump.log", "dump.pcapng", "netscan.log"];
        let report = &seen["xarf"];
        if protocol == "icmp" {
            // The schemas want a source port, which ICMP has not.
            assert_eq!(names, expected, "{tool}");
            continue;
        }
        expected.push("xarf.json");
        assert_eq!(names, expected, "{tool}");
        assert_eq!(seen["errors"], Value::Array(vec![]), "{report}");
        for spoilt in ["without_port", "without_time"] {
            assert_ne!(seen[spoilt], Value::Array(vec![]), "the validator sees nothing: {spoilt}");
        }
        assert_eq!(
            ["source_identifier", "type", "protocol", "destination_port"].map(|k| report[k].clone()),
            [address.as_str().into(), "port_scan".into(), "udp".into(), Value::from(161)],
            "{report}"
        );
        let destination = report["destination_ip"].as_str().unwrap();
        let port = report["source_port"].to_string();
        // Of the scan; its log need not list every packet that was recorded.
        assert!(destination.starts_with("45.65."), "{destination} was not scanned");
        let packets = std::fs::read_to_string(site.evidence(id, "dump.log")).unwrap();
        let sent = packets.lines().any(|l| l.contains(&format!("{address}.{port} > {destination}.161")));
        assert!(sent, "{address}.{port} > {destination}.161 is not in\n{packets}");
    }
}
