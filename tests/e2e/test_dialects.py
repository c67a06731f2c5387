"""What real exports have taught, as the smallest models that show it, cut and judged by ONNX Runtime."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import run
from test_composite import HEADS, HIDDEN, Build
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
    run("compress", path, compact, "--prune", "ffn,other", "--method", "magnitude", "--steps", 0,
        "--save-masked", masked, "-q")
    check_equal(path, masked, compact)
    sizes = {t.name: list(t.dims) for t in onnx.load(str(compact)).graph.initializer}
    assert sizes == {"w0": [6, 4], "w1": [4, 5], "w2": [5, 4], "w3": [4, 3]}


def squeezing(path, cond, batch="batch"):
    """Two layers around an axis that is squeezed if its size is one, as TorchScript writes x.squeeze(1)."""
    node = helper.make_node
    out = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("s", "i")]
    then = helper.make_graph([node("Squeeze", ["h", "axis1"], ["s"], "in/squeeze")], "then", [], [out[0]],
                             [numpy_helper.from_array(np.array([1], np.int64), "axis1")])
    keep = helper.make_graph([node("Identity", ["h"], ["i"], "in/keep")], "else", [], [out[1]])
    return save(path, [
        node("MatMul", ["x", "w1"], ["u"], "f/up"), node("Relu", ["u"], ["h"]), *cond,
        node("If", ["c"], ["q"], "f/if", then_branch=then, else_branch=keep),
        node("MatMul", ["q", "w2"], ["y"], "f/down")],
        {"x": [batch, 1, 6]}, {"y": [batch, 6]}, {"w1": (6, 10), "w2": (10, 6)})


def shape_is_one(axis):
    node = helper.make_node
    return [node("Constant", [], ["a"], value_ints=[axis]), node("Constant", [], ["one"], value_ints=[1]),
            node("Shape", ["h"], ["sh"]), node("Gather", ["sh", "a"], ["n"]), node("Equal", ["n", "one"], ["c"])]


def test_a_branch_that_shapes_decide_is_looked_through(tmp_path):
    path = squeezing(tmp_path / "m.onnx", shape_is_one(1))
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--prune", "other", "--method", "magnitude", "--steps", 0,
        "--save-masked", masked, "-q")
    check_equal(path, masked, compact)
    graph = onnx.load(str(compact)).graph
    assert {t.name: list(t.dims) for t in graph.initializer} == {"w1": [6, 5], "w2": [5, 6]}
    assert [n.op_type for n in graph.node].count("If") == 1


def test_a_branch_that_sizes_or_data_decide_is_refused_by_name(tmp_path):
    of_batch = squeezing(tmp_path / "size.onnx", shape_is_one(0))
    of_data = squeezing(tmp_path / "data.onnx", [
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0), helper.make_node("Greater", ["m", "zero"], ["c"])])
    for path in (of_batch, of_data):
        r = run("inspect", path, code=3)
        assert "'f/if' (If): its condition depends on data or on sizes" in r.stderr


def test_a_malformed_if_ends_in_a_sentence(tmp_path):
    path = tmp_path / "bad.onnx"
    good = onnx.load(str(squeezing(tmp_path / "m.onnx", shape_is_one(1))))
    node = next(i for i, n in enumerate(good.graph.node) if n.op_type == "If")

    def broken(change):
        model = onnx.ModelProto()
        model.CopyFrom(good)
        change(model.graph.node[node])
        path.write_bytes(model.SerializeToString())
        return run("inspect", path, code=4).stderr

    def branches(n):
        return {a.name: a.g for a in n.attribute}
    assert "its branch has other outputs" in broken(lambda n: n.ClearField("attribute"))
    assert "one condition" in broken(lambda n: n.ClearField("input"))
    assert "made by no node" in broken(lambda n: branches(n)["then_branch"].ClearField("node"))
    assert "other outputs" in broken(lambda n: branches(n)["then_branch"].ClearField("output"))


def inside_a_branch(path, outside):
    """A feed-forward block in the branch that an If takes; `outside`: its weights belong to the graph."""
    node, rng = helper.make_node, np.random.default_rng(5)
    out = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("o", "i")]
    own = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
           for n, s in {"v1": (6, 10), "v2": (10, 6)}.items()]
    then = helper.make_graph([node("MatMul", ["s", "v1"], ["u2"], "in/up"), node("Relu", ["u2"], ["a2"]),
                              node("MatMul", ["a2", "v2"], ["d2"], "in/down"), node("Add", ["s", "d2"], ["o"])],
                             "then", [], out[:1], [] if outside else own)
    keep = helper.make_graph([node("Identity", ["s"], ["i"])], "else", [], out[1:])
    save(path, [
        node("MatMul", ["x", "w1"], ["h"], "f/up"), node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "w2"], ["d"], "f/down"), node("Add", ["x", "d"], ["s"]), *shape_is_one(1),
        node("If", ["c"], ["q"], "f/if", then_branch=then, else_branch=keep), node("MatMul", ["q", "w3"], ["y"])],
        {"x": ["batch", 1, 6]}, {"y": ["batch", 1, 3]}, {"w1": (6, 10), "w2": (10, 6), "w3": (6, 3)})
    model = onnx.load(str(path))
    model.graph.initializer.extend(own if outside else [])
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("outside", [True, False])
def test_weights_inside_a_branch_stay_and_the_rest_is_cut(tmp_path, outside):
    path = inside_a_branch(tmp_path / "m.onnx", outside)
    seen = json.loads(run("inspect", path, "--json").stdout)
    assert [(g["kind"], g["count"]) for g in seen["groups"]] == [("ffn", 10)] * (1 + outside)
    assert seen["params"] == 4 * 6 * 10 + 6 * 3
    assert outside or [x for x in seen["frozen"] if "inside of a branch" in x["reason"]], seen["frozen"]
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--prune", "ffn,other", "--method", "magnitude", "--steps", 0,
        "--save-masked", masked, "-q")
    check_equal(path, masked, compact)


@pytest.mark.parametrize("opset, attrs", [(11, {}), (17, {}), (18, {"num_outputs": 4})])
def test_a_split_into_equal_parts_is_told_its_sizes_when_they_differ(tmp_path, opset, attrs):
    """q, k, v and an FFN's channels out of one product: their sizes are equal, until the cut."""
    b = Build(opset)
    q, k, v, f = b.op("Split", b.linear("x", HIDDEN, 4 * HIDDEN), axis=-1, nout=4, **attrs)
    q, k, v = (b.op("Transpose", b.op("Reshape", t, b.const(np.array([0, 0, HEADS, -1]))), perm=[0, 2, 1, 3])
               for t in (q, k, v))
    s = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    y = b.op("Transpose", b.op("MatMul", s, v), perm=[0, 2, 1, 3])
    y = b.op("Concat", b.op("Reshape", y, b.const(np.array([0, 0, HIDDEN]))), b.op("Relu", f), axis=-1)
    path, compact, masked = (tmp_path / f"{n}.onnx" for n in ("model", "compact", "masked"))
    b.save(b.op("Add", "x", b.linear(y, 2 * HIDDEN, HIDDEN)), path)
    run("compress", path, compact, "--prune", "ffn", "--method", "magnitude", "--steps", 0, "--save-masked", masked,
        "-q")
    check_equal(path, masked, compact)
    after = onnx.load(str(compact))
    split = next(n for n in after.graph.node if n.op_type == "Split")
    said = {a.name: list(a.ints) or a.i for a in split.attribute}
    if opset >= 13:
        sizes = next(t for t in after.graph.initializer if t.name == split.input[1])
        said["split"] = numpy_helper.to_array(sizes).tolist()
    assert said == {"axis": -1, "split": [HIDDEN] * 3 + [HIDDEN // 2]}, said


@pytest.mark.parametrize("end", [2 ** 62, 2 * HIDDEN - 1, -1], ids=["open", "last", "before the last"])
def test_gate_and_up_side_by_side_go_together(tmp_path, end):
    """Column 2i is the gate of channel i, column 2i + 1 what it gates."""
    b = Build()
    h = b.linear("x", HIDDEN, 2 * HIDDEN)
    axis, two = b.const(np.array([2])), b.const(np.array([2]))
    gate = b.op("Slice", h, b.const(np.array([0])), b.const(np.array([end])), axis, two)
    up = b.op("Slice", h, b.const(np.array([1])), b.const(np.array([2 ** 62])), axis, two)
    y = b.op("Mul", b.op("Sigmoid", gate), up)
    path, compact, masked = (tmp_path / f"{n}.onnx" for n in ("model", "compact", "masked"))
    b.save(b.op("Add", "x", b.linear(y, HIDDEN, HIDDEN)), path)
    run("compress", path, compact, "--method", "random", "--seed", 3, "--steps", 0, "--save-masked", masked, "-q")
    check_equal(path, masked, compact)
    was, now = (numpy_helper.to_array(onnx.load(str(p)).graph.initializer[0]) for p in (path, compact))
    kept = [i for i in range(HIDDEN) if any((was[:, 2 * i] == column).all() for column in now.T)]
    assert len(kept) == HIDDEN // 2 and (now == was[:, [2 * i + j for i in kept for j in (0, 1)]]).all()


def test_the_group_of_a_depthwise_convolution_follows_its_channels(tmp_path):
    node = helper.make_node
    path = save(tmp_path / "m.onnx", [
        node("MatMul", ["x", "w1"], ["h"], "f/up"), node("Transpose", ["h"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "k", "b"], ["c"], "f/dw", group=10, pads=[1, 1, 1, 1]),
        node("Transpose", ["c"], ["u"], perm=[0, 2, 3, 1]), node("Relu", ["u"], ["a"]),
        node("MatMul", ["a", "w2"], ["d"], "f/down"), node("Add", ["x", "d"], ["y"])],
        {"x": ["batch", 4, 5, 6]}, {"y": ["batch", 4, 5, 6]},
        {"w1": (6, 10), "k": (10, 1, 3, 3), "b": (10,), "w2": (10, 6)})
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--method", "magnitude", "--steps", 0, "--save-masked", masked, "-q")
    check_equal(path, masked, compact)
    conv = next(n for n in onnx.load(str(compact)).graph.node if n.op_type == "Conv")
    assert {a.name: a.i for a in conv.attribute}["group"] == 5
