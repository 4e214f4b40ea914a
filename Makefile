.DEFAULT_GOAL := help
.PHONY: help run run-kafka test check fmt lint doc deny sqlx sqlx-fresh contract contract-fresh campaign schemathesis bench install install-tests services next

TARGET := $(or $(CARGO_TARGET_DIR),target)
SERVICES := $(TARGET)/debug/with-services
COMMA := ,
DENY_VERSION := 0.20.2
DENY := .tools/cargo-deny-$(DENY_VERSION)
SCHEMATHESIS_VERSION := 4.32.5
SCHEMATHESIS := .tools/schemathesis-$(SCHEMATHESIS_VERSION)

# Queries are checked against the committed .sqlx/, whatever a DATABASE_URL or a .env says.
export SQLX_OFFLINE := true

# Links several times faster. Tried first: some compilers do not know it.
ifeq ($(shell echo 'int main(void) { return 0; }' | cc -fuse-ld=mold -x c - -o /dev/null 2>/dev/null && echo yes),yes)
export RUSTFLAGS := $(strip $(RUSTFLAGS) -Clink-arg=-fuse-ld=mold)
endif

# Most tests wait for a server most of the time.
export RUST_TEST_THREADS ?= $(shell expr 2 '*' $$(nproc 2>/dev/null || echo 2))

help: ## list these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

run: install ## build and start the service with servers of its own (ARGS: for `annuaire serve`)
	cargo build -p annuaire
	exec $(TARGET)/debug/annuaire serve $(ARGS)

run-kafka: install-tests ## the same with a Kafka on port 9092, too; it needs Java
	cargo build -p annuaire -p journeys --bin annuaire --bin with-services
	exec $(SERVICES) --only kafka --kafka-port 9092 --dir .data $(TARGET)/debug/annuaire serve $(ARGS)

test: install-tests services next ## run every test against real servers (ARGS: for `cargo test`)
	$(SERVICES) cargo test $(ARGS)

check: install fmt lint doc deny sqlx-fresh contract-fresh ## everything but the tests: form, lints, docs, licences, generated files

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --workspace --quiet

deny: $(DENY)/bin/cargo-deny
	$(DENY)/bin/cargo-deny --workspace check --hide-inclusion-graph licenses bans sources

# Unoptimised: it runs for a second and would compile for minutes.
$(DENY)/bin/cargo-deny:
	cargo install --quiet --locked cargo-deny --version $(DENY_VERSION) --root $(DENY) --profile dev --config profile.dev.debug=0

sqlx: install ## write .sqlx/ again, after a query or a migration changed
	.ci/queries write

sqlx-fresh: install ## fail if .sqlx/ is not what `make sqlx` would write
	.ci/queries compare

contract: install ## write docs/schemas/ and docs/asyncapi.json again, after a message changed
	cargo run --quiet -p annuaire -- contract schemas --out docs/schemas
	cargo run --quiet -p annuaire -- contract asyncapi --out docs/asyncapi.json

contract-fresh: install ## fail if they are not what the messages are, or if readers of one would not understand it any more
	cargo test --quiet --test schemas

campaign: install-tests services next ## run a long randomised test: NAME=kill N=50
	CAMPAIGN_N=$(N) $(SERVICES) cargo test -p journeys --test journeys -- --nocapture --include-ignored --exact $(NAME)::campaign_$(NAME)
campaign: NAME ?= kill
campaign: N ?= 50

schemathesis: install $(SCHEMATHESIS)/bin/schemathesis ## hold a running service to its /openapi.json: N=200 requests a route and more (needs Python)
	cargo build -p annuaire
	SCHEMATHESIS=$(SCHEMATHESIS)/bin/schemathesis ANNUAIRE=$(TARGET)/debug/annuaire .ci/schemathesis --max-examples $(N) $(ARGS)
schemathesis: N ?= 200

$(SCHEMATHESIS)/bin/schemathesis:
	python3 -m venv $(SCHEMATHESIS)
	$(SCHEMATHESIS)/bin/pip install --quiet schemathesis==$(SCHEMATHESIS_VERSION)

# The tests' way is for brokers that live for seconds. As Kafka's scripts start it, but for its young
# generation: left to grow by itself it stays at 50 MB, and each 2 s the broker stands still for 20 ms.
bench: export KAFKA_HEAP_OPTS := -Xms1G -Xmx1G -Xmn600m -XX:+AlwaysPreTouch
bench: export KAFKA_JVM_PERFORMANCE_OPTS := -server -XX:+UseG1GC
bench: install ## measure: NAME=append, read, rebuild, http, login, lag, or with Java outbox, inbound; ARGS=--help
ifneq ($(filter outbox inbound,$(NAME)),)
	.ci/install tests
	$(MAKE) services
	cargo build --release -p annuaire
	$(SERVICES) --only postgres,redis,kafka $(BENCH)
else ifeq ($(NAME),lag)
	$(MAKE) services
	$(SERVICES) --only postgres,redis $(BENCH)
else
	cargo build --release -p annuaire
	$(BENCH)
endif
BENCH = cargo run --release -p bench --bin $(or $(NAME),append) -- $(ARGS)

install:
	@.ci/install

install-tests:
	@.ci/install tests

# The tests' own build, since their dependencies have more features than a plain build has.
services:
	cargo test --no-run --quiet

# Beside which this version is tested as while it is rolled out.
next: services
	.ci/next
