# make && sudo make install      for the PostgreSQL of PG_CONFIG; DEBUG=1 keeps the symbols, 15 MB of 17;
#                                REPRODUCIBLE=1 builds the same bytes in any folder
# make uninstall                 removes it again
# make image DESTDIR=FOLDER      the same as a volume with share and lib, for extension_control_path (PostgreSQL 18 and newer)
# make dist                      the sources as PGXN wants them, idgen-VERSION.zip
# make installcheck              SQL tests on a running server that preloads idgen (PGHOST, PGPORT, PGUSER)
# make run                       three shards on this machine, from nothing
# make psql                      psql on a throwaway server that has idgen
# make test                      everything, on each of PG_VERSIONS
# make soak MINUTES=30            long storms of faults: half of the time on one server and its standby, half on several
# make kills KILLS=1000          as many kills at random moments, against the durable horizon
# make asserts                   SQL and cluster tests on a PostgreSQL with assertions, built from source once
# make test-packages             Debian's packages, in clean chroots of SUITE, bookworm (as root; a quarter of an hour)
# make test-rpm                  the RPM for the first of PG_VERSIONS, built, installed and erased (as root, with rpmbuild; some minutes)
# make suites                    PostgreSQL's own regression and isolation tests with idgen preloaded
# make test-debian13             SQL and cluster tests on PostgreSQL 17, in a Debian 13 (as root)
# make miri                      the code without PostgreSQL, under Miri (with a nightly Rust; some minutes)
# make docs                      README and docs/ as a site, target/site/book (mdBook from crates.io, built once in some minutes)
# make bench-members             what orders over several servers cost, into docs/performance/members.md
# make bench                     what ids cost, into docs/performance.md (PG_VERSION=18, BENCH=quick)

PG_CONFIG ?= pg_config
PG_MAJOR = $(shell $(PG_CONFIG) --version 2>/dev/null | sed 's/[^0-9]*\([0-9]*\).*/\1/')
PG_REGRESS = $(dir $(shell $(PG_CONFIG) --pgxs))../test/regress/pg_regress
PG_VERSIONS = $(eval PG_VERSIONS := $(shell tests/setup.sh --list))$(PG_VERSIONS)
IDGEN_HOME ?= $(if $(filter 0,$(shell id -u)),/var/cache/idgen,$(HOME)/.cache/idgen)

