#!/bin/sh
# paper.sh - the comparison of the paper (arXiv 2305.18403, tables 1 to 5 in shape) on images and on text, from one
# command: a Markdown file and a picture a table. What is done stays done: start it again and it goes on.
#
#   bench/paper.sh [--quick] [--out DIR] [--device cuda] [...]     see bench/paper.py --help
#
# Images: the demo's vision transformer on Fashion-MNIST (Debian's dataset-fashion-mnist). Text: a model and its samples
# as examples/minilm-sst2 makes them, given by TEXT_MODEL, TEXT_TRAIN and TEXT_TEST; without them, images alone.
# All of it takes a night on a CPU of 2 cores; --quick takes 3 minutes and a half there for images, and 7 more with text
# (MiniLM).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
images=/usr/share/datasets/fashion-mnist
work=$root/build/paper
norm='--channels 1 --mean 0.2860 --std 0.3530'
[ -d $images ] || { echo "paper.sh: install dataset-fashion-mnist first" >&2; exit 4; }
mkdir -p "$work"
for part in train t10k; do
  [ -f "$work/$part.npz" ] && continue
  "$root/build/pare" data images $images/$part-images-idx3-ubyte.gz $norm -o "$work/$part.part.npz" -q
  mv "$work/$part.part.npz" "$work/$part.npz"
done
set -- --image "$root/examples/fashion-vit/model.onnx" "$work/train.npz" "$work/t10k.npz" "$@"
[ -z "${TEXT_MODEL:-}" ] || set -- --text "$TEXT_MODEL" "$TEXT_TRAIN" "$TEXT_TEST" "$@"
python=$root/build/venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" "$root/bench/paper.py" --pare "$root/build/pare" --work "$work" "$@"
