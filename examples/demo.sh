#!/bin/sh
# demo.sh - compresses the vision transformer of examples/fashion-vit on
# Fashion-MNIST (Debian's dataset-fashion-mnist) and prints what came of it.
set -eu
cd "$(dirname "$0")/.."
pare=build/pare
out=demo-out
images=/usr/share/datasets/fashion-mnist
model=examples/fashion-vit/model.onnx
mkdir -p "$out"
norm='--channels 1 --mean 0.2860 --std 0.3530'
$pare data images $images/train-images-idx3-ubyte.gz $norm --limit 20000 -o $out/train.npz -q
$pare data images $images/t10k-images-idx3-ubyte.gz $norm -o $out/test.npz -q
$pare compress $model $out/compact.onnx --train $out/train.npz --eval $out/test.npz \
  --recipe examples/fashion-vit/recipe.yaml --report $out
latency() { $pare bench "$1" --batch 1 --threads 1 --json | sed -n 's/.*"median_seconds": *\([0-9.e+-]*\).*/\1/p'; }
printf 'latency      %13.3f ms %13.3f ms   batch 1, 1 thread\n' \
  "$(latency $model | awk '{print $1 * 1000}')" "$(latency $out/compact.onnx | awk '{print $1 * 1000}')"
echo "wrote $out/compact.onnx, $out/report.json, $out/report.html"
