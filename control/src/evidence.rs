//! Evidence: what a mail about an incident has attached. Pure formatters; each is given facts and writes text or bytes.
//!
//! [`dump`] prints packets, [`pcapng`] keeps them, [`scanlog`] lists the contacts of a scan; the packet-limit summary is
//! in [`crate::summary`].

pub mod dump;
pub mod pcapng;
pub mod scanlog;

/// A time in UTC for printing; times beyond the years -9999 to 9999 become the nearest one.
fn utc(unix_ns: i128) -> jiff::civil::DateTime {
    let most = jiff::Timestamp::MAX.as_nanosecond();
    let least = jiff::Timestamp::MIN.as_nanosecond();
    let t = jiff::Timestamp::from_nanosecond(unix_ns.clamp(least, most)).unwrap_or_default();
    t.to_zoned(jiff::tz::TimeZone::UTC).datetime()
}
