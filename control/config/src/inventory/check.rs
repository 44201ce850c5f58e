//! What an inventory has to be: every mistake with its place, and what to do.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::{IpNet, Ipv6Net};

use super::{Server, Site, read};
use crate::DEFAULT_GROUP;
use crate::error::Problem;
use crate::raw::Text;
use crate::values::{Validator, mac};

/// As in `server:ID`.
const ID_MAX: usize = 64;
/// Longest name, group, customer or tag, in bytes.
const TEXT_MAX: usize = 200;
/// Longest mail address, and what stands before its `@`: RFC 5321.
const MAIL_MAX: usize = 254;
const MAIL_LOCAL_MAX: usize = 64;

/// Servers that are good.
pub(super) struct Checked {
    pub(super) servers: Vec<Server>,
    pub(super) is_complete: bool,
    pub(super) notices: Vec<String>,
}

/// Where something was named first: server and byte.
type Place = (usize, usize);

struct Check<'a> {
    v: Validator<'a>,
    site: Site<'a>,
    /// Where lines end, once a message needs it.
    ends: OnceCell<Vec<usize>>,
    ids: HashMap<String, Place>,
    macs: HashMap<[u8; 6], Place>,
    addresses: HashMap<IpNet, Place>,
    /// Networks in order.
    networks: Vec<IpNet>,
    /// Assignments outside every network: how many, and the first.
    outside: (usize, Option<String>),
}

pub(super) fn check(text: &str, raw: read::File, site: Site<'_>) -> Result<Checked, Vec<Problem>> {
    if raw.server.is_empty() {
        return Err(vec![Problem::general(
            "it lists no server",
            "was the export cut short? Write at least one server; without an inventory leave [inventory] file out",
        )]);
    }
    let mut networks: Vec<IpNet> = site.networks.iter().map(|n| n.prefix).collect();
    networks.sort_unstable();
    let mut c = Check {
        v: Validator { text, problems: Vec::new() },
        site,
        ends: OnceCell::new(),
        ids: HashMap::with_capacity(raw.server.len()),
        macs: HashMap::new(),
        addresses: HashMap::with_capacity(raw.server.len()),
        networks,
        outside: (0, None),
    };
    let servers: Vec<Server> = raw.server.into_iter().enumerate().map(|(i, s)| c.server(i, s)).collect();
    if !c.v.problems.is_empty() {
        return Err(c.v.problems);
    }
    let mut notices = Vec::new();
    if let (n @ 1.., Some(first)) = &c.outside {
        notices.push(format!(
            "{n} of its addresses and prefixes lie in no [[network]], where nothing is counted or locked: {first}{}",
            if *n > 1 { ", …" } else { "" }
        ));
    }
    notices.extend(c.shared(&servers));
    Ok(Checked { servers, is_complete: raw.complete, notices })
}

