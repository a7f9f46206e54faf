# keylatch: every command of the project. `make` prints the list.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:

CARGO ?= cargo
PYTHON ?= python3
# More options for the command behind a target: make run ARGS="--seconds 20 --threads 8"
ARGS ?=
# Seconds that a sanitizer watches the workload for.
WATCHED ?= 10

SANITIZED_TARGET := $(shell uname -m)-unknown-linux-gnu
# Instrumented code needs flags that stable compilers hide. The workload is built with its checks on.
sanitized = RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$(1) -Cunsafe-allow-abi-mismatch=sanitizer --cfg $(2)" \
	TSAN_OPTIONS="suppressions=$(CURDIR)/scripts/tsan.supp $(3)" CARGO_TARGET_DIR=target-$(1)
sanitized_job = $(sanitized) $(CARGO) run --target $(SANITIZED_TARGET) -p keylatch --example storage_engine -- \
	--seconds $(WATCHED) --objects 200 --shards 16
sanitized_tests = $(sanitized) $(CARGO) test --no-fail-fast --target $(SANITIZED_TARGET) -p keylatch

say = @if [ -t 1 ]; then printf '\n\033[1m== %s\033[0m\n' "$(1)"; else printf '\n== %s\n' "$(1)"; fi

##@ The two that do everything

run: need-rust ## build and run the main job: a storage engine's locking, checking itself (ARGS="--help")
	$(call say,Building the storage engine workload (the first time takes a minute))
	@$(CARGO) build --release -p keylatch --example storage_engine
	$(call say,Running it)
	@$(CARGO) run --quiet --release -p keylatch --example storage_engine -- $(ARGS)

test: test-rust test-c test-cpp test-python test-go test-service ## set up what is needed and run every test of every language
	$(call say,All tests passed)

##@ Tests, one language each

test-rust: need-rust ## Rust: unit and integration tests, documentation examples, examples, the bench's own tests
	$(call say,Rust 1/3: unit tests and integration tests and examples in the documentation)
	@$(CARGO) test --no-fail-fast -p keylatch --features serde,tracing,tokio $(ARGS)
	$(call say,Rust 2/3: tests inside the example programs)
	@$(CARGO) test -p keylatch --features serde,tracing,tokio --examples $(ARGS)
	$(call say,Rust 3/3: tests inside the bench)
	@$(CARGO) test -p keylatch-bench $(ARGS)
	$(call say,The API of rustfs-lock and stores of objects)
	@$(CARGO) test -p keylatch-rustfs -p keylatch-object-store $(ARGS)
	$(call say,Typed locks)
	@$(CARGO) test -p keylatch-typed $(ARGS)
	$(call say,Typed locks without the feature tokio)
	@$(CARGO) test -p keylatch-typed --no-default-features $(ARGS)
	$(call say,Typed locks: tests inside the example programs)
	@$(CARGO) test -p keylatch-typed --examples $(ARGS)

test: test-shm ops-test

.PHONY: test-shm shm-model chaos-processes bench-processes

test-shm: need-rust ## locks between processes: the crate's tests and the quick searches of its model
	$(call say,Locks between processes: tests and the quick searches of the model)
	@$(CARGO) test --no-fail-fast -p keylatch-shm $(ARGS)

test: test-etcd

.PHONY: test-etcd etcd-model

test-etcd: need-rust need-python ## locks between machines: against real etcd servers, and the searches of the model
	$(call say,Locks between machines: real etcd servers and the model)
	@$(CARGO) test --no-fail-fast -p keylatch-etcd $(ARGS)
	@[ -n "$(ARGS)" ] || $(MAKE) test-etcd-c test-etcd-go test-etcd-python

.PHONY: test-etcd-c test-etcd-go test-etcd-python

# Beside the service, whose client of etcd has the same features: it is built already.
etcd_library = $(CARGO) build --quiet --profile test -p keylatch-service -p keylatch-capi --features keylatch-capi/etcd

test-etcd-c: need-rust need-python need-cc ## the same from C and C++, against real servers, and what `make install ETCD=1` installs
	$(call say,Locks between machines from C and C++)
	@$(etcd_library)
	@scripts/link_c.sh etcd debug
	@PYTHON="$(PYTHON)" scripts/test_etcd_c.sh

