"""Layers that share one computed position bias, as T5's and MPNet's do: each loses heads of its own."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from conftest import run
from test_composite import HEADS, HIDDEN, Build, apart
from test_compress import check_equal, training_data

BUCKETS = 16


def table_bias(b):
    """[1, heads, seq, seq]: a row of a table for each distance."""
    n = b.op("Gather", b.op("Shape", "x"), b.const(np.array(1)))
    at = b.op("Range", b.const(np.array(0)), n, b.const(np.array(1)))
    column = b.op("Unsqueeze", at, b.const(np.array([1])))
    distance = b.op("Sub", at, column)
    low, high = b.const(np.array(-BUCKETS // 2)), b.const(np.array(BUCKETS // 2 - 1))
    bucket = b.op("Add", b.op("Min", b.op("Max", distance, low), high), b.const(np.array(BUCKETS // 2)))
    bias = b.op("Gather", b.weight(BUCKETS, HEADS, near=1), bucket, axis=0)
    return b.op("Unsqueeze", b.op("Transpose", bias, perm=[2, 0, 1]), b.const(np.array([0])))


def layer_bias(b):
    """The same, made of what a layer makes: its heads are those of that product."""
    y = b.linear("x", HIDDEN, HEADS)
    return b.op("Unsqueeze", b.op("Transpose", y, perm=[0, 2, 1]), b.const(np.array([3])))


def attention(b, x, bias, small=()):
    q, k, v = (apart(b, b.op("MatMul", x, b.weight(HIDDEN, HIDDEN)), HEADS) for _ in range(3))
    s = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    p = b.op("Softmax", b.op("Add", s, bias), axis=-1)
    y = b.op("Transpose", b.op("MatMul", p, v), perm=[0, 2, 1, 3])
    y = b.op("Reshape", y, b.const(np.array([0, 0, HIDDEN])))
    out = b.weight(HIDDEN, HIDDEN)
    w = numpy_helper.to_array(b.weights[-1]).copy().reshape(HEADS, -1, HIDDEN)
    w[list(small)] *= 1e-3
    b.weights[-1] = numpy_helper.from_array(w.reshape(HIDDEN, HIDDEN), out)
    return b.op("Add", x, b.op("MatMul", y, out))


def save(path, bias, small=((0, 1), (2, 3))):
    b = Build()
    shared = bias(b)
    y = attention(b, attention(b, "x", shared, small[0]), shared, small[1])
    b.save(y, path)
    return path


def heads(path):
    groups = json.loads(run("inspect", path, "--groups", "--json").stdout)["groups"]
    return [g["count"] for g in groups if g["kind"] == "heads"]


def cut(path, tmp_path, *options):
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--save-masked", masked, "-q", *options)
    check_equal(path, masked, compact)
    onnx.checker.check_model(str(compact), full_check=True)
    return onnx.load(str(compact)).graph


def lists_of_heads(graph):
    """Of the Gathers that the original does not have."""
    weights = {t.name: numpy_helper.to_array(t).tolist() for t in graph.initializer}
    return [weights[n.input[1]] for n in graph.node if n.op_type == "Gather" and ".pare" in n.name]


def test_each_layer_loses_the_heads_that_matter_least_in_it(tmp_path):
    path = save(tmp_path / "m.onnx", table_bias)
    assert heads(path) == [HEADS, HEADS]
    graph = cut(path, tmp_path, "--method", "magnitude", "--steps", 0)
    assert lists_of_heads(graph) == [[2, 3], [0, 1]]
    table = next(t for t in graph.initializer if list(t.dims)[:1] == [BUCKETS])
    assert list(table.dims) == [BUCKETS, HEADS], "what is shared stays whole"


def test_layers_may_lose_different_numbers_of_heads(tmp_path):
    path = save(tmp_path / "m.onnx", table_bias, small=((0, 1, 2), (3,)))
    graph = cut(path, tmp_path, "--method", "magnitude", "--ranking", "global", "--steps", 0)
    assert lists_of_heads(graph) == [[3], [0, 1, 2]]


def test_heads_go_one_by_one_while_the_rest_is_tuned(tmp_path):
    path = save(tmp_path / "m.onnx", table_bias)
    training_data(onnx.load(str(path)), tmp_path / "d.npz")
    cut(path, tmp_path, "--steps", 6, "--batch", 4, "--prune-every", 2, "--train", tmp_path / "d.npz")


def test_what_was_cut_can_be_cut_again(tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    cut(save(tmp_path / "m.onnx", table_bias), first, "--method", "magnitude", "--steps", 0)
    assert heads(first / "compact.onnx") == [HEADS // 2, HEADS // 2]
    graph = cut(first / "compact.onnx", tmp_path, "--method", "magnitude", "--steps", 0)
    assert [len(x) for x in lists_of_heads(graph)] == [1, 1]


def test_a_file_of_which_nothing_is_cut_has_no_node_more(tmp_path):
    path = save(tmp_path / "m.onnx", table_bias)
    cut(path, tmp_path, "--method", "magnitude", "--steps", 0)
    names = [n.name for n in onnx.load(str(path)).graph.node]
    assert [n.name for n in onnx.load(str(tmp_path / "masked.onnx")).graph.node] == names


def test_a_bias_that_a_layer_makes_keeps_the_layers_together(tmp_path):
    path = save(tmp_path / "m.onnx", layer_bias)
    assert heads(path) == [HEADS]
    assert lists_of_heads(cut(path, tmp_path, "--method", "magnitude", "--steps", 0)) == []


def test_a_bias_that_a_layer_makes_is_trained_through(tmp_path):
    path = save(tmp_path / "m.onnx", layer_bias)
    training_data(onnx.load(str(path)), tmp_path / "d.npz")
    cut(path, tmp_path, "--steps", 6, "--batch", 4, "--prune-every", 2, "--train", tmp_path / "d.npz")


def test_why_tells_where_the_layers_were_untied(tmp_path):
    path = save(tmp_path / "m.onnx", table_bias)
    table = next(t.name for t in onnx.load(str(path)).graph.initializer if list(t.dims) == [BUCKETS, HEADS])
    told = json.loads(run("inspect", path, "--why", table, "--json").stdout)
    (part,) = told["axes"][1]["parts"]
    assert part["dimension"] is None and part["op"] == "Gather"
