#!/usr/bin/env bash
# Runs a command with a Rust compiler that can build for wasm32-unknown-unknown:
#   scripts/plugin-toolchain.sh cargo build --release --target wasm32-unknown-unknown
#
# Where rustup has the target, the command simply runs. On Debian without it, Debian's own newer
# compiler (package rustc-web) is unpacked into a private folder, once: about 140 MB, two minutes.
# Elsewhere it says which rustup command to run. It never changes the installed toolchain.
#
#   HM_WASM_TOOLCHAIN  the private folder; keep it at one path, since the path is in the built bytes
set -euo pipefail
export RUSTUP_AUTO_INSTALL=0
target=wasm32-unknown-unknown
home=${HM_WASM_TOOLCHAIN:-$HOME/.cache/heurimentor/wasm-toolchain}
stop() { echo "plugin-toolchain: $*" >&2; exit 1; }

if [ -d "$(rustc --print target-libdir --target $target)" ]; then
  exec "$@"
fi

root=$home/usr
fetch_compiler() {
  [ "$(uname -sm)" = "Linux x86_64" ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    stop "no $target here; run: rustup target add $target"
  echo "plugin-toolchain: fetching a compiler for $target, once" >&2
  rm -rf "$home"
  mkdir -p "$home/packages"
  cd "$home/packages"
  # The compiler, its library's source and its LLVM must be of one version: follow the dependencies.
  apt-cache show rustc-web >/dev/null 2>&1 || apt-get update -qq ||
    stop "no package lists; run: sudo apt-get update"
  first() { apt-cache show --no-all-versions "$1" | awk -v key="$2:" '$1 == key { $1 = ""; print; exit }'; }
  version=$(first rustc-web Version | tr -d ' ')
  [ -n "$version" ] || stop "Debian's rustc-web is not to be had; run: rustup target add $target"
  library=$(first libstd-rust-web-dev Depends | grep -oE 'libstd-rust-web-[0-9.]*[0-9]' | head -n 1)
  llvm=$(first "$library" Depends | grep -oE 'libllvm[0-9]+' | head -n 1)
  apt-get download -qq "rustc-web=$version" "rust-web-src=$version" "libstd-rust-web-dev=$version" \
    "$library=$version" "$llvm" 2>/dev/null || stop "the packages cannot be downloaded"
  for package in *.deb; do
    if [[ $package == rust-web-src_* ]]; then
      # Of the sources only the standard library: the compiler's are large and not needed.
      dpkg --fsys-tarfile "$package" |
        tar -x -C "$home" --wildcards './usr/src/*/library' './usr/lib/rustlib/src/rust'
    else
      dpkg -x "$package" "$home"
    fi
  done
  rm -rf "$home/packages"
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

if [ ! -f "$home/ok" ]; then
  mkdir -p "$(dirname "$home")"
  # Of two first runs at once, one makes it and the other waits.
  exec 9>"$home.lock"
  flock 9
  if [ ! -f "$home/ok" ]; then
    (fetch_compiler)
    build_library
    touch "$home/ok"
  fi
  exec 9>&-
fi
# Only this command sees the private compiler: the host is built with the ordinary one.
export RUSTC=$root/bin/rustc LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu
exec "$@"
