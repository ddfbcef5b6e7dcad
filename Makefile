# `make` lists what there is. Builds, Python environments and servers go to a cache outside the checkout
# (IOTML_CACHE, by default ~/.cache/iotml).

SHELL := /bin/bash
WITH_ENV := deploy/with-env
SERVERS := deploy/servers/servers
# librdkafka and paho are built from source: these are what their builds ask for.
BUILD_PACKAGES := build-essential cmake pkg-config libssl-dev zlib1g-dev

# What `make demo` passes on; the example has the defaults.
DEMO_FLAGS = $(if $(CARS),--cars $(CARS)) $(if $(RATE),--rate $(RATE)) $(if $(SECONDS),--seconds $(SECONDS)) \
	$(if $(KAFKA),--kafka $(KAFKA)) $(if $(MQTT),--mqtt $(MQTT)) $(if $(QOS),--qos $(QOS))

# What `make chaos` passes on.
CHAOS_FLAGS = --broker $(or $(BROKER),mosquitto) --seeds $(or $(SEEDS),5) $(if $(FIRST),--first $(FIRST)) \
	$(if $(EARLY_ACK),--early-ack) $(if $(AGAIN),--again) $(if $(HANG),--hang $(HANG)) --results $(or $(RESULTS),target/chaos.jsonl)

.DEFAULT_GOAL := help
.PHONY: help demo test test-python test-all check check-python deny chaos fuzz bench bench-bridge train wheel python stubs servers-up servers-down venv packages

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: packages ## cars, bridge, scoring and alerts in one process; CARS= RATE= SECONDS= QOS= KAFKA=host:port MQTT=host:port
	@IOTML_VENV=demo $(WITH_ENV) cargo run --locked --release -p iotml-examples --no-default-features --bin quickstart -- $(DEMO_FLAGS)

test: packages ## all tests and examples against real servers, which it fetches, starts and stops; of Python what needs no TensorFlow
	@$(WITH_ENV) deploy/run-tests

test-python: packages ## the Python module whole: its stubs and types, its tests on the wheel beside TensorFlow (1.5 GB of packages)
	@deploy/python/stubs --check
	@deploy/python/check-types
	@$(WITH_ENV) deploy/run-tests python

test-all: ## what continuous integration runs with MinIO and more kills, the Python module with PyTorch (3 GB), docs/extending.md to the letter, some fuzzing
	@IOTML_EXTRA_SERVERS=minio IOTML_KILLS=$${IOTML_KILLS:-20} .ci/run
	@$(MAKE) --no-print-directory test-python
	@$(WITH_ENV) deploy/check-extending
	@$(WITH_ENV) deploy/run-tests torch
	@$(WITH_ENV) fuzz/run 0.17

check: packages ## fmt, clippy, tests on the embedded servers, docs
	@$(WITH_ENV) cargo fmt --all --check
	@$(WITH_ENV) cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(WITH_ENV) cargo test --workspace --locked
	@RUSTDOCFLAGS="-D warnings" $(WITH_ENV) cargo doc --workspace --no-deps --locked

check-python: packages ## the types of the Python module, its stubs against what is compiled
	@deploy/python/stubs --check
	@deploy/python/check-types

chaos: packages ## faults against real servers, resumed where it was; SEEDS=50 FIRST=1 BROKER=mosquitto|hivemq AGAIN=1 EARLY_ACK=1 HANG=60
	@$(WITH_ENV) cargo build --locked -p iotml-examples -p iotml-chaos --bin worker --bin early_ack_worker
	@$(WITH_ENV) cargo run --locked -p iotml-chaos --bin chaos -- $(CHAOS_FLAGS)

deny: ## licences, bans and sources of all dependencies, by cargo-deny
	@deploy/deny

fuzz: packages ## every fuzz target for MINUTES=10, one after the other (fuzz/README.md)
	@$(WITH_ENV) fuzz/run $(or $(MINUTES),10)

bench: packages ## the stages by Criterion, then the whole chain beside its peers on a real Kafka
	@$(WITH_ENV) cargo bench --locked -p iotml-benches
	@$(SERVERS) up
	@eval "$$($(SERVERS) env)" && $(WITH_ENV) cargo run --locked --release -p iotml-benches --bin end_to_end; \
		code=$$?; $(SERVERS) down; exit $$code

bench-bridge: packages ## the MQTT bridge beside Telegraf over Mosquitto and HiveMQ CE (builds Telegraf, needs Go)
	@$(WITH_ENV) cargo build --locked --release -p iotml-examples --bin worker -p iotml-chaos --bin early_ack_worker
	@$(WITH_ENV) bash -c 'built=$$CARGO_TARGET_DIR/release && \
		exec "$$IOTML_PYTHON" benches/bridge --worker "$$built/worker" --early "$$built/early_ack_worker"'

train: packages ## train the default network on the simulator's healthy cars (installs TensorFlow)
	@deploy/python/install "$$(deploy/python/wheel)"
	@examples/python/train_default_network "$$(deploy/python/venv train)/bin/python"

wheel: packages ## the wheel of the Python module, for any Linux with glibc 2.28, into dist/
	@deploy/python/wheel

python: packages ## the same, installed into the Python environments for tests
	@deploy/python/install "$$(deploy/python/wheel)"

stubs: packages ## write down the types of the compiled half of the Python module, after a change to it
	@deploy/python/stubs

servers-up: ## start the real servers; then: eval "$(deploy/servers/servers env)"
	@$(SERVERS) up

servers-down: ## stop them
	@$(SERVERS) down

venv: ## the Python environment for tests and benchmarks; prints its folder
	@deploy/python/venv dev

packages: # the Debian packages that a build needs
	@deploy/apt-packages $(BUILD_PACKAGES)
