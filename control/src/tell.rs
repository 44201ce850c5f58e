//! Who is told of what: from what happened to rows of the outbox. Pure; the rows go to the store in the batch of the change
//! that causes them, and the office makes mails of them.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{
    Action, Event, IncidentRow, Kind, LockRow, Notice, NoticeData, NoticeServer, Reason, Target, Time, Why,
};
use config::{Inventory, Rule, Server, Webhook};
use letters::{Letter, Party};

use crate::control::Control;
use crate::effect::{Message, StoreOp, Tell};

/// A letter is due so long after the tick that completes its files, so that they are on disk.
const SETTLE: Duration = Duration::from_millis(500);
/// When the evidence of a lock closes.
const CLOSES: Duration = Duration::from_secs(300);

/// Letters and digits as they are, everything else by its code: a part of an id.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '-' {
            out.push(c);
        } else {
            out += &format!("_{:x}", u32::from(c));
        }
    }
    out
}

/// A customer and what of a list is his.
#[derive(Debug)]
struct Owner {
    party: Party,
    targets: Vec<String>,
    servers: Vec<String>,
}

/// What a letter is about, before it is known to whom it goes.
struct News<'a> {
    event: Event,
    /// What tells it from others of the same event and thread.
    mark: String,
    thread: String,
    at: Time,
    due: Time,
    targets: &'a [Target],
    /// What is shown where no address is known.
    otherwise: Option<String>,
    who: &'a str,
}

impl<'a> News<'a> {
    /// About a row of the lock list, at once.
    fn of_row(event: Event, row: &'a LockRow, at: Time, who: &'a str) -> News<'a> {
        News {
            event,
            mark: format!(".{}", row.id),
            thread: thread(row),
            at,
            due: at,
            targets: std::slice::from_ref(&row.target),
            otherwise: None,
            who,
        }
    }
}

impl Control {
    /// The customers of some targets.
    fn owners(&self, targets: &[Target]) -> Vec<Owner> {
        let (Some(mail), Some(inventory)) = (&self.config.mail, &self.inventory) else { return Vec::new() };
        let mut owners: BTreeMap<String, Owner> = BTreeMap::new();
        for target in targets {
            for server in servers_of(inventory, target) {
                let id = server.customer.clone().unwrap_or_else(|| format!("server {}", server.id));
                let owner = owners.entry(id.clone()).or_insert_with(|| Owner {
                    party: Party {
                        customer: Some(id),
                        name: None,
                        to: Vec::new(),
                        language: server.language.clone().unwrap_or_else(|| mail.language.clone()),
                    },
                    targets: Vec::new(),
                    servers: Vec::new(),
                });
                let name = match &server.name {
                    Some(name) => format!("{} ({name})", server.id),
                    None => server.id.clone(),
                };
                add(&mut owner.servers, name);
                add(&mut owner.targets, target.to_string());
                server.contacts.iter().for_each(|c| add(&mut owner.party.to, c.clone()));
            }
        }
        owners.into_values().collect()
    }

    /// Rows for everybody who is to be told, each with the letter that `fill` completes.
    fn tell(&self, news: &News<'_>, fill: impl Fn(&mut Letter)) -> Vec<StoreOp> {
        let names: Vec<String> = news.targets.iter().map(Target::to_string).collect();
        let names = if names.is_empty() { news.otherwise.iter().cloned().collect() } else { names };
        let mut ops = self.tell_programs(news, &names, &fill);
        let Some(mail) = self.config.mail.as_ref() else { return ops };
        let owners = if mail.customers { self.owners(news.targets) } else { Vec::new() };
        let owners: Vec<Owner> = owners.into_iter().filter(|o| !o.party.to.is_empty()).collect();
        let mut put = |part: String, letter: Letter| {
            let id = format!("{}.{}{}.{part}", news.thread, news.event, news.mark);
            ops.push(StoreOp::Tell(Box::new(Tell {
                id,
                thread: news.thread.clone(),
                created: news.at,
                due: news.due,
                message: Message::Mail(Box::new(letter)),
            })));
        };
        let new = |party: Party, targets: Vec<String>, servers: Vec<String>| {
            let mut letter = Letter { servers, ..Letter::new(news.event, party, news.at, targets, news.who) };
            fill(&mut letter);
            letter
        };
        if !mail.desk.is_empty() {
            let desk =
                Party { customer: None, name: None, to: mail.desk.clone(), language: mail.language.clone() };
            let servers = owners.iter().flat_map(|o| o.servers.clone()).collect();
            let mut letter = new(desk, names, servers);
            letter.told = owners
                .iter()
                .map(|o| {
                    let id = o.party.customer.as_deref().unwrap_or_default();
                    format!("{id} <{}>", o.party.to.join(", "))
                })
                .collect();
            put("desk".to_owned(), letter);
        }
        for o in owners {
            let id = o.party.customer.as_deref().map(plain).unwrap_or_default();
            put(format!("c-{id}"), new(o.party, o.targets, o.servers));
        }
        ops
    }

