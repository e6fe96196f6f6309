# Orderly from a checkout. `make` alone explains itself; everything is safe to run again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(HOME)/.cargo/bin:/usr/local/go/bin:$(PATH)

BUF_VERSION := 1.75.0
GRPCURL_VERSION := v1.9.4
DENY_VERSION := 0.20.2
TOOLS := $(CURDIR)/target/tools
BUF := $(TOOLS)/buf-$(BUF_VERSION)/node_modules/.bin/buf
GRPCURL := $(TOOLS)/bin/grpcurl
ORDERLY := target/release/orderly
KAFKA_POM := crates/stack/kafka/pom.xml
JMX_POM := crates/stack/kafka/jmx-exporter/pom.xml
export ORDERLY_KAFKA_LIBS ?= $(CURDIR)/target/kafka-libs
JMX_EXPORTER = $(dir $(ORDERLY_KAFKA_LIBS))jmx-exporter

# What `make up` needs from Debian: a C compiler for librdkafka, PostgreSQL's server, Java and Maven for Kafka.
PACKAGES := build-essential pkg-config zlib1g-dev default-jre-headless maven postgresql
# What OBSERVE=1 and the tests need beside it.
OBSERVERS := prometheus prometheus-postgres-exporter
OBSERVED := $(filter-out 0 no false,$(OBSERVE))

.PHONY: help up observe down clean status build test soak lint fmt docs proto-lint proto-release deny tools system observers rust kafka jmx-exporter

help: ## Show this
	@printf 'Orderly: an event-driven order platform.\n\n'
	@printf '  make up DETACH=1    start everything, return when it is ready\n'
	@printf '  grpcurl ...         place an order: `make up` prints the whole command\n'
	@printf '  make status         see every process\n'
	@printf '  make down           stop it, keep its data\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nPorts, and the flags that change them: target/release/orderly up --help\n'

up: system $(if $(OBSERVED),observers) rust kafka $(if $(OBSERVED),jmx-exporter) ## Install what is missing, build, start the platform; Ctrl-C stops it (DETACH=1: return when ready)
	@cargo build --release --locked --workspace
	@exec $(ORDERLY) up $(if $(filter-out 0 no false,$(DETACH)),--detach) $(if $(OBSERVED),--observe)

observe: ## The same with Prometheus, its alerts, and Grafana where one is installed (as OBSERVE=1)
	@$(MAKE) up OBSERVE=1

down: ## Stop a platform that was started with DETACH=1, keep its data
	@$(MAKE) orderly-command COMMAND=down

clean: ## Stop the platform and delete its data (not the build)
	@$(MAKE) orderly-command COMMAND=clean

status: ## Show every process of the platform, and whether it is ready
	@$(MAKE) orderly-command COMMAND=status

.PHONY: orderly-command
orderly-command:
	@if [[ -x $(ORDERLY) ]]; then exec $(ORDERLY) $(COMMAND); \
	elif [[ -x target/debug/orderly ]]; then exec target/debug/orderly $(COMMAND); \
	elif [[ -e .orderly ]]; then echo 'orderly is not built: run `make build` first' >&2; exit 1; \
	else echo 'nothing is running: `make up` was never run here'; fi

build: system rust ## Build everything as `make up` does
	@cargo build --release --locked --workspace

test: system observers rust kafka jmx-exporter lint ## Run all that CI checks: formatting, lints, protos, tests on a real PostgreSQL and Kafka
	@cargo build --workspace --locked
	@cargo test --workspace --locked

lint: rust proto-lint ## Check formatting, clippy and the protos
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings

soak: system rust kafka ## Kill relays, workers, PostgreSQL and Kafka under load for an hour, and see that nothing is lost
	@cargo build --release --workspace --locked
	@cargo test --release --locked -p outbox-relay --test it -- --ignored --nocapture --test-threads 1 soak
	@cargo test --release --locked -p cli --test flow -- --ignored --nocapture --test-threads 1 soak

fmt: rust ## Format the code
	@cargo fmt --all

docs: rust ## Write docs/CONFIG.md and docs/TELEMETRY.md anew, from the command lines and the catalogue of metrics
	@UPDATE_DOCS=1 cargo test -q --locked -p cli --test config --test telemetry_doc

proto-lint: $(BUF) ## Check the protos against buf's STANDARD rules and against the last release
	@cd proto && '$(BUF)' lint
	@cd proto && '$(BUF)' breaking --against released.binpb || { echo 'others still send, store and read what was released: keep it, or reserve number and name of what goes' >&2; exit 1; }

proto-release: $(BUF) ## Write proto/released.binpb anew, for a release; fails where it would break the last one
	@$(MAKE) proto-lint
	@cd proto && '$(BUF)' build --exclude-source-info -o released.binpb

deny: rust ## Check licences, sources and duplicates of the dependencies (the first run builds cargo-deny: minutes)
	@test -x '$(TOOLS)/bin/cargo-deny' || cargo install --locked --root '$(TOOLS)' cargo-deny@$(DENY_VERSION)
	@'$(TOOLS)/bin/cargo-deny' check bans licenses sources