test-etcd-go: need-rust need-python need-cc ## the same from Go
	$(call say,Locks between machines from Go)
	@$(etcd_library)
	@scripts/link_c.sh etcd debug
	@$(PYTHON) scripts/with_etcd.py $(PYTHON) scripts/go_environment.py run test -count=1 -tags keylatch_etcd -run Etcd .

test-etcd-python: need-rust need-python ## the same from Python, with the package keylatch-etcd
	$(call say,Locks between machines from Python)
	@$(PYTHON) scripts/python_environment.py etcd $(ARGS)

test-c: need-rust need-cc ## C: the installed library, its header and its symbols, and the scenarios
	$(call say,C 1/3: the crate behind the header and the scenarios)
	@$(CARGO) test -p keylatch-capi -p keylatch-header --features keylatch-capi/forced-panic $(ARGS)
	$(call say,C 2/3: the library as it is installed)
	@$(MAKE) install PREFIX="$(CURDIR)/target/installed" DESTDIR=
	@scripts/test_c.sh "$(CURDIR)/target/installed"
	@PYTHON="$(PYTHON)" scripts/test_c_install.sh "$(CURDIR)/target/installed"
	$(call say,C 3/3: a storage engine in C)
	@scripts/test_c_storage_engine.sh "$(CURDIR)/target/installed"

test-cpp: need-rust need-cc ## C++: keylatch.hpp in C++17, 20 and 23, gcc and clang, sanitizers, coroutines, a CMake project
	$(call say,C++: the headers as they are installed)
	@$(MAKE) install PREFIX="$(CURDIR)/target/installed" DESTDIR=
	@PYTHON="$(PYTHON)" scripts/test_cpp.sh "$(CURDIR)/target/installed"

test-c-asan: need-rust need-cc ## C: the same programs and the library under AddressSanitizer, with leak detection
	@scripts/test_c_watched.sh address

test-c-tsan: need-rust need-cc ## C: the same under ThreadSanitizer (ROUNDS=4000 of the eight threads)
	@scripts/test_c_watched.sh thread

test-c-valgrind: need-rust need-cc ## C: the same programs with the library as it is installed, under valgrind
	@scripts/test_c_watched.sh valgrind

test-python: need-rust need-python ## Python: every CPython from 3.11 on, scenarios, style, types, stubs, documentation examples
	$(call say,Python: building the package and testing it)
	@$(CARGO) build --quiet --profile test -p keylatch-service
	@$(PYTHON) scripts/python_environment.py test $(ARGS)

test-service: need-rust ## the lock service: its rules, HTTP, access, events, client and command line
	$(call say,The lock service)
	@$(CARGO) test -p keylatch-service $(ARGS)

##@ The service

.PHONY: test-page bench-service schema-fuzz mutants-service

test-page: need-rust need-python ## the live page in a real Chromium: data, filters, keys, phone, restart (ARGS="--pictures FOLDER")
	$(call say,The live page in a Chromium)
	@$(CARGO) build --quiet --profile test -p keylatch-service
	@$(PYTHON) scripts/page_test.py "$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/keylatch" $(ARGS)

bench-service: need-rust need-python ## the service beside an empty request, Redis and flock(1), in about three minutes (ARGS="--quick")
	@$(CARGO) build --quiet --release -p keylatch-service
	@$(PYTHON) scripts/bench_service.py "$(abspath $(or $(CARGO_TARGET_DIR),target))/release/keylatch" $(ARGS)

schema-fuzz: need-rust need-python ## schemathesis against the served OpenAPI document, slow and oversized clients (EXAMPLES=20)
	@$(CARGO) build --quiet --profile test -p keylatch-service
	@$(PYTHON) scripts/schema_fuzz.py "$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/keylatch" --examples $(or $(EXAMPLES),20) $(ARGS)

mutants-service: need-rust ## break the service in one way after the other: patches in mutants/service (ARGS="--only word")
	@$(PYTHON) scripts/mutants.py service claims $(ARGS)

service-explore: need-rust ## walk through every sequence of DEPTH steps of the service's rules, and random ones (DEPTH=6)
	@KEYLATCH_SERVICE_DEPTH=$(DEPTH) $(CARGO) test --release -p keylatch-service --test it machine_exhaustive $(ARGS)

DEPTH ?= 6

serve: need-rust ## run the lock service on 127.0.0.1:7373 (ARGS="--help")
	@$(CARGO) run --quiet --release -p keylatch-service -- serve $(ARGS)

