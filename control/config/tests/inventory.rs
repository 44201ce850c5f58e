//! The inventory: what is read, whose things are, and what is told of mistakes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use config::{Config, Format, Inventory, IpNet, Site};

const EXAMPLE: &str = include_str!("../../../inventory.example.toml");

const ANYWHERE: Site<'static> = Site { groups: None, networks: &[], ipv6_host_length: 64 };

fn good(text: &str) -> Inventory {
    Inventory::parse_toml(text, "i.toml", ANYWHERE).unwrap_or_else(|e| panic!("{e}"))
}

fn good_csv(text: &str) -> Inventory {
    Inventory::parse_csv(text, "i.csv", ANYWHERE).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn refused(text: &str, format: Format, site: Site<'_>, line: usize, column: usize, words: &[&str]) {
    let e = Inventory::parse(text, "i", format, site).unwrap_err();
    let message = e.to_string();
    assert!(e.placed().any(|(at, p)| at == Some((line, column)) && !p.advice.is_empty()), "{message}");
    for w in words {
        assert!(message.contains(w), "`{w}` is not in:\n{message}");
    }
}

#[track_caller]
fn bad(text: &str, line: usize, column: usize, words: &[&str]) {
    refused(text, Format::Toml, ANYWHERE, line, column, words);
}

#[track_caller]
fn bad_csv(text: &str, line: usize, column: usize, words: &[&str]) {
    refused(text, Format::Csv, ANYWHERE, line, column, words);
}

fn site() -> Config {
    Config::parse(
        "[[network]]\nprefix = \"192.0.2.0/24\"\n[[network]]\nprefix = \"198.51.100.0/25\"\n[[group]]\nname = \"web\"\n",
        "c",
    )
    .unwrap()
}

fn owner<'a>(i: &'a Inventory, address: &str) -> Option<&'a str> {
    i.of_address(address.parse().unwrap()).map(|s| s.id.as_str())
}

fn host<'a>(i: &'a Inventory, net: &str) -> Option<&'a str> {
    i.of_host(&net.parse::<IpNet>().unwrap()).map(|s| s.id.as_str())
}

#[test]
fn the_example_is_good_in_both_forms() {
    let groups = Config::parse(include_str!("../../../cordon.example.toml"), "c").unwrap();
    let i = Inventory::parse_toml(EXAMPLE, "inventory.example.toml", groups.site())
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(i.is_complete && i.notices().is_empty(), "{:?}", i.notices());
    let s = i.server("1001").unwrap();
    assert_eq!((s.name.as_deref(), s.customer.as_deref()), (Some("web1.example.net"), Some("C-17")));
    assert_eq!((s.group.as_deref(), s.language.as_deref()), (Some("web"), Some("en")));
    assert_eq!(s.macs, [[2, 0, 0x5e, 0x10, 0, 1]]);
    assert_eq!(s.contacts.len(), 2);
    let csv = good_csv(
        "complete,true\r\n\
         id,name,addresses,macs,group,customer,contacts,language,tags\r\n\
         1001,web1.example.net,192.0.2.10 192.0.2.16/29 2001:db8:10:1::/64,02:00:5e:10:00:01,web,C-17,noc@example.com admin@example.org,en,rack-7\r\n\
         \r\n\
         1002,,\"192.0.2.11\",0200.5e10.0002,,C-18,,de,\r\n",
    );
    assert!(csv.is_complete);
    assert_eq!(csv.servers(), i.servers(), "both forms say the same");
}

#[test]
fn the_longest_prefix_says_whose_an_address_is() {
    let i = good(
        "[[server]]\nid = \"rack\"\naddresses = [\"10.0.0.0/24\", \"fd00::/48\"]\n\
         [[server]]\nid = \"seven\"\naddresses = [\"10.0.0.7\", \"fd00:0:0:7::/64\"]\nmacs = [\"02-00-00-00-00-07\"]\n",
    );
    assert!(!i.is_complete);
    assert_eq!((owner(&i, "10.0.0.7"), owner(&i, "10.0.0.8")), (Some("seven"), Some("rack")));
    assert_eq!((owner(&i, "fd00:0:0:7::1"), owner(&i, "fd00:0:0:8::1")), (Some("seven"), Some("rack")));
    assert_eq!((owner(&i, "10.0.1.1"), owner(&i, "::10.0.0.7")), (None, None));
    assert_eq!(i.of_mac([2, 0, 0, 0, 0, 7]).unwrap().id, "seven");
    assert!(i.of_mac([2, 0, 0, 0, 0, 8]).is_none() && i.server("eight").is_none());
}