tools: $(GRPCURL) $(BUF) ## Install grpcurl and buf into target/tools
	@printf 'installed in %s:\n  %s\n  %s\n' '$(TOOLS)' '$(GRPCURL)' '$(BUF)'

$(GRPCURL):
	@command -v go >/dev/null || { echo 'grpcurl needs Go to build: install it from https://go.dev/dl/, or take grpcurl from its releases page' >&2; exit 1; }
	@GOBIN='$(TOOLS)/bin' go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)

$(BUF):
	@command -v npm >/dev/null || $(MAKE) packages INSTALL=npm
	@npm install --prefix '$(TOOLS)/buf-$(BUF_VERSION)' --no-save --no-audit --no-fund --loglevel=error @bufbuild/buf@$(BUF_VERSION)
	@test -x '$@' && touch '$@'

# Debian's packages, when a program that they bring is missing.
system:
	@missing=''; \
	for program in cc c++ pkg-config java mvn; do command -v "$$program" >/dev/null || missing+=" $$program"; done; \
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing+=' postgres'; \
	if [[ -n "$$missing" ]]; then echo "missing:$$missing"; $(MAKE) packages INSTALL='$(PACKAGES)'; fi

observers:
	@missing=''; \
	command -v prometheus >/dev/null && command -v promtool >/dev/null || missing+=' prometheus'; \
	command -v prometheus-postgres-exporter >/dev/null || command -v postgres_exporter >/dev/null || missing+=' prometheus-postgres-exporter'; \
	if [[ -n "$$missing" ]]; then echo "missing:$$missing"; $(MAKE) packages INSTALL="$$missing"; fi

# Only what is not installed yet is installed; what a user has keeps its version and its state.
# PostgreSQL's package would start a server of its own on port 5432: it is told not to, unless it is installed already.
# Prometheus' packages would start theirs, now and with the machine: a policy forbids the first while they are installed,
# and the units that have come with them are disabled.
.PHONY: packages
packages:
	@if ! command -v apt-get >/dev/null; then echo 'this is not Debian: install what these packages bring: $(INSTALL)' >&2; exit 1; fi
	@if [[ $$(id -u) -ne 0 ]]; then echo 'run as root, or ask an administrator for: apt-get install $(INSTALL)' >&2; exit 1; fi
	@export DEBIAN_FRONTEND=noninteractive; new=''; units=''; \
	for package in $(INSTALL); do \
		[[ $$(dpkg-query -W -f='$${db:Status-Status}' "$$package" 2>/dev/null || true) == installed ]] && continue; \
		new+=" $$package"; \
		if [[ ' $(OBSERVERS) ' == *" $$package "* ]] && command -v systemctl >/dev/null && \
			! systemctl cat "$$package.service" >/dev/null 2>&1; then units+=" $$package.service"; fi; \
	done; \
	if [[ -z $$new ]]; then echo 'installed, but not on PATH: look into $(INSTALL)' >&2; exit 1; fi; \
	apt-get update -qq; \
	if [[ "$$new " == *' postgresql '* ]] && ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then \
		apt-get install -y -qq --no-install-recommends postgresql-common; \
		sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf; \
	fi; \
	policy=/usr/sbin/policy-rc.d; \
	if [[ $$new == *prometheus* && ! -e $$policy ]]; then \
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT; trap 'exit 130' INT TERM HUP; \
		printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; \
	fi; \
	apt-get install -y -qq --no-install-recommends $$new; \
	if [[ -n $$units ]]; then systemctl --quiet disable $$units || true; fi

rust:
	@command -v cargo >/dev/null || { echo 'cargo is missing, and Debian'"'"'s is too old: install Rust from https://rustup.rs, then run this again' >&2; exit 1; }
	@version=$$(cargo --version | cut -d' ' -f2); oldest=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	if [[ $$(printf '%s\n' "$$oldest" "$$version" | sort -V | head -1) != "$$oldest" ]]; then \
		echo "cargo $$version is too old, $$oldest is needed: run \`rustup update stable\`" >&2; exit 1; fi

# What `orderly up` and the tests would install from Maven Central by themselves (crates/stack), with the same lock and
# the same mark of completion, so that it never happens twice: $(call from_maven,pom,folder,what it is).
define from_maven
	@mkdir -p '$(dir $(2))'; exec 9>'$(2).lock'; flock 9; \
	cmp -s '$(1)' '$(2)/pom.xml' && exit; \
	echo 'installing $(3) from Maven Central'; \
	rm -rf '$(2)' '$(2).new'; mkdir '$(2).new'; \
	mvn -q -B -f '$(1)' dependency:copy-dependencies -DoutputDirectory='$(2).new'; \
	cp '$(1)' '$(2).new/pom.xml'; mv '$(2).new' '$(2)'
endef

kafka: system
	$(call from_maven,$(KAFKA_POM),$(ORDERLY_KAFKA_LIBS),Kafka (54 MB))

jmx-exporter: system
	$(call from_maven,$(JMX_POM),$(JMX_EXPORTER),the JMX exporter (3 MB))
