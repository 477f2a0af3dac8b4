# Two commands matter: `make demo` and `make test`. Each sets up what it needs and says what it does.
# Build output lies outside the clone, so that a second clone or a clean one builds in minutes.

CACHE := $(HOME)/.cache/heurimentor
export RUSTUP_AUTO_INSTALL := 0
export CARGO_TARGET_DIR ?= $(CACHE)/target
export HM_WASM_TOOLCHAIN ?= $(CACHE)/wasm-toolchain
export HM_WASM_TARGET ?= $(CACHE)/plugins
export HM_COMPONENTS ?= $(CACHE)/components
HM := $(CARGO_TARGET_DIR)/release/hm

.PHONY: help setup web build plugins demo test torture verify-hf bench lint check-cuda build-cuda gpu-check

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: ## Install what is missing to build: a C compiler, PostgreSQL
	@scripts/setup.sh

web: setup ## Build the page
	@scripts/build-web.sh

build: web ## Build hm with the page in it
	cargo build --release --workspace

plugins: build ## Build our plugins to components
	@scripts/pack-plugins.sh $(HM)

demo: plugins ## Train on text of this machine, show the page, audit the result
	$(HM) demo --plugins $(HM_COMPONENTS)

test: ## Run every test
	@scripts/setup.sh --tests
	@scripts/test.sh

torture: ## Faults at random moments, many: FAULTS=200 SEED=1
	@scripts/setup.sh --tests
	HM_TORTURE_FAULTS=$(or $(FAULTS),200) HM_TORTURE_SEED=$(or $(SEED),1) cargo test --release --workspace --test product torture -- --nocapture

verify-hf: ## Repeat the agreement with Hugging Face transformers live, in a private environment
	@scripts/setup.sh
	@scripts/verify-hf.sh

bench: ## Take our numbers as ratios, both sides in turn, on a quiet machine; ARMS="train peak" for some
	@scripts/setup.sh
	@scripts/bench.sh $(ARMS)

lint: web ## Lints of all crates
	cargo clippy --release --workspace --all-targets -- -D warnings

check-cuda: web ## Type-check the CUDA feature; needs neither a GPU nor LLVM
	DOCS_RS=1 cargo check -p hm --features cuda --all-targets

build-cuda: web ## Build hm with CPU and CUDA in one binary, LLVM from Debian where it has it; needs no GPU
	@scripts/build-cuda.sh

gpu-check: web ## On a machine with an NVIDIA GPU: agreement, several devices, full memory, speed beside PyTorch
	@scripts/gpu-check.sh
