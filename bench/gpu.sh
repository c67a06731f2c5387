#!/bin/sh
# gpu.sh - everything that needs a GPU, in one call: builds pare and its plug-in, runs the gpu suites, compares with
# PyTorch, compresses one model on the GPU and on the CPU. Prints a table, leaves OUT/gpu-DATE.json.
#
#   bench/gpu.sh [OUT]       OUT: bench/results unless given
#
# Needs nvcc, gcc, cmake, ninja, and a python3 with PyTorch, numpy and onnx. Where no registry can be reached, run
# tools/carry_debs.sh on a Debian machine that has one and bring build/carry along: the libraries are unpacked from it.
# PARE_GPU_DEVICE=cpu tries the script on a machine without a GPU.
set -eu
cd "$(dirname "$0")/.."
out=${1:-bench/results}
device=${PARE_GPU_DEVICE:-cuda}
began=$(date +%s)

. tools/use_carried.sh

echo "== build"
if [ "$device" = cpu ]; then preset=dev build=build; else preset=cuda build=build/cuda; fi
cmake --preset $preset >/dev/null
targets=pare
[ "$device" = cpu ] || targets="pare pare_cuda gpu_suites"
cmake --build $build --target $targets >"$build/log" 2>&1 || { tail -n 40 "$build/log"; exit 1; }

failed=0
if [ "$device" != cpu ]; then
  echo "== the gpu suites"
  ctest --test-dir build/cuda --output-on-failure -L gpu || failed=1
fi

echo "== pare and PyTorch"
spent=$(($(date +%s) - began))
PARE_PLUGIN_DIR=$PWD/$build python3 bench/gpu.py --pare $build/pare --device "$device" --budget $((470 - spent)) \
  --out "$out" ${PARE_GPU_ARGS:-} || failed=1
echo "== $(($(date +%s) - began)) s in all"
exit $failed
