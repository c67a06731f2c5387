#!/bin/sh
# Runs the end-to-end tests with the Python that `make test` prepares: as many at a time as there are cores, each pare with
# one thread (tests that are about threads say how many), since two pools that wait for each other's cores are slower.
# usage: run.sh PARE-BINARY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PARE_PYTHON:-}
if [ -z "$python" ]; then
  echo "skipped: PARE_PYTHON names no Python with onnx and onnxruntime (make test sets it)"
  exit 77
fi
PARE=$1 OMP_NUM_THREADS=1 exec "$python" -m pytest -q -rs -p no:cacheprovider -n auto --maxprocesses 8 --dist worksteal "$here"
