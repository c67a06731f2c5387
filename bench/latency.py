#!/usr/bin/env python3
"""latency.py - two models in ONNX Runtime, in turn, batch 1, one thread: does the
saving that the MACs promise arrive? Needs onnxruntime.

    bench/latency.py model.onnx compact.onnx

Prints the median CPU time of each and their ratio; CPU time, since machines are shared.
"""
import statistics
import sys
import time

import numpy as np
import onnxruntime as ort

RUNS = 25


def session(path):
    o = ort.SessionOptions()
    o.intra_op_num_threads = o.inter_op_num_threads = 1
    o.log_severity_level = 3
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def inputs(s):
    rng = np.random.default_rng(0)
    out = {}
    for i in s.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in i.shape]
        whole = "int" in i.type
        out[i.name] = rng.integers(0, 2, shape) if whole else rng.standard_normal(shape).astype(np.float32)
    return out


def main():
    sessions = [session(p) for p in sys.argv[1:3]]
    feeds = inputs(sessions[0])
    times = [[], []]
    for _ in range(RUNS):
        for s, t in zip(sessions, times):
            start = time.process_time()
            s.run(None, feeds)
            t.append(time.process_time() - start)
    a, b = (1e3 * statistics.median(t) for t in times)
    print(f"{a:.2f} ms -> {b:.2f} ms, {a / b:.2f} x")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
