#!/bin/sh
# Runs the end-to-end tests with the Python that `make test` prepares.
# usage: run.sh PARE-BINARY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PARE_PYTHON:-}
if [ -z "$python" ]; then
  echo "skipped: PARE_PYTHON names no Python with onnx and onnxruntime (make test sets it)"
  exit 77
fi
PARE=$1 exec "$python" -m pytest -q -rs -p no:cacheprovider "$here"