#[test]
fn an_ipv6_host_is_its_only_owners_and_nobodys_when_shared() {
    let i = good(
        "[[server]]\nid = \"a\"\naddresses = [\"fd00:0:0:1::1\", \"fd00:0:0:1::2\", \"fd00:0:0:2::1\", \"fd00:1::/48\"]\n\
         [[server]]\nid = \"b\"\naddresses = [\"fd00:0:0:2::2\"]\n",
    );
    assert_eq!((host(&i, "fd00:0:0:1::/64"), host(&i, "fd00:0:0:2::/64")), (Some("a"), None));
    assert_eq!((host(&i, "fd00:1:0:9::/64"), host(&i, "fd00:0:0:3::/64")), (Some("a"), None));
    assert_eq!((host(&i, "fd00:0:0:2::1/128"), host(&i, "fd00:0:0:2::3/128")), (Some("a"), None));
    let [notice] = i.notices() else { panic!("{:?}", i.notices()) };
    assert!(
        notice.contains("fd00:0:0:2::/64 by `a` and `b`") && notice.contains("ipv6_host_length"),
        "{notice}"
    );
}

#[test]
fn every_mistake_has_a_place_and_an_advice() {
    let with = |key: &str| format!("[[server]]\nid = \"a\"\naddresses = [\"10.0.0.1\"]\n{key}\n");
    bad(&with("[[server]]\nid = \"a\"\naddresses = [\"10.0.0.2\"]"), 5, 6, &["`a` stands on line 2 already"]);
    bad(
        &with("[[server]]\nid = \"b\"\naddresses = [\"10.0.0.2\", \"10.0.0.1\"]"),
        6,
        26,
        &["`10.0.0.1` was given to another server on line 3", "longer one"],
    );
    bad("[[server]]\nid = \"a\"\naddresses = [\"10.0.0.1\", \"::ffff:10.0.0.1\"]\n", 3, 26, &["this server"]);
    bad("[[server]]\nid = \"a\"\naddresses = [\"10.0.0.1/24\"]\n", 3, 14, &["do you mean \"10.0.0.0/24\"?"]);
    bad("[[server]]\nid = \"a\"\naddresses = [\"web1\"]\n", 3, 14, &["`web1` is no prefix"]);
    bad("[[server]]\nid = \"a\"\naddresses = [\"0.0.0.0/0\"]\n", 3, 14, &["covers every address"]);
    bad("[[server]]\nid = \"a\"\naddresses = [\"fe80::1\"]\n", 3, 14, &["link-local"]);
    bad("[[server]]\nid = \"a\"\naddresses = [\"224.0.0.5\"]\n", 3, 14, &["no server's"]);
    bad("[[server]]\nid = \"a\"\n", 2, 6, &["neither an address nor a MAC"]);
    bad("[[server]]\nid = \"a b\"\naddresses = [\"10.0.0.1\"]\n", 2, 6, &["`a b` is no id", "1 to 64"]);
    bad("[[server]]\nid = \"\"\naddresses = [\"10.0.0.1\"]\n", 2, 6, &["no id"]);
    bad("[[server]]\nname = \"a\"\n", 1, 1, &["missing field `id`", "README"]);
    bad("[[server]]\nid = 7\n", 2, 6, &["invalid type"]);
    bad("[[sever]]\nid = \"7\"\n", 1, 3, &["unknown field `sever`"]);
    bad(&with("mac = [\"02:00:00:00:00:01\"]"), 4, 1, &["unknown field `mac`", "`macs`"]);
    bad(&with("macs = [\"02:00:00:00:00\"]"), 4, 9, &["no MAC address"]);
    bad(&with("macs = [\"02:00:00:00:00:+1\"]"), 4, 9, &["no MAC address"]);
    bad(&with("macs = [\"03:00:00:00:00:01\"]"), 4, 9, &["multicast"]);
    bad(&with("macs = [\"00:00:00:00:00:00\"]"), 4, 9, &["nobody"]);
    bad(
        &with(
            "macs = [\"02:00:00:00:00:01\", \"02:00:00:00:00:02\"]\n[[server]]\nid = \"b\"\nmacs = [\"02-00-00-00-00-02\"]",
        ),
        7,
        9,
        &["another server on line 4"],
    );
    for mail in
        ["noc", "noc@", "@example.com", "noc@example", "NOC <noc@example.com>", "a@b.c\\r\\nBcc: x@y.z"]
    {
        bad(&with(&format!("contacts = [\"ok@example.com\", \"{mail}\"]")), 4, 31, &["no mail address"]);
    }
    bad(&with("language = \"German\""), 4, 12, &["no language", "\"de\""]);
    bad(&with("name = \"a\\u001b[2J\""), 4, 8, &["control characters"]);
}

