//! What a latched rule would have locked waits for an operator, who may approve of it while the rule stays latched.

#[cfg(test)]
mod tests;

use api::{Action, Failure, LockRow, Target};
use config::Rule;
use ipnet::IpNet;

use crate::control::Control;
use crate::effect::StoreOp;
use crate::requests::{Prepared, Then, not_found, refused};

impl Control {
    /// Checks an approval, and says what has to be on disk before it is in force. No target: all that wait.
    pub(crate) fn prepare_approval(
        &mut self,
        who: &str,
        rule: Rule,
        targets: Vec<Target>,
    ) -> Result<Prepared, Failure> {
        let Some(mut latched) = self.breakers.row(rule).cloned() else {
            return Err(not_found(
                format!("{rule} is not latched: nothing waits"),
                "`cordon breaker status` lists the rules that are",
            ));
        };
        let mut chosen: Vec<IpNet> = Vec::new();
        for target in &targets {
            let waits = latched.waiting.contains(&target.to_string());
            let Some(net) = target.prefix().filter(|_| waits) else {
                return Err(not_found(
                    format!("{target} does not wait for {rule}"),
                    "`cordon breaker status` lists who does; `cordon lock` locks by hand",
                ));
            };
            if let Some(why) = self.protected_by(&net) {
                return Err(refused(format!("{target} {why}"), "use `cordon lock --force` if you mean it"));
            }
            chosen.push(net);
        }
        if targets.is_empty() {
            let nets = latched.waiting.iter().filter_map(|w| w.parse::<Target>().ok()?.prefix());
            chosen.extend(nets.filter(|net| self.protected_by(net).is_none()));
        }
        let (at, scope) = (self.now.time(), self.config.rule(rule).lock);
        let mut rows = Vec::new();
        for net in chosen {
            let address = crate::judge::name(&net);
            if self.lock_of(&address, rule).is_some() {
                continue;
            }
            let incident = self.incidents.get(&address, rule).map(|o| o.row.id.clone());
            let mut row = self.row_of_rule(net, rule, scope, incident, who, at);
            self.set_enforced(&mut row);
            rows.push(row);
        }
        let names: Vec<String> = rows.iter().map(|r| r.target.to_string()).collect();
        if rows.is_empty() {
            return Err(not_found(
                format!("nobody waits for {rule} who is not locked or on the never-lock list"),
                "`cordon breaker reset` lets the rule lock again",
            ));
        }
        let mut ops: Vec<StoreOp> = rows.iter().cloned().map(|r| StoreOp::PutLock(Box::new(r))).collect();
        for row in &rows {
            let incident = row.incident.as_deref().and_then(|id| self.incidents.by_id(id));
            ops.extend(self.tell_locked(row, incident));
        }
        latched.waiting.retain(|w| !names.contains(w));
        ops.push(StoreOp::SetBreaker { rule: rule.to_string(), latched: Some(latched) });
        let what = format!("breaker approve {rule}: {} locks ({})", names.len(), names.join(" "));
        Ok(Prepared::Store(ops, Then::Approve(rule, rows), what))
    }

    /// Puts approved locks in force.
    pub(crate) fn approved(&mut self, rule: Rule, rows: Vec<LockRow>) -> Vec<LockRow> {
        let at = self.now.time();
        let mut names = Vec::new();
        for row in &rows {
            self.locks.insert(row.clone());
            self.write_flags_of(row);
            let address = row.target.to_string();
            if let Some(open) = self.incidents.get(&address, rule) {
                open.act(Action::Lock, at);
                open.row.held_back = None;
                open.wants_evidence = open.row.files.is_empty();
            }
            names.push(address);
        }
        self.breakers.approve(rule, &names);
        self.publish_locks = true;
        self.told(rows.iter())
    }
}