    /// Rows for webhooks. A letter waits until the logs hold something; a program is told at once, and can ask for them.
    fn tell_programs(&self, news: &News<'_>, names: &[String], fill: &impl Fn(&mut Letter)) -> Vec<StoreOp> {
        let programs: Vec<&Webhook> =
            self.config.webhooks.iter().filter(|w| w.events.contains(&news.event)).collect();
        if programs.is_empty() {
            return Vec::new();
        }
        let nobody = Party { customer: None, name: None, to: Vec::new(), language: String::new() };
        let mut facts = Letter::new(news.event, nobody, news.at, names.to_vec(), news.who);
        fill(&mut facts);
        let mut servers: Vec<NoticeServer> = Vec::new();
        if let Some(inventory) = &self.inventory {
            let of = news.targets.iter().flat_map(|t| servers_of(inventory, t));
            servers.extend(of.map(|s| NoticeServer { id: s.id.clone(), customer: s.customer.clone() }));
            servers.sort_unstable();
            servers.dedup();
        }
        let notice = Notice {
            event: news.event,
            timestamp: news.at,
            data: NoticeData {
                thread: news.thread.clone(),
                targets: facts.targets,
                servers,
                who: facts.who,
                incident: facts.incident,
                lock: facts.lock,
                still: facts.still,
                deadline: facts.deadline,
                why: facts.why,
                rule: facts.rule,
                incidents: facts.incidents,
                text: facts.text,
            },
        };
        let row = |w: &&Webhook| {
            StoreOp::Tell(Box::new(Tell {
                id: format!("{}.{}{}.w-{}", news.thread, news.event, news.mark, w.name),
                thread: news.thread.clone(),
                created: news.at,
                due: if news.event == Event::Evidence { news.due } else { news.at },
                message: Message::Webhook { name: w.name.clone(), notice: Box::new(notice.clone()) },
            }))
        };
        programs.iter().map(row).collect()
    }

    fn delay(&self) -> Duration {
        self.config.mail.as_ref().map(|m| m.delay).unwrap_or_default()
    }

    /// The deadline of a warning.
    fn deadline(&self, i: &IncidentRow, warned: Time) -> Option<Time> {
        let rule: Rule = i.rule.split('/').next()?.parse().ok()?;
        let settings = self.config.rule(rule);
        let deadline = settings.deadline.filter(|_| settings.action == config::Ceiling::Lock)?;
        Some(warned.plus(deadline))
    }

    /// A warning. Told again, with what has grown, it replaces what still waits.
    pub(crate) fn tell_warned(&self, i: &IncidentRow) -> Vec<StoreOp> {
        let Some(warned) = i.actions.iter().find(|a| a.action == Action::Warn).map(|a| a.at) else {
            return Vec::new();
        };
        let targets: Vec<Target> = i.address.iter().filter_map(|a| a.parse().ok()).collect();
        let attacked = i.kind == Kind::AttackIn;
        let news = News {
            event: if attacked { Event::Attacked } else { Event::Warned },
            mark: String::new(),
            thread: i.id.clone(),
            at: warned,
            due: warned.plus(self.delay()).plus(SETTLE),
            targets: &targets,
            otherwise: i.mac.clone(),
            who: "cordon",
        };
        let deadline = self.deadline(i, warned);
        self.tell(&news, |l| {
            l.incident = Some(short(i));
            l.deadline = deadline;
        })
    }

    /// A detector's lock, and the evidence that follows it.
    pub(crate) fn tell_locked(&self, row: &LockRow, incident: Option<&IncidentRow>) -> Vec<StoreOp> {
        let Some(i) = incident else { return self.tell_locked_by_hand(row) };
        let news = |event, wait| News {
            due: row.created.plus(wait).plus(SETTLE),
            ..News::of_row(event, row, row.created, &row.who)
        };
        let event = if row.reason == Reason::AttackIn { Event::Attacked } else { Event::Locked };
        let fill = |l: &mut Letter| {
            l.incident = Some(short(i));
            l.lock = Some(Box::new(row.clone()));
        };
        let mut ops = self.tell(&news(event, self.delay()), fill);
        ops.extend(self.tell(&news(Event::Evidence, CLOSES), fill));
        ops
    }

    /// What is told of an open case is told anew, with what has been found since.
    pub(crate) fn tell_again(&self, i: &IncidentRow, lock: Option<u64>) -> Vec<StoreOp> {
        match lock.and_then(|id| self.locks.get(id)) {
            Some(row) if row.incident.as_ref() == Some(&i.id) => self.tell_locked(row, Some(i)),
            _ => self.tell_warned(i),
        }
    }

    /// A lock by hand.
    pub(crate) fn tell_locked_by_hand(&self, row: &LockRow) -> Vec<StoreOp> {
        let news = News {
            mark: String::new(),
            thread: by_hand(row),
            ..News::of_row(Event::LockedByHand, row, row.created, &row.who)
        };
        self.tell(&news, |l| l.lock = Some(Box::new(row.clone())))
    }

