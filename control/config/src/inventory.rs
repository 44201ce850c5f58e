//! The inventory: which server has which addresses and hardware addresses, whose it is, and whom to tell.
//!
//! A file of its own, TOML or CSV, since it comes from the provider's database and has a line for each server. All mistakes
//! are told at once, each with its place.

mod check;
mod read;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::error::{ConfigErrors, Problem};
use crate::{Limits, Network};

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its id: 1 to 64 ASCII characters without a space.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Its addresses and prefixes, without host bits. Parts of them may belong to another server that lists a longer prefix.
    pub addresses: Vec<IpNet>,
    /// Its hardware addresses; none when they are not known.
    pub macs: Vec<[u8; 6]>,
    /// Whose limits apply; none: those of its network.
    pub group: Option<String>,
    /// Its customer.
    pub customer: Option<String>,
    /// Mail addresses of those who are told.
    pub contacts: Vec<String>,
    /// The language they are told in, such as `en` or `de`.
    pub language: Option<String>,
    /// Words of the provider's own.
    pub tags: Vec<String>,
}

/// What an inventory has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Groups that have limits; none: whatever group is named.
    pub groups: Option<&'a BTreeMap<String, Limits>>,
    /// Internal networks; none: whatever address is named.
    pub networks: &'a [Network],
    /// Bits of an IPv6 address that name a host.
    pub ipv6_host_length: u8,
}

/// How an inventory is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `[[server]]` tables.
    Toml,
    /// A head line with the names of columns, and a line for each server.
    Csv,
}

impl Format {
    /// By the ending of a file's name.
    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Format::Toml),
            "csv" => Some(Format::Csv),
            _ => None,
        }
    }

    /// The ending of a file's name.
    pub const fn ending(self) -> &'static str {
        match self {
            Format::Toml => "toml",
            Format::Csv => "csv",
        }
    }
}

/// Addresses that one assignment covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Covered {
    /// IPv4 as in ::ffff:0:0/96.
    first: u128,
    last: u128,
    server: u32,
}

/// What a server can be locked by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its addresses and prefixes, without what longer prefixes give to others; of IPv6 no part of a host.
    pub prefixes: Vec<IpNet>,
    /// IPv6 hosts of which others have parts.
    pub shared: Vec<IpNet>,
}

/// A validated inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    source: String,
    text: Arc<str>,
    format: Format,
    servers: Vec<Server>,
    /// Every server and every address is listed: what is not is unknown or unassigned.
    pub is_complete: bool,
    by_id: HashMap<String, u32>,
    by_mac: HashMap<[u8; 6], u32>,
    /// By network, for each prefix length that occurs, as of IPv6; the longest first.
    by_prefix: Vec<(u8, HashMap<u128, u32>)>,
    /// In order of the first address, the wider before the longer prefix.
    covered: Vec<Covered>,
    notices: Vec<String>,
}

/// IPv4 as in ::ffff:0:0/96.
fn number(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u128::from(a.to_ipv6_mapped()),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// A prefix length as of IPv6.
fn length(net: &IpNet) -> u8 {
    match net {
        IpNet::V4(n) => n.prefix_len() + 96,
        IpNet::V6(n) => n.prefix_len(),
    }
}

/// The shortest list of prefixes that makes up a range; IPv4 as in ::ffff:0:0/96.
pub fn subnets(first: u128, last: u128) -> Vec<IpNet> {
    if is_v4(first) && is_v4(last) {
        let low = |a: u128| Ipv4Addr::from_bits(u32::try_from(a & 0xffff_ffff).unwrap_or(0));
        return Ipv4Subnets::new(low(first), low(last), 0).map(IpNet::V4).collect();
    }
    Ipv6Subnets::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last), 0).map(IpNet::V6).collect()
}

fn is_v4(a: u128) -> bool {
    a >> 32 == 0xffff
}

