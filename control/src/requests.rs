//! What an operator asks: checked, stored, put in force, answered, in this order.

use api::{
    Action, ErrorCode, ExemptionRow, Failure, IncidentRow, LockRow, Payload, Request, Response, RuleRow,
    Suspension, Target, Time, Why,
};
use config::Rule;
use ipnet::IpNet;
use region::locks::EXCEPTIONS_MAX;
use region::segment::MACS_MAX;

use crate::access::Caller;
use crate::control::{Control, Use};
use crate::effect::{ClientId, Effect, OutboxAsk, StoreOp, Token};
use crate::references::Repeat;

/// Most rows of one answer.
const ROWS_MAX: usize = 100_000;

/// What is done when a batch is on disk.
#[derive(Debug)]
pub(crate) struct Waiting {
    client: ClientId,
    /// Who has asked for the same under the same reference meanwhile.
    pub(crate) also: Vec<ClientId>,
    pub(crate) then: Then,
}

#[derive(Debug)]
pub(crate) enum Then {
    Lock(Box<LockRow>),
    Unlock(String, Vec<u64>),
    /// A maintenance unlock of rows on a target, or its end.
    Suspend {
        who: String,
        target: Target,
        ids: Vec<u64>,
        suspension: Option<Suspension>,
    },
    /// The rows are approved of: they leave the list of the rule's breaker.
    Approve(Rule, Vec<LockRow>),
    Exempt(Target, Rule, Time),
    Rule(Rule, bool),
    BreakerReset(Rule),
    Rtbh(Box<api::RtbhRow>),
    /// A token was made, or revoked.
    Token(Box<Token>),
}

pub(crate) type Answer = Result<Payload, Failure>;

pub(crate) fn bad(message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(ErrorCode::BadRequest, message, hint)
}

pub(crate) fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::NotFound, message, hint)
}

pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::Refused, message, hint)
}

fn rule(name: &str) -> Result<Rule, Failure> {
    name.parse().map_err(|e: String| {
        let (message, hint) = e.split_once("; ").unwrap_or((&e, "see cordon.example.toml"));
        not_found(message, hint)
    })
}

fn no_lock(id: u64) -> Failure {
    not_found(format!("there is no lock {id}, or it was lifted"), "`cordon list` shows what is locked")
}