#[test]
fn an_inventory_fits_the_configuration() {
    let c = site();
    let text = "[[server]]\nid = \"a\"\naddresses = [\"192.0.2.1\"]\ngroup = \"mail\"\n";
    refused(text, Format::Toml, c.site(), 4, 9, &["no group \"mail\"", "[[group]]"]);
    assert!(Inventory::parse_toml(text, "i", ANYWHERE).is_ok(), "without a configuration any group will do");
    let text = "[[server]]\nid = \"a\"\ngroup = \"web\"\naddresses = [\"192.0.2.1\", \"192.0.3.1\"]\n\
                [[server]]\nid = \"b\"\ngroup = \"default\"\naddresses = [\"198.51.100.0/24\", \"198.51.100.128/25\", \"fd00::/64\"]\n";
    let i = Inventory::parse_toml(text, "i", c.site()).unwrap_or_else(|e| panic!("{e}"));
    let [notice] = i.notices() else { panic!("{:?}", i.notices()) };
    assert!(
        notice.starts_with("3 of its addresses") && notice.contains("192.0.3.1 on line 4, …"),
        "{notice}"
    );
}

#[test]
fn a_line_of_values_is_told_its_column() {
    let head = "id,addresses,macs,contacts\n";
    bad_csv(&format!("{head}a,10.0.0.1 10.0.0.x,,\n"), 2, 12, &["`10.0.0.x` is no prefix"]);
    bad_csv(&format!("{head}a,\"10.0.0.1,10.0.0.x\",,\n"), 2, 13, &["`10.0.0.x`"]);
    bad_csv(&format!("{head}\n# x,y\r\na,10.0.0.1,,\r\nb,10.0.0.2,junk,\r\n"), 5, 12, &["`junk` is no MAC"]);
    bad_csv(&format!("{head}a,10.0.0.1,,\na,10.0.0.2,,\n"), 3, 1, &["stands on line 2 already"]);
    bad_csv(&format!("{head}a,10.0.0.1\n"), 2, 1, &["2 fields, the head line has 4"]);
    bad_csv(&format!("{head}a,\"10.0.0.1,,\nb,10.0.0.2,,\n"), 2, 1, &["2 fields"]);
    bad_csv("id,addresses\na,\"10.0.0.1\nb,10.0.0.2\n", 2, 3, &["a line ends inside", "double quotes"]);
    bad_csv("id,address\na,10.0.0.1\n", 1, 4, &["no column `address`", "addresses"]);
    bad_csv("id,macs,macs\na,,\n", 1, 9, &["named twice"]);
    bad_csv("name,addresses\na,10.0.0.1\n", 1, 1, &["no column `id`"]);
    bad_csv("complete,yes\nid,addresses\na,10.0.0.1\n", 1, 10, &["complete is `yes`"]);
    let i =
        good_csv("complete;false\nid;addresses;macs\na;10.0.0.1,10.0.0.2;\nb;10.0.0.3;02:00:00:00:00:03\n");
    assert_eq!((i.servers().len(), owner(&i, "10.0.0.2")), (2, Some("a")));
}

#[test]
fn marks_of_other_systems_are_no_mistakes() {
    let i = good("\u{feff}complete = true\r\n[[server]]\r\nid = \"a\"\r\naddresses = [\"10.0.0.1\"]\r\n");
    assert!(i.is_complete && owner(&i, "10.0.0.1") == Some("a"));
    bad("\u{feff}[[server]]\r\nid = \"a\"\r\naddresses = [\"x\"]\r\n", 3, 14, &["no prefix"]);
    let i = good_csv("\u{feff}id,addresses\r\na,10.0.0.1\r\n");
    assert_eq!(owner(&i, "10.0.0.1"), Some("a"));
    bad_csv("\u{feff}id,addresses\r\na,x\r\n", 2, 3, &["no prefix"]);
}

