# Makefile: builds, tests and installs QSM. One makefile, no recursion into directories.
#
#   make                 everything that gets installed, into build/
#   make test            all tests, as CI runs them, with sanitizers (asan: the same)
#   make unit | scenario | sim SEEDS=N | mutants | tidy      parts of it
#                        sim takes MODE= (safety, liveness, storm, small; default all) and NODES=5-30
#   make sim-long SECONDS=N  the simulator in all its modes, with fresh seeds, for so long
#   make system-long     real daemons at length: hundreds of them killed, many receivers with loss, one
#                        of them perturbed, 192 in one region (about 10 minutes; STEPS= for some of:
#                        kills loss perturb large)
#   make demo            five hosts on this machine, a stream across them
#   make bench OUT=FILE SECTIONS=…   how fast it is here, alone and beside its peers: tables, as CSV in
#                        FILE, a chart of the peers, and whether what is wanted of it holds (25 minutes,
#                        15 of them the peers); or some of: idle flow calls token join sim groups
#                        stopped perturbed large peers (tests/bench/figures.sh). For peers SYSTEMS=
#                        WIRES= RECEIVERS= REPEATS= and more choose (tests/bench/peers.sh)
#   make charts          what QSM costs as a region grows, simulated: docs/scaling.md, its charts and
#                        figures, and a word on each claim (5 minutes of 2 cores)
#   make experiments     the paper's evaluation on real daemons: docs/experiments.md, its tables and
#                        charts (25 minutes of 2 cores); EXPERIMENTS= for some of: nodes rate tokens
#                        ranges replicas perturbed groups; NODES= REPEATS= and more choose
#                        (tests/experiments/lib.sh)
#   make install         DESTDIR= PREFIX=/usr/local
#   make deps            the Debian packages that are missing
#
#   SAN=1 builds with sanitizers into build-asan/. MUTANT=name builds with one known mistake into
#   build-mutant-name/: seeds or stories have to find it, and `make mutants` says how many do.
#   BUILD=dir builds elsewhere.

ifdef MUTANT
BUILD ?= build-mutant-$(MUTANT)
else ifdef SAN
BUILD ?= build-asan
else
BUILD ?= build
endif

VERSION := $(shell sed -n 's/^\#\# \([0-9.]*\).*/\1/p' CHANGELOG.md 2>/dev/null | head -n 1)
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
SEEDS ?= 500
MODE ?= all
NODES ?=
TEST_SEEDS ?= 20
SECONDS ?= 600

CC ?= cc
CFLAGS ?= -O3 -g
WARN := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
BASE = -std=c11 -D_GNU_SOURCE -DQSM_VERSION='"$(VERSION)"' -DQSM_SYSCONFDIR='"$(SYSCONFDIR)"' \
       '-Duthash_fatal(message)=abort()' -MD -MP $(CFLAGS)
ifdef SAN
BASE += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
else
NO_UNDEFINED = -Wl,-z,defs
# qsmd is optimized as a whole, where the compiler can: its path of a packet leads through many small
# functions of many files. All else is linked from the same objects without that, in less time.
WHOLE := $(if $(MUTANT),,$(shell $(CC) -Werror -flto=auto -ffat-lto-objects -fsyntax-only \
             -x c /dev/null 2>/dev/null && echo -flto=auto))
$(BUILD)/daemon/%.o $(BUILD)/proto/%.o: BASE += $(WHOLE:%=% -ffat-lto-objects)
endif
ifdef MUTANT
BASE += -DMUTANT_$(MUTANT)
endif

# pkg-config only runs when something is linked or compiled, that is after `make deps`.
libs = $(shell pkg-config --libs $(1))
PC_CFLAGS = $(eval PC_CFLAGS := $$(patsubst -I%,-isystem %,$$(shell pkg-config --cflags \
            libevent libprotobuf-c libsystemd libconfuse sqlite3 smartcols jansson)))$(PC_CFLAGS)

# ---- sources

