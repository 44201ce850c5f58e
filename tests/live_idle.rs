//! A worker that sleeps while nothing comes loses nothing of what comes then.

mod common;

use std::time::Duration;

use common::dataplane::{Appliance, Balance, SOON, STOP, assert_balanced};
use common::{Namespaces, eventually, skip};
use region::{Facts, Side, Verdict};

/// Frames of one go: fewer than the driver's ring of 512 has room for, so that a machine that is busy with others loses none
/// either.
const AT_ONCE: usize = 400;
const TIMES: usize = 20;

/// Frames of no protocol (IEEE Std 802's local experimental EtherType), as fast as Python sends.
const SEND: &str = "import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
frame = bytes.fromhex('020000990002' '020000990001' '88b5') + bytes(46)
for i in range(int(sys.argv[2])): s.send(frame)";

fn from_inside(facts: &Facts) -> Balance {
    Balance::of(facts, Side::Inside)
}

#[test]
fn what_comes_while_a_worker_sleeps_is_not_lost() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    let mut appliance = Appliance::new("net_af_packet0,iface=box_in", "net_af_packet1,iface=box_out");
    // The longest there is.
    appliance.idle_sleep = "100us".to_owned();
    appliance.policy(&[], &[]);
    let daemon = appliance.start_in(&ns);
    let facts = appliance.facts();
    let count = AT_ONCE.to_string();
    for _ in 0..TIMES {
        let before = from_inside(&facts).received;
        ns.run("in", "python3", &["-c", SEND, "in0", &count], Duration::from_secs(60)).expect_success();
        // Kernels say something by themselves, too.
        eventually("all of them came through", SOON, || {
            let b = from_inside(&facts);
            (b.received >= before + AT_ONCE as u64 && b.packets(Verdict::Forward) == b.received).then_some(())
        });
    }
    assert!(daemon.term(STOP).success(), "{}", daemon.log());
    let [inside, _] = assert_balanced(&facts);
    assert!(inside.received >= (AT_ONCE * TIMES) as u64);
    assert_eq!(inside.packets(Verdict::Forward), inside.received, "{inside:?}");
}