#[test]
fn an_empty_file_is_no_inventory() {
    for (text, format) in [
        ("", Format::Toml),
        ("complete = true\n", Format::Toml),
        ("\u{feff}", Format::Csv),
        ("\n\n", Format::Csv),
        ("id,addresses\n", Format::Csv),
    ] {
        let e = Inventory::parse(text, "i", format, ANYWHERE).unwrap_err().to_string();
        assert!(e.contains("lists no server") && e.contains("leave [inventory] file out"), "{e}");
    }
}

#[test]
fn files_say_by_their_names_how_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Inventory::load(&path, ANYWHERE).map_err(|e| e.to_string())
    };
    assert_eq!(load("a.CSV", b"id,addresses\na,10.0.0.1\n").unwrap().format(), Format::Csv);
    assert!(load("a.toml", b"[[server]]\nid = \"a\"\naddresses = [\"10.0.0.1\"]\n").is_ok());
    let e = load("a.txt", b"").unwrap_err();
    assert!(e.contains("a.txt") && e.contains(".csv"), "{e}");
    let e = load("b.csv", b"id,name\na,M\xfcller\n").unwrap_err();
    assert!(e.contains("b.csv:2:4: this is no UTF-8"), "{e}");
    let e = Inventory::load(&dir.path().join("none.csv"), ANYWHERE).unwrap_err().to_string();
    assert!(e.contains("none.csv") && e.contains("[inventory] file"), "{e}");
    let e = Config::parse("[inventory]\nfile = \"/etc/cordon/servers.xls\"\n", "c").unwrap_err().to_string();
    assert!(e.contains("c:2:8: ") && e.contains(".toml nor in .csv"), "{e}");
    let e = Config::parse("[inventory]\nfile = \"servers.csv\"\n", "c").unwrap_err().to_string();
    assert!(e.contains("relative path"), "{e}");
}

#[test]
fn tens_of_thousands_of_servers_and_as_many_mistakes_are_read() {
    let mut text = String::from("id,addresses,macs,customer\n");
    let address = |i: u32| std::net::Ipv4Addr::from(0x0a00_0000 + i);
    for i in 0..30_000u32 {
        writeln!(
            text,
            "s{i},{} fd00:0:{:x}:{:x}::/64,02:00:00:{:02x}:{:02x}:{:02x},c{}",
            address(i),
            i >> 16,
            i & 0xffff,
            i >> 16,
            i >> 8 & 255,
            i & 255,
            i / 10
        )
        .unwrap();
    }
    let i = good_csv(&text);
    assert_eq!(i.servers().len(), 30_000);
    assert_eq!(
        (owner(&i, &address(7_777).to_string()), host(&i, "fd00:0:0:7530::/64")),
        (Some("s7777"), None)
    );
    assert_eq!(host(&i, "fd00:0:0:752f::/64"), Some("s29999"));
    let wrong = text.replace(",02:", ",03:");
    let e = Inventory::parse_csv(&wrong, "i", ANYWHERE).unwrap_err();
    assert_eq!((e.count(), e.problems().len()), (30_000, 100));
    assert!(e.to_string().contains("and 29900 more"), "{e}");
}

#[test]
fn no_text_panics() {
    let csv = "complete,true\nid,addresses,macs,contacts\r\na,\"10.0.0.1,fd00::1\",02:00:00:00:00:01,é@x.y\n#\nb,,,\n";
    let mut seed = 1u64;
    for (text, format) in [(EXAMPLE, Format::Toml), (csv, Format::Csv)] {
        for _ in 0..1000 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
                match seed % 4 {
                    0 => bytes[at] = u8::try_from(seed >> 20 & 0x7f).unwrap(),
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"\",;\n\r#"[usize::try_from(seed >> 24).unwrap() % 6]),
                    _ => bytes.truncate(at.max(10)),
                }
            }
            if let Err(e) = Inventory::parse(&String::from_utf8_lossy(&bytes), "fuzz", format, ANYWHERE) {
                assert!(!e.to_string().is_empty());
            }
        }
    }
}
