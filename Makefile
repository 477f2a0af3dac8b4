# Two commands matter: `make demo` and `make test`. Each sets up what it needs and says what it does.
# Build output lies outside the clone, so that a second clone or a clean one builds in minutes.

export RUSTUP_AUTO_INSTALL := 0
export CARGO_TARGET_DIR ?= $(HOME)/.cache/heurimentor/target
export HM_WASM_TOOLCHAIN ?= $(HOME)/.cache/heurimentor/wasm-toolchain
export HM_WASM_TARGET ?= $(HOME)/.cache/heurimentor/plugins

.PHONY: help setup test lint clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: ## Install what is missing: PostgreSQL, the plugin toolchain
	@scripts/setup.sh

test: setup ## Run every test
	@scripts/test.sh

lint: ## Formatting and lints
	cargo fmt --check
	cargo clippy --release --workspace --all-targets -- -D warnings
