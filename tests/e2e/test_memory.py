"""What a compression without tuning holds of a large model beside the mapped file."""
import os
import subprocess
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import PARE

WIDTH, HIDDEN, BLOCKS = 1024, 4096, 6


def large(path):
    """Residual feed-forward blocks of 200 MB in all."""
    rng, nodes, weights, x = np.random.default_rng(0), [], [], "x"
    for i in range(BLOCKS):
        for name, shape in ((f"up{i}", (WIDTH, HIDDEN)), (f"down{i}", (HIDDEN, WIDTH))):
            w = rng.standard_normal(shape, dtype=np.float32) / np.float32(shape[0] ** 0.5)
            weights.append(numpy_helper.from_array(w, name))
        nodes += [helper.make_node("MatMul", [x, f"up{i}"], [f"h{i}"]), helper.make_node("Relu", [f"h{i}"], [f"r{i}"]),
                  helper.make_node("MatMul", [f"r{i}", f"down{i}"], [f"d{i}"]),
                  helper.make_node("Add", [x, f"d{i}"], [f"y{i}"])]
        x = f"y{i}"
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", WIDTH]) for n in ("x", x)]
    graph = helper.make_graph(nodes, "large", info[:1], info[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def most_private(*command):
    """The most anonymous memory that looks at the process have seen, in bytes."""
    p = subprocess.Popen([str(c) for c in command])
    most = 0
    while p.poll() is None:
        with open(f"/proc/{p.pid}/status") as f:
            most = max([most] + [int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon")])
        time.sleep(0.002)
    assert p.returncode == 0
    return most


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not tell a process's memory")
def test_a_cut_is_written_and_proven_without_being_held(tmp_path):
    model, out = tmp_path / "m.onnx", tmp_path / "c.onnx"
    large(str(model))
    size = model.stat().st_size
    most = most_private(PARE, "compress", model, out, "--method", "magnitude", "--steps", 0, "--threads", 2, "-q")
    assert out.stat().st_size < 0.6 * size
    assert most < 0.25 * size, f"{most / 1e6:.0f} MB of a file of {size / 1e6:.0f} MB: weights are held"
