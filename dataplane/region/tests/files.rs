//! The two files from both sides.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering::Relaxed;

use region::addressing::{Addressing, BlockV4, NetworkV6};
use region::locks::{Exception, LockedRange, Range, flatten};
use region::policy::RequestV6;
use region::segment::SegmentRules;
use region::{Addr, Capacities, Dir, Facts, HostFlags, HostId, LineTotals, Policy, RegionError};

const CAPACITIES: Capacities = Capacities { workers: 2, hosts_v4: 4096, hosts_v6: 1024, locks: 64 };
const KEY: [u64; 2] = [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];

/// xorshift64*: deterministic, and good enough to scatter addresses.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[test]
fn a_second_writer_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = Facts::create(dir.path(), CAPACITIES, 7).unwrap();
    // An open-file-description lock conflicts within one process too.
    match Facts::create(dir.path(), CAPACITIES, 8) {
        Err(RegionError::Held { pid, .. }) => assert_eq!(pid, i32::try_from(std::process::id()).unwrap()),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(Facts::writer(dir.path()).is_some());
    drop(first);
    assert_eq!(Facts::writer(dir.path()), None);
    let again = Facts::create(dir.path(), CAPACITIES, 8).unwrap();
    assert_eq!(again.header().incarnation.load(Relaxed), 8);
}

#[test]
fn a_reader_notices_a_new_life_and_keeps_the_old_mapping_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let first = Facts::create(dir.path(), CAPACITIES, 7).unwrap();
    let reader = Facts::open(dir.path()).unwrap();
    assert!(reader.is_current(dir.path()));
    drop(first);
    let _second = Facts::create(dir.path(), CAPACITIES, 9).unwrap();
    assert!(!reader.is_current(dir.path()));
    assert_eq!(reader.header().incarnation.load(Relaxed), 7);
    assert_eq!(Facts::open(dir.path()).unwrap().header().incarnation.load(Relaxed), 9);
}

#[test]
fn a_file_of_another_kind_size_or_layout_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Policy::open(dir.path()).unwrap_err().to_string();
    assert!(missing.contains("No such file"), "{missing}");
    drop(Facts::create(dir.path(), CAPACITIES, 7).unwrap());
    std::fs::copy(dir.path().join("facts"), dir.path().join("policy")).unwrap();
    let wrong = Policy::open(dir.path()).unwrap_err().to_string();
    assert!(wrong.contains("magic number") && wrong.contains("one version"), "{wrong}");
    std::fs::write(dir.path().join("policy"), b"short").unwrap();
    assert!(matches!(Policy::open(dir.path()), Err(RegionError::Mismatch { what: "length", .. })));
    // A header whose sizes do not give its layout hash.
    let file = dir.path().join("facts");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[16] ^= 0x40;
    std::fs::write(&file, &bytes).unwrap();
    assert!(matches!(Facts::open(dir.path()), Err(RegionError::Mismatch { .. })));
}

#[test]
fn policy_is_taken_over_by_the_next_control_but_not_with_other_tables() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, taken) = Policy::open_or_create(dir.path(), CAPACITIES, 64, KEY).unwrap();
    assert!(!taken);
    assert!(policy.config_text().is_none());
    assert!(policy.keep_config("[run]\n"));
    assert!(policy.keep_config("[run]\n# two\n"));
    assert!(!policy.keep_config(&"x".repeat(2 << 20)));
    policy.set_accounted(HostId(5), Dir::In, &LineTotals { packets: 11, ..Default::default() });
    let locked =
        LockedRange { range: Range::of_prefix(Addr::V4(0x0a00_0000), 24), bits: HostFlags::LOCK_OUT };
    let version = policy.publish_locks(&[locked], &[], &SegmentRules::default()).unwrap();
    drop(policy);
    let (policy, taken) = Policy::open_or_create(dir.path(), CAPACITIES, 64, KEY).unwrap();
    assert!(taken);
    assert_eq!(policy.config_text().as_deref(), Some("[run]\n# two\n"));
    assert_eq!(policy.accounted(HostId(5), Dir::In).packets, 11);
    assert_eq!(policy.versions().locks, version);
    assert!(policy.locked_at(version, Addr::V4(0x0a00_0007).as_u128()).has(HostFlags::LOCK_OUT));
    drop(policy);
    let other = Capacities { hosts_v4: 8192, ..CAPACITIES };
    assert!(!Policy::open_or_create(dir.path(), other, 64, KEY).unwrap().1);
}

