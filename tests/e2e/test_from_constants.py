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


def tune(path, tmp_path, *options, levels=LEVELS):
    training_data(onnx.load(str(path)), tmp_path / "d.npz")
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--save-masked", masked, "--train", tmp_path / "d.npz", "--steps", 4, "--batch", 4,
        "--prune-every", 2, "-q", *options)
    check_equal(path, masked, compact, levels)
    return compact


def channels(path):
    return sum(g["count"] for g in json.loads(run("inspect", path, "--json").stdout)["groups"] if g["kind"] == "ffn")


@pytest.mark.parametrize("form", [parted, sliced, joined, scaled, normalised], ids=lambda f: f.__name__)
def test_a_computed_weight_is_cut_while_the_rest_is_tuned(tmp_path, form):
    b = Build()
    b.save(form(b), tmp_path / "m.onnx")
    before = channels(tmp_path / "m.onnx")
    assert channels(tune(tmp_path / "m.onnx", tmp_path)) == before // 2 > 0


def apart(b, x, perm=(0, 2, 1, 3)):
    return b.op("Transpose", b.op("Reshape", x, ints(b, 0, -1, HEADS, WIDTH)), perm=perm)


def attend(b, q, k, v):
    """Scores are scaled as torch exports it: q and k each by a root of a root of the width that q's shape has."""
    width = b.op("Slice", b.op("Shape", q), ints(b, -1), ints(b, 2**63 - 1))
    root = b.op("Sqrt", b.op("Div", b.const(np.float32(1)), b.op("Sqrt", b.op("Cast", width, to=1))))
    s = b.op("MatMul", b.op("Mul", q, root), b.op("Mul", b.op("Transpose", k, perm=[0, 1, 3, 2]), root))
    y = b.op("MatMul", b.op("Softmax", s, axis=-1), v)
    return b.linear(b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3]), ints(b, 0, -1, HIDDEN)), HIDDEN, HIDDEN)


def shared(b):
    """[1, queries, width] against keys of every sample: MatMul broadcasts over the batch."""
    return apart(b, b.linear(b.weight(1, QUERIES, HIDDEN), HIDDEN, HIDDEN))


def not_projected(b):
    return apart(b, b.weight(1, QUERIES, HIDDEN))


def biased(b):
    x = b.op("Gemm", b.weight(QUERIES, HIDDEN), b.weight(HIDDEN, HIDDEN), b.weight(HIDDEN), transB=1)
    return apart(b, b.op("Unsqueeze", x, ints(b, 0)))


def of_each_sample(b):
    batch = b.op("Slice", b.op("Shape", "x"), ints(b, 0), ints(b, 1))
    x = b.op("Expand", b.weight(1, QUERIES, HIDDEN), b.op("Concat", batch, ints(b, 1, 1), axis=0))
    return apart(b, b.linear(x, HIDDEN, HIDDEN))


FORMS = [shared, not_projected, biased, of_each_sample]


def with_queries(form):
    def model(b):
        q = form(b)
        return attend(b, q, *(apart(b, b.linear("x", HIDDEN, HIDDEN)) for _ in range(2)))
    return model


def with_memory(b):
    """Keys and values of a learned memory of 7 places."""
    m, q = b.weight(1, 7, HIDDEN), apart(b, b.linear("x", HIDDEN, HIDDEN))
    return b.op("Add", "x", attend(b, q, *(apart(b, b.linear(m, HIDDEN, HIDDEN)) for _ in range(2))))


def with_bare_memory(b):
    q = apart(b, b.linear("x", HIDDEN, HIDDEN))
    return b.op("Add", "x", attend(b, q, b.weight(1, HEADS, 7, WIDTH), b.weight(1, HEADS, 7, WIDTH)))


def latents(expanded):
    """A stream of learned latents that attends to x: its width is cut where it begins, too."""
    def model(b):
        x = b.weight(1, QUERIES, HIDDEN)
        if expanded:
            batch = b.op("Slice", b.op("Shape", "x"), ints(b, 0), ints(b, 1))
            x = b.op("Expand", x, b.op("Concat", batch, ints(b, QUERIES, HIDDEN), axis=0))
        q = apart(b, b.linear(x, HIDDEN, HIDDEN))
        return b.op("Add", x, attend(b, q, *(apart(b, b.linear("x", HIDDEN, HIDDEN)) for _ in range(2))))
    return model


