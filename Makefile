# Everything that people and CI run. `make` alone lists the targets.

CARGO ?= cargo
# Everything, with the commands that need librdkafka. One selection everywhere, so that nothing is built twice.
ALL := --locked --workspace --features hot/kafka
PYTHON ?= python3
VENV := .venv
TOOLS := $(VENV)/.installed
CHROMIUM ?= /usr/bin/chromium
DENY := target/tools/bin/cargo-deny

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Replay the sample and print the hot products
	$(CARGO) run --locked --bin hot -- replay events/clicks.jsonl

.PHONY: demo
demo: ## Show it all at work: a page on http://127.0.0.1:8080 to watch it
	$(CARGO) run --locked --bin hot -- demo

.PHONY: test
test: $(TOOLS) $(VENV)/api/.installed ## Run all tests but those of real parts and the rehearsal
	$(CARGO) build $(ALL)
	$(CARGO) test $(ALL)
	$(VENV)/bin/python -m unittest discover --start-directory tests/infra
	$(VENV)/bin/python -m unittest discover --start-directory bench

.PHONY: test-real
test-real: $(TOOLS) ## Test on DynamoDB Local and a real Kafka; needs Java 17 and Maven
	$(CARGO) build $(ALL)
	$(CARGO) test $(ALL) --test real
	$${CARGO_TARGET_DIR:-target}/debug/with-dynamodb-local $(CARGO) test $(ALL) --test chaos

# Chromium is not in the environment: as a package of the system, it comes with what it needs.
.PHONY: test-browser
test-browser: $(VENV)/browser/.installed ## Test the page in Chromium; screenshots go to target/browser
	test -x $(CHROMIUM) || { apt-get update && apt-get install --yes chromium; }
	$(CARGO) build $(ALL)
	CHROMIUM=$(CHROMIUM) $(VENV)/browser/bin/python -m unittest discover --start-directory tests/browser

# Both may also come from the environment, as in SEED=28 make chaos.
.PHONY: chaos
chaos: ## Try to break counting: N=10000 fault schedules, or one again by SEED=28
	$(CARGO) build $(ALL)
	$(if $(N),N=$(N)) $(if $(SEED),SEED=$(SEED)) $(CARGO) test $(ALL) --test chaos

.PHONY: model
model: ## Check the protocol's model in larger scopes: minutes, some gigabytes
	LARGE=1 $(CARGO) test $(ALL) --test model

.PHONY: scale
scale: ## Show how far it scales, by a simulation; about a minute
	$(CARGO) run --locked --bin hot -- scale

.PHONY: lint
lint: $(TOOLS) $(DENY) ## Check formats, lints, docs, dependencies and the templates
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(ALL) --all-targets -- --deny warnings
	$(CARGO) clippy $(ALL) --test real -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc $(ALL) --no-deps --quiet
	$(CARGO) fetch --locked
	$(DENY) --offline --locked check bans licenses sources
	$(VENV)/bin/python tests/infra/lint.py
	$(VENV)/bin/checkov --file infra/template.yaml infra/msk.yaml --framework cloudformation --compact --quiet --skip-download

.PHONY: rehearse
rehearse: $(TOOLS) $(VENV)/rehearse/.installed $(VENV)/sam/.installed ## Deploy to an AWS emulator, use it, delete it
	$(VENV)/rehearse/bin/python tests/rehearse.py

.PHONY: bench bench-quick
bench: $(VENV)/bench/.installed ## Measure cost and speed beside what one would run instead: 20 minutes
	$(VENV)/bench/bin/python bench/bench.py

bench-quick: $(VENV)/bench/.installed ## Try the bench in two minutes; its figures mean little
	$(VENV)/bench/bin/python bench/bench.py --quick

.PHONY: bench-flink
bench-flink: $(VENV)/bench/.installed $(VENV)/flink/.installed ## Measure Flink too, for the bench's table; downloads 330 MB, needs Java 17
	$(VENV)/bench/bin/python bench/bench.py --only flink

.PHONY: clean
clean: ## Remove what was built and installed here
	rm -rf target $(VENV) infra/.aws-sam

# cargo-lambda and the templates' linters, pinned. Debian has venv in a package of its own.
$(TOOLS): tests/requirements.txt
	$(PYTHON) -m venv --clear $(VENV) || { apt-get install --yes python3-venv && $(PYTHON) -m venv --clear $(VENV); }
	$(VENV)/bin/pip install --quiet --no-deps --disable-pip-version-check --requirement tests/requirements.txt
	touch $@

# One environment a requirements file, for their pins exclude one another.
$(VENV)/api/.installed: tests/requirements-api.txt
$(VENV)/browser/.installed: tests/requirements-browser.txt
$(VENV)/rehearse/.installed: tests/requirements-rehearse.txt
$(VENV)/sam/.installed: tests/requirements-sam.txt
$(VENV)/bench/.installed: bench/requirements.txt
$(VENV)/flink/.installed: bench/requirements-flink.txt
$(VENV)/%/.installed: $(TOOLS)
	$(PYTHON) -m venv --clear $(VENV)/$*
	$(VENV)/$*/bin/pip install --quiet --no-deps --disable-pip-version-check --requirement $(filter %.txt,$^)
	touch $@

# No package of it is anywhere but its source; without optimisation that is a minute's build, and quick enough here.
$(DENY):
	CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		$(CARGO) install cargo-deny --version 0.20.2 --locked --root target/tools --target-dir target/tools/build
