#!/usr/bin/env bash
# Runs a command with a Rust compiler that can build for wasm32-unknown-unknown:
#   scripts/plugin-toolchain.sh cargo build --release --target wasm32-unknown-unknown
#
# Where rustup has the target, the command simply runs. On Debian without it, Debian's own newer
# compiler (package rustc-web) is unpacked into a private folder, once: about 140 MB, two minutes.
# Package lists that offer none new enough are refreshed first; a private compiler that is too old is
# replaced. Elsewhere it says which rustup command to run. It never changes the installed toolchain.
#
#   HM_WASM_TOOLCHAIN  the private folder; keep it at one path, since the path is in the built bytes
set -euo pipefail
export RUSTUP_AUTO_INSTALL=0
target=wasm32-unknown-unknown
home=${HM_WASM_TOOLCHAIN:-$HOME/.cache/heurimentor/wasm-toolchain}
# What the plugins declare: an older compiler is one that nobody builds or tests them with.
minimum=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../plugins/Cargo.toml")
say() { echo "plugin-toolchain: $*" >&2; }
stop() { say "$*"; exit 1; }

if [ -d "$(rustc --print target-libdir --target $target)" ]; then
  exec "$@"
fi

root=$home/usr
private() { LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu "$root/bin/rustc" "$@"; }
suffices() { [ -n "$1" ] && [ "$(printf '%s\n' "$minimum" "$1" | sort -V | head -n 1)" = "$minimum" ]; }
ready() { [ -f "$home/ok" ] && suffices "$(private --version | cut -d ' ' -f 2)"; }

# A field of what the package lists say of a package; nothing where they do not know it.
field() { { apt-cache show --no-all-versions "$1" 2>/dev/null || true; } | sed -n "s/^$2: //p"; }

# Downloads rustc-web of version $1 into the folder here. The compiler, its library's source and its
# LLVM must fit one another: follow the dependencies.
download() {
  local library llvm
  library=$(field libstd-rust-web-dev Depends | grep -oE 'libstd-rust-web-[0-9.]*[0-9]' | head -n 1)
  llvm=$(field "$library" Depends | grep -oE 'libllvm[0-9]+' | head -n 1)
  # Root reads the folder, the user that apt would download as perhaps not.
  apt-get download -qq -o APT::Sandbox::User=root \
    "rustc-web=$1" "rust-web-src=$1" "libstd-rust-web-dev=$1" "$library=$1" "$llvm"
}

# Fetches the newest compiler that the lists offer. Lists may be old: they then offer one that is too
# old, or one that is no longer kept for download. Both are mended by refreshing them, once.
fetch_compiler() {
  local version attempt why remedy="run: rustup target add $target"
  [ "$(uname -sm)" = "Linux x86_64" ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    stop "no $target here; $remedy"
  rm -rf "$home.new"
  mkdir -p "$home.new/packages"
  cd "$home.new/packages"
  for attempt in first last; do
    version=$(field rustc-web Version)
    if suffices "$version"; then
      say "fetching rustc-web $version for $target, once"
      download "$version" && break
      why="rustc-web $version cannot be downloaded"
    else
      why="the package lists offer ${version:+rustc-web }${version:-no rustc-web}, and plugins need $minimum or newer"
    fi
    [ $attempt = first ] || stop "$why, though the lists were refreshed; $remedy"
    [ "$(id -u)" = 0 ] || stop "$why; run: sudo apt-get update (or $remedy), then this again"
    say "$why: refreshing the lists"
    apt-get update -qq || stop "$why, and apt-get update fails; $remedy"
  done
  for package in *.deb; do
    if [[ $package == rust-web-src_* ]]; then
      # Of the sources only the standard library: the compiler's are large and not needed.
      dpkg --fsys-tarfile "$package" |
        tar -x -C "$home.new" --wildcards './usr/src/*/library' './usr/lib/rustlib/src/rust'
    else
      dpkg -x "$package" "$home.new"
    fi
  done
  rm -rf "$home.new/packages" "$home"
  mv "$home.new" "$home"
}

build_library() {
  # An empty crate makes cargo build the standard library. Bitcode lets plugins use LTO.
  local crate=$home/standard
  mkdir -p "$crate"
  printf '[package]\nname = "standard"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "lib.rs"\n[workspace]\n' >"$crate/Cargo.toml"
  echo '#![no_std]' >"$crate/lib.rs"
  (cd "$crate" &&
    RUSTC_BOOTSTRAP=1 RUSTC=$root/bin/rustc LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu \
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS=-Cembed-bitcode=yes \
      cargo build -q --release --target $target --target-dir "$crate/out" -Zbuild-std=std,panic_abort)
  local libraries=$root/lib/rustlib/$target/lib tools=$root/lib/rustlib/x86_64-unknown-linux-gnu/bin
  mkdir -p "$libraries" "$tools"
  cp "$crate/out/$target/release/deps/"lib*.rlib "$libraries/"
  rm -rf "$libraries"/libstandard* "$crate"
  ln -sfn "$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld" "$tools/rust-lld"
}

if ! ready; then
  mkdir -p "$(dirname "$home")"
  # Of two first runs at once, one makes it and the other waits.
  exec 9>"$home.lock"
  flock 9
  if ! ready; then
    [ ! -f "$home/ok" ] || say "the private compiler is not $minimum or newer: replacing it"
    (fetch_compiler)
    build_library
    touch "$home/ok"
    say "$(private --version) is in $home"
  fi
  exec 9>&-
fi
# Only this command sees the private compiler: the host is built with the ordinary one.
export RUSTC=$root/bin/rustc LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu
exec "$@"