def save(build, path):
    """With axis 1 of the output, which may be that of the queries, by another name than x's."""
    b = Build()
    b.save(build(b), path)
    model = onnx.load(str(path))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "queries"
    onnx.save(model, str(path))
    return model


def kinds(path, *options):
    groups = json.loads(run("inspect", path, "--groups", "--json", *options).stdout)["groups"]
    return sorted((g["kind"], g["count"]) for g in groups)


def cut(path, tmp_path, prune, levels=LEVELS):
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--save-masked", masked, "--prune", prune, "--method", "magnitude", "--steps", 0,
        "-q")
    check_equal(path, masked, compact, levels)
    return compact


@pytest.mark.parametrize("build", [*map(with_queries, FORMS), with_memory, with_bare_memory],
                         ids=[*(f.__name__ for f in FORMS), "memory", "bare_memory"])
@pytest.mark.parametrize("prune", ["heads", "head-dim", "heads,head-dim"])
def test_attention_with_learned_parts_has_heads_and_both_widths_and_loses_them(tmp_path, build, prune):
    path = tmp_path / "m.onnx"
    save(build, path)
    found = kinds(path, "--prune", "heads,head-dim")
    assert found.count(("heads", HEADS)) == 1 and found.count(("head-dim", WIDTH)) == 2, found
    now = kinds(cut(path, tmp_path, prune), "--prune", "heads,head-dim")
    for kind in ("heads", "head-dim"):
        before, left = (sum(count for k, count in groups if k == kind) for groups in (found, now))
        assert left <= before // 2 if kind in prune else left == before, (found, now)


@pytest.mark.parametrize("expanded", [False, True])
def test_a_stream_of_learned_latents_is_cut_where_it_begins(tmp_path, expanded):
    save(latents(expanded), tmp_path / "m.onnx")
    cut(tmp_path / "m.onnx", tmp_path, "other")


@pytest.mark.parametrize("build", [*map(with_queries, FORMS), with_memory],
                         ids=[*(f.__name__ for f in FORMS), "memory"])
def test_attention_with_learned_parts_is_evaluated_and_tuned(tmp_path, build):
    model = save(build, tmp_path / "m.onnx")
    x = feeds(model, 6, 9)
    np.savez(tmp_path / "e.npz", labels=outputs(tmp_path / "m.onnx", **x), **x)
    loss = json.loads(run("eval", tmp_path / "m.onnx", "--data", tmp_path / "e.npz", "--json").stdout)
    assert loss["value"] <= 1e-10, loss
    tune(tmp_path / "m.onnx", tmp_path, "--prune", "heads,head-dim")


def shifted(b):
    h = b.op("Relu", b.linear("x", HIDDEN, FFN))
    return b.op("Add", "x", b.op("MatMul", h, b.op("Add", b.weight(FFN, HIDDEN), b.const(np.float32(0.5)))))


def test_channels_that_no_zeros_can_mask_are_frozen_by_name(tmp_path):
    save(shifted, tmp_path / "m.onnx")
    report = json.loads(run("inspect", tmp_path / "m.onnx", "--groups", "--json").stdout)
    why = [f["reason"] for f in report["frozen"]]
    assert ("ffn", FFN) not in kinds(tmp_path / "m.onnx"), report
    assert any("no zeros in a constant make zero: node 'n3_MatMul'" in w for w in why), why


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


def ranged(b):
    return b.op("Range", *(b.const(np.int64(i)) for i in (1, HEADS + 1, 1)))


def in_two_parts(b):
    """As for a number of heads that is no power of two."""
    parts = (b.op("Range", *(b.const(np.int64(i)) for i in limits)) for limits in ((1, 4, 1), (1, 2, 2)))
    return b.op("Concat", *parts, axis=0)


def summed_up(b):
    return b.op("CumSum", b.const(np.ones(HEADS, np.int64)), b.const(np.int64(0)))


def not_zero(b):
    return b.op("Reshape", b.op("NonZero", b.const(np.array([0] + [1] * HEADS))), ints(b, -1))


def up_to_the_size_of_a_weight(b):
    size = b.op("Gather", b.op("Shape", b.weight(HEADS, 3)), b.const(np.int64(0)))
    return b.op("Range", b.const(np.int64(0)), size, b.const(np.int64(1)))