##@ The Python package

python-sdist: need-rust need-python ## build the source package, install it where nothing else is, and use it
	@$(PYTHON) scripts/python_environment.py sdist

wheels: need-rust need-python ## build the wheels for PyPI in target/wheels and check them with auditwheel (ARGS=x86_64)
	@$(PYTHON) scripts/wheels.py $(ARGS)

.PHONY: wheels

demo-python: need-rust need-python ## threads and asyncio tasks against hot objects, live (ARGS="--help")
	@$(PYTHON) scripts/python_environment.py run -m keylatch demo $(ARGS)

##@ The C library

PREFIX ?= /usr/local

capi: need-rust ## build the C library (make install puts it in place; ETCD=1 for libkeylatch_etcd, too)
	@[ -z "$(ETCD)" ] || { $(CARGO) build --release -p keylatch-capi --features etcd && scripts/link_c.sh etcd; }
	@$(CARGO) build --release -p keylatch-capi
	@scripts/link_c.sh

LIBDIR ?= lib

install: capi ## install library, headers, keylatch.pc, CMake package, manual and licences (PREFIX=/usr/local LIBDIR=lib DESTDIR= ETCD=)
	@ETCD="$(ETCD)" scripts/install_c.sh "$(PREFIX)" "$(DESTDIR)" "$(LIBDIR)"

uninstall: ## remove what `make install` has put there (the same PREFIX, LIBDIR and DESTDIR)
	@scripts/install_c.sh --uninstall "$(PREFIX)" "$(DESTDIR)" "$(LIBDIR)"

deb: ETCD = 1
deb: capi ## build the Debian packages libkeylatch, libkeylatch-etcd and their -dev in target/deb, and check them with lintian
	@scripts/deb.sh

.PHONY: uninstall deb

header: need-rust ## write include/keylatch.h from the source of keylatch-capi
	@$(CARGO) run --quiet --profile test -p keylatch-header
	@cp include/keylatch.h go-example/keylatch.h

abi-check: need-cc ## compare the header's types with the committed ones in tests/abi (needs abidiff)
	@scripts/abi.sh check

abi-baseline: need-rust need-cc ## write symbols, layouts and types in tests/abi anew: after a change with which programs go on working
	@KEYLATCH_WRITE_LAYOUT=1 $(CARGO) test --quiet -p keylatch-capi --test it abi
	@scripts/abi.sh baseline

header-check: need-rust ## say where include/keylatch.h is not what the source says
	@$(CARGO) run --quiet --profile test -p keylatch-header -- --check
	@cmp include/keylatch.h go-example/keylatch.h

test-go: need-rust need-python need-cc capi ## Go: format, vet, tests, the race detector, pointers; gets a Go if there is none
	$(call say,Go: testing the package and the storage engine)
	@$(CARGO) build --quiet --profile test -p keylatch-service
	@$(MAKE) install PREFIX="$(CURDIR)/target/installed" DESTDIR=
	@$(PYTHON) scripts/go_environment.py test $(ARGS)

ops-test: need-rust need-python ## ops/: alert rules and dashboard against a real Prometheus that scrapes an example
	$(call say,Operations: alert rules and dashboard against a Prometheus)
	@$(CARGO) build --quiet --profile test -p keylatch-typed --example monitored
	@$(PYTHON) scripts/ops_test.py "$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/examples/monitored"

##@ Checks

models: need-rust ## model-check the lock, the table and the waiting (loom; PREEMPTIONS=2)
	$(call say,Model checking with at most $(PREEMPTIONS) preemptions)
	@list="$$($(loom) --quiet -- models --list)"; \
		[[ "$$list" == *": test"* ]] || { echo "there are no models to check" >&2; exit 1; }
	@$(loom) -- models $(ARGS)
	$(call say,The same for typed locks and snapshots)
	@$(loom_typed) -- models $(ARGS)

shm-model: need-rust ## search the whole model of the locks between processes (some minutes)
	@CARGO_PROFILE_TEST_OPT_LEVEL=3 $(CARGO) test -p keylatch-shm --lib model:: -- --include-ignored --nocapture --test-threads 1 $(ARGS)

# What a run of chaos needs: the checks on, and fast enough to die everywhere.
chaos = $(CARGO) run --quiet --profile test -p keylatch-shm --example chaos --