/// Whether targets have an address in common, as far as their names tell.
fn meets(a: &Target, b: &Target) -> bool {
    match (a.prefix(), b.prefix()) {
        (Some(a), Some(b)) => overlap(&a, &b),
        _ => a == b,
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

impl Control {
    /// Takes a request of a user of this machine.
    pub fn request(&mut self, client: ClientId, who: &str, request: Request, now: crate::effect::Now) {
        self.ask(client, &Caller::local(who), request, now);
    }

    /// Takes a request; its answer comes as an effect, at once or when what it changes is on disk and in force.
    pub fn ask(&mut self, client: ClientId, caller: &Caller, request: Request, now: crate::effect::Now) {
        self.now = now;
        if let Err(f) = self.admit(caller, &request) {
            return self.answer(client, Err(f));
        }
        match self.repeat(client, &request) {
            Repeat::New => {}
            Repeat::Joined => return,
            Repeat::Known(answer) => return self.answer(client, answer),
        }
        let who = caller.who.as_str();
        let answer = match request {
            Request::Reload => {
                self.effects.push(Effect::ReadConfig(client));
                return;
            }
            question @ Request::Evidence { .. } => match self.ask_evidence(client, question) {
                Ok(()) => return,
                Err(f) => Err(f),
            },
            Request::Outbox { all, limit } => {
                let ask = OutboxAsk::List { all, limit: limit.min(ROWS_MAX) };
                return self.effects.push(Effect::AskOutbox(client, ask));
            }
            Request::OutboxRetry { id } => {
                let ask = OutboxAsk::Retry { id, who: who.to_owned(), at: now.time() };
                return self.effects.push(Effect::AskOutbox(client, ask));
            }
            Request::OutboxDrop { id } => {
                let ask = OutboxAsk::Drop { id, who: who.to_owned(), at: now.time() };
                return self.effects.push(Effect::AskOutbox(client, ask));
            }
            Request::Status => Ok(Payload::Status(Box::new(self.status()))),
            Request::Top { by, direction, limit } => {
                Ok(Payload::Top(self.top(by, direction, limit.min(ROWS_MAX))))
            }
            Request::List => Ok(Payload::Locks(self.told(self.locks.rows()))),
            Request::Locks { reason, target, customer, external_ref, after, limit } => {
                let wanted = |r: &&LockRow| {
                    reason.is_none_or(|w| r.reason == w)
                        && target.as_ref().is_none_or(|t| self.lock_meets(r, t))
                        && external_ref.as_ref().is_none_or(|w| r.external_ref.as_ref() == Some(w))
                        && customer.as_ref().is_none_or(|w| {
                            self.server_of(&r.target).is_some_and(|s| s.customer.as_ref() == Some(w))
                        })
                };
                let rows = self.locks.rows_after(after).filter(wanted).take(limit.min(ROWS_MAX));
                Ok(Payload::Locks(self.told(rows)))
            }
            Request::LockById { id } => match self.locks.get(id) {
                Some(row) => Ok(Payload::Lock(Box::new(self.told([row].into_iter()).remove(0)))),
                None => Err(no_lock(id)),
            },
            Request::Show { target } => {
                let mut report = self.show(target);
                if !caller.reads_incidents() {
                    report.incidents.clear();
                }
                Ok(Payload::Host(Box::new(report)))
            }
            Request::Rules => Ok(Payload::Rules(self.rules())),
            Request::Exemptions => {
                let row = |(target, rule, until): &(Target, Rule, Time)| ExemptionRow {
                    target: target.clone(),
                    rule: rule.to_string(),
                    until: *until,
                };
                Ok(Payload::Exemptions(self.exemptions.iter().map(row).collect()))
            }
            Request::Tokens => Ok(Payload::Tokens(self.tokens.rows())),
            Request::Incidents { open, limit } => {
                let rows = self.incidents.rows().into_iter().rev();
                let wanted = rows.filter(|r| !open || r.closed.is_none()).take(limit.min(ROWS_MAX));
                Ok(Payload::Incidents(wanted.cloned().collect()))
            }
            Request::IncidentPage { open, target, before, limit } => {
                self.incident_page(open, target.as_ref(), before.as_deref(), limit.min(ROWS_MAX))
            }
            Request::Incident { id } => match self.incidents.by_id(&id) {
                Some(row) => Ok(Payload::Incident(Box::new(row.clone()))),
                // The store has those too that are no longer at hand.
                None => return self.effects.push(Effect::AskIncident(client, id)),
            },
            Request::RtbhList => Ok(Payload::Rtbh(self.rtbh.rows().cloned().collect())),
            Request::BreakerStatus => Ok(Payload::Breaker(self.breakers.rows())),
            Request::Bypass { on } => Ok(self.switch_bypass(who, on)),
            changing => match self.prepare(who, changing) {
                Ok(Prepared::Answer(payload)) => Ok(payload),
                Ok(Prepared::Store(mut ops, then, what)) => {
                    if let Err(f) = self.may_touch(caller, &then) {
                        return self.answer(client, Err(f));
                    }
                    ops.push(StoreOp::Audit { at: now.time(), who: caller.signature(), what });
                    let batch = self.new_batch();
                    self.waiting.insert(batch, Waiting { client, also: Vec::new(), then });
                    self.effects.push(Effect::Store { batch, ops, retry: false });
                    return;
                }
                Err(f) => Err(f),
            },
        };
        self.answer(client, answer);
    }

    /// Whether a caller may ask this.
    fn admit(&mut self, caller: &Caller, request: &Request) -> Result<(), Failure> {
        if let Some(id) = caller.token
            && let Some(op) = self.tokens.used(id, self.now.time())?
        {
            self.keep(vec![op]);
        }
        caller.may(request)
    }

    /// Whether a caller may lift the rows that it would lift.
    fn may_touch(&self, caller: &Caller, then: &Then) -> Result<(), Failure> {
        let (Then::Unlock(_, ids) | Then::Suspend { ids, .. }) = then else { return Ok(()) };
        if caller.token.is_none() {
            return Ok(());
        }
        ids.iter().filter_map(|id| self.locks.get(*id)).try_for_each(|row| caller.may_lift(row))
    }

    /// Whether a lock has an address in common with a target, or is on the same server.
    fn lock_meets(&self, row: &LockRow, target: &Target) -> bool {
        row.target == *target
            || match target {
                Target::Prefix(net) => row.nets().iter().any(|n| overlap(n, net)),
                Target::Server(id) => self.server_of(&row.target).is_some_and(|s| s.id == *id),
                Target::Mac(_) => false,
            }
    }

    fn incident_page(
        &self,
        open: bool,
        target: Option<&Target>,
        before: Option<&str>,
        limit: usize,
    ) -> Answer {
        let mut rows = self.incidents.rows().into_iter().rev();
        if let Some(id) = before
            && !rows.any(|r| r.id == id)
        {
            return Err(not_found(format!("there is no incident {id}"), "begin again without a cursor"));
        }
        let about = |r: &IncidentRow, t: &Target| {
            r.address.as_ref().and_then(|a| a.parse().ok()).is_some_and(|a: Target| meets(&a, t))
        };
        let wanted =
            rows.filter(|r| (!open || r.closed.is_none()) && target.is_none_or(|t| about(r, t))).take(limit);
        Ok(Payload::Incidents(wanted.cloned().collect()))
    }

    fn rules(&self) -> Vec<RuleRow> {
        let row = |rule: Rule| RuleRow {
            rule: rule.to_string(),
            action: match self.config.rule(rule).action {
                config::Ceiling::Observe => Action::Observe,
                config::Ceiling::Warn => Action::Warn,
                config::Ceiling::Lock => Action::Lock,
            },
            observing: self.observing.contains(&rule),
            latched: self.breakers.row(rule).is_some(),
        };
        Rule::all().map(row).collect()
    }

    fn answer(&mut self, client: ClientId, answer: Answer) {
        let response = match answer {
            Ok(payload) => Response::Ok(payload),
            Err(failure) => Response::Error(failure),
        };
        self.effects.push(Effect::Reply(client, response));
    }

    /// Checks a request that changes something, and says what has to be on disk before it is done.
    fn prepare(&mut self, who: &str, request: Request) -> Result<Prepared, Failure> {
        let at = self.now.time();
        match request {
            Request::Lock { target, reason, direction, note, case, until, except, force, external_ref } => {
                self.check_lock(&target, until, &except, force)?;
                let addresses = match &target {
                    Target::Server(id) => self.addresses_of(id, &[]),
                    Target::Prefix(_) | Target::Mac(_) => Vec::new(),
                };
                let (id, generation) = self.locks.next_id();
                let mut row = LockRow {
                    case,
                    note,
                    until,
                    except,
                    generation,
                    addresses,
                    external_ref,
                    ..LockRow::new(id, target, direction, reason, who, at)
                };
                self.set_enforced(&mut row);
                let what = format!("lock {} {direction} ({reason})", row.target);
                let mut ops = vec![StoreOp::PutLock(Box::new(row.clone()))];
                ops.extend(self.tell_locked_by_hand(&row));
                Ok(Prepared::Store(ops, Then::Lock(Box::new(row)), what))
            }
            Request::Unlock { target, reason, all, until: Some(until) } => {
                self.prepare_suspension(who, &target, reason, all, until)
            }
            Request::Resume { target } => self.prepare_resumption(who, &target),
            Request::BreakerApprove { rule: name, targets } => {
                let rule = rule(&name)?;
                self.prepare_approval(who, rule, targets)
            }
            Request::Unlock { target, reason, all, until: None } => {
                let ids = self.rows_to_lift(&target, reason, all)?;
                let what = format!("unlock {target} (rows {ids:?})");
                let tells = self.tell_unlocked(&ids, who, Why::Operator);
                Ok(self.lifting(who, ids, what, tells))
            }
            Request::UnlockById { id } => {
                let Some(row) = self.locks.get(id) else { return Err(no_lock(id)) };
                let what = format!("unlock {} ({}) (rows [{id}])", row.target, row.reason);
                let tells = self.tell_unlocked(&[id], who, Why::Operator);
                Ok(self.lifting(who, vec![id], what, tells))
            }
            Request::TokenCreate { name, role, digest, until } => {
                self.prepare_token(who, name, role, digest, until)
            }
            Request::TokenRevoke { name } => self.prepare_revocation(&name),
            Request::UnlockRule { rule: name, since, dry_run } => {
                let misfired = rule(&name)?;
                let rule = misfired.to_string();
                let of_rule = |r: &&LockRow| r.rule.as_deref() == Some(&rule) && r.created >= since;
                if dry_run {
                    return Ok(Prepared::Answer(Payload::Locks(
                        self.locks.rows().filter(of_rule).cloned().collect(),
                    )));
                }
                let ids: Vec<u64> = self.locks.rows().filter(of_rule).map(|r| r.id).collect();
                if ids.is_empty() {
                    return Err(not_found(
                        format!("{rule} has locked nothing since {since} that is still locked"),
                        "`cordon list` shows what is; manual locks are lifted by `cordon unlock TARGET`",
                    ));
                }
                let what = format!("unlock --rule {rule} --since {since}: {} locks", ids.len());
                let tells = self.tell_correction(misfired, since, &ids, who);
                Ok(self.lifting(who, ids, what, tells))
            }
            Request::RtbhAnnounce { address, until, note } => self.prepare_rtbh(who, address, until, note),
            Request::RtbhWithdraw { address } => self.prepare_rtbh_end(address),
            Request::BreakerReset { rule: name } => {
                let rule = rule(&name)?;
                if self.breakers.row(rule).is_none() {
                    return Err(not_found(
                        format!("{rule} is not latched"),
                        "`cordon breaker status` lists those that are",
                    ));
                }
                let op = StoreOp::SetBreaker { rule: rule.to_string(), latched: None };
                Ok(Prepared::Store(vec![op], Then::BreakerReset(rule), format!("breaker reset {rule}")))
            }
            Request::Exempt { target, rule: name, until } => {
                let rule = rule(&name)?;
                if until <= at {
                    return Err(bad(format!("{until} is over already"), "name a time to come"));
                }
                match &target {
                    Target::Prefix(_) => {}
                    Target::Server(id) => {
                        self.known_server(id)?;
                    }
                    Target::Mac(_) => {
                        return Err(refused(
                            format!("{target}: rules judge addresses, and these are not known here"),
                            "exempt the address or prefix",
                        ));
                    }
                }
                let op = StoreOp::PutExemption { target: target.clone(), rule: rule.to_string(), until };
                let what = format!("exempt {target} from {rule} until {until}");
                Ok(Prepared::Store(vec![op], Then::Exempt(target, rule, until), what))
            }
            Request::Rule { rule: name, observe } => {
                let rule = rule(&name)?;
                let op = StoreOp::SetRuleMode { rule: rule.to_string(), observe };
                let what = format!("rule {rule} {}", if observe { "observe" } else { "enforce" });
                Ok(Prepared::Store(vec![op], Then::Rule(rule, observe), what))
            }
            other => Err(bad(format!("{other:?} changes nothing"), "report this")),
        }
    }

    fn lifting(&self, who: &str, ids: Vec<u64>, what: String, tells: Vec<StoreOp>) -> Prepared {
        let at = self.now.time();
        let lifted = ids.iter().map(|id| StoreOp::RemoveLock { id: *id, who: who.to_owned(), at });
        let ops = lifted.chain(tells).collect();
        Prepared::Store(ops, Then::Unlock(who.to_owned(), ids), what)
    }

    /// What speaks against a lock by hand.
    fn check_lock(
        &self,
        target: &Target,
        until: Option<Time>,
        except: &[IpNet],
        force: bool,
    ) -> Result<(), Failure> {
        if let Some(until) = until.filter(|u| *u <= self.now.time()) {
            return Err(bad(format!("the lock would end at {until}, which is over"), "name a time to come"));
        }
        let nets = match target {
            Target::Prefix(net) => vec![*net],
            Target::Server(id) => self.lockable(id)?,
            Target::Mac(mac) => return self.check_mac(*mac, except, force),
        };
        let exceptions = self.locks.exceptions() + except.len() * nets.len();
        if !except.is_empty() && exceptions > EXCEPTIONS_MAX {
            return Err(refused(
                format!(
                    "{exceptions} exceptions would be in force, the dataplane has room for {EXCEPTIONS_MAX}"
                ),
                "use fewer or wider --except prefixes, or [exceptions] for those that hold for every lock",
            ));
        }
        let length = self.networks.ipv6_length();
        if let Target::Prefix(IpNet::V6(v6)) = target
            && v6.prefix_len() > length
        {
            let whole =
                ipnet::Ipv6Net::new(v6.addr(), length).map(|n| n.trunc().to_string()).unwrap_or_default();
            return Err(refused(
                format!("{target} is a part of the server {whole}: an IPv6 server is a /{length} here"),
                format!("lock the whole server: cordon lock {whole} …; or set [tables] ipv6_host_length"),
            ));
        }
        let protected = nets.iter().find_map(|net| self.protected_by(net));
        if let (Some(why), false) = (protected, force) {
            return Err(refused(format!("{target} {why}"), "use --force if you mean it"));
        }
        Ok(())
    }

    /// What speaks against locking a device of the segment by hand.
    fn check_mac(&self, mac: api::Mac, except: &[IpNet], force: bool) -> Result<(), Failure> {
        if let Some(why) = self.mac_why_not() {
            return Err(refused(
                format!("{mac} cannot be locked: {why}"),
                "lock the addresses of the server",
            ));
        }
        if !except.is_empty() {
            return Err(refused(
                format!("{mac} is locked whatever is in its packets: nobody can be excepted by address"),
                "lock the addresses of the server, with --except",
            ));
        }
        let macs = self.locks.macs();
        if macs.len() >= MACS_MAX && !macs.contains_key(&mac) {
            return Err(refused(
                format!("{MACS_MAX} MAC addresses are locked, the dataplane has room for no more"),
                "lock the addresses of the server, or unlock others",
            ));
        }
        match self.is_needed(mac) {
            Some(why) if !force => Err(refused(format!("{mac} {why}"), "use --force if you mean it")),
            _ => Ok(()),
        }
    }

    /// Why detectors leave a prefix, or a part of it, alone.
    pub(crate) fn protected_by(&self, net: &IpNet) -> Option<String> {
        if let Some(p) = self.config.never_lock.iter().find(|p| overlap(p, net)) {
            return Some(format!("meets the never-lock prefix {p}"));
        }
        let gateways = self.config.networks.iter().flat_map(|n| &n.gateways);
        gateways.copied().find(|g| net.contains(g)).map(|g| format!("contains the gateway {g}"))
    }

    pub(crate) fn rows_to_lift(
        &self,
        target: &Target,
        reason: Option<api::Reason>,
        all: bool,
    ) -> Result<Vec<u64>, Failure> {
        let rows = self.rows_on(target);
        if rows.is_empty() {
            if let Target::Server(id) = target {
                // One that the inventory does not know may have a lock from when it did.
                self.known_server(id)?;
            }
            let wider: Vec<String> = target
                .prefix()
                .map(|net| self.locks.covering(&net).iter().map(|r| r.target.to_string()).collect())
                .unwrap_or_default();
            let hint = match wider.first() {
                Some(w) => {
                    format!("it lies in {w}, which is: `cordon unlock {w}`, or lock the rest of it in pieces")
                }
                None => "`cordon list` shows what is locked".to_owned(),
            };
            return Err(not_found(format!("{target} is not locked"), hint));
        }
        let mut reasons: Vec<api::Reason> = rows.iter().map(|r| r.reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let names = || reasons.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ");
        let chosen = match (reason, all, reasons.as_slice()) {
            (Some(r), _, _) => Some(r),
            (None, true, _) => None,
            (None, false, [only]) => Some(*only),
            (None, false, _) => {
                return Err(refused(
                    format!("{target} is locked for several reasons: {}", names()),
                    "name one with --reason, or use --all",
                ));
            }
        };
        let ids: Vec<u64> =
            rows.iter().filter(|r| chosen.is_none_or(|c| r.reason == c)).map(|r| r.id).collect();
        if ids.is_empty() {
            return Err(not_found(
                format!("{target} is not locked for {}", chosen.map_or("that", api::Reason::name)),
                format!("it is locked for {}", names()),
            ));
        }
        Ok(ids)
    }

    /// A switch for emergencies: in force at once, and stored as soon as the disk allows.
    fn switch_bypass(&mut self, who: &str, on: bool) -> Payload {
        self.bypass = on;
        self.policy.set_bypass(on);
        let at = self.now.time();
        let what = format!("bypass {}", if on { "on" } else { "off" });
        self.keep(vec![StoreOp::SetBypass(on), StoreOp::Audit { at, who: who.to_owned(), what }]);
        Payload::Done(if on {
            "Bypass is on: everything is forwarded, nothing is enforced. `cordon bypass off` ends it."
                .to_owned()
        } else if self
            .facts()
            .is_some_and(|f| f.header().bypass_direct.load(std::sync::atomic::Ordering::Relaxed) != 0)
        {
            "Bypass of cordond is off, but the direct switch is on: `cordon bypass off --direct` ends that."
                .to_owned()
        } else {
            "Bypass is off: locks are enforced.".to_owned()
        })
    }

    /// A batch is on disk, or will not be: puts in force what it says, and answers.
    pub(crate) fn finish(&mut self, waiting: Waiting, result: Result<(), String>) {
        let Waiting { client, also, then } = waiting;
        if let Err(e) = result {
            let failure = Failure::new(
                ErrorCode::Failed,
                format!("nothing was changed: {e}"),
                "mend the disk of [run] state and ask again; what is locked stays locked",
            );
            for client in also {
                self.answer(client, Err(failure.clone()));
            }
            return self.answer(client, Err(failure));
        }
        let payload = match then {
            Then::Lock(row) => {
                let mut row = *row;
                if let Some(reference) = &row.external_ref {
                    self.references.insert(reference.clone(), row.id);
                }
                self.set_enforced(&mut row);
                self.locks.insert(row.clone());
                // The inventory may have changed while the disk was busy.
                self.follow_inventory();
                let row = self.locks.get(row.id).cloned().unwrap_or(row);
                self.write_flags_of(&row);
                self.publish_locks = true;
                Payload::Locks(self.told([row].iter()))
            }
            Then::Unlock(who, ids) => {
                let lifted: Vec<LockRow> = ids.into_iter().filter_map(|id| self.unlisted(id)).collect();
                for row in &lifted {
                    self.write_flags_of(row);
                    self.note_unlocked(row, &who, None);
                    self.begin_anew(row, true);
                }
                self.publish_locks = true;
                Payload::Locks(self.told(lifted.iter()))
            }
            Then::Suspend { who, target, ids, suspension } => {
                self.suspend(&ids, suspension.as_ref(), &who);
                Payload::Locks(self.told(self.rows_over(&target).iter()))
            }
            Then::Rtbh(row) => self.put_rtbh(*row),
            Then::Approve(rule, rows) => Payload::Locks(self.approved(rule, rows)),
            Then::Exempt(target, rule, until) => {
                self.exemptions.retain(|(t, r, _)| (t, r) != (&target, &rule));
                let text =
                    format!("{target} is exempted from {rule} until {until}. What is locked stays locked.");
                self.exemptions.push((target, rule, until));
                Payload::Done(text)
            }
            Then::Rule(rule, true) => {
                self.observing.insert(rule);
                self.publish_locks |= rule == Rule::Misconfiguration;
                self.publish_bindings();
                Payload::Done(format!(
                    "{rule} only observes: it records what it would have done. `cordon unlock --rule {rule} --since …` takes back what it did."
                ))
            }
            Then::Rule(rule, false) => {
                self.observing.remove(&rule);
                self.publish_locks |= rule == Rule::Misconfiguration;
                self.publish_bindings();
                Payload::Done(format!("{rule} acts as configured."))
            }
            Then::Token(token) => {
                let row = token.row.clone();
                self.tokens.put(*token);
                Payload::Tokens(vec![row])
            }
            Then::BreakerReset(rule) => {
                self.breakers.reset(rule);
                // Once more: a tick may have stored, meanwhile, who else waits.
                self.keep(vec![StoreOp::SetBreaker { rule: rule.to_string(), latched: None }]);
                Payload::Done(format!(
                    "{rule} may lock again; servers that still exceed it are locked within a second."
                ))
            }
        };
        for client in also {
            self.held.push((client, Response::Ok(payload.clone())));
        }
        self.held.push((client, Response::Ok(payload)));
        self.publish();
    }

    /// Answers whose change the dataplane has by now; those of a worker that stands still are not kept for ever.
    pub(crate) fn release_answers(&mut self, stuck: bool) {
        if self.usage == Use::Live && self.publish_locks && !stuck {
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.effects.extend(held.into_iter().map(|(client, response)| Effect::Reply(client, response)));
    }
}

pub(crate) enum Prepared {
    Answer(Payload),
    Store(Vec<StoreOp>, Then, String),
}
