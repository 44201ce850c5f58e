//! Pages that are one table.

use api::{
    Action, BreakerRow, ExemptionRow, IncidentRow, LockRow, OutboxRow, OutboxState, RtbhRow, RtbhState,
    RuleRow, Target, Time, TokenRow, TopRow,
};

use crate::human::{between, count, scaled, short, span};
use crate::render::{Page, wrap};
use crate::table::Table;

pub(crate) fn top(page: &Page<'_>, rows: &[TopRow]) -> String {
    if rows.is_empty() {
        return format!("No server moves.\n{}", page.next("status", "says whether packets arrive"));
    }
    let mut t = Table::new(&["ADDRESS", " PACKETS/S", " TRAFFIC", " SYN/S", "LOCKED", "GROUP"]);
    for r in rows {
        t.row([
            r.address.clone(),
            count(r.packets_per_second),
            scaled(r.bits_per_second, "bit/s"),
            count(r.syn_per_second),
            if r.locked { "locked" } else { "" }.to_owned(),
            r.group.clone(),
        ]);
    }
    t.lines(page.style)
}

/// The list as a whole.
pub(crate) fn locks(page: &Page<'_>, rows: &[LockRow]) -> String {
    if rows.is_empty() {
        return "Nothing is locked.\n".to_owned();
    }
    format!(
        "{}{}",
        lock_table(page, rows),
        page.next("unlock TARGET --reason REASON", "lifts one; `show TARGET` says more")
    )
}

/// Rows of the lock list, and below them why some are not enforced.
pub(crate) fn lock_table(page: &Page<'_>, rows: &[LockRow]) -> String {
    // What the target says already need not be said again.
    let owner = |r: &LockRow| {
        let server = r.server.as_ref().filter(|_| !matches!(r.target, Target::Server(_)));
        match (server, &r.customer) {
            (Some(s), customer) => whose(s, customer.as_deref()),
            (None, Some(customer)) => format!("of {customer}"),
            (None, None) => String::new(),
        }
    };
    let owned = rows.iter().any(|r| !owner(r).is_empty());
    let names: &[&str] = if owned {
        &[" ID", "TARGET", "SERVER", "WAY", "REASON", "FOR", "ENDS", "BY"]
    } else {
        &[" ID", "TARGET", "WAY", "REASON", "FOR", "ENDS", "BY"]
    };
    let mut t = Table::new(names);
    for r in rows {
        let mut by = vec![r.rule.clone().unwrap_or_else(|| r.who.clone())];
        by.extend(r.incident.clone());
        by.extend(r.case.as_ref().map(|c| format!("case {c}")));
        if r.suspended.is_some() {
            by.insert(0, "SUSPENDED".to_owned());
        } else if !r.enforced {
            by.insert(0, "NOT ENFORCED".to_owned());
        }
        let note = r.note.as_ref().map_or_else(String::new, |n| format!(": {n}"));
        let mut row = vec![r.id.to_string(), r.target.to_string()];
        row.extend(owned.then(|| owner(r)));
        row.extend([
            r.direction.to_string(),
            r.reason.to_string(),
            age(page, r.created),
            ends(page, r),
            format!("{}{note}", by.join(", ")),
        ]);
        t.row(row);
    }
    let mut text = t.lines(page.style);
    for (r, s) in rows.iter().filter_map(|r| Some((r, r.suspended.as_ref()?))) {
        let left = between(page.now, s.until);
        let line = format!(
            "lock {} on {} is suspended until {} (for {left}), by {}",
            r.id, r.target, s.until, s.who
        );
        text += &format!("  {}\n", page.style.yellow(&wrap(&line, 2)));
    }
    for r in rows.iter().filter(|r| !r.enforced && r.suspended.is_none()) {
        let why = r.why_not.as_deref().unwrap_or("cordond does not say why; see `cordon status`");
        let line = format!("lock {} on {} is not enforced: {why}", r.id, r.target);
        text += &format!("  {}\n", page.style.yellow(&wrap(&line, 2)));
    }
    for (r, remark) in rows.iter().filter_map(|r| Some((r, r.remark.as_ref()?))) {
        let line = format!("lock {} on {}: {remark}", r.id, r.target);
        text += &format!("  {}\n", page.style.yellow(&wrap(&line, 2)));
    }
    text
}

/// A server and its customer.
pub(crate) fn whose(server: &str, customer: Option<&str>) -> String {
    match customer {
        Some(c) => format!("{server} of {c}"),
        None => server.to_owned(),
    }
}

