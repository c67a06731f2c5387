#!/bin/sh
# carry_debs.sh - downloads into build/carry the Debian packages that a machine without a registry lacks for building
# pare (tools/use_carried.sh unpacks them there): the development packages, pkg-config, protoc-c, and every package that
# owns a library which one of these loads. C's and C++'s own libraries are every compiler's.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
direct='protobuf-c-compiler libprotobuf-c-dev libonnx-dev libonnx-testdata libcriterion-dev libdnnl-dev libzip-dev
  zlib1g-dev libjansson-dev libyaml-dev libjpeg62-turbo-dev libpng-dev libutf8proc-dev libssl-dev pkgconf pkgconf-bin
  libpkgconf3'
# The libraries that these packages' own files are, or load, however far down.
loaded() {
  for p in $direct; do dpkg -L "$p" 2>/dev/null; done | grep -E '(\.so|/bin/[a-z-]+)$' | while read -r f; do
    [ -f "$f" ] || continue
    readlink -f "$f"
    ldd "$f" 2>/dev/null | awk '$2 == "=>" {print $3}'
  done | sort -u
}
owners() {
  loaded | while read -r f; do
    dpkg -S "$f" 2>/dev/null || dpkg -S "/usr$f" 2>/dev/null || dpkg -S "$(readlink -f "$f")" 2>/dev/null || true
  done | sed 's/:.*//' | sort -u | grep -vE '^(libc6|libstdc\+\+6|libgcc-s1|libgomp1|libssl3)$'
}
mkdir -p build/carry
cd build/carry
rm -f ./*.deb
# shellcheck disable=SC2046,SC2086
apt-get download -q $(printf '%s\n' $direct $(owners) libssl3 | sort -u) >/dev/null
cd "$root"
du -sh build/carry