    /// Locks that are lifted, all at once. `lifted`: their numbers.
    pub(crate) fn tell_unlocked(&self, lifted: &[u64], who: &str, why: Why) -> Vec<StoreOp> {
        let at = self.now.time();
        let mut ops = Vec::new();
        for row in lifted.iter().filter_map(|id| self.locks.get(*id)) {
            let still = self.still_locked(&row.target, lifted);
            let news = News::of_row(Event::Unlocked, row, at, who);
            ops.extend(self.tell(&news, |l| {
                l.lock = Some(Box::new(row.clone()));
                l.why = Some(why);
                l.still.clone_from(&still);
            }));
        }
        ops
    }

    /// Reasons that still lock a target when some rows are lifted.
    fn still_locked(&self, target: &Target, lifted: &[u64]) -> Vec<Reason> {
        let Some(net) = target.prefix() else { return Vec::new() };
        let rows = self.locks.covering(&net).into_iter();
        let rows = rows.filter(|r| !lifted.contains(&r.id) && r.suspended.is_none());
        let mut reasons: Vec<Reason> = rows.map(|r| r.reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }

    /// A maintenance window opens.
    pub(crate) fn tell_maintenance(&self, ids: &[u64], who: &str, until: Time) -> Vec<StoreOp> {
        let at = self.now.time();
        let mut ops = Vec::new();
        for row in ids.iter().filter_map(|id| self.locks.get(*id)) {
            let mark = format!(".{}.{}", row.id, at.unix_ms());
            let news = News { mark, ..News::of_row(Event::Maintenance, row, at, who) };
            ops.extend(self.tell(&news, |l| {
                l.lock = Some(Box::new(row.clone()));
                l.deadline = Some(until);
            }));
        }
        ops
    }

    /// A rule misfired: everybody that it has locked since a time is told so, whether the lock still stands or not, and
    /// no further evidence is sent.
    pub(crate) fn tell_correction(&self, rule: Rule, since: Time, lifted: &[u64], who: &str) -> Vec<StoreOp> {
        if self.config.mail.is_none() && self.config.webhooks.is_empty() {
            return Vec::new();
        }
        let at = self.now.time();
        let mut targets: Vec<Target> = Vec::new();
        let mut incidents: BTreeMap<String, String> = BTreeMap::new();
        for row in lifted.iter().filter_map(|id| self.locks.get(*id)) {
            targets.push(row.target.clone());
            if let Some(i) = &row.incident {
                incidents.insert(row.target.to_string(), i.clone());
            }
        }
        let name = rule.to_string();
        for i in self.incidents.rows() {
            let of_rule = i.rule.split('/').next() == Some(&name);
            let locked = i.actions.iter().any(|a| a.action == Action::Lock && a.at >= since);
            let target = i.address.as_ref().and_then(|a| a.parse::<Target>().ok());
            if let Some(target) = target.filter(|_| of_rule && locked) {
                incidents.insert(target.to_string(), i.id.clone());
                targets.push(target);
            }
        }
        targets.sort_unstable();
        targets.dedup();
        let mut ops: Vec<StoreOp> = incidents
            .values()
            .map(|thread| StoreOp::Withdraw {
                thread: thread.clone(),
                event: Event::Evidence,
                at,
                why: format!("{who} took back what {name} did"),
            })
            .collect();
        let news = News {
            event: Event::Correction,
            mark: format!(".{}", at.unix_ms()),
            thread: incidents.values().min().cloned().unwrap_or_else(|| format!("rule-{name}")),
            at,
            due: at,
            targets: &targets,
            otherwise: None,
            who,
        };
        ops.extend(self.tell(&news, |l| {
            l.rule = Some(name.clone());
            l.incidents = l.targets.iter().filter_map(|t| incidents.get(t).cloned()).collect();
        }));
        ops
    }
}

fn add(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The servers that a target is, or that lie in it.
fn servers_of<'a>(inventory: &'a Inventory, target: &Target) -> Vec<&'a Server> {
    let net = match target {
        Target::Server(id) => return inventory.server(id).into_iter().collect(),
        Target::Mac(mac) => return inventory.of_mac(mac.0).into_iter().collect(),
        Target::Prefix(net) => net,
    };
    if let Some(server) = inventory.of_host(net) {
        return vec![server];
    }
    let touches = |s: &&Server| s.addresses.iter().any(|a| net.contains(a) || a.contains(net));
    inventory.servers().iter().filter(touches).collect()
}

/// The thread of what concerns a lock.
fn thread(row: &LockRow) -> String {
    row.incident.clone().unwrap_or_else(|| by_hand(row))
}

/// The thread of a lock that no incident has led to.
fn by_hand(row: &LockRow) -> String {
    format!("L-{}", row.id)
}

/// An incident without its history: a letter does not tell it.
fn short(i: &IncidentRow) -> Box<IncidentRow> {
    Box::new(IncidentRow { timeline: Vec::new(), ..i.clone() })
}

#[cfg(test)]
mod tests;