fn age(page: &Page<'_>, since: Time) -> String {
    short(page.now.unix_ms().saturating_sub(since.unix_ms()))
}

/// How a lock ends.
fn ends(page: &Page<'_>, r: &LockRow) -> String {
    match r.until {
        Some(t) => match t.unix_ms().saturating_sub(page.now.unix_ms()) {
            // Both units: an hour less a second is not none.
            left if left > 0 => format!("in {}", span(left)),
            _ => "now".to_owned(),
        },
        None if r.if_quiet => "if quiet".to_owned(),
        None => "by hand".to_owned(),
    }
}

pub(crate) fn incidents(page: &Page<'_>, rows: &[IncidentRow]) -> String {
    if rows.is_empty() {
        return "There are no incidents.\n".to_owned();
    }
    format!("{}{}", incident_table(page, rows), page.next("incident ID", "says everything about one"))
}

/// An incident in a few words.
fn what(i: &IncidentRow) -> String {
    let peak = rate(&i.measure, i.peak);
    let rule = i.rule.split('/').next().unwrap_or_default();
    match (i.measure.as_str(), &i.case) {
        ("frames", Some(case)) => format!("{case}: {peak}"),
        ("contacts", Some(case)) => format!("{rule}, {case}: {} (limit {})", count(i.peak), count(i.limit)),
        _ => {
            let attack = i.attack.as_ref().map(|a| format!(", {}", a.name.title())).unwrap_or_default();
            format!("{}{attack}: {peak} (limit {})", i.rule, rate(&i.measure, i.limit))
        }
    }
}

/// What was done, and what would have been.
fn done(i: &IncidentRow) -> String {
    match i.would {
        Some(Action::Lock) if i.action < Action::Lock => format!("{} (would lock)", i.action),
        Some(Action::Warn) if i.action < Action::Warn => format!("{} (would warn)", i.action),
        _ => i.action.to_string(),
    }
}

/// Rows of incidents.
pub(crate) fn incident_table(page: &Page<'_>, rows: &[IncidentRow]) -> String {
    let mut t = Table::new(&["ID", "STATE", "ADDRESS", "DONE", "AGO", "WHAT"]);
    for i in rows {
        t.row([
            i.id.clone(),
            i.state.to_string(),
            i.address.clone().or_else(|| i.mac.clone()).unwrap_or_default(),
            done(i),
            age(page, i.opened),
            what(i),
        ]);
    }
    t.lines(page.style)
}

/// A value of a measure, with its unit.
pub(crate) fn rate(measure: &str, value: u64) -> String {
    match measure {
        "bits" => scaled(value, "bit/s"),
        "contacts" | "frames" => format!("{} {measure}", count(value)),
        _ => format!("{}/s", count(value)),
    }
}

pub(crate) fn outbox(page: &Page<'_>, rows: &[OutboxRow]) -> String {
    if rows.is_empty() {
        return "Nothing waits, and nothing has failed.\n".to_owned();
    }
    let mut t = Table::new(&["ID", "KIND", "TO", "STATE", "AGE", " TRIES", "WHAT HAPPENED"]);
    for r in rows {
        t.row([
            r.id.clone(),
            r.kind.clone(),
            r.audience.clone(),
            r.state.to_string(),
            age(page, r.created),
            r.attempts.to_string(),
            fate(page, r),
        ]);
    }
    let mut text = t.lines(page.style);
    if rows.iter().any(|r| matches!(r.state, OutboxState::Waiting | OutboxState::Failed)) {
        text += &page.next("outbox retry ID", "tries one at once; `outbox drop ID` withdraws one");
    }
    text
}

/// What became of a row of the outbox.
fn fate(page: &Page<'_>, r: &OutboxRow) -> String {
    let error = r.error.clone().unwrap_or_default();
    match (r.state, &r.digest) {
        (OutboxState::Waiting, _) => {
            let left = r.due.unix_ms().saturating_sub(page.now.unix_ms());
            let due = if left > 0 { format!("due in {}", span(left)) } else { "due".to_owned() };
            if error.is_empty() { due } else { format!("{due}: {error}") }
        }
        (_, Some(digest)) => format!("in {digest}"),
        _ => error,
    }
}

