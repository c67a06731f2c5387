"""What real exports have taught, as the smallest models that show it, cut and judged by ONNX Runtime."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from conftest import run
from test_compress import check_equal


def save(path, nodes, inputs, outputs, weights):
    rng = np.random.default_rng(3)
    info = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in x.items()] for x in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *info, [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_a_reader_of_one_cut_dimension_may_make_another(tmp_path):
    node = helper.make_node
    path = save(tmp_path / "m.onnx", [
        node("MatMul", ["x", "w0"], ["h"], "m/stem"), node("MatMul", ["h", "w1"], ["u"], "m/f/up"),
        node("Relu", ["u"], ["a"]), node("MatMul", ["a", "w2"], ["d"], "m/f/down"), node("Add", ["h", "d"], ["r"]),
        node("MatMul", ["r", "w3"], ["y"], "m/head")],
        {"x": ["batch", 6]}, {"y": ["batch", 3]}, {"w0": (6, 8), "w1": (8, 10), "w2": (10, 8), "w3": (8, 3)})
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--prune", "ffn,other", "--method", "magnitude", "--steps", 0, "--save-masked", masked,
        "-q")
    check_equal(path, masked, compact)
    sizes = {t.name: list(t.dims) for t in onnx.load(str(compact)).graph.initializer}
    assert sizes == {"w0": [6, 4], "w1": [4, 5], "w2": [5, 4], "w3": [4, 3]}
