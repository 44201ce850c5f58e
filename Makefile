# What the README names. Everything else is plain cargo.
#
# Tests are sorted by name, so that a machine which cannot run some of them skips them, counted and with a reason, and
# runs the rest (tests/run.sh probes once):
#   test binaries live_*                root, network namespaces, veth, the tools of setup.sh; they run one at a time
#   tests netns_*                       the same, in any binary
#   tests tun_*                         root and /dev/net/tun
#   tests hugepages_*                   root and hugepages to reserve
#   tests captures_*                    captures in $CORDON_CAPTURES (default ../shared/captures)
#   tests gobgp_*                       gobgpd and gobgp
#   tests smtp_*                        python3-aiosmtpd, a mail server
#   tests schemathesis_*                schemathesis, which setup.sh installs beside the build ($CORDON_SCHEMATHESIS)
#   tests xarf_*                        the package xarf, which setup.sh installs beside the build ($CORDON_XARF), and aiosmtpd
#   tests prometheus_*                  prometheus and promtool
#   tests valgrind_*                    valgrind, and the compiler that bench/instructions/budgets.txt names
# A test names its namespaces and interfaces by its process id and removes them itself.

SHELL := /bin/bash
# Root's PATH under sudo often lacks what rustup installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

CAPTURE ?=
SPEED ?= 1
INTERNAL ?=
OPTIONS ?=

.DEFAULT_GOAL := help
.PHONY: help run test bench performance lab lint build clean

help: ## this text
	@printf 'Usage: make TARGET\n\n'
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

run: ## the demo on this machine, no NIC needed: make run [CAPTURE=x.pcap] [INTERNAL=prefixes] [SPEED=1]
	@./setup.sh run
	@cargo build --release --workspace --locked
	@CAPTURE='$(CAPTURE)' SPEED='$(SPEED)' INTERNAL='$(INTERNAL)' bench/demo/run.sh

test: ## format, lints, all tests that this machine can run
	@./setup.sh test
	@tests/lint.sh
	@cargo build --workspace --locked
	@tests/run.sh

bench: ## (root, 15 minutes) speed beside testpmd, l3fwd, FastNetMon; writes the performance page: make bench [OPTIONS=--quick]
	@./setup.sh bench
	@bench/all.sh $(OPTIONS)

performance: ## writes bench/PERFORMANCE.md and its plots anew from the results of the last 'make bench'
	@bench/performance.py "$${CARGO_TARGET_DIR:-target}/bench" bench

lab: ## (root) two network namespaces joined by the appliance, to attack from one to the other
	@./setup.sh test
	@cargo build --release --workspace --locked
	@bench/demo/lab.sh

lint: ## format, clippy, shellcheck, systemd units
	@./setup.sh test
	@tests/lint.sh

build: ## release binaries in target/release
	@./setup.sh run
	@cargo build --release --workspace --locked

clean: ## remove what was built
	@cargo clean