chaos-processes: need-rust ## kill, stop and single-step processes that lock, and check what the others see (CHAOS=30 seconds each)
	$(call say,SIGKILL and SIGSTOP among 8 and among 40 processes)
	@$(chaos) --seconds $(CHAOS) --processes 8 $(ARGS)
	@$(chaos) --seconds $(CHAOS) --processes 40 $(ARGS)
	$(call say,Contention without kills among sleepers that never look by themselves)
	@$(chaos) --seconds $(CHAOS) --processes 40 --kills 0 --no-stops --recheck 3600000
	$(call say,SIGKILL after every instruction of short scripts)
	@$(chaos) --steps --seconds $(CHAOS) --kills $(STRIDE)
	$(call say,The same with deliberate faults that have to be reported)
	@for control in $(CONTROLS); do \
		if $(chaos) --seconds 15 --processes 8 --control $$control >/dev/null 2>&1; then \
			echo "$$control was not noticed" >&2; exit 1; else echo "$$control: noticed"; fi; done

CHAOS ?= 30
CONTROLS ?= no-recovery false-deaths silent-deaths
# A point after this number of instructions; 1 is each.
STRIDE ?= 1

etcd-model: need-rust ## search the whole model of the locks between machines (some minutes)
	@CARGO_PROFILE_TEST_OPT_LEVEL=3 $(CARGO) test -p keylatch-etcd --lib model:: -- --include-ignored --nocapture --test-threads 1 $(ARGS)

claims-model: need-rust ## model-check the protocol of claims in its larger set-ups (stateright, minutes)
	$(call say,The protocol of claims)
	@$(CARGO) test --release -p keylatch --test claims_model -- --include-ignored --nocapture --test-threads 1 $(ARGS)

PREEMPTIONS ?= 2
# Not optimized for release: building takes longer than exploring.
loom_typed = RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target-loom LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS) \
	$(CARGO) test -p keylatch-typed --lib
loom = RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target-loom LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS) \
	$(CARGO) test --release -p keylatch --lib

mutants: need-rust ## break the library in one way after the other; a check has to notice each (ARGS="--only word")
	@$(PYTHON) scripts/mutants.py engine hold inspect table tier wait $(ARGS)

mutants-typed: need-rust ## the same for typed locks and snapshots: patches in mutants/typed (ARGS="--only word")
	@$(PYTHON) scripts/mutants.py typed $(ARGS)

mutants-etcd: need-rust ## the same for locks between machines: patches in mutants/etcd (ARGS="--only word")
	@$(PYTHON) scripts/mutants.py etcd $(ARGS)

.PHONY: mutants-etcd

mutants-shm: need-rust ## the same for locks between processes: patches in mutants/shm (ARGS="--only word")
	@$(PYTHON) scripts/mutants.py shm $(ARGS)

soak: need-rust ## mixed load with faults of every kind, checking itself (MINUTES=5)
	$(call say,Soaking for $(MINUTES) minutes)
	@$(CARGO) run --release -p keylatch --example soak -- --minutes $(MINUTES) $(ARGS)

MINUTES ?= 5

histories: need-rust ## record concurrent histories and check them for longer than `make test` does (SECONDS_EACH=60)
	$(call say,Histories of each policy for $(SECONDS_EACH) seconds)
	@KEYLATCH_HISTORY_SECONDS=$(SECONDS_EACH) $(CARGO) test --release -p keylatch --test it histories:: -- --nocapture $(ARGS)

fuzz: need-rust ## look for keys and programs that the lock answers wrongly, with libFuzzer (SECONDS_EACH=60 a target)
	@CARGO="$(CARGO)" scripts/fuzz.sh $(SECONDS_EACH) $(ARGS)

SECONDS_EACH ?= 60

no-false-alarm: need-rust ## random operations of sessions that keep one order, none of which may be called a deadlock (OPERATIONS=10000000)
	$(call say,Looking for false alarms in $(OPERATIONS) operations)
	@KEYLATCH_DEADLOCK_OPERATIONS=$(OPERATIONS) $(CARGO) test --release -p keylatch --test it no_false_alarm:: -- --nocapture $(ARGS)

OPERATIONS ?= 10000000

