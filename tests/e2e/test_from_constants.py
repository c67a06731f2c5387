"""Weights and queries that the graph makes from its initializers: no constant matrix stands at the product, and learned
queries have no batch of their own."""
import json

import numpy as np
import onnx
import pytest

from conftest import feeds, run
from test_composite import FFN, HIDDEN, Build, embed
from test_compress import LEVELS, check_equal, session, training_data

HEADS, WIDTH, QUERIES = 4, 4, 5


def outputs(path, **inputs):
    return session(path, LEVELS[0]).run(None, inputs)[0]


def ints(b, *values):
    return b.const(np.array(values, np.int64))


def two(b, first, second):
    """x + W3·relu(x·W1 + x·W2)"""
    h = b.op("Relu", b.op("Add", b.op("MatMul", "x", first), b.op("MatMul", "x", second)))
    return b.op("Add", "x", b.linear(h, FFN, HIDDEN))


def parted(b):
    return two(b, *b.op("Split", b.weight(HIDDEN, 2 * FFN), ints(b, FFN, FFN), nout=2, axis=1))


def sliced(b):
    w = b.op("Transpose", b.weight(2 * FFN, HIDDEN), perm=[1, 0])
    return two(b, *(b.op("Slice", w, ints(b, at), ints(b, at + FFN), ints(b, 1)) for at in (0, FFN)))


def joined(b):
    """Both weights, along what goes and across it."""
    def side_by_side(rows, columns, axis):
        shape = [rows, columns]
        shape[axis] //= 2
        return b.op("Concat", b.weight(*shape), b.weight(*shape), axis=axis)
    h = b.op("Relu", b.op("MatMul", "x", side_by_side(HIDDEN, FFN, 0)))
    y = b.op("Add", "x", b.op("MatMul", h, side_by_side(FFN, HIDDEN, 1)))
    h = b.op("Relu", b.op("MatMul", y, side_by_side(HIDDEN, 2 * FFN, 1)))
    return b.op("Add", y, b.op("MatMul", h, side_by_side(2 * FFN, HIDDEN, 0)))


def scaled(b):
    return two(b, b.op("Mul", b.weight(HIDDEN, FFN), b.const(np.float32(0.5))), b.weight(HIDDEN, FFN))


def normalised(b):
    v = b.weight(HIDDEN, FFN)
    return two(b, b.op("Div", v, b.op("Sqrt", b.op("ReduceSum", b.op("Mul", v, v), ints(b, 0)))), b.weight(HIDDEN, FFN))


def tune(path, tmp_path):
    training_data(onnx.load(str(path)), tmp_path / "d.npz")
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--save-masked", masked, "--train", tmp_path / "d.npz", "--steps", 4, "--batch", 4,
        "--prune-every", 2, "-q")
    check_equal(path, masked, compact)
    return compact


def channels(path):
    return sum(g["count"] for g in json.loads(run("inspect", path, "--json").stdout)["groups"] if g["kind"] == "ffn")


@pytest.mark.parametrize("form", [parted, sliced, joined, scaled, normalised], ids=lambda f: f.__name__)
def test_a_computed_weight_is_cut_while_the_rest_is_tuned(tmp_path, form):
    b = Build()
    b.save(form(b), tmp_path / "m.onnx")
    before = channels(tmp_path / "m.onnx")
    assert channels(tune(tmp_path / "m.onnx", tmp_path)) == before // 2 > 0


def learned_queries(b):
    """[1, queries, width] against keys of every sample: MatMul broadcasts over the batch."""
    def apart(x, perm):
        return b.op("Transpose", b.op("Reshape", x, ints(b, 0, -1, HEADS, WIDTH)), perm=perm)
    q = apart(b.linear(b.weight(1, QUERIES, HIDDEN), HIDDEN, HIDDEN), [0, 2, 1, 3])
    k, v = apart(b.linear("x", HIDDEN, HIDDEN), [0, 2, 3, 1]), apart(b.linear("x", HIDDEN, HIDDEN), [0, 2, 1, 3])
    y = b.op("MatMul", b.op("Softmax", b.op("MatMul", q, k), axis=-1), v)
    y = b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3]), ints(b, 0, -1, HIDDEN))
    return b.linear(y, HIDDEN, HIDDEN)


def test_queries_that_all_samples_share_are_evaluated_and_tuned(tmp_path):
    b = Build()
    b.save(learned_queries(b), tmp_path / "m.onnx")
    model = onnx.load(str(tmp_path / "m.onnx"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "queries"
    onnx.save(model, str(tmp_path / "m.onnx"))
    x = feeds(model, 6, 9)
    np.savez(tmp_path / "e.npz", labels=outputs(tmp_path / "m.onnx", **x), **x)
    loss = json.loads(run("eval", tmp_path / "m.onnx", "--data", tmp_path / "e.npz", "--json").stdout)
    assert loss["value"] <= 1e-10, loss
    tune(tmp_path / "m.onnx", tmp_path)


def test_ids_that_only_their_shape_is_asked_of_are_numbered_anew(tmp_path):
    b = Build()
    x, _ = embed(b, False, False, False)
    b.save(b.op("Add", x, b.linear(b.op("Relu", b.linear(x, HIDDEN, FFN)), FFN, HIDDEN)), tmp_path / "m.onnx")
    keep = [1, 2, 5, 7]
    (tmp_path / "keep.txt").write_text("\n".join(map(str, keep)))
    run("compress", tmp_path / "m.onnx", tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep", tmp_path / "keep.txt",
        "--steps", 0, "-q")
    new = np.random.default_rng(0).integers(0, len(keep), (3, 6)).astype(np.int32)
    old = np.array(keep, np.int32)[new]
    want, got = outputs(tmp_path / "m.onnx", input_ids=old), outputs(tmp_path / "c.onnx", input_ids=new)
    assert np.array_equal(want, got), np.abs(want - got).max()


@pytest.mark.parametrize("integers", [False, True], ids=["floats", "integers"])
def test_a_branch_whose_last_weight_is_joined_goes_whole(tmp_path, integers):
    """Masked, all that its last weight is made of is zero."""
    b = Build()

    def half(rows):
        if not integers:
            return b.weight(rows, HIDDEN)
        return b.const(b.rng.integers(-128, 128, (rows, HIDDEN)).astype(np.int8))
    x = "x"
    for _ in range(3):
        w = b.op("Concat", half(FFN // 2), half(FFN // 2), axis=0)
        if integers:
            w = b.op("DequantizeLinear", w, b.const(np.float32(0.004)), b.const(np.int8(9)))
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.linear(x, HIDDEN, FFN)), w))
    path, compact, masked = (tmp_path / f"{n}.onnx" for n in "mcz")
    b.save(x, path)
    run("compress", path, compact, "--prune", "depth", "--sparsity", 0.4, "--method", "magnitude", "--steps", 0,
        "--save-masked", masked, "-q")
    sums = [[n.op_type for n in onnx.load(str(p)).graph.node].count("Add") for p in (path, compact)]
    assert sums == [3, 2], sums
    f = feeds(onnx.load(str(path)), 3, 7)
    want, got = outputs(masked, **f), outputs(compact, **f)
    assert np.abs(want - got).max() <= 1e-5 * np.abs(want).max(), np.abs(want - got).max()
