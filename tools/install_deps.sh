#!/bin/sh
# Installs the Debian packages that pare builds and is tested with, and those that are named, if any is
# missing. Needs root or sudo only then.
# usage: install_deps.sh [PACKAGE ...]
set -eu
packages='cmake ninja-build gcc g++ libc6-dev pkg-config protobuf-c-compiler libprotobuf-c-dev libonnx-dev libonnx-testdata
  libcriterion-dev libdnnl-dev libzip-dev zlib1g-dev libjansson-dev libyaml-dev libjpeg62-turbo-dev libpng-dev
  libutf8proc-dev libssl-dev python3 python3-venv dataset-fashion-mnist'
missing=''
for p in $packages "$@"; do
  dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
sudo=''
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install these as root:$missing" >&2; exit 1; }
  sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