# All versions share a folder, but each has its own library there.
CARGO_TARGET_DIR ?= target
LIBRARY = $(CARGO_TARGET_DIR)/pg$(PG_MAJOR)/idgen.so
VERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" idgen.control)
FEATURES = --features pg$(PG_MAJOR)
TESTS ?= $(basename $(notdir $(sort $(wildcard tests/sql/*.sql))))
LIBRARIES = $(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)
EXTENSIONS = $(DESTDIR)$(shell $(PG_CONFIG) --sharedir)/extension

export IDGEN_HOME CARGO_TARGET_DIR
export PGRX_PG_CONFIG_PATH = $(PG_CONFIG)
# With a backtrace PostgreSQL's error messages would differ from the expected ones.
export RUST_BACKTRACE = 0

# The library names no folder of this machine: neither of idgen, nor of the crates, nor of the standard library's sources. And
# the bindings are formatted as rustfmt.toml says, so they have the same lines wherever they are made.
ifeq ($(REPRODUCIBLE)$(REMAPPED),1)
export REMAPPED = 1
remap = $(1)$(CURDIR)=/idgen $(1)$(abspath $(CARGO_TARGET_DIR))=/idgen/target $(1)$(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src=/crates
export RUSTFLAGS := $(RUSTFLAGS) $(call remap,--remap-path-prefix=) \
	--remap-path-prefix=$(shell rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(shell rustc -vV | sed -n 's/^commit-hash: //p')
export CFLAGS := $(CFLAGS) $(call remap,-ffile-prefix-map=)
endif

MAKEFLAGS += --no-print-directory

# $(call stage,NAME,COMMAND): runs COMMAND and says how long it took.
define stage
@echo "== $(1)"; start=$$(date +%s); $(2) && echo "== $(1): $$(($$(date +%s) - start)) s"
endef

# $(call with,VERSION) COMMAND: runs COMMAND with what tests/setup.sh has given this machine for VERSION.
with = . $(IDGEN_HOME)/$(1)/env && PG_BINDIR=$(IDGEN_HOME)/$(1)/bin
FIRST = $(firstword $(PG_VERSIONS))

# $(in_private_tree) COMMAND: runs COMMAND with idgen installed in a PostgreSQL of its own.
define in_private_tree
@tree=$$(tests/setup.sh $(PG_VERSION)) && echo "$$tree" && bin=$${tree#*: } && . "$${bin%/bin}/env" && \
	$(MAKE) install && PG_BINDIR="$$bin"
endef

all: $(LIBRARY)

# Without cargo, as under sudo, the library that is there already is installed.
$(LIBRARY): $(if $(shell command -v cargo),FORCE)
	@[ -n "$(PG_MAJOR)" ] || { echo "PG_CONFIG=$(PG_CONFIG) is not a pg_config" >&2; exit 1; }
	$(if $(REMAPPED),install -D -m 644 rustfmt.toml $(CARGO_TARGET_DIR)/rustfmt.toml)
	cargo build --release $(FEATURES) $(TARGETS)
	install -D -m 755 $(CARGO_TARGET_DIR)/release/libidgen.so $@

install: $(LIBRARY)
	install -d '$(LIBRARIES)' '$(EXTENSIONS)'
	install $(if $(DEBUG),,--strip) -m 755 $(LIBRARY) '$(LIBRARIES)/'
	install -m 644 idgen.control idgen_authority.control sql/idgen--*.sql sql/idgen_authority--*.sql '$(EXTENSIONS)/'

uninstall:
	rm -f '$(LIBRARIES)/$(notdir $(LIBRARY))'
	cd '$(EXTENSIONS)' && rm -f idgen.control idgen_authority.control idgen--*.sql idgen_authority--*.sql

# As CloudNativePG mounts it: /extensions/idgen/share/extension and /extensions/idgen/lib.
image: LIBRARIES = $(or $(DESTDIR),$(error make image needs DESTDIR=FOLDER))$(if $(filter 15 16 17,$(PG_MAJOR)),$(error make image is for \
	PostgreSQL 18 and newer))/lib
image: EXTENSIONS = $(DESTDIR)/share/extension
image: install

dist:
	git archive --format zip --prefix idgen-$(VERSION)/ -o idgen-$(VERSION).zip HEAD

installcheck:
	mkdir -p target/regress
	$(PG_REGRESS) --bindir='$(shell $(PG_CONFIG) --bindir)' --inputdir=tests --outputdir=target/regress \
		--dbname=idgen_regress $(TESTS) || { cat target/regress/regression.diffs; exit 1; }

clean:
	rm -rf $(CARGO_TARGET_DIR)

run:
	$(in_private_tree) examples/three_shards/run.sh

psql:
	$(in_private_tree) tests/temporary_server.sh "$$bin/psql"

bench-members:
	$(in_private_tree) tests/bench/members.py

bench:
	$(in_private_tree) tests/temporary_server.sh tests/bench/run.py

test:
	$(call stage,setup,tests/setup.sh $(PG_VERSIONS))
	$(call stage,format,cargo fmt --check)
	$(call stage,lint and pure tests,$(call with,$(FIRST)) $(MAKE) test-pure)
	$(foreach v,$(PG_VERSIONS),$(call stage,PostgreSQL $(v),$(call with,$(v)) $(MAKE) test-one)$(newline))
	$(call stage,PostgreSQL 17 in Debian 13,$(MAKE) test-debian13 TESTED="$(DEBIAN13)")
	$(call stage,scripts,$(call with,$(FIRST)) tests/security/pgspot.sh)
	$(call stage,documents,$(call with,$(FIRST)) $(MAKE) test-documents)
	$(call stage,PGXN,$(call with,$(FIRST)) $(MAKE) test-pgxn)
	$(foreach v,$(filter-out 15 16 17,$(PG_VERSIONS)),$(call stage,image,$(call with,$(v)) $(MAKE) test-image)$(newline))
	$(call stage,assertions,$(call with,$(FIRST)) $(MAKE) test-asserts)
	$(call stage,instructions,$(call with,$(FIRST)) tests/budget/run.sh)
	$(call stage,storms,$(call with,$(FIRST)) $(MAKE) test-storms)
	$(call stage,members,$(call with,$(FIRST)) $(MAKE) test-members)
	$(call stage,services,$(call with,$(FIRST)) $(MAKE) test-services)
	$(call stage,clients,$(call with,$(FIRST)) $(MAKE) test-clients)
	$(foreach v,$(sort $(FIRST) $(lastword $(PG_VERSIONS))),$(call stage,object mappers on $(v),$(call with,$(v)) $(MAKE) test-orms)$(newline))

# pgrx takes minutes. It is built once for each version of PostgreSQL only if the profile and the packages that decide on its
# dependencies' features are always the same. So the library is built together with the tests, and in their profile.
test-pure:
	cargo clippy --release --all-targets $(FEATURES) -- -D warnings
	cargo test --release $(FEATURES) --lib --test models --test simulation

test-one: TARGETS = --lib --test clusters
test-one: install
	tests/temporary_server.sh $(MAKE) installcheck
	cargo test --release $(FEATURES) --test clusters -- $(TESTED)

# SQL and cluster tests on one version, set up if it is not there; TESTED names the cluster tests that are run.
test-version: export TARGETS = --lib --test clusters
test-version:
	$(in_private_tree) $(MAKE) test-one

# PostgreSQL 17, which Debian 12 does not have. Called by itself this runs both suites, in minutes; within `make test` it runs
# the cluster tests of things that differ most between versions: recovery, standbys, names of waits, COPY, sockets.
DEBIAN13 ?= concurrency:: copy:: crash:: failover:: strict:: synchronous:: worker::
test-debian13:
	tests/chroot.sh trixie make test-version TESTED="$(TESTED)" || [ $$? = 77 ]

# Storms need a library with points where the worker can be killed, and one that keeps no horizon, each in a tree of its
# own beside the others.
test-storms:
	cargo test --release $(FEATURES) --test storms
	$(MAKE) test-variant VARIANT=faults TESTED=steps
	$(MAKE) test-variant VARIANT=no_horizon TESTED=no_horizon

# Several servers; and libraries that serve strict ids without a lease, or go on with the machine id of another server.
test-members:
	cargo test --release $(FEATURES) --test members
	$(MAKE) test-variant VARIANT=faults SUITE=members TESTED=steps
	$(MAKE) test-variant VARIANT=no_lease SUITE=members TESTED=without_its_lease
	$(MAKE) test-variant VARIANT=copied_grants SUITE=members TESTED=a_copy_that_goes_on

test-variant: SUITE = storms
test-variant: TREE = $(IDGEN_HOME)/$(PG_MAJOR)-$(VARIANT)
test-variant:
	cargo build --release $(FEATURES),$(VARIANT) --lib --test $(SUITE)
	rm -rf $(TREE) && cp -a $(IDGEN_HOME)/$(PG_MAJOR) $(TREE)
	install -m 755 $(CARGO_TARGET_DIR)/release/libidgen.so $$($(TREE)/bin/pg_config --pkglibdir)/idgen.so
	PG_BINDIR=$(TREE)/bin cargo test --release $(FEATURES) --test $(SUITE) -- --ignored $(TESTED)

# Without capture, so that it shows what is skipped and for how long ids stopped.
test-services:
	cargo test --release $(FEATURES) --test services -- --nocapture

# The library that was built for this version, in a server with assertions; the SQL tests also in one that drops every cache
# all the time.
ASSERTS = $(IDGEN_HOME)/$(PG_MAJOR)-asserts
asserts:
	@bin=$$(tests/setup.sh $(PG_VERSION)) && bin=$${bin#*: } && . "$${bin%/bin}/env" && $(MAKE) install TARGETS="--lib --test clusters" && \
		$(MAKE) test-asserts && $(MAKE) test-discarding

test-asserts:
	tests/asserts.sh $(PG_MAJOR) || [ $$? = 77 ]
	if [ -x $(ASSERTS)/bin/postgres ]; then $(MAKE) test-on-asserts; fi

test-on-asserts: export PG_BINDIR := $(ASSERTS)/bin
test-on-asserts:
	install -m 755 $(LIBRARY) $$($(PG_BINDIR)/pg_config --pkglibdir)/
	install -m 644 *.control sql/*.sql $$($(PG_BINDIR)/pg_config --sharedir)/extension/
	tests/temporary_server.sh $(MAKE) installcheck
	cargo test --release $(FEATURES) --test clusters

# PostgreSQL's own suites with idgen preloaded, in the server with assertions; tests/suites.txt has the differences allowed.
suites: asserts-tree
	. $(ASSERTS)/env && tests/suites.sh $(ASSERTS)

asserts-tree:
	tests/asserts.sh $(PG_MAJOR)

# Some minutes. The storm of catalog events takes minutes there for what takes seconds elsewhere.
test-discarding:
	export PG_BINDIR=$(ASSERTS)/bin SETTINGS="debug_discard_caches = 1" && \
		tests/temporary_server.sh $(MAKE) installcheck TESTS="$(filter-out adopt doctor,$(TESTS))" && \
		STORM_SECONDS=240 cargo test --release $(FEATURES) --test storms catalog:: -- --nocapture

# The blocks of the documents build only what is built already.
test-documents: export TARGETS = --lib --test clusters
test-documents: export PG_VERSION = $(PG_MAJOR)
test-documents: export SETTINGS = idgen.authority_database = 'many-servers'
test-documents:
	tests/temporary_server.sh tests/documents/run.py $(PAGES)

# Here the library that the tests of this version have built is built again, from the folder of the package.
test-pgxn test-image: export TARGETS = --lib --test clusters
test-pgxn:
	tests/packages/pgxn.sh

test-image:
	tests/packages/image.sh

test-packages:
	tests/packages/deb.sh $(SUITE)

test-rpm:
	@tree=$$(tests/setup.sh $(firstword $(PG_VERSIONS))) && bin=$${tree#*: } && . "$${bin%/bin}/env" && PG_BINDIR="$$bin" tests/packages/rpm.sh

# What watches and serves is left out of it.
MDBOOK = $(IDGEN_HOME)/mdbook-0.5.4
docs: $(MDBOOK)/bin/mdbook
	tests/documents/site.py $< $(CARGO_TARGET_DIR)/site

$(MDBOOK)/bin/mdbook:
	env -u CARGO_TARGET_DIR cargo install mdbook@0.5.4 --locked --no-default-features --features search --root $(MDBOOK)

test-orms:
	tests/temporary_server.sh tests/orms/run.sh

test-clients:
	tests/temporary_server.sh tests/clients/run.sh

# Storms of random faults: half of the time on one server and its standby, half on several; STORM_SEED=N repeats one.
# Then as many simulated worlds as SIMULATION_SEEDS says.
MINUTES ?= 30
SIMULATION_SEEDS ?= 100000
soak:
	$(in_private_tree) STORM_SECONDS=$$(($(MINUTES) * 60 / 6)) $(MAKE) test-soak

test-soak:
	STORM_SECONDS=$$((STORM_SECONDS * 3)) cargo test --release $(FEATURES) --test storms soak -- --nocapture
	cargo test --release $(FEATURES) --test members again_and_again -- --nocapture --test-threads=1
	SIMULATION_SEEDS=$(SIMULATION_SEEDS) cargo test --release $(FEATURES) --test simulation promise -- --nocapture

# Each kill is followed by a restart: about a second.
KILLS ?= 1000
kills:
	$(in_private_tree) STORM_KILLS=$(KILLS) $(MAKE) test-variant VARIANT=faults TESTED=no_id_was_visible

miri:
	@cargo +nightly miri --version >/dev/null 2>&1 || { echo "make miri needs a nightly Rust with Miri: \
	rustup toolchain install nightly --component miri,rust-src" >&2; exit 1; }
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=8 \
		cargo +nightly miri test --lib --locked --manifest-path tests/miri/Cargo.toml --target-dir target/miri

.PHONY: FORCE all install uninstall image dist installcheck clean run psql docs bench bench-members test test-pure test-one test-version test-debian13 test-storms test-members test-variant test-services test-orms test-clients test-documents test-pgxn test-image test-packages test-rpm soak test-soak kills miri asserts test-asserts test-on-asserts test-discarding suites asserts-tree

define newline


endef
