//! Lock rows out of what the policy file enforces, for when the store has lost them.

use api::{Direction, LockRow, Reason, Target, Time};
use config::subnets;
use ipnet::IpNet;
use region::Policy;
use region::locks::Range;

use crate::locklist::direction;

/// Rows that enforce the same as `policy` does now. Why, by whom and until when is not known: an operator decides.
pub(super) fn rows(policy: &Policy, at: Time, last_id: u64) -> Vec<LockRow> {
    let everything = Range { first: 0, last: u128::MAX };
    let (locked, exceptions) = policy.enforced();
    let mut rows = Vec::new();
    let row = |id: u64, target: Target, direction: Direction, except: Vec<IpNet>| LockRow {
        note: Some("found enforced after the store was lost; its reason is not known".to_owned()),
        except,
        ..LockRow::new(id, target, direction, Reason::Abuse, "recovery", at)
    };
    for (mac, bits) in policy.enforced_macs() {
        let id = last_id + 1 + rows.len() as u64;
        if let Some(direction) = direction(bits) {
            rows.push(row(id, Target::Mac(api::Mac(mac.0)), direction, Vec::new()));
        }
    }
    for l in &locked {
        let Some(direction) = direction(l.bits) else { continue };
        // Exceptions for every host come from the configuration.
        let meant = exceptions.iter().filter(|e| e.hosts != everything && e.hosts.contains(l.range.first));
        let except: Vec<IpNet> = meant.flat_map(|e| subnets(e.remotes.first, e.remotes.last)).collect();
        for net in subnets(l.range.first, l.range.last) {
            let id = last_id + 1 + rows.len() as u64;
            rows.push(row(id, Target::Prefix(net), direction, except.clone()));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use region::locks::{Exception, LockedRange, flatten};
    use region::segment::SegmentRules;
    use region::{Capacities, HostFlags};

    fn range(net: &str) -> Range {
        crate::networks::range(&net.parse().expect("a prefix"))
    }

    #[test]
    fn what_was_enforced_comes_back_as_rows_that_enforce_the_same() {
        let capacities = Capacities { workers: 1, hosts_v4: 256, hosts_v6: 16, locks: 64 };
        let policy = Policy::anonymous(capacities, 64, [1, 2]).expect("memory");
        let out = HostFlags::LOCK_OUT | HostFlags::EXCEPT;
        let before = flatten(&[
            LockedRange { range: range("192.0.2.10/32"), bits: out },
            LockedRange { range: range("192.0.2.64/26"), bits: HostFlags::LOCK_IN },
            LockedRange { range: range("192.0.2.70/32"), bits: HostFlags::LOCK_OUT },
            LockedRange { range: range("2001:db8:0:1::/64"), bits: HostFlags::LOCK_OUT | HostFlags::LOCK_IN },
        ]);
        let exceptions = [
            Exception { hosts: range("192.0.2.10/32"), remotes: range("203.0.113.0/24") },
            Exception { hosts: Range { first: 0, last: u128::MAX }, remotes: range("198.51.100.1/32") },
        ];
        let locked = vec![(region::Mac([2, 0, 0, 0, 0, 9]), HostFlags::LOCK_OUT)];
        let segment = SegmentRules { locked, ..SegmentRules::default() };
        policy.publish_locks(&before, &exceptions, &segment).expect("fits");
        let rows = rows(&policy, Time::from_unix_ms(0), 40);
        let list = crate::locklist::LockList::restore(
            rows.clone(),
            0,
            vec!["198.51.100.1/32".parse().expect("a prefix")],
        );
        let strip = |l: &[LockedRange]| -> Vec<(Range, u8)> {
            let keep = HostFlags::LOCK_OUT | HostFlags::LOCK_IN;
            l.iter().map(|l| (l.range, l.bits & keep)).collect()
        };
        assert_eq!(strip(&list.enforced().0), strip(&before));
        assert_eq!(list.macs(), [(api::Mac([2, 0, 0, 0, 0, 9]), HostFlags::LOCK_OUT)].into());
        assert_eq!(rows.iter().map(|r| r.id).min(), Some(41));
        let excepted =
            rows.iter().find(|r| r.target.to_string() == "192.0.2.10").expect("the locked address");
        assert_eq!(excepted.except, ["203.0.113.0/24".parse::<IpNet>().expect("a prefix")]);
        assert!(rows.iter().all(|r| !r.is_detectors()), "no detector may lift them");
    }
}