pub(crate) fn rtbh(page: &Page<'_>, rows: &[RtbhRow], undo: Option<&str>) -> String {
    if rows.is_empty() {
        return format!(
            "Nothing is announced.\n{}",
            page.next(
                "rtbh announce ADDRESS",
                "asks the routers upstream to drop what is sent to a locked address"
            )
        );
    }
    let mut t = Table::new(&["ADDRESS", "STATE", "AGE", "ENDS", " ROUND", "BY", "GOBGPD"]);
    for r in rows {
        let left = r.until.unix_ms().saturating_sub(page.now.unix_ms());
        let (state, ends) = match r.state {
            RtbhState::Announced => ("announced", format!("probed in {}", span(left.max(0)))),
            RtbhState::Probing => ("probing", format!("in {}", span(left.max(0)))),
            RtbhState::Withdrawing => ("withdrawing", "when gobgpd has taken it back".to_owned()),
        };
        let by = [Some(r.who.clone()), r.incident.clone(), r.note.clone()];
        t.row([
            r.address.to_string(),
            state.to_owned(),
            age(page, r.since),
            ends,
            (r.round + 1).to_string(),
            by.into_iter().flatten().collect::<Vec<_>>().join(", "),
            match r.present {
                None => "not asked yet",
                Some(true) => "has it",
                Some(false) => "has it not",
            }
            .to_owned(),
        ]);
    }
    let mut text = t.lines(page.style);
    text += &match undo {
        Some(_) => page.undo(undo),
        None => page.next("rtbh withdraw ADDRESS", "takes one back; a lifted lock does, too"),
    };
    text
}

pub(crate) fn rules(page: &Page<'_>, rows: &[RuleRow]) -> String {
    let mut t = Table::new(&["RULE", "GOES AS FAR AS", "AT PRESENT"]);
    for r in rows {
        let now = match (r.latched, r.observing) {
            (true, _) => "observes: its breaker is latched",
            (false, true) => "observes: somebody set it so",
            (false, false) => "",
        };
        t.row([r.rule.clone(), r.action.to_string(), now.to_owned()]);
    }
    t.lines(page.style)
}

pub(crate) fn exemptions(page: &Page<'_>, rows: &[ExemptionRow]) -> String {
    if rows.is_empty() {
        return "No rule leaves anybody alone.\n".to_owned();
    }
    let mut t = Table::new(&["TARGET", "RULE", "UNTIL"]);
    for r in rows {
        t.row([r.target.to_string(), r.rule.clone(), r.until.to_string()]);
    }
    t.lines(page.style)
}

pub(crate) fn tokens(page: &Page<'_>, rows: &[TokenRow]) -> String {
    if rows.is_empty() {
        let next = page.next("token create NAME --role viewer", "makes one");
        return format!("There are no tokens: nobody may use the HTTP API.\n{next}");
    }
    let mut t = Table::new(&["NAME", "ROLE", "STATE", "AGE", "USED", "BY"]);
    for r in rows {
        let state = match (r.revoked, r.until) {
            (Some(at), _) => format!("revoked {} ago", age(page, at)),
            (None, Some(until)) if until <= page.now => "its time is over".to_owned(),
            (None, Some(until)) => format!("good until {until}"),
            (None, None) => "good".to_owned(),
        };
        let used = r.last_used.map_or("never".to_owned(), |at| format!("{} ago", age(page, at)));
        t.row([r.name.clone(), r.role.to_string(), state, age(page, r.created), used, r.who.clone()]);
    }
    t.lines(page.style)
}

pub(crate) fn breaker(page: &Page<'_>, rows: &[BreakerRow]) -> String {
    if rows.is_empty() {
        return "No rule is latched.\n".to_owned();
    }
    let mut text = String::new();
    for b in rows {
        text += &format!(
            "{} is latched since {} ({} ago): {} locks in the window. It only observes; its locks stand.\n",
            page.style.red(&b.rule),
            b.since,
            between(b.since, page.now),
            count(b.locks)
        );
        let waiting = if b.waiting.is_empty() { "nothing".to_owned() } else { b.waiting.join(" ") };
        text += &format!("  would have locked since: {}\n", wrap(&waiting, 27));
        if !b.waiting.is_empty() {
            text += &page.next(
                &format!("breaker approve {} TARGET", b.rule),
                "locks one of them; without target, all",
            );
        }
        text += &page.next(&format!("breaker reset {}", b.rule), "lets it lock again");
        text += &page.next(
            &format!("unlock --rule {} --since {} --dry-run", b.rule, b.since.plus_ms(-600_000)),
            "shows what to take back",
        );
    }
    text
}