#[test]
fn every_internal_address_has_its_own_id_and_no_other_has_one() {
    let p = Policy::anonymous(CAPACITIES, 64, KEY).unwrap();
    let nets = [
        (0x0a00_0000u32, 22u8),
        (0xc000_0200, 24),
        (0xc000_0300, 29),
        (0xc000_0308, 32),
        (0xc000_03f0, 28),
        (0xffff_ff00, 24),
    ];
    let mut base = 0;
    let mut v4 = Vec::new();
    for (first, length) in nets {
        let b = BlockV4 { first, length, base: HostId(base) };
        base += u32::try_from(b.size()).unwrap();
        v4.push(b);
    }
    let a = Addressing { v4: v4.clone(), v6: vec![] };
    let version = p.publish_addressing(&a).unwrap();
    let t = p.addressing(version);
    assert_eq!(t.read(), a);
    let naive = |x: u32| {
        v4.iter()
            .find(|b| u64::from(x.wrapping_sub(b.first)) < b.size() && x >= b.first)
            .map(|b| HostId(b.base.0 + (x - b.first)))
    };
    let mut seed = 3;
    let mut addresses: Vec<u32> = v4
        .iter()
        .flat_map(|b| {
            [b.first, b.first.wrapping_sub(1), b.first.wrapping_add(u32::try_from(b.size()).unwrap())]
        })
        .collect();
    for b in &v4 {
        addresses.extend((0..b.size()).map(|i| b.first + u32::try_from(i).unwrap()));
    }
    #[expect(clippy::cast_possible_truncation, reason = "random bits")]
    addresses.extend((0..200_000).map(|_| random(&mut seed) as u32));
    for x in addresses {
        assert_eq!(t.host_v4(x), naive(x), "{x:#x}");
        if naive(x).is_some() {
            assert!(t.may_be_internal_v4(x));
        }
    }
    // Removing a network leaves the others' ids where they were.
    let fewer = Addressing { v4: v4[1..].to_vec(), v6: vec![] };
    let version = p.publish_addressing(&fewer).unwrap();
    let t = p.addressing(version);
    assert_eq!(t.host_v4(0x0a00_0001), None);
    assert_eq!(t.host_v4(0xc000_0201), naive(0xc000_0201));
}

#[test]
fn too_many_networks_are_an_error_and_leave_what_is_in_force() {
    let p = Policy::anonymous(CAPACITIES, 64, KEY).unwrap();
    let before = p.versions();
    let v4 = (0..1025u32).map(|i| BlockV4 { first: i << 16, length: 24, base: HostId(0) }).collect();
    assert!(p.publish_addressing(&Addressing { v4, v6: vec![] }).unwrap_err().to_string().contains("1024"));
    let rows = vec![LockedRange { range: Range { first: 0, last: 0 }, bits: 1 }; 1000];
    assert!(p.publish_locks(&rows, &[], &SegmentRules::default()).is_err());
    assert_eq!(p.versions(), before);
}

