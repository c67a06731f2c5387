#!/usr/bin/env python3
"""Accuracy of an ONNX Fashion-MNIST classifier on the 10,000 test images.

    python3 evaluate.py model.onnx [--data DIR]

Needs numpy and onnxruntime. Also checks that the batch axis is dynamic.
"""
import argparse
import gzip
import os

import numpy as np

DATA = "/usr/share/datasets/fashion-mnist"  # Debian: dataset-fashion-mnist
MEAN, STD = 0.2860, 0.3530


def read_idx(path):
    """Read a gzipped IDX file of unsigned bytes."""
    with gzip.open(path, "rb") as f:
        raw = f.read()
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", rank, 4).astype(int)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(data, part):
    """part is "train" or "t10k": normalised [n,1,28,28] float32, labels."""
    x = read_idx(os.path.join(data, part + "-images-idx3-ubyte.gz"))
    y = read_idx(os.path.join(data, part + "-labels-idx1-ubyte.gz"))
    x = (x[:, None].astype(np.float32) / 255 - MEAN) / STD
    return x.astype(np.float32), y.astype(np.int64)


def main():
    import onnxruntime as ort

    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("model")
    ap.add_argument("--data", default=DATA)
    args = ap.parse_args()

    x, y = load(args.data, "t10k")
    net = ort.InferenceSession(args.model, providers=["CPUExecutionProvider"])

    def logits(part):
        return net.run(["logits"], {"pixel_values": part})[0]

    out = np.concatenate([logits(x[i:i + 500]) for i in range(0, len(x), 500)])
    for batch in (1, 7):
        part = logits(x[:batch])
        assert part.shape == (batch, 10)
        print("batch %d: largest difference to batch 500: %.1e"
              % (batch, np.abs(part - out[:batch]).max()))
    right = int((out.argmax(1) == y).sum())
    print("t10k accuracy: %.2f %% (%d of %d)"
          % (100 * right / len(y), right, len(y)))


if __name__ == "__main__":
    main()
