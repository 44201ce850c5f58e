//! What Cordon promises beside others, held against what was measured.

use serde_json::{Value, json};

use crate::measure::{Results, Row};
use crate::peer::{Lookup, Peer};
use crate::sample::{Sample, Spread};

/// A promise: packets/s of a case are at least so many times those of somebody else.
struct Promise {
    case: &'static str,
    other: Other,
    what: &'static str,
    least: f64,
}

/// Whom it is compared with.
enum Other {
    /// A peer in the same rounds.
    Peer(Peer),
    /// Another case of our own.
    Case(&'static str),
}

const PROMISES: &[Promise] = &[
    Promise {
        case: "looped",
        other: Other::Peer(Peer::Testpmd("macswap")),
        what: "looped one-flow capture, everything on, beside testpmd macswap",
        least: 0.9,
    },
    Promise {
        case: "looped",
        other: Other::Peer(Peer::Testpmd("csum")),
        what: "looped one-flow capture, everything on, beside testpmd csum",
        least: 1.25,
    },
    Promise {
        case: "all-on-64k",
        other: Other::Peer(Peer::L3fwd(Lookup::Lpm)),
        what: "64 k hosts, mixed, everything on, beside l3fwd LPM",
        least: 1.0,
    },
    Promise {
        case: "all-on-64k",
        other: Other::Peer(Peer::L3fwd(Lookup::Acl)),
        what: "64 k hosts, mixed, everything on, beside l3fwd ACL",
        least: 1.7,
    },
    Promise {
        case: "all-on-fresh",
        other: Other::Peer(Peer::L3fwd(Lookup::Lpm)),
        what: "every packet a new external address, everything on, beside l3fwd LPM",
        least: 0.8,
    },
    Promise {
        case: "locks-100k-0",
        other: Other::Case("locks-0"),
        what: "100,000 locks, none on the traffic, beside no locks",
        least: 0.97,
    },
    Promise {
        case: "two-workers",
        other: Other::Case("hosts-64k"),
        what: "two workers beside one",
        least: 1.8,
    },
];

/// A promise as measured.
pub(crate) struct Claim {
    what: &'static str,
    least: f64,
    got: Spread,
}

impl Claim {
    /// A line for people.
    pub(crate) fn line(&self) -> String {
        format!(
            "  {:<6} {:.2} ({:.2}-{:.2}), at least {:.2}: {}\n",
            if self.holds() { "yes" } else { "NO" },
            self.got.median,
            self.got.least,
            self.got.most,
            self.least,
            self.what
        )
    }

    fn holds(&self) -> bool {
        self.got.median >= self.least
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "what": self.what, "needed": self.least, "holds": self.holds(),
            "median": self.got.median, "min": self.got.least, "max": self.got.most,
        })
    }
}

/// The promises whose cases were measured.
pub(crate) fn of(results: &Results) -> Vec<Claim> {
    let row = |name: &str| results.rows.iter().find(|r| r.case.name == name);
    let claim = |p: &Promise| {
        let own: &Row = row(p.case)?;
        let other: &[Sample] = match p.other {
            Other::Peer(peer) => own.of(peer)?,
            Other::Case(name) => &row(name)?.cordon,
        };
        // Neighbours in time are compared, so that what slows the machine for a while slows both.
        let got = Spread::of(own.cordon.iter().zip(other).map(|(a, b)| a.pps / b.pps));
        Some(Claim { what: p.what, least: p.least, got })
    };
    PROMISES.iter().filter_map(claim).collect()
}
