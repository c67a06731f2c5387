"""Grouped-query attention: heads of q that share k and v, in the forms that exporters write it."""
import functools
import json

import numpy as np
import onnx
import pytest

from conftest import feeds, run
from test_composite import HIDDEN, Build, apart, group_query, shared_heads, standard
from test_compress import LEVELS, accepted, check_equal, relative, session, training_data
from test_quant import STEP

QUERIES, SHARED, WIDTH = 8, 4, 8  # two heads of q on each of k and v


def on_a_new_axis(op):
    """What transformers' repeat_kv is exported as: a new axis, Expand or Tile, Reshape."""
    def repeat(b, v, shared):
        v = b.op("Unsqueeze", v, b.const(np.array([2])))
        v = b.op(op, v, b.const(np.array([1, 1, QUERIES // shared, 1, 1])))
        return b.op("Reshape", v, b.const(np.array([0, QUERIES, -1, WIDTH])))
    return repeat


def stacked(b, v, shared):
    v = b.op("Concat", *(b.op("Unsqueeze", v, b.const(np.array([2]))) for _ in range(QUERIES // shared)), axis=2)
    return b.op("Reshape", v, b.const(np.array([0, QUERIES, -1, WIDTH])))


def picked(b, v, shared):
    return b.op("Gather", v, b.const(np.repeat(np.arange(shared), QUERIES // shared)), axis=1)


def joined(b, v, shared):
    """Query i is of group i modulo `shared`."""
    return b.op("Concat", *[v] * (QUERIES // shared), axis=1)


def apart_from(repeat, b, q, k, v, shared):
    q, k, v = apart(b, q, QUERIES), apart(b, k, shared), apart(b, v, shared)
    if shared > 1:
        k, v = repeat(b, k, shared), repeat(b, v, shared)
    s = b.op("Softmax", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    y = b.op("Transpose", b.op("MatMul", s, v), perm=[0, 2, 1, 3])
    return b.op("Reshape", y, b.const(np.array([0, 0, QUERIES * WIDTH])))


def operator(b, q, k, v, shared):
    return group_query(b, q, k, v, heads=QUERIES, shared=shared)


def onnx_23(b, q, k, v, shared):
    return standard(b, q, k, v, heads=QUERIES, shared=shared)


def spelt(repeat, name):
    f = functools.partial(apart_from, repeat)
    f.__name__ = name
    return f


FORMS = [spelt(on_a_new_axis("Expand"), "expanded"), spelt(on_a_new_axis("Tile"), "tiled"), spelt(stacked, "stacked"),
         spelt(picked, "picked"), spelt(joined, "joined"), operator, onnx_23]
NAMES = [f.__name__ for f in FORMS]


def save(path, form, shared):
    b = Build()
    qkv = shared_heads(b, heads=QUERIES, shared=shared, width=WIDTH)
    b.save(b.op("Add", "x", b.linear(form(b, *qkv, shared), QUERIES * WIDTH, HIDDEN)), path)
    return path


def projections(path):
    """By order in the file: columns of q, k, v and rows of the product behind them, in heads."""
    model = onnx.load(str(path))
    dims = {t.name: list(t.dims) for t in model.graph.initializer}
    mats = [dims[n.input[1]] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in dims]
    return [m[1] // WIDTH for m in mats[:3]] + [mats[3][0] // WIDTH]


def cut(path, tmp_path, *options):
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--save-masked", masked, "-q", *options)
    check_equal(path, masked, compact)
    return projections(compact)


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
@pytest.mark.parametrize("tuned", [False, True], ids=["scored", "tuned"])
def test_half_of_the_heads_is_half_of_the_groups_whole(tmp_path, form, tuned):
    path = save(tmp_path / "m.onnx", form, SHARED)
    kinds = [(g["kind"], g["count"]) for g in json.loads(run("inspect", path, "--json").stdout)["groups"]]
    assert ("heads", SHARED) in kinds and ("queries", QUERIES // SHARED) in kinds
    options = ["--method", "magnitude", "--steps", 0]
    if tuned:
        training_data(onnx.load(str(path)), tmp_path / "d.npz")
        options = ["--steps", 4, "--batch", 4, "--prune-every", 2, "--train", tmp_path / "d.npz"]
    assert cut(path, tmp_path, *options) == [QUERIES // 2, SHARED // 2, SHARED // 2, QUERIES // 2]


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
@pytest.mark.parametrize("tuned", [False, True], ids=["scored", "tuned"])
def test_half_of_the_queries_is_one_of_each_group(tmp_path, form, tuned):
    path = save(tmp_path / "m.onnx", form, SHARED)
    options = ["--method", "magnitude", "--steps", 0]
    if tuned:
        training_data(onnx.load(str(path)), tmp_path / "d.npz")
        options = ["--steps", 4, "--batch", 4, "--prune-every", 2, "--train", tmp_path / "d.npz"]
    assert cut(path, tmp_path, "--prune", "queries", *options) == [QUERIES // 2, SHARED, SHARED, QUERIES // 2]


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_where_all_share_one_head_the_queries_are_the_heads(tmp_path, form):
    path = save(tmp_path / "m.onnx", form, 1)
    kinds = [(g["kind"], g["count"]) for g in json.loads(run("inspect", path, "--json").stdout)["groups"]]
    assert ("heads", QUERIES) in kinds and "queries" not in dict(kinds)
    assert cut(path, tmp_path, "--method", "magnitude", "--steps", 0) == [QUERIES // 2, 1, 1, QUERIES // 2]


def test_copies_that_are_read_no_longer_are_not_in_the_file(tmp_path):
    path = save(tmp_path / "m.onnx", FORMS[NAMES.index("stacked")], SHARED)
    cut(path, tmp_path, "--prune", "queries", "--method", "magnitude", "--steps", 0)
    whole, compact = onnx.load(str(path)).graph, onnx.load(str(tmp_path / "compact.onnx")).graph
    ops = [[n.op_type for n in g.node].count("Unsqueeze") for g in (whole, compact)]
    read = {name for n in compact.node for name in n.input}
    assert ops == [4, 2] and {t.name for t in compact.initializer} <= read, ops


def test_forty_copies_become_thirty_four(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "QUERIES", 80)
    path = save(tmp_path / "m.onnx", FORMS[NAMES.index("stacked")], 2)
    options = ["--prune", "queries", "--sparsity", 0.15, "--method", "magnitude", "--steps", 0]
    assert cut(path, tmp_path, *options) == [68, 2, 2, 68]


# --- k and v that are repeated as integers ---

def integers(b, v):
    return b.op("QuantizeLinear", v, b.const(np.float32(0.02)), b.const(np.uint8(128)))


def floats(b, v):
    return b.op("DequantizeLinear", v, b.const(np.float32(0.02)), b.const(np.uint8(128)))


def between(repeat):
    return lambda b, v, shared: floats(b, repeat(b, integers(b, v), shared))


def copies_by_themselves(b, v, shared):
    """As ONNX Runtime writes it: every reader has a pair of its own."""
    one = lambda: floats(b, integers(b, b.op("Unsqueeze", v, b.const(np.array([2])))))
    v = floats(b, integers(b, b.op("Concat", *(one() for _ in range(QUERIES // shared)), axis=2)))
    return b.op("Reshape", v, b.const(np.array([0, QUERIES, -1, WIDTH])))


INTEGERS = {"expanded": between(on_a_new_axis("Expand")), "tiled": between(on_a_new_axis("Tile")),
            "picked": between(picked), "stacked": between(stacked), "joined": between(joined),
            "by themselves": copies_by_themselves}


@pytest.mark.parametrize("kind", ["heads", "queries"])
@pytest.mark.parametrize("form", INTEGERS)
@pytest.mark.parametrize("tuned", [False, True], ids=["scored", "tuned"])
def test_copies_of_integers_are_cut_as_those_of_floats(tmp_path, form, kind, tuned):
    path, compact, masked = (tmp_path / f"{n}.onnx" for n in "mcz")
    save(path, spelt(INTEGERS[form], form), SHARED)
    training_data(onnx.load(str(path)), tmp_path / "d.npz")
    options = ["--steps", 4, "--batch", 4, "--prune-every", 2] if tuned else ["--steps", 0]
    run("compress", path, compact, "--save-masked", masked, "-q", "--prune", kind, "--train", tmp_path / "d.npz",
        *options)
    left = SHARED // 2 if kind == "heads" else SHARED
    assert projections(compact) == [QUERIES // 2, left, left, QUERIES // 2]
    assert accepted(compact)
    for level in LEVELS:
        a, b = session(masked, level), session(compact, level)
        for batch, length in ((2, 9), (3, 14)):
            f = feeds(onnx.load(str(path)), batch, length)
            x, y = a.run(None, f)[0], b.run(None, f)[0]
            assert relative(x, y) <= STEP, f"{level}, batch {batch}: {relative(x, y)}"