def with_slopes(number, layers):
    """ALiBi: scores minus the distance times a slope of each head, which is computed once, from the head's number."""
    def model(b):
        slopes = b.op("Pow", b.const(np.float32(0.5)), b.op("Cast", number(b), to=1))
        length = b.op("Gather", b.op("Shape", "x"), b.const(np.int64(1)))
        at = b.op("Cast", b.op("Range", b.const(np.int64(0)), length, b.const(np.int64(1))), to=1)
        far = b.op("Abs", b.op("Sub", b.op("Unsqueeze", at, ints(b, 0)), b.op("Unsqueeze", at, ints(b, 1))))
        slopes = b.op("Reshape", slopes, ints(b, HEADS, 1, 1))
        bias = b.op("Mul", slopes, b.op("Unsqueeze", b.op("Neg", far), ints(b, 0)))
        x = "x"
        for _ in range(layers):
            q, k, v = (apart(b, b.linear(x, HIDDEN, HIDDEN)) for _ in range(3))
            s = b.op("Add", b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), bias)
            y = b.op("Transpose", b.op("MatMul", b.op("Softmax", s, axis=-1), v), perm=[0, 2, 1, 3])
            y = b.linear(b.op("Reshape", y, ints(b, 0, -1, HIDDEN)), HIDDEN, HIDDEN)
            x = b.op("LayerNormalization", b.op("Add", x, y), b.weight(HIDDEN, near=1))
        return x
    return model


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("number", [ranged, in_two_parts, summed_up, not_zero, up_to_the_size_of_a_weight])
def test_heads_go_with_the_slopes_that_are_computed_from_their_numbers(tmp_path, number, layers):
    save(with_slopes(number, layers), tmp_path / "m.onnx")
    assert kinds(tmp_path / "m.onnx").count(("heads", HEADS)) == layers
    cut(tmp_path / "m.onnx", tmp_path, "heads")
    tune(tmp_path / "m.onnx", tmp_path)


RANK = 3


def with_branches(up, down, swapped=False):
    """A feed-forward whose layers, where that is said, have a LoRA branch beside them: x·W + 2·(x·A)·B."""
    def layer(b, x, k, n, branch):
        y = b.linear(x, k, n)
        if not branch:
            return y
        z = b.op("Mul", b.linear(b.linear(x, k, RANK), RANK, n), b.const(np.float32(2)))
        return b.op("Add", z, y) if swapped else b.op("Add", y, z)

    def model(b):
        h = b.op("Relu", layer(b, b.op("LayerNormalization", "x", b.weight(HIDDEN, near=1)), HIDDEN, FFN, up))
        return b.op("Add", "x", layer(b, h, FFN, HIDDEN, down))
    return model


@pytest.mark.parametrize("up, down, swapped", [(True, True, False), (True, True, True), (True, False, True),
                                               (False, True, False)])