PROTOS := $(wildcard proto/*.proto)
PB_C := $(PROTOS:%.proto=$(BUILD)/%.pb-c.c)
PB_H := $(PB_C:.c=.h)
PB_O := $(PB_C:.c=.o)

CORE_SRC := $(wildcard daemon/core/*.c) $(wildcard proto/*.c)
BOTH_SRC := $(wildcard daemon/conf*.c daemon/log.c daemon/options.c daemon/trace.c)
CMSD_SRC := $(wildcard daemon/cmsd*.c daemon/journal*.c)
QSMD_SRC := $(filter-out $(CMSD_SRC) $(BOTH_SRC),$(wildcard daemon/*.c))
CTL_SRC := $(wildcard client/qsmctl*.c client/output*.c)
LIB_SRC := $(filter-out $(CTL_SRC),$(wildcard client/*.c))

# A main of the simulator's directory is named *main.c. The checker knows nothing of the core.
CHECK_SRC := $(wildcard tests/sim/check*.c)
SIM_SRC := $(filter-out $(CHECK_SRC),$(wildcard tests/sim/*.c))
SIM_MAIN := $(filter %main.c,$(SIM_SRC))
SIM_PARTS := $(filter-out %main.c,$(SIM_SRC) $(CHECK_SRC)) $(wildcard daemon/session*.c)
UNIT_SRC := $(wildcard tests/unit/*.c)
SCENARIO_SRC := $(wildcard tests/scenario/*.c)
FIGURES_SRC := $(wildcard tests/charts/*.c)

objs = $(patsubst %.c,$(BUILD)/%.o,$(1))
pics = $(patsubst %.c,$(BUILD)/pic/%.o,$(1))
CORE_O := $(call objs,$(CORE_SRC)) $(PB_O)
LIB_O := $(call pics,$(LIB_SRC) $(wildcard proto/*.c)) \
         $(if $(wildcard proto/ipc.proto),$(BUILD)/pic/proto/ipc.pb-c.o)

# ---- what gets built (what has no source yet is left out)

CORE_A := $(BUILD)/libcore.a
QSMD := $(if $(wildcard daemon/main.c),$(BUILD)/qsmd)
CMSD := $(if $(wildcard daemon/cmsd.c),$(BUILD)/qsm-cmsd)
CTL := $(if $(wildcard client/qsmctl.c),$(BUILD)/qsmctl)
LIB := $(if $(wildcard client/qsmclient.c),$(BUILD)/libqsmclient.so $(BUILD)/libqsmclient.a)
SIM := $(if $(SIM_MAIN),$(BUILD)/qsmsim)
CHECKER := $(if $(wildcard tests/sim/check_main.c),$(BUILD)/qsmcheck)
UNIT := $(if $(UNIT_SRC),$(BUILD)/unit-tests)
SCENARIO := $(if $(SCENARIO_SRC),$(BUILD)/scenario-tests)
# Helpers of the system tests: one program for each file.
HELPERS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/system/*.c))
# Libraries that they preload into a daemon.
PRELOADS := $(patsubst %.c,$(BUILD)/%.so,$(wildcard tests/system/preload/*.c))
FIGURES := $(if $(FIGURES_SRC),$(BUILD)/qsmfigures)
BENCH := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/*.c))

# One program for each system of the benchmark beside the peers: ours always, a peer's where what it
# needs is there. peer_NAME: files, libraries.
peer_corosync := /usr/include/corosync/cpg.h -lcpg
peer_cyclone := /usr/include/dds/dds.h /usr/bin/idlc -lddsc
peer_nats := /usr/include/nats/nats.h -lnats
peer_norm := /usr/include/normApi.h /usr/bin/c++ -lnorm -lstdc++
peer_redis := /usr/include/hiredis/hiredis.h -lhiredis
peer_zmq := /usr/include/zmq.h -lzmq
beside = $(BUILD)/tests/bench/peers/$(1)
RUN_O := $(call beside,run.o)
BESIDE := $(call beside,qsm) $(call beside,raw)
lacks = $(filter-out $(wildcard $(filter /%,$(peer_$(1)))),$(filter /%,$(peer_$(1))))
PEERS := $(foreach p,corosync cyclone nats norm redis zmq,$(if $(call lacks,$p),,$(call beside,$p)))

all: $(QSMD) $(CMSD) $(CTL) $(LIB)
tests: $(SIM) $(CHECKER) $(UNIT) $(SCENARIO) $(FIGURES) $(HELPERS) $(PRELOADS) $(BENCH) $(BESIDE)
.PHONY: all tests test test-run system-long demo demo-run bench charts charts-run experiments experiments-run unit scenario sim sim-long mutants tidy asan install deps clean
.DELETE_ON_ERROR:

$(BUILD)/%.pb-c.c $(BUILD)/%.pb-c.h: %.proto
	@mkdir -p $(@D)
	protoc-c --proto_path=$(<D) --c_out=$(@D) $<

# Where "..." is looked for says who may know what; tests/tidy.sh checks the rest.
INC = .
$(BUILD)/daemon/%.o: INC = . daemon proto
$(BUILD)/daemon/core/%.o: INC = . daemon/core proto
$(BUILD)/client/%.o $(BUILD)/pic/%.o: INC = . client proto
$(BUILD)/tests/unit/%.o: INC = . daemon daemon/core proto client tests/unit tests/sim
$(BUILD)/tests/scenario/%.o: INC = . daemon daemon/core proto tests/scenario tests/sim
$(BUILD)/tests/charts/%.o: INC = . daemon/core proto tests/charts tests/sim
$(BUILD)/tests/sim/%.o: INC = . daemon daemon/core proto tests/sim
$(BUILD)/tests/sim/check%.o: INC = tests/sim
$(BUILD)/tests/system/%.o $(BUILD)/tests/bench/%.o: INC = client
COMPILE = $(CC) $(BASE) $(WARN) $(INC:%=-iquote %) -isystem $(BUILD)/proto -isystem $(BUILD) $(PC_CFLAGS) -c -o $@ $<
GENERATED = $(CC) $(BASE) -w -I$(BUILD)/proto $(PC_CFLAGS) -c -o $@ $<

# The objects know the flags that they were made with, so that a change of them builds anew.
FLAGS_FILE := $(BUILD)/flags
FLAGS_NOW := $(CC) $(BASE) $(WHOLE) $(WARN) $(LDFLAGS)
ifneq ($(FLAGS_NOW),$(file <$(FLAGS_FILE)))
.PHONY: $(FLAGS_FILE)
endif
$(FLAGS_FILE):
	$(shell mkdir -p $(@D))$(file >$@,$(FLAGS_NOW))@:

$(BUILD)/%.pb-c.o: $(BUILD)/%.pb-c.c $(FLAGS_FILE) | $(PB_H)
	$(GENERATED)
$(BUILD)/pic/%.pb-c.o: $(BUILD)/%.pb-c.c $(FLAGS_FILE) | $(PB_H)
	@mkdir -p $(@D)
	$(GENERATED) -fPIC
$(BUILD)/pic/%.o: %.c $(FLAGS_FILE) | $(PB_H)
	@mkdir -p $(@D)
	$(COMPILE) -fPIC
$(BUILD)/%.o: %.c $(FLAGS_FILE) | $(PB_H)
	@mkdir -p $(@D)
	$(COMPILE)

LINK = $(CC) $(CFLAGS) $(if $(WHOLE),-fno-lto) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)

$(CORE_A): $(CORE_O)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/qsmd: $(call objs,$(QSMD_SRC) $(BOTH_SRC)) $(CORE_A)
	$(LINK) $(WHOLE) $(call libs,libevent_core libprotobuf-c libconfuse libsystemd)

$(BUILD)/qsm-cmsd: $(call objs,$(CMSD_SRC) $(BOTH_SRC)) $(CORE_A)
	$(LINK) $(call libs,libevent_core libprotobuf-c libconfuse libsystemd sqlite3)

$(BUILD)/libqsmclient.so: $(LIB_O) client/qsmclient.map
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libqsmclient.so.0 $(NO_UNDEFINED) \
	    -Wl,--version-script=client/qsmclient.map -o $@ $(LIB_O) $(call libs,libprotobuf-c)

$(BUILD)/libqsmclient.a: $(LIB_O)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/qsmctl: $(call objs,$(CTL_SRC)) $(BUILD)/libqsmclient.a
	$(LINK) $(call libs,libprotobuf-c smartcols jansson)

$(BUILD)/qsmsim: $(call objs,$(SIM_MAIN) $(SIM_PARTS)) $(CORE_A)
	$(LINK) $(call libs,libprotobuf-c) -lm

$(BUILD)/qsmfigures: $(call objs,$(FIGURES_SRC) $(SIM_PARTS)) $(CORE_A)
	$(LINK) $(call libs,libprotobuf-c) -lm

$(BUILD)/qsmcheck: $(call objs,$(CHECK_SRC))
	$(LINK)

$(BUILD)/unit-tests: $(call objs,$(UNIT_SRC) $(BOTH_SRC) \
        $(wildcard daemon/session*.c daemon/journal_sqlite.c daemon/udp*.c) \
        $(filter-out tests/sim/check_main.c,$(CHECK_SRC)) $(LIB_SRC)) $(CORE_A)
	$(LINK) $(call libs,check libprotobuf-c libconfuse libsystemd sqlite3) -lm

$(BUILD)/scenario-tests: $(call objs,$(SCENARIO_SRC) $(SIM_PARTS)) $(CORE_A)
	$(LINK) $(call libs,check libprotobuf-c) -lm

# Without sanitizers, which have a malloc of their own.
$(PRELOADS): $(BUILD)/%.so: %.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -g -fPIC -shared -o $@ $<

$(HELPERS) $(BENCH): $(BUILD)/%: $(BUILD)/%.o $(filter %.a,$(LIB))
	$(LINK) $(call libs,libprotobuf-c)

$(BESIDE): %: %.o $(RUN_O) $(filter %.a,$(LIB))
	$(LINK) $(call libs,libprotobuf-c)

$(PEERS): %: %.o $(RUN_O)
	$(LINK) $(filter -l%,$(peer_$(@F)))

$(call beside,cyclone): $(call beside,cyclone_message.o)
$(call beside,cyclone.o): | $(call beside,cyclone_message.c)
$(call beside,cyclone.o): INC += $(call beside,)
$(call beside,cyclone_message.c): tests/bench/peers/cyclone_message.idl
	@mkdir -p $(@D)
	idlc -o $(@D) $<
$(call beside,cyclone_message.o): $(call beside,cyclone_message.c) $(FLAGS_FILE)
	$(GENERATED)
$(call beside,norm.o): tests/bench/peers/norm.cc $(FLAGS_FILE)
	@mkdir -p $(@D)
	c++ $(filter-out -std=%,$(BASE)) -Wall -Wextra -Werror -c -o $@ $<

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# ---- tests

# Each step says PASS or FAIL for every test; tests/run.sh counts them and closes with the sums.
test: deps
	@$(MAKE) --no-print-directory test-run
test-run:
	+@MAKE="$(MAKE)" BUILD=$(BUILD) SEEDS=$(TEST_SEEDS) tests/run.sh $(STEPS)

# tests/run.sh makes a plain build and one with sanitizers, and runs all it can on the latter.
asan: test

unit: $(UNIT)
	$(UNIT)
scenario: $(SCENARIO)
	$(SCENARIO)
sim: $(SIM)
	$(SIM) --mode $(MODE) $(NODES:%=--nodes %) --seeds $(SEEDS) --jobs $(shell nproc)
sim-long: $(SIM)
	$(SIM) --mode all --seed $$(date +%s) --seconds $(SECONDS) --jobs $(shell nproc)
mutants:
	+SEEDS=$(SEEDS) COUNT=1 MAKE="$(MAKE)" tests/mutants.sh
tidy: $(CORE_A) all
	BUILD=$(BUILD) tests/tidy.sh

demo: deps
	@$(MAKE) --no-print-directory demo-run
demo-run: all tests
	BUILD=$(BUILD) tests/system/demo.sh

system-long: all tests
	BUILD=$(BUILD) tests/system/long.sh $(STEPS)

bench: all $(SIM) $(BENCH) $(BESIDE) $(PEERS)
	BUILD=$(BUILD) OUT="$(OUT)" tests/bench/figures.sh $(SECTIONS)

charts:
	@packaging/deps.sh gnuplot-nox
	@$(MAKE) --no-print-directory charts-run
charts-run: $(FIGURES)
	BUILD=$(BUILD) tests/charts/charts.sh all

experiments:
	@packaging/deps.sh gnuplot-nox
	@$(MAKE) --no-print-directory experiments-run
experiments-run: all $(BENCH)
	BUILD=$(BUILD) tests/experiments/run.sh $(EXPERIMENTS)

deps:
	@packaging/deps.sh

# ---- installation

sbin := $(DESTDIR)$(PREFIX)/sbin
bin := $(DESTDIR)$(PREFIX)/bin
lib := $(DESTDIR)$(PREFIX)/lib
include := $(DESTDIR)$(PREFIX)/include
man := $(DESTDIR)$(PREFIX)/share/man
etc := $(DESTDIR)$(SYSCONFDIR)/qsm
FILL = sed -e 's|@prefix@|$(PREFIX)|g' -e 's|@sysconfdir@|$(SYSCONFDIR)|g' -e 's|@version@|$(VERSION)|g'

install: all
	install -d $(sbin) $(bin) $(lib)/pkgconfig $(lib)/systemd/system $(lib)/sysusers.d \
	    $(lib)/sysctl.d $(include) $(man)/man1 $(man)/man3 $(man)/man5 $(man)/man7 $(man)/man8 $(etc)
	install -m 755 $(QSMD) $(CMSD) $(sbin)
	install -m 755 $(CTL) $(bin)
	install -m 755 $(BUILD)/libqsmclient.so $(lib)/libqsmclient.so.0
	ln -sf libqsmclient.so.0 $(lib)/libqsmclient.so
	install -m 644 $(BUILD)/libqsmclient.a $(lib)
	install -m 644 client/qsmclient.h $(include)
	$(FILL) client/libqsmclient.pc.in >$(lib)/pkgconfig/libqsmclient.pc
	for unit in qsmd qsm-cmsd; do \
	    $(FILL) packaging/systemd/$$unit.service.in >$(lib)/systemd/system/$$unit.service || exit 1; \
	    test -e $(etc)/$$unit.conf || install -m 644 config/$$unit.conf $(etc) || exit 1; \
	done
	install -m 644 packaging/sysusers.d/qsm.conf $(lib)/sysusers.d
	install -D -m 644 packaging/completion/qsmctl \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/qsmctl
	install -m 644 packaging/sysctl.d/60-qsm.conf $(lib)/sysctl.d
	for page in man/*.[0-9]; do \
	    install -m 644 $$page $(man)/man$${page##*.} || exit 1; \
	done

clean:
	rm -rf build build-asan build-mutant-* $(BUILD)
