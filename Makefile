# `make` lists the targets. The work is in scripts/ and in cargo; this file only says what needs what.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gilliam
# Outside the working tree, so that a fresh clone builds on what an earlier one has built.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export SAMPLES_TARGET_DIR ?= $(CACHE)/samples-target

# Given to the program: make up ARGS="--http 127.0.0.1:0"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup samples build demo cluster-demo up test test-samples lint bench bench-plan bench-etcd bench-nodes bench-cluster bench-queue soak soak-queue

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need: a C compiler, protoc, etcd, PostgreSQL, the guest target
	@scripts/setup

samples: setup ## build the sample guests (samples/*/*.wasm)
	@scripts/samples

# The whole workspace, not the one binary: its features are then those of the tests, and nothing is built twice.
build: setup ## build everything, without the tests
	cargo build --workspace

demo: samples build ## the main job from beginning to end, on free ports, in a temporary folder
	scripts/demo $(CARGO_TARGET_DIR)/debug/gilliam

cluster-demo: samples build ## three etcd, two servers, three nodes on this machine: one of each is killed, all heals
	scripts/cluster-demo $(CARGO_TARGET_DIR)/debug/gilliam

up: samples build ## build, then run a platform on this machine
	$(CARGO_TARGET_DIR)/debug/gilliam up $(ARGS)

test: samples test-samples ## all tests
	cargo test --workspace --no-fail-fast
	@echo "make test: passed"

test-samples: setup
	cargo test --locked --quiet --manifest-path samples/Cargo.toml --target-dir $(SAMPLES_TARGET_DIR)
	cargo test --locked --quiet --workspace --manifest-path sdk/rust/Cargo.toml --target-dir $(SAMPLES_TARGET_DIR)

lint: setup ## formatting, clippy, rustdoc; warnings are errors
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path samples/Cargo.toml
	cargo fmt --all --check --manifest-path sdk/rust/Cargo.toml
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --locked --manifest-path samples/Cargo.toml --target-dir $(SAMPLES_TARGET_DIR) \
		--target wasm32-wasip2 -- -D warnings
	cargo clippy --locked --workspace --manifest-path sdk/rust/Cargo.toml --target-dir $(SAMPLES_TARGET_DIR) \
		--target wasm32-wasip2 -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

bench: samples ## measure this machine beside its peers: density, cold start, http, limits, neighbours, builds
	scripts/bench $(ARGS)

bench-plan: setup ## what planning costs: 100 to 10,000 nodes, up to 2,000,000 instances
	cargo run --release -p gilliam-plan --example fleets

bench-etcd: setup ## what a million placed instances cost etcd and the control plane: size, writes, start
	cargo run --release -p gilliam-scheduler --example etcd -- $(ARGS)

bench-nodes: setup ## what thousands of nodes that wait cost the control plane
	cargo run --release -p gilliam-scheduler --example nodes -- $(ARGS)

bench-cluster: setup ## a server and 20 node processes: the time from scale to the last of 20,000 workers
	BENCH_PEERS=0 scripts/bench cluster $(ARGS)

bench-queue: setup ## queues in a file and in PostgreSQL beside SKIP LOCKED and Redis: jobs a second, time to the handler
	scripts/bench-queue

soak-queue: samples ## a million jobs through each kind of queue while what puts, takes and does them is killed
	GILLIAM_SOAK_JOBS=1000000 cargo test -p gilliam-queue --test soak -- --nocapture --test-threads=1
	GILLIAM_SOAK_JOBS=20000 cargo test -p gilliam --test e2e -- --nocapture --test-threads=1 no_job_is_lost

soak: samples ## a million starts and stops; thousands of histories over an etcd that falters (half an hour)
	GILLIAM_LEAK_STARTS=1000000 cargo test -p gilliam-engine --test leaks -- --nocapture
	GILLIAM_ETCD_ROUNDS=60 cargo test -p gilliam-store --test etcd_faults -- --nocapture histories
	GILLIAM_HISTORY_ROUNDS=200 GILLIAM_ETCD_ROUNDS=30 cargo test -p gilliam-scheduler --test histories -- --nocapture
