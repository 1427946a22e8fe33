# All that people and CI run. `make` without a target lists the targets.

CARGO ?= cargo
# The whole workspace, with the commands that need librdkafka. The same selection everywhere, so that nothing is built
# twice.
ALL := --locked --workspace --features hot/kafka
PYTHON ?= python3
VENV := .venv
TOOLS := $(VENV)/.installed
CHROMIUM ?= /usr/bin/chromium
DENY := target/tools/bin/cargo-deny
FUZZ := target/tools/bin/cargo-fuzz

.DEFAULT_GOAL := help

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Replay a sample of clicks and print the hot products
	$(CARGO) run --locked --bin hot -- replay events/clicks.jsonl

.PHONY: demo
demo: ## Run a simulated shop, with a live page on http://127.0.0.1:8080
	$(CARGO) run --locked --bin hot -- demo

.PHONY: test
test: $(TOOLS) $(VENV)/api/.installed ## Run the tests that need only Rust and Python; minutes
	$(CARGO) build $(ALL)
	$(CARGO) test $(ALL)
	$(VENV)/bin/python -m unittest discover --start-directory tests/infra
	$(VENV)/bin/python -m unittest discover --start-directory bench

.PHONY: test-real
test-real: $(TOOLS) ## Test with DynamoDB Local and a real Kafka; needs a JDK 17 and Maven
	$(CARGO) build $(ALL)
	$(CARGO) test $(ALL) --test real
	$${CARGO_TARGET_DIR:-target}/debug/with-dynamodb-local $(CARGO) test $(ALL) --test chaos

# Chromium comes from the system's packages, with the libraries that it needs.
.PHONY: test-browser
test-browser: $(VENV)/browser/.installed ## Test the page in Chromium; writes screenshots to target/browser
	test -x $(CHROMIUM) || { apt-get update && apt-get install --yes chromium; }
	$(CARGO) build $(ALL)
	CHROMIUM=$(CHROMIUM) $(VENV)/browser/bin/python -m unittest discover --start-directory tests/browser

# N and SEED can also be set in the environment, as in SEED=28 make chaos.
.PHONY: chaos
chaos: ## Test counting under injected faults; N=10000 schedules, or SEED=28 to repeat one
	$(CARGO) build $(ALL)
	$(if $(N),N=$(N)) $(if $(SEED),SEED=$(SEED)) $(CARGO) test $(ALL) --test chaos

# As above, and the previous release is that of tests/previous-release. Needs its commit, from this clone or from its origin.
.PHONY: test-versions
test-versions: ## Test two releases that take turns on one stream, under injected faults; minutes
	$(CARGO) build $(ALL) --bin count-clicks --bin rank-products
	$(PYTHON) tests/previous.py
	PREVIOUS=$(abspath $(or $(CARGO_TARGET_DIR),target))/previous/debug N=$(or $(N),50) $(if $(SEED),SEED=$(SEED)) \
		$(CARGO) test $(ALL) --test chaos

.PHONY: model
model: ## Check the models of counting and healing in larger scopes; takes minutes and some GB
	LARGE=1 $(CARGO) test $(ALL) --test model --test healing_model

.PHONY: breaks
breaks: ## Break counting and healing on purpose and report how soon the tests notice; an hour
	$(PYTHON) tests/breaks.py

# Without a sanitizer, cargo-fuzz needs only stable Rust. Found inputs stay in fuzz/corpus, and failures in fuzz/artifacts.
.PHONY: fuzz
fuzz: $(FUZZ) ## Fuzz decoding for half an hour, guided by coverage; SECONDS_EACH=30 for each of the two targets
	mkdir -p fuzz/corpus/event fuzz/corpus/value
	set -e; for target in event value; do \
		CARGO_TARGET_DIR=target/fuzz $(FUZZ) run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-dict=fuzz/json.dict -max_len=4096 -max_total_time=$(or $(SECONDS_EACH),900) -print_final_stats=1; \
	done

.PHONY: scale
scale: ## Simulate large loads and compare them with the limits of AWS; about a minute
	$(CARGO) run --locked --bin hot -- scale

.PHONY: lint
lint: $(TOOLS) $(DENY) ## Check formatting, lints, docs, dependencies, templates and workflows
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(ALL) --all-targets -- --deny warnings
	$(CARGO) clippy $(ALL) --test real -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc $(ALL) --no-deps --quiet
	$(CARGO) fetch --locked
	$(DENY) --offline --locked check bans licenses sources
	$(VENV)/bin/python tests/infra/lint.py
	$(VENV)/bin/checkov --file infra/*.yaml infra/pipeline/role.yaml --framework cloudformation --compact --quiet --skip-download
	$(VENV)/bin/zizmor --offline --no-progress --quiet --strict-collection .github/workflows infra/pipeline/deploy.yml

.PHONY: rehearse
rehearse: $(TOOLS) $(VENV)/rehearse/.installed $(VENV)/sam/.installed $(VENV)/aws/.installed ## Deploy to an AWS emulator, use the stack and delete it
	$(CARGO) build $(ALL)
	$(VENV)/rehearse/bin/python tests/rehearse.py

.PHONY: bench bench-quick
bench: $(VENV)/bench/.installed ## Measure cost and speed next to the alternatives; 20 minutes
	$(VENV)/bench/bin/python bench/bench.py

bench-quick: $(VENV)/bench/.installed ## Try the bench in two minutes; the figures are not precise
	$(VENV)/bench/bin/python bench/bench.py --quick

.PHONY: soak
soak: $(VENV)/bench/.installed ## Run the functions for an hour at the medium load and watch their memory and CPU time
	$(VENV)/bench/bin/python bench/soak.py

.PHONY: bench-flink
bench-flink: $(VENV)/bench/.installed $(VENV)/flink/.installed ## Measure Flink as well; downloads 330 MB, needs Java 17
	$(VENV)/bench/bin/python bench/bench.py --only flink

.PHONY: clean
clean: ## Remove all build output and installed tools
	rm -rf target $(VENV) infra/.aws-sam

# cargo-lambda and the linters, pinned. On Debian, venv is a separate package.
$(TOOLS): tests/requirements.txt
	$(PYTHON) -m venv --clear $(VENV) || { apt-get install --yes python3-venv && $(PYTHON) -m venv --clear $(VENV); }
	$(VENV)/bin/pip install --quiet --no-deps --disable-pip-version-check --requirement tests/requirements.txt
	touch $@

# One environment for each requirements file, because their pins conflict.
$(VENV)/api/.installed: tests/requirements-api.txt
$(VENV)/browser/.installed: tests/requirements-browser.txt
$(VENV)/rehearse/.installed: tests/requirements-rehearse.txt
$(VENV)/sam/.installed: tests/requirements-sam.txt
$(VENV)/aws/.installed: tests/requirements-aws.txt
$(VENV)/bench/.installed: bench/requirements.txt
$(VENV)/flink/.installed: bench/requirements-flink.txt
$(VENV)/%/.installed: $(TOOLS)
	$(PYTHON) -m venv --clear $(VENV)/$*
	$(VENV)/$*/bin/pip install --quiet --no-deps --disable-pip-version-check --requirement $(filter %.txt,$^)
	touch $@

# Built from source; without optimisation that takes a minute each, and they are fast enough.
$(DENY): VERSION := 0.20.2
$(FUZZ): VERSION := 0.13.2
$(DENY) $(FUZZ):
	CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		$(CARGO) install $(@F) --version $(VERSION) --locked --root target/tools --target-dir target/tools/build