tsan: need-rust need-python tsan-typed ## the main job and the tests under ThreadSanitizer (x86-64 or AArch64 Linux; WATCHED=10 seconds)
	$(call say,The storage engine workload under ThreadSanitizer)
	@$(call sanitized_job,thread,tsan)
	$(call say,The tests under ThreadSanitizer; what it says is read when they have ended)
	@$(call sanitized_tests,thread,tsan,exitcode=0) --lib --tests $(ARGS) >target-thread/tests.log 2>&1 || { \
		grep -E "FAILED|panicked|^error" target-thread/tests.log; echo "see target-thread/tests.log" >&2; exit 1; }
	@scripts/tsan_reports.py target-thread/tests.log
	$(call say,The same with a lock that publishes nothing: it has to be noticed)
	@copy="$$($(PYTHON) scripts/mutants.py --copy-with table/swap_without_release)"; \
		$(call sanitized,thread,tsan,exitcode=0) CARGO_TARGET_DIR="$$copy/target-thread" $(CARGO) test --target $(SANITIZED_TARGET) -p keylatch \
		--manifest-path "$$copy/Cargo.toml" --test it data_race:: >target-thread/sabotaged.log 2>&1 || true
	@if scripts/tsan_reports.py target-thread/sabotaged.log >/dev/null; then echo "it was not" >&2; exit 1; else echo "it was"; fi

tsan-typed: need-rust need-python ## typed locks and snapshots under ThreadSanitizer, and their tests (WATCHED=10 seconds)
	$(call say,Typed locks and snapshots under ThreadSanitizer)
	@$(call sanitized,thread,tsan,exitcode=66) $(CARGO) run --target $(SANITIZED_TARGET) -p keylatch-typed --example stress -- $(WATCHED)
	$(call say,Their tests under ThreadSanitizer; what it says is read when they have ended)
	@$(call sanitized,thread,tsan,exitcode=0) $(CARGO) test --no-fail-fast --target $(SANITIZED_TARGET) -p keylatch-typed --lib --tests \
		$(ARGS) >target-thread/typed.log 2>&1 || { \
		grep -E "FAILED|panicked|^error" target-thread/typed.log; echo "see target-thread/typed.log" >&2; exit 1; }
	@scripts/tsan_reports.py target-thread/typed.log keylatch-typed
	$(call say,The same with a writer that does not see the readers before it: it has to be noticed)
	@copy="$$($(PYTHON) scripts/mutants.py --copy-with typed/locks/readers_seen_relaxed)"; \
		$(call sanitized,thread,tsan,exitcode=66) CARGO_TARGET_DIR="$$copy/target-thread" $(CARGO) run --quiet --target $(SANITIZED_TARGET) \
		--manifest-path "$$copy/Cargo.toml" -p keylatch-typed --example stress -- 2 >target-thread/typed-sabotaged.log 2>&1 || true
	@if ! grep "WARNING: ThreadSanitizer: data race" target-thread/typed-sabotaged.log >/dev/null; then echo "it was not" >&2; exit 1; else echo "it was"; fi

asan: need-rust ## the main job and the tests under AddressSanitizer, with leak detection
	$(call say,The storage engine workload under AddressSanitizer)
	@$(call sanitized_job,address,asan)
	$(call say,The tests under AddressSanitizer)
	@$(call sanitized_tests,address,asan) --lib --tests $(ARGS)

fmt: need-rust ## format all code
	@$(CARGO) fmt --all

fmt-check: need-rust ## say what is not formatted
	@$(CARGO) fmt --all --check

lint: need-rust ## clippy on everything, warnings denied
	@$(CARGO) clippy --workspace --all-targets --features keylatch/tracing,keylatch/serde,keylatch-capi/etcd,keylatch-python/etcd -- -D warnings

doc: need-rust ## the documentation, warnings denied
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --features keylatch/tracing,keylatch/serde

docs: docs-check ## build the guide as a book in target/book, with a pinned mdbook
	@"$$($(PYTHON) scripts/pinned_tool.py mdbook)" build docs

docs-check: need-python ## links, anchors and named files of every page; the length of the README; faults.md from the patches
	@$(PYTHON) scripts/guide.py faults
	@$(PYTHON) scripts/guide.py check

words: need-python ## the language: words, names and lengths that the house rules exclude (ARGS="--list ROOM", "--lower")
	@$(PYTHON) scripts/words.py $(ARGS)

imports: need-python ## the import graph of every language: cycles between files and arrows upwards (ARGS="--list", "--dot")
	@$(PYTHON) scripts/import_graph.py $(ARGS)

