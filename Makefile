# make run · make test · make bench · make eval · make fuzz · make package · make screenshots
# The first time, each brings in what is missing (.ci/setup says what); after that it builds only what changed.

MAKEFLAGS += --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The Node that set-up may have fetched comes before an older one of the system.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

DESKTOP := target/release/inkling-desktop
TERMINAL := target/release/inkling
UI_SOURCES := $(shell find ui -type f -not -path 'ui/node_modules/*' -not -path 'ui/dist/*' -not -path 'ui/tests/*')

.PHONY: help run test bench eval fuzz package screenshots audit setup-window setup-test setup-terminal

help:
	@sed -n '1,2s/^# //p' Makefile

# Opens the window; on a machine without a display, builds the command and says how to use it instead.
run:
	@source .ci/lib.sh; if has_display; then $(MAKE) --no-print-directory open-window; else $(MAKE) --no-print-directory without-window; fi

.PHONY: open-window without-window
open-window: setup-window ui/dist/index.html
	@cargo build --release --package inkling-desktop --features custom-protocol
	@exec $(DESKTOP)

without-window: setup-terminal ui/dist/index.html
	@cargo build --release --package inkling-cli
	@printf '%s\n' \
		'' \
		'There is no display here, so no window was opened. Inkling works without one:' \
		'  $(TERMINAL) serve                                   the same screens in a browser on this machine' \
		'  $(TERMINAL) write "A young wizard finds a book"     in the terminal' \
		'  $(TERMINAL) --help                                  everything else'

test: setup-test
	@.ci/test

# Speed of writing beside llama.cpp's (built the first time, about ten minutes), of the first word, of relearning the taste, and, where the corpus
# lies beside the repository, of training.
bench: setup-terminal ui/dist/index.html
	@cargo build --release --quiet --package inkling-cli
	@python3 tests/bench/against_llama_cpp.py $(TERMINAL)
	@$(TERMINAL) bench startup
	@cargo run --release --quiet --package inkling-model --example decode
	@cargo run --release --quiet --package inkling-taste --example fit_time
	@if [ -d ../shared/stories/fantasy ]; then \
		cargo run --release --quiet --package inkling-training --example soft_prompt -- assets/models/story ../shared/stories fantasy steps=20; \
	fi
	@cargo build --release --quiet --package inkling-cli
	@if python3 -c 'import peft' 2>/dev/null && [ -f ../shared/bench/bench_peft_lora_llama.py ]; then \
		python3 tests/bench/train.py; \
	fi

# The experiments of LEARNING.md with simulated users, into target/eval; hours with everything.
eval: setup-terminal
	@cargo run --release --quiet --package inkling-eval -- run --report target/eval

# Every reader of files from elsewhere against inputs that nobody thought of, for SECONDS_EACH (60); a release wants an hour or more.
fuzz: setup-terminal
	@src-tauri/crates/model/fuzz/run.sh $(or $(SECONDS_EACH),60)

# .deb and .rpm into target/release/bundle.
package: setup-window ui/dist/index.html
	@cd src-tauri && npx --yes @tauri-apps/cli@~2.12 build --config bundle.json --features custom-protocol
	@ls -l target/release/bundle/*/*.deb target/release/bundle/*/*.rpm

# The pictures of README.md, taken from the real window.
screenshots: setup-test ui/dist/index.html
	@cargo build --workspace --features inkling-desktop/custom-protocol --lib --bins --tests
	@xvfb-run -a -s "-screen 0 1366x900x24" dbus-run-session -- node tests/e2e/screenshots.mjs

# Needs the network: known faults of the packages in both lock files.
audit:
	@cargo deny check
	@cd ui && npm audit

setup-window setup-test setup-terminal: setup-%:
	@.ci/setup $*

ui/dist/index.html: $(UI_SOURCES)
	@npm --prefix ui run --silent build -- --logLevel warn
	@touch $@