/// A range without parts of IPv6 hosts.
fn of_hosts(first: u128, last: u128, ipv6_host_length: u8) -> (u128, u128) {
    if is_v4(first) {
        return (first, last);
    }
    (first & mask(ipv6_host_length), last | !mask(ipv6_host_length))
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl Inventory {
    /// Reads and validates a file, TOML or CSV by the ending of its name. Errors name the file, lines and columns.
    pub fn load(path: &Path, site: Site<'_>) -> Result<Inventory, ConfigErrors> {
        let source = path.display().to_string();
        let Some(format) = Format::of(path) else {
            let problem = Problem::general(
                "its name ends neither in .toml nor in .csv",
                "the ending says how the inventory is written: rename the file",
            );
            return Err(ConfigErrors::new(&source, "", vec![problem]));
        };
        let bytes = std::fs::read(path).map_err(|e| {
            let absent = "write the inventory there, or correct [inventory] file";
            ConfigErrors::unreadable(path, &e, absent)
        })?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let good = String::from_utf8_lossy(e.as_bytes().get(..at).unwrap_or_default()).into_owned();
            let problem = Problem::at(at..at, "this is no UTF-8", "save the file as UTF-8");
            ConfigErrors::new(&source, &good, vec![problem])
        })?;
        Inventory::parse(&text, &source, format, site)
    }

    /// Validates a text; `source` names it in messages.
    pub fn parse(
        text: &str,
        source: &str,
        format: Format,
        site: Site<'_>,
    ) -> Result<Inventory, ConfigErrors> {
        // Spreadsheets begin their files with a byte-order mark; it is no part of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let read = match format {
            Format::Toml => read::toml(text),
            Format::Csv => read::csv(text),
        };
        let checked = read.and_then(|raw| check::check(text, raw, site));
        let checked = checked.map_err(|problems| ConfigErrors::new(source, text, problems))?;
        Ok(Inventory::index(checked, source, text, format))
    }

    /// Validates `[[server]]` tables.
    pub fn parse_toml(text: &str, source: &str, site: Site<'_>) -> Result<Inventory, ConfigErrors> {
        Inventory::parse(text, source, Format::Toml, site)
    }

    /// Validates comma-separated values.
    pub fn parse_csv(text: &str, source: &str, site: Site<'_>) -> Result<Inventory, ConfigErrors> {
        Inventory::parse(text, source, Format::Csv, site)
    }

    fn index(checked: check::Checked, source: &str, text: &str, format: Format) -> Inventory {
        let mut inventory = Inventory {
            source: source.to_owned(),
            text: Arc::from(text),
            format,
            is_complete: checked.is_complete,
            by_id: HashMap::with_capacity(checked.servers.len()),
            by_mac: HashMap::new(),
            by_prefix: Vec::new(),
            covered: Vec::new(),
            notices: checked.notices,
            servers: checked.servers,
        };
        for (server, i) in inventory.servers.iter().zip(0u32..) {
            inventory.by_id.insert(server.id.clone(), i);
            inventory.by_mac.extend(server.macs.iter().map(|m| (*m, i)));
            for net in &server.addresses {
                let (first, length) = (number(net.network()), length(net));
                inventory.covered.push(Covered { first, last: first | !mask(length), server: i });
                let at = inventory.by_prefix.iter().position(|(l, _)| *l == length).unwrap_or_else(|| {
                    inventory.by_prefix.push((length, HashMap::new()));
                    inventory.by_prefix.len() - 1
                });
                inventory.by_prefix[at].1.insert(first, i);
            }
        }
        inventory.by_prefix.sort_unstable_by_key(|(l, _)| std::cmp::Reverse(*l));
        inventory.covered.sort_unstable_by_key(|c| (c.first, std::cmp::Reverse(c.last)));
        inventory
    }

    /// Where it came from, for messages.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text, kept as the last good one.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How the text is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What is no mistake and yet ought to be known.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// All servers, in the file's order.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// A server by its id.
    pub fn server(&self, id: &str) -> Option<&Server> {
        self.at(*self.by_id.get(id)?)
    }

    /// Whose an address is: the longest prefix counts.
    pub fn of_address(&self, address: IpAddr) -> Option<&Server> {
        let n = number(address);
        let found = self.by_prefix.iter().find_map(|(l, nets)| nets.get(&(n & mask(*l))))?;
        self.at(*found)
    }

    /// Whose a hardware address is.
    pub fn of_mac(&self, mac: [u8; 6]) -> Option<&Server> {
        self.at(*self.by_mac.get(&mac)?)
    }

    /// Whose a host is: an address, or an IPv6 prefix that counts as one. None when several servers share it.
    pub fn of_host(&self, host: &IpNet) -> Option<&Server> {
        let first = number(host.network());
        let last = first | !mask(length(host));
        let begin = self.covered.partition_point(|c| c.first < first);
        let mut inside = self.covered.get(begin..)?.iter().take_while(|c| c.first <= last);
        match inside.find(|c| c.last <= last) {
            Some(one) if inside.all(|c| c.server == one.server) => self.at(one.server),
            Some(_) => None,
            None => self.of_address(host.network()),
        }
    }

    /// What a server can be locked by: nobody else is.
    pub fn held_by(&self, id: &str, ipv6_host_length: u8) -> Option<Held> {
        let own = *self.by_id.get(id)?;
        let mut held = Held::default();
        let mut parts: Vec<(u128, u128)> = Vec::new();
        for net in &self.at(own)?.addresses {
            let network = number(net.network());
            let (first, last) = of_hosts(network, network | !mask(length(net)), ipv6_host_length);
            let whole = (first, last) == (network, network | !mask(length(net)));
            let without = self.without_others(first, last, Some(own), ipv6_host_length);
            if without.is_empty() && !whole {
                held.shared.extend(subnets(first, last));
            }
            parts.extend(without);
        }
        // The wider before what lies in it.
        parts.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
        let mut end = None;
        for (first, last) in parts {
            if end.is_none_or(|e| last > e) {
                held.prefixes.extend(subnets(first, last));
                end = Some(last);
            }
        }
        held.shared.sort_unstable();
        held.shared.dedup();
        Some(held)
    }

    /// What of a prefix belongs to no other server than this one.
    pub fn unclaimed(&self, net: &IpNet, id: &str, ipv6_host_length: u8) -> Vec<IpNet> {
        let own = self.by_id.get(id).copied();
        let (first, length) = (number(net.network()), length(net));
        let around = self.by_prefix.iter().filter(|(l, _)| *l <= length);
        let owner = around.into_iter().find_map(|(l, nets)| nets.get(&(first & mask(*l))));
        if owner.is_some_and(|o| Some(*o) != own) {
            return Vec::new();
        }
        let parts = self.without_others(first, first | !mask(length), own, ipv6_host_length);
        parts.into_iter().flat_map(|(first, last)| subnets(first, last)).collect()
    }

    /// A range without what others have in it.
    fn without_others(
        &self,
        first: u128,
        last: u128,
        own: Option<u32>,
        ipv6_host_length: u8,
    ) -> Vec<(u128, u128)> {
        let mut parts = Vec::new();
        let mut at = first;
        let begin = self.covered.partition_point(|c| c.first < first);
        for c in self.covered.get(begin..).unwrap_or_default() {
            if c.first > last {
                break;
            }
            let (begins, ends) = of_hosts(c.first, c.last, ipv6_host_length);
            // One that is wider does not say whose its parts are.
            if Some(c.server) == own || ends > last || ends < at {
                continue;
            }
            if begins > at {
                parts.push((at, begins - 1));
            }
            match ends.checked_add(1) {
                Some(next) if next <= last => at = next,
                _ => return parts,
            }
        }
        parts.push((at, last));
        parts
    }

    /// First and last address of every assignment, and the place of its server in [`Inventory::servers`]; what is wider
    /// comes before what lies in it. IPv4 as in ::ffff:0:0/96.
    pub fn assignments(&self) -> impl Iterator<Item = (u128, u128, u32)> {
        self.covered.iter().map(|c| (c.first, c.last, c.server))
    }

    /// The place of a server in [`Inventory::servers`].
    pub fn place(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// A server by its place.
    pub fn at(&self, index: u32) -> Option<&Server> {
        self.servers.get(usize::try_from(index).ok()?)
    }
}