deny: need-rust need-python ## licences, sources and duplicates of the dependencies (ARGS=advisories needs the network)
	@"$$($(PYTHON) scripts/pinned_tool.py cargo-deny)" --log-level error check bans licenses sources $(ARGS)

# What crates.io would get. They are packaged together, because none of them is there yet.
CRATES = keylatch keylatch-typed keylatch-shm keylatch-etcd keylatch-service keylatch-rustfs keylatch-object-store

crates: need-rust ## package the crates for crates.io in target/package, and see that readme and licences are inside
	@$(CARGO) package --quiet --no-verify --allow-dirty $(addprefix -p ,$(CRATES))
	@for crate in $(CRATES); do for file in README.md LICENSE-MIT LICENSE-APACHE Cargo.toml src/lib.rs; do \
		tar tf "$(or $(CARGO_TARGET_DIR),target)"/package/$$crate-[0-9]*.crate | grep "^$$crate-[0-9.]*/$$file$$" >/dev/null || { echo "$$crate has no $$file" >&2; exit 1; }; done; done

.PHONY: docs docs-check words imports deny crates

ci: ## all that is checked before a change goes in
	@.ci/run

##@ Measurements (JSON goes to target/bench)

# RUSTFS=1 adds rustfs-lock, which asks for a newer compiler than it needs.
bench_features = $(if $(RUSTFS),--features rustfs --ignore-rust-version,)

registry: need-rust ## a node registry before and after, both latency distributions and a plot (ARGS="--help", "--redis")
	$(call say,Building the registry workload)
	@$(CARGO) build --quiet --release -p keylatch-typed --example node_registry
	@program="$(abspath $(or $(CARGO_TARGET_DIR),target))/release/examples/node_registry"; redis=; \
		case " $(ARGS) " in *" --redis "*) redis="$$($(PYTHON) scripts/debian_packages.py redis-server)";; esac; \
		REDIS_SERVER="$${redis:-redis-server}" "$$program" $(ARGS)

bench: need-rust need-python ## keylatch and its peers side by side, about five minutes (RUSTFS=1 adds rustfs-lock); C's, Python's and Go's, too, if they are there
	@$(CARGO) run --release -p keylatch-bench $(bench_features) -- $(ARGS)
	@if [ -z "$(ARGS)" ]; then $(PYTHON) scripts/plot_bench.py "$(or $(CARGO_TARGET_DIR),target)/bench/full.json" \
		"make bench, $$(date +%Y-%m-%d)"; fi
	@if [ -z "$(ARGS)" ] && command -v $(CC) >/dev/null; then $(MAKE) bench-c; fi
	@if [ -z "$(ARGS)" ] && command -v $(PYTHON) >/dev/null; then $(MAKE) bench-python; fi
	@if [ -z "$(ARGS)" ] && { command -v go || [ -e target/go/tools/package ]; } >/dev/null; then $(MAKE) bench-go; fi

bench-scale: need-rust need-python ## 1,000 to 8,000,000 held locks, threads, waiters and long keys, in about a minute, and a plot
	@$(CARGO) run --release -p keylatch-bench -- scale $(ARGS)
	@[ -n "$(ARGS)" ] || $(PYTHON) scripts/plot_scale.py "$(or $(CARGO_TARGET_DIR),target)/bench/scale.json" \
		"make bench-scale, $$(nproc) processors, $$(date +%Y-%m-%d)"

bench-readers: need-rust ## readers of one key on 1 to 16 threads, with slots and without, in a quarter of a minute
	@$(CARGO) run --release -p keylatch-bench -- readers $(ARGS)

.PHONY: bench-scale bench-readers

bench-typed: need-rust ## typed locks and snapshots beside tokio's locks and arc-swap, in half a minute (ARGS="report")
	@$(CARGO) bench --quiet -p keylatch-typed --bench typed -- $(ARGS)

bench-python: need-rust need-python ## the same in Python, beside threading, asyncio and other packages (ARGS="--help")
	$(call say,Python beside its other locks)
	@$(PYTHON) scripts/python_environment.py run -m keylatch bench --json target/bench/python.json $(ARGS)

