#!/usr/bin/env bash
# What scripts/plugin-toolchain.sh does about package lists that are old, with stand-ins for Debian and
# for the compilers. Needs no network and changes nothing outside a temporary folder.
set -euo pipefail
script=$(cd "$(dirname "$0")/.." && pwd)/plugin-toolchain.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin"

stand_in() { cat >"$folder/bin/$1"; chmod +x "$folder/bin/$1"; }
# The files $folder/lists and $folder/mirror hold the version that the lists name, and that is kept.
stand_in apt-cache <<'END'
#!/bin/bash
version=$(cat "$PLACE/lists")
[ -n "$version" ] || exit 100
minor=$(cut -d . -f 1,2 <<<"$version")
case ${@: -1} in
  libstd-rust-web-dev) depends="libstd-rust-web-$minor (= $version)" ;;
  libstd-rust-web-*) depends="libc6 (>= 2.34), libllvm19 (>= 1:19)" ;;
esac
printf 'Package: %s\nVersion: %s\nDepends: %s\n' "${@: -1}" "$version" "${depends:-libc6}"
END
stand_in apt-get <<'END'
#!/bin/bash
echo "apt-get $*" >>"$PLACE/log"
case $1 in
  update) cp "$PLACE/mirror" "$PLACE/lists" ;;
  download)
    [ "$(cat "$PLACE/lists")" = "$(cat "$PLACE/mirror")" ] || exit 100
    for package in "${@:5}"; do cat "$PLACE/lists" >"${package%%=*}_.deb"; done ;;
esac
END
stand_in dpkg <<'END'
#!/bin/bash
if [ "$1" = --fsys-tarfile ]; then
  mkdir -p usr/src/rustc/library usr/lib/rustlib/src/rust
  exec tar -c ./usr
elif [[ $2 == rustc-web_* ]]; then
  mkdir -p "$3/usr/bin"
  printf '#!/bin/sh\necho "rustc %s"\n' "$(cut -d + -f 1 "$2")" >"$3/usr/bin/rustc"
  chmod +x "$3/usr/bin/rustc"
fi
END
stand_in rustc <<'END'
#!/bin/bash
if [ "$2" = target-libdir ]; then echo "$PLACE/installed-target"; else echo "$PLACE/sysroot"; fi
END
stand_in cargo <<'END'
#!/bin/bash
while [ "$1" != --target-dir ]; do shift; done
mkdir -p "$2/wasm32-unknown-unknown/release/deps"
touch "$2/wasm32-unknown-unknown/release/deps/libcore.rlib"
END
stand_in uname <<<$'#!/bin/sh\necho Linux x86_64'
stand_in id <<<$'#!/bin/sh\ncat "$PLACE/user"'

# Where the lists name one version and the mirror keeps another, the script runs `rustc --version` for a
# user; $said is what it says, $code how it ends.
given() { printf '%s' "$1" >"$folder/lists"; printf '%s' "$2" >"$folder/mirror"; : >"$folder/log"; }
runs_as() {
  echo "$1" >"$folder/user"
  code=0
  said=$(PLACE=$folder PATH=$folder/bin:$PATH HM_WASM_TOOLCHAIN=$folder/home \
    "$script" sh -c '"${RUSTC:-echo}" --version' 2>&1) || code=$?
}
fail() { printf 'plugin-toolchain test: %s; it ended with %s and said:\n%s\n' "$1" "$code" "$said" >&2; exit 1; }
ends_with() { [ "$code" = "$1" ] || fail "$case: not exit $1"; }
says() { [[ $said == *"$1"* ]] || fail "$case: not \`$1\`"; }
called() { [ "$(grep -c "^apt-get $1" "$folder/log" || true)" = "$2" ] || fail "$case: apt-get $1 not $2 times"; }

old=1.85.0+dfsg3-1~deb12u3 new=1.96.0+dfsg1-1~deb12u2

case="old lists as an ordinary user"
given $old $new
runs_as 1000
ends_with 1
says "the package lists offer rustc-web $old"
says "run: sudo apt-get update"
called update 0
[ ! -e "$folder/home" ] || fail "$case: something was made"

case="no lists as an ordinary user"
given "" $new
runs_as 1000
ends_with 1
says "offer no rustc-web"
says "run: sudo apt-get update"

case="lists and mirror both old"
given $old $old
runs_as 0
ends_with 1
says "the package lists offer rustc-web $old, and plugins need"
says "though the lists were refreshed; run: rustup target add wasm32-unknown-unknown"
called update 1
called download 0

case="old lists as root"
given $old $new
runs_as 0
ends_with 0
says "refreshing the lists"
says "fetching rustc-web $new"
says "rustc 1.96.0 is in $folder/home"
called update 1
[ "${said##*$'\n'}" = "rustc 1.96.0" ] || fail "$case: the command saw another compiler"
[ -e "$folder/home/usr/lib/rustlib/wasm32-unknown-unknown/lib/libcore.rlib" ] || fail "$case: no library"

case="a second run"
given $new $new
runs_as 1000
ends_with 0
[ "$said" = "rustc 1.96.0" ] || fail "$case: more than the command was done"

case="a private compiler of before that is too old"
printf '#!/bin/sh\necho "rustc 1.85.0"\n' >"$folder/home/usr/bin/rustc"
given $new $new
runs_as 1000
ends_with 0
says "the private compiler is not 1."
says "fetching rustc-web $new"
called update 0

case="lists that name what the mirror no longer keeps"
rm -r "$folder/home"
given 1.95.0+dfsg1-1 $new
runs_as 0
ends_with 0
says "rustc-web 1.95.0+dfsg1-1 cannot be downloaded: refreshing the lists"
says "fetching rustc-web $new"

case="a target of rustup's"
mkdir "$folder/installed-target"
given $old $old
runs_as 1000
ends_with 0
[ "$said" = "--version" ] || fail "$case: the command did not run as it is"
