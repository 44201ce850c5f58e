//! Build script of `dpdk-sys`: finds DPDK with pkg-config, generates the bindings, compiles the shim for DPDK's
//! static inline functions. It stands at the top level because the house is laid out so; only dpdk-sys names it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The DPDK release the bindings were written for; its ABI is kept within a year's series.
const SERIES: &str = "22.11";

fn pkg_config(args: &[&str]) -> Vec<String> {
    let run = Command::new("pkg-config").args(args).arg("libdpdk").output();
    let advice = "install it with: apt-get install libdpdk-dev dpdk-dev pkg-config clang libclang-dev";
    let out = run.unwrap_or_else(|e| panic!("pkg-config cannot be run ({e}); {advice}"));
    assert!(
        out.status.success(),
        "pkg-config {args:?} libdpdk: {}; {advice}",
        String::from_utf8_lossy(&out.stderr).trim()
    );
    String::from_utf8_lossy(&out.stdout).split_whitespace().map(str::to_owned).collect()
}

fn main() {
    // The member's folder, not this file's.
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for file in ["wrapper.h", "shim.c"] {
        println!("cargo:rerun-if-changed={}", here.join(file).display());
    }
    println!("cargo:rerun-if-changed=../../build.rs");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");

    let version = pkg_config(&["--modversion"]).concat();
    assert!(
        version.starts_with(SERIES),
        "DPDK {version} is installed, Cordon is built for {SERIES}.x (Debian 12: apt-get install libdpdk-dev)"
    );
    let cflags = pkg_config(&["--cflags"]);
    for flag in pkg_config(&["--libs"]) {
        if let Some(lib) = flag.strip_prefix("-l") {
            println!("cargo:rustc-link-lib={lib}");
        } else if let Some(dir) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search={dir}");
        }
    }

    // rte_eth_from_rings lives in a driver, which pkg-config does not name.
    println!("cargo:rustc-link-lib=rte_net_ring");

    let mut shim = cc::Build::new();
    shim.file(here.join("shim.c")).opt_level(3).warnings(true).warnings_into_errors(true);
    for flag in &cflags {
        shim.flag(flag);
    }
    shim.compile("cordon_dpdk_shim");

    let functions = [
        "rte_eal_init",
        "rte_eal_cleanup",
        "rte_strerror",
        "rte_log_set_global_level",
        "rte_thread_register",
        "rte_thread_unregister",
        "rte_socket_id",
        "rte_get_tsc_hz",
        "rte_pktmbuf_pool_create",
        "rte_mempool_free",
        "rte_mempool_avail_count",
        "rte_mempool_in_use_count",
        "rte_ring_create",
        "rte_ring_free",
        "rte_eth_from_rings",
        "rte_eth_dev_.*",
        "rte_eth_promiscuous_enable",
        "rte_eth_allmulticast_enable",
        "rte_eth_link_get_nowait",
        "rte_eth_stats_get",
        "rte_eth_macaddr_get",
        "rte_eth_rx_queue_setup",
        "rte_eth_tx_queue_setup",
        "rte_eth_find_next",
        "shim_.*",
    ];
    let constants = ["RTE_ETH_RX_OFFLOAD_.*", "RTE_ETH_TX_OFFLOAD_.*", "SHIM_.*"];
    let mut bindings = bindgen::Builder::default()
        .header(here.join("wrapper.h").to_string_lossy())
        .clang_args(&cflags)
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .derive_default(true)
        .generate_comments(false)
        .layout_tests(true)
        .allowlist_type("rte_mbuf")
        // Packed and aligned at once, which Rust cannot express; nothing of theirs is read.
        .opaque_type("rte_arp_ipv4|rte_arp_hdr|rte_l2tpv2_.*|rte_gtp_psc_.*")
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for f in functions {
        bindings = bindings.allowlist_function(f);
    }
    for c in constants {
        bindings = bindings.allowlist_var(c);
    }
    let bindings =
        bindings.generate().expect("bindgen failed on dpdk-sys/wrapper.h; see clang's messages above");
    bindings.write_to_file(out.join("bindings.rs")).expect("OUT_DIR is writable");
}