bench-processes: need-rust need-cc need-python ## locks between processes: keylatch from Rust, C and Python beside others, and a plot (ARGS="--quick")
	@$(MAKE) install PREFIX="$(CURDIR)/target/installed" DESTDIR=
	@CARGO="$(CARGO)" scripts/bench_processes.sh "$(CURDIR)/target/installed" $(ARGS)
	@$(PYTHON) scripts/python_environment.py run -m keylatch bench --only process --json target/bench/processes-python.json $(ARGS)
	@[ -n "$(ARGS)" ] || $(PYTHON) scripts/plot_processes.py target/bench/processes.json target/bench/processes-python.json "$$(uname -m), $$(nproc) processors"

bench-etcd: need-rust need-python ## locks between machines beside raw requests, etcdctl, python-etcd3 and Redis, one and three members, and a plot (ROUNDS=400)
	@mkdir -p target/bench
	@ROUNDS=$(or $(ROUNDS),400) PYTHON="$(PYTHON)" KEYLATCH_BENCH_JSON="$(CURDIR)/target/bench/etcd.json" \
		$(CARGO) test --quiet --release -p keylatch-etcd --lib bench:: -- --ignored --nocapture
	@[ -n "$(ROUNDS)" ] || $(PYTHON) scripts/plot_etcd.py target/bench/etcd.json "etcd on loopback, $$(uname -m), $$(nproc) processors"

.PHONY: bench-etcd

bench-c: need-rust need-cc ## a pair through the C library, beside the Rust pair and what C and C++ have, in half a minute
	@$(MAKE) install PREFIX="$(CURDIR)/target/installed" DESTDIR=
	@CARGO="$(CARGO)" scripts/bench_c.sh "$(CURDIR)/target/installed" $(ARGS)

bench-quick: need-rust ## the same in under a minute
	@$(CARGO) run --release -p keylatch-bench -- --quick $(ARGS)

bench-atomics: need-rust ## locked read-modify-writes that a lock and release executes (needs valgrind and objdump)
	@$(CARGO) run --release -p keylatch-bench -- atomics $(ARGS)

bench-instructions: need-rust ## instructions a lock and release, counted by callgrind (needs valgrind)
	@command -v valgrind >/dev/null || { echo "valgrind is missing: install your system's package of that name" >&2; exit 1; }
	@$(CARGO) run --release -p keylatch-bench -- instructions $(ARGS)

objectstore: need-python need-cc capi ## run the Go storage engine, objects in target/objects (ARGS="-help")
	@$(PYTHON) scripts/go_environment.py run run ./cmd/objectstore -directory ../target/objects $(ARGS)

bench-go: need-python need-cc capi ## from Go: keylatch beside maps of locks made of Go alone and beside Rust, as ratios (ARGS="-quick")
	@$(CARGO) build --release -p keylatch-bench $(bench_features)
	@$(PYTHON) scripts/go_environment.py run run ./internal/bench -json ../target/bench/go.json \
		-rust "$(abspath $(or $(CARGO_TARGET_DIR),target))/release/keylatch-bench" $(ARGS)

cancels-go: need-python need-cc capi ## a million cancellations from Go, each against the grant (CANCELS=1000000)
	@KEYLATCH_CANCELS=$(CANCELS) $(PYTHON) scripts/go_environment.py test -count=1 -v -timeout=0 -run TestCancelAgainstGrant .

CANCELS ?= 1000000

##@ Housekeeping

clean: ## remove everything that was built
	@rm -rf target target-loom target-thread target-address target-fuzz target-mutants target-sabotaged target-c-address target-c-thread

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

need-cc:
	@command -v $(CC) >/dev/null || { echo "a C compiler is missing: install your system's (Debian: gcc g++ pkg-config)" >&2; exit 1; }

need-rust:
	@command -v $(CARGO) >/dev/null || { \
		echo "Rust is missing: install it from https://rustup.rs, then run this again" >&2; exit 1; }

need-python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Python is missing: install your system's package python3, version 3.11 or newer" >&2; exit 1; }

.PHONY: run test ops-test registry test-rust test-c test-cpp test-c-asan test-c-tsan test-c-valgrind test-python python-sdist demo-python bench-python test-go objectstore bench-go cancels-go need-python capi install header header-check abi-check abi-baseline need-cc models mutants soak histories fuzz no-false-alarm bench-atomics tsan asan fmt fmt-check lint doc ci bench bench-c bench-quick bench-instructions clean help \
	need-rust
.PHONY: mutants-typed mutants-shm bench-typed tsan-typed