#[test]
fn workers_that_insert_the_same_ipv6_hosts_at_once_agree_on_their_ids() {
    let f = Facts::anonymous(CAPACITIES).unwrap();
    let keys: Vec<u128> = (0..300u128)
        .map(|i| 0x2001_0db8u128 << 96 | i << 64)
        .chain((0..40u128).map(|i| 0xfd00u128 << 112 | i))
        .collect();
    let ids: Vec<Vec<Option<HostId>>> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..4)
            .map(|t| {
                let (f, keys) = (&f, &keys);
                s.spawn(move || {
                    let mut ids = vec![None; keys.len()];
                    for i in 0..keys.len() {
                        let i = (i * 7 + t * 31) % keys.len();
                        ids[i] = f.insert_v6(keys[i], KEY, 1000, 3);
                    }
                    ids
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut seen = std::collections::HashSet::new();
    for (i, key) in keys.iter().enumerate() {
        let id = f.find_v6(*key, KEY);
        assert!(id.is_some() && ids.iter().all(|v| v[i] == id), "key {key:#x}");
        assert_eq!(f.key_v6(id.unwrap()), Some(*key));
        assert!(seen.insert(id));
    }
    assert_eq!(f.hosts_v6_used(), keys.len() as u64);
}

#[test]
fn an_ipv6_network_cannot_take_more_than_its_quota() {
    let f = Facts::anonymous(CAPACITIES).unwrap();
    let inserted =
        (0..100u128).filter(|i| f.insert_v6(0x2001 << 112 | i << 64, KEY, 10, 0).is_some()).count();
    assert_eq!(inserted, 10);
    assert!(f.insert_v6(0x2001 << 112, KEY, 10, 0).is_some(), "those that are in stay found");
    assert!(f.insert_v6(0x2002 << 112, KEY, 10, 1).is_some(), "another network has its own quota");
    assert!(f.insert_v6(0, KEY, 10, 1).is_some(), "a key of zeros is no free slot");
    assert_eq!(f.find_v6(0, KEY).and_then(|h| f.key_v6(h)), Some(0));
    assert_eq!(f.insert_v6(u128::MAX, KEY, 10, 1), None, "all ones are no host's");
}

#[test]
fn locks_and_exceptions_are_found_by_address_in_both_families() {
    let p = Policy::anonymous(CAPACITIES, 64, KEY).unwrap();
    let v4 = |a: u32, l| Range::of_prefix(Addr::V4(a), l);
    let v6 = |a: u128, l| Range::of_prefix(Addr::V6(a), l);
    let doc = 0x2001_0db8u128 << 96;
    let rows = flatten(&[
        LockedRange { range: v4(0x0a00_0000, 8), bits: HostFlags::LOCK_IN },
        LockedRange { range: v4(0x0a01_0203, 32), bits: HostFlags::LOCK_OUT | HostFlags::EXCEPT },
        LockedRange { range: v6(doc, 64), bits: HostFlags::LOCK_OUT },
    ]);
    let except = Exception { hosts: v4(0x0a01_0203, 32), remotes: v4(0xc633_6400, 24) };
    let v = p.publish_locks(&rows, &[except], &SegmentRules::default()).unwrap();
    assert_eq!(p.enforced(), (rows, vec![except]), "a control that lost its store finds what is enforced");
    let bits = |a: Addr| p.locked_at(v, a.as_u128()).0;
    assert_eq!(bits(Addr::V4(0x0a01_0202)), HostFlags::LOCK_IN);
    assert_eq!(bits(Addr::V4(0x0a01_0203)), HostFlags::LOCK_IN | HostFlags::LOCK_OUT | HostFlags::EXCEPT);
    assert_eq!(bits(Addr::V4(0x0b00_0000)), 0);
    assert_eq!(bits(Addr::V4(0x09ff_ffff)), 0);
    assert_eq!(bits(Addr::V6(doc + 99)), HostFlags::LOCK_OUT);
    assert_eq!(bits(Addr::V6(doc + (1 << 64))), 0);
    let may = |h, r| p.excepted(v, Addr::V4(h).as_u128(), Addr::V4(r).as_u128());
    assert!(
        may(0x0a01_0203, 0xc633_6407) && !may(0x0a01_0203, 0xc633_6500) && !may(0x0a01_0204, 0xc633_6407)
    );
}

#[test]
fn requests_for_ipv6_hosts_pass_in_order_and_stop_when_the_queue_is_full() {
    let (p, f) = (Policy::anonymous(CAPACITIES, 64, KEY).unwrap(), Facts::anonymous(CAPACITIES).unwrap());
    let r = |i: u128| RequestV6 { key: i << 64, quota: 5, network_slot: 2 };
    let taken = (1..3000).take_while(|i| p.ask_v6(&f, r(*i))).count();
    assert_eq!(taken, region::policy::REQUESTS_MAX);
    assert_eq!(p.request_v6(0), r(1));
    f.header().v6_requests_done.store(1, Relaxed);
    assert!(p.ask_v6(&f, r(9999)));
}

#[test]
fn a_scribbled_file_gives_wrong_numbers_and_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, _) = Policy::open_or_create(dir.path(), CAPACITIES, 64, KEY).unwrap();
    let net = NetworkV6 { range: Range::of_prefix(Addr::V6(0xfd << 120), 8), quota: 10, slot: 1 };
    let block = BlockV4 { first: 0x0a00_0000, length: 16, base: HostId(0) };
    policy.publish_addressing(&Addressing { v4: vec![block], v6: vec![net] }).unwrap();
    drop(policy);
    let file = dir.path().join("policy");
    let mut bytes = std::fs::read(&file).unwrap();
    let mut seed = 11;
    // Leave magic and hash; scribble over everything else.
    for chunk in bytes[16..].chunks_mut(8) {
        chunk.copy_from_slice(&random(&mut seed).to_le_bytes()[..chunk.len()]);
    }
    let sizes = std::fs::read(&file).unwrap();
    // The table sizes have to stay, or the layout hash refuses the file, which another test shows.
    bytes[..4096].copy_from_slice(&sizes[..4096]);
    std::fs::write(&file, &bytes).unwrap();
    let p = Policy::open(dir.path()).unwrap();
    let f = Facts::anonymous(CAPACITIES).unwrap();
    for version in 0..2 {
        let t = p.addressing(version);
        for _ in 0..50_000 {
            let x = random(&mut seed);
            #[expect(clippy::cast_possible_truncation, reason = "random bits")]
            let id = t.host_v4(x as u32);
            if let Some(id) = id {
                let _ = p.flags().get(id);
                let _ = f.totals(id, Dir::Out);
            }
            let wide = u128::from(x) << 64 | u128::from(random(&mut seed));
            let _ = (t.network_v6(wide), p.locked_at(version, wide), p.excepted(version, wide, !wide));
        }
        let _ = t.read();
    }
    let _ = p.config_text();
}