impl Check<'_> {
    fn line(&self, at: usize) -> usize {
        let ends = self.ends.get_or_init(|| {
            self.v.text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i).collect()
        });
        ends.partition_point(|e| *e < at) + 1
    }

    fn server(&mut self, i: usize, s: read::Server) -> Server {
        let span = s.id.span();
        let id = self.id(i, s.id);
        if s.addresses.is_empty() && s.macs.is_empty() {
            let message = format!("server `{id}` has neither an address nor a MAC address");
            self.v.wrong(span, message, "add one, or remove the server");
        }
        Server {
            addresses: s.addresses.iter().filter_map(|a| self.address(i, a)).collect(),
            macs: s.macs.iter().filter_map(|m| self.mac(i, m)).collect(),
            name: self.words("name", s.name),
            group: self.group(s.group),
            customer: self.words("customer", s.customer),
            contacts: s.contacts.into_iter().filter_map(|m| self.mail(m)).collect(),
            language: self.language(s.language),
            tags: s.tags.into_iter().filter_map(|t| self.words("tag", Some(t))).collect(),
            id,
        }
    }

    fn id(&mut self, i: usize, id: Text) -> String {
        let (span, text) = (id.span(), id.into_inner());
        if text.is_empty() || text.len() > ID_MAX || !text.chars().all(|c| c.is_ascii_graphic()) {
            let message = format!("`{}` is no id of a server", text.escape_debug());
            let advice =
                format!("an id has 1 to {ID_MAX} ASCII characters and no space: it is written server:ID");
            self.v.wrong(span, message, advice);
        } else if let Some((_, line)) = self.taken(|c| &mut c.ids, text.clone(), i, &span) {
            let message = format!("server `{text}` stands on line {line} already");
            self.v.wrong(span, message, "give each server an id of its own, and one entry");
        }
        text
    }

    /// Notes who named it; who did before, and on which line.
    fn taken<K: Hash + Eq>(
        &mut self,
        of: impl Fn(&mut Self) -> &mut HashMap<K, Place>,
        key: K,
        i: usize,
        span: &Range<usize>,
    ) -> Option<(usize, usize)> {
        match of(self).entry(key) {
            std::collections::hash_map::Entry::Occupied(e) => {
                let (server, at) = *e.get();
                Some((server, self.line(at)))
            }
            std::collections::hash_map::Entry::Vacant(e) => {
                e.insert((i, span.start));
                None
            }
        }
    }

    fn address(&mut self, i: usize, value: &Text) -> Option<IpNet> {
        let net = match value.get_ref().parse::<IpAddr>() {
            Ok(a) => IpNet::from(a.to_canonical()),
            Err(_) => self.v.prefix(value)?,
        };
        let span = value.span();
        let wrong = match net.network() {
            _ if net.prefix_len() == 0 => Some("covers every address"),
            a if a.is_unspecified() || a.is_loopback() || a.is_multicast() => Some("is no server's"),
            IpAddr::V4(a) if a.is_broadcast() => Some("is no server's"),
            IpAddr::V6(a) if a.is_unicast_link_local() => Some("is link-local: every device has such ones"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            let message = format!("`{}` {wrong}", value.get_ref());
            self.v.wrong(span, message, "name the addresses that were assigned to the server");
            return None;
        }
        if let Some((before, line)) = self.taken(|c| &mut c.addresses, net, i, &span) {
            let whose = if before == i { "this server" } else { "another server" };
            let message = format!("`{}` was given to {whose} on line {line} already", value.get_ref());
            self.v.wrong(
                span,
                message,
                "remove one of the two; of nested prefixes the longer one says whose an address is",
            );
            return None;
        }
        if !self.networks.is_empty() && !self.is_internal(&net) {
            self.outside.0 += 1;
            if self.outside.1.is_none() {
                self.outside.1 = Some(format!("{} on line {}", value.get_ref(), self.line(span.start)));
            }
        }
        Some(net)
    }

    /// Networks are disjoint: only the one before and the one after can meet a prefix.
    fn is_internal(&self, net: &IpNet) -> bool {
        let at = self.networks.partition_point(|n| n <= net);
        let near = self.networks.get(at.saturating_sub(1)..(at + 1).min(self.networks.len()));
        near.unwrap_or_default().iter().any(|n| n.contains(net) || net.contains(n))
    }

    fn mac(&mut self, i: usize, value: &Text) -> Option<[u8; 6]> {
        let (span, text) = (value.span(), value.get_ref());
        let parsed = mac(text);
        let wrong = match parsed {
            None => "is no MAC address",
            Some([0, 0, 0, 0, 0, 0]) => "is the address of nobody",
            Some([first, ..]) if first & 1 != 0 => "is a multicast address",
            Some(m) => {
                let Some((before, line)) = self.taken(|c| &mut c.macs, m, i, &span) else {
                    return Some(m);
                };
                let whose = if before == i { "this server" } else { "another server" };
                let message = format!("`{text}` was given to {whose} on line {line} already");
                let advice = "a hardware address belongs to one server: remove one of the two";
                self.v.wrong(span, message, advice);
                return None;
            }
        };
        let advice = "write the server's own, like \"02:00:5e:10:00:01\"; leave macs out if it is not known";
        self.v.wrong(span, format!("`{text}` {wrong}"), advice);
        None
    }

    fn group(&mut self, value: Option<Text>) -> Option<String> {
        let value = value?;
        if let Some(groups) = self.site.groups
            && value.get_ref() != DEFAULT_GROUP
            && !groups.contains_key(value.get_ref())
        {
            let message = format!("there is no group \"{}\"", value.get_ref().escape_debug());
            let advice = "add a [[group]] with that name to the configuration, or leave group out";
            self.v.wrong(value.span(), message, advice);
            return None;
        }
        self.words("group", Some(value))
    }

    /// Text that can be shown and sent.
    fn words(&mut self, key: &str, value: Option<Text>) -> Option<String> {
        let value = value?;
        let text = value.get_ref().trim();
        if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
            let message = format!("{key} is too long, or has control characters");
            self.v.wrong(
                value.span(),
                message,
                format!("write at most {TEXT_MAX} bytes of text in one line"),
            );
            return None;
        }
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn language(&mut self, value: Option<Text>) -> Option<String> {
        let value = value?;
        let mut parts = value.get_ref().split('-');
        let letters = |p: &str| p.bytes().all(|b| b.is_ascii_alphanumeric());
        let first = parts
            .next()
            .is_some_and(|p| (2..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_lowercase()));
        if !first || !parts.all(|p| (2..=8).contains(&p.len()) && letters(p)) {
            let message = format!("`{}` names no language", value.get_ref().escape_debug());
            self.v.wrong(value.span(), message, "write it like \"en\", \"de\" or \"pt-BR\"");
            return None;
        }
        Some(value.into_inner())
    }

    fn mail(&mut self, value: Text) -> Option<String> {
        if !is_mail(value.get_ref()) {
            let message = format!("`{}` is no mail address", value.get_ref().escape_debug());
            let advice =
                "write it like \"noc@example.com\", without a name, in ASCII; several are several contacts";
            self.v.wrong(value.span(), message, advice);
            return None;
        }
        Some(value.into_inner())
    }

    /// IPv6 hosts of which several servers have parts.
    fn shared(&self, servers: &[Server]) -> Option<String> {
        let length = self.site.ipv6_host_length;
        let mut whose: HashMap<Ipv6Net, usize> = HashMap::new();
        let mut first: Option<(Ipv6Net, usize, usize)> = None;
        let mut hosts: Vec<Ipv6Net> = Vec::new();
        for (i, server) in servers.iter().enumerate() {
            for net in &server.addresses {
                let IpNet::V6(v6) = net else { continue };
                if v6.prefix_len() < length {
                    continue;
                }
                let Ok(host) = Ipv6Net::new(v6.addr(), length).map(|n| n.trunc()) else { continue };
                let other = *whose.entry(host).or_insert(i);
                if other != i {
                    first.get_or_insert((host, other, i));
                    hosts.push(host);
                }
            }
        }
        let (host, a, b) = first?;
        hosts.sort_unstable();
        hosts.dedup();
        Some(format!(
            "{} IPv6 hosts are shared by servers, and are counted and locked as one: {host} by `{}` and `{}`{}; \
             give each a /{length} of its own, or set [tables] ipv6_host_length = 128",
            hosts.len(),
            servers[a].id,
            servers[b].id,
            if hosts.len() > 1 { ", …" } else { "" },
        ))
    }
}

/// Whether it can be put into a mail's head as it is.
fn is_mail(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    let dots = |s: &str| s.split('.').all(|p| !p.is_empty() && p.bytes().all(atom));
    let label = |p: &str| {
        (1..=63).contains(&p.len())
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !p.starts_with('-')
            && !p.ends_with('-')
    };
    text.len() <= MAIL_MAX
        && local.len() <= MAIL_LOCAL_MAX
        && dots(local)
        && domain.contains('.')
        && domain.split('.').all(label)
}
