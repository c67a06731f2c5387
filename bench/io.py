#!/usr/bin/env python3
"""io.py - reading and writing a model of 1.3 GB against `cp`, in alternation. Needs numpy and onnx.

    bench/io.py --pare build/pare [--dir /var/tmp] [--rounds 5]

Writing is timed by `pare bench --io`: synced, without the proof and the hash of a
compression. `cp` is timed alone and with a sync after it, which is the like of it.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HIDDEN, BLOCKS = 4096, 1024, 40


def make(path):
    rng, nodes, weights, x = np.random.default_rng(0), [], [], "x"
    for i in range(BLOCKS):
        for name, shape in ((f"up{i}", (WIDTH, HIDDEN)), (f"down{i}", (HIDDEN, WIDTH))):
            weights.append(numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32), name))
        nodes += [helper.make_node("MatMul", [x, f"up{i}"], [f"h{i}"]), helper.make_node("Relu", [f"h{i}"], [f"r{i}"]),
                  helper.make_node("MatMul", [f"r{i}", f"down{i}"], [f"y{i}"])]
        x = f"y{i}"
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", WIDTH]) for n in ("x", x)]
    graph = helper.make_graph(nodes, "io", info[:1], info[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def timed(*command):
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pare", default=str(pathlib.Path(__file__).resolve().parents[1] / "build" / "pare"))
    p.add_argument("--dir")
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=a.dir) as d:
        model, copy = (os.path.join(d, n) for n in ("model.onnx", "copy.onnx"))
        make(model)
        for _ in range(a.rounds):
            out = subprocess.run([a.pare, "bench", "--io", "--json", model], env=dict(os.environ, TMPDIR=d), check=True,
                                 capture_output=True, text=True).stdout
            r = json.loads(out)
            row = {"read": r["load_seconds"], "private": r["memory_bytes"], "write": r["write_seconds"]}
            row["cp"] = timed("cp", model, copy)
            os.remove(copy)
            row["cp and sync"] = timed("sh", "-c", 'cp "$0" "$1" && sync "$1"', model, copy)
            os.remove(copy)
            rows.append(row)
        size = os.path.getsize(model)
    m = {k: statistics.median(r[k] for r in rows) for k in rows[0]}
    print(f"{size / 1e9:.2f} GB, medians of {a.rounds} rounds: read {1e3 * m['read']:.2f} ms, {m['private'] / 1e3:.0f} kB "
          f"private; write, synced, {m['write']:.2f} s; cp {m['cp']:.2f} s, cp and sync {m['cp and sync']:.2f} s: "
          f"{m['write'] / m['cp']:.2f} x and {m['write'] / m['cp and sync']:.2f} x")


if __name__ == "__main__":
    main()