def test_channels_between_layers_with_lora_branches_are_ffn(tmp_path, up, down, swapped):
    save(with_branches(up, down, swapped), tmp_path / "m.onnx")
    assert kinds(tmp_path / "m.onnx") == [("ffn", FFN)] + [("other", RANK)] * (up + down)
    cut(tmp_path / "m.onnx", tmp_path, "ffn")
    assert ("ffn", FFN // 2) in kinds(tune(tmp_path / "m.onnx", tmp_path))


def by_numbers(b, x, scale, zero, **axis):
    return b.op("DequantizeLinear", b.op("QuantizeLinear", x, scale, zero, **axis), scale, zero, **axis)


def quantised(b, k, n):
    scale = b.const((0.005 + 0.005 * b.rng.random(n)).astype(np.float32))
    return by_numbers(b, b.weight(k, n), scale, b.const(np.zeros(n, np.int8)), axis=1)


def rounded_queries(b):
    """Learned queries, rounded before and behind their projection."""
    scale, zero = b.const(np.float32(0.01)), b.const(np.uint8(128))
    q = b.op("MatMul", by_numbers(b, b.weight(1, QUERIES, HIDDEN), scale, zero), quantised(b, HIDDEN, HIDDEN))
    k, v = (apart(b, b.linear("x", HIDDEN, HIDDEN)) for _ in range(2))
    return attend(b, apart(b, by_numbers(b, q, scale, zero)), k, v)


EXACT = LEVELS[:2]  # at higher ones ONNX Runtime rounds the activations, too, that meet 8-bit weights (MatMulNBits)


def test_heads_of_rounded_queries_are_cut_and_tuned(tmp_path):
    save(rounded_queries, tmp_path / "m.onnx")
    assert ("heads", HEADS) in kinds(tmp_path / "m.onnx")
    assert ("heads", HEADS // 2) in kinds(cut(tmp_path / "m.onnx", tmp_path, "heads", EXACT))
    tune(tmp_path / "m.onnx", tmp_path, levels=EXACT)


def test_the_width_of_rounded_queries_is_cut_as_it_is_masked(tmp_path):
    save(rounded_queries, tmp_path / "m.onnx")
    assert kinds(tmp_path / "m.onnx", "--prune", "head-dim").count(("head-dim", WIDTH)) == 2
    cut(tmp_path / "m.onnx", tmp_path, "head-dim", EXACT)


def clipped(b, w):
    return b.op("Clip", w, b.const(np.float32(0.01)), b.const(np.float32(0.5)))


def inverted(b, w):
    return b.op("Pow", b.op("Abs", w), b.const(np.float32(-0.5)))


def padded(b, w):
    part = b.op("Slice", w, ints(b, 0), ints(b, HIDDEN - 1), ints(b, 1))
    return b.op("Pad", part, ints(b, 0, 0, 0, 1), b.const(np.float32(0.3)))


def of_unit_length(b, w):
    """One Cast before both readings: 0 / 0 where a channel is dead."""
    v = b.op("Cast", w, to=1)
    return b.op("Div", v, b.op("Sqrt", b.op("ReduceSum", b.op("Mul", v, v), ints(b, 1))))


def reading(form):
    """x + form(W2)'·relu(x·W1)"""
    def build(b):
        h = b.op("Relu", b.op("MatMul", "x", b.weight(HIDDEN, FFN)))
        return b.op("Add", "x", b.op("MatMul", h, form(b, b.weight(FFN, HIDDEN))))
    return build


@pytest.mark.parametrize("form", [clipped, inverted, padded, of_unit_length], ids=lambda f: f.__name__)
def test_what_makes_a_number_of_zeros_is_offered_neither_channel_by_channel_nor_whole(tmp_path, form):
    path = tmp_path / "model.onnx"
    save(reading(form), path)
    for prune in ("ffn", "depth"):
        r = run("compress", path, tmp_path / "new.onnx", "--method", "magnitude", "--steps", 0, "--prune", prune,
                code=None)
        assert r.returncode in (0, 6), f"{prune} was offered and then refused: {r.stderr}"


def test_branches_that_share_what_a_node_makes_of_one_weight_stay(tmp_path):
    """As one DequantizeLinear for all layers: zeros there would be zeros in the layers that stay."""
    def build(b):
        up, down = (b.op("Transpose", b.weight(*shape), perm=[1, 0]) for shape in ((FFN, HIDDEN), (HIDDEN, FFN)))
        x = "x"
        for _ in range(3):
            x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", x, up)), down))
        return x
    path = tmp_path / "model.onnx"
    save(build, path)
    run("compress", path, tmp_path / "new.onnx", "--method", "magnitude", "--steps", 0, "--prune", "depth", code=6)
    run("compress", path, tmp_path / "new.onnx", "--method", "magnitude", "--steps", 0)


def test_sums_of_sums_of_one_constant_are_not_walked_once_a_path(tmp_path):
    """Ten sums of eight times what went before: a thousand million paths, and ten nodes."""
    def build(b):
        scale = b.const(np.float32(2.0 ** -37))
        for _ in range(10):
            scale = b.op("Sum", *[scale] * 8)
        q = b.const(np.random.default_rng(0).integers(-90, 90, (FFN, HIDDEN)).astype(np.int8))
        h = b.op("Relu", b.op("MatMul", "x", b.weight(HIDDEN, FFN)))
        return b.op("Add", "x", b.op("MatMul", h, b.op("DequantizeLinear", q, scale)))
    path = tmp_path / "model.onnx"
    save(build, path)
    cut(path, tmp_path, "ffn", levels=LEVELS[:2])
