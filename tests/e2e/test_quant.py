"""Models quantised to int8 by ONNX Runtime's own tools (QDQ, QOperator and dynamic): pruned, tuned on the dequantised
weights, stored at the scales that they came with."""
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization as tools

import test_dimensions
import tiny
from conftest import FIXTURES, feeds, run
from test_compress import LEVELS, accepted, relative, session, training_data

NAMES = ["tinybert-sst2-ort-qdq", "deit-fashion-ort-qdq", "tinybert-sst2-ort-dynint8", "deit-fashion-ort-qop"]
needs_fixtures = pytest.mark.skipif(not (FIXTURES / NAMES[0]).exists(), reason="no fixtures beside the project")

# Masked and compact file multiply the same integers, but for zeros. Integer kernels add them up exactly. What a
# runtime computes in float may differ in the last bit and so be rounded to the next integer: one step of a
# quantiser, which is 1/255 of its range, so at most 1/127 of the largest value on either side of zero.
STEP = 1 / 127

TUNING = {"untuned": ("--method", "magnitude", "--steps", 0, "--reconstruct", "off"),
          "made up for": ("--method", "magnitude", "--steps", 0),
          "tuned": ("--steps", 6, "--batch", 4, "--prune-every", 2, "--lr", 1e-3)}


def draw(rng):
    return {"x": rng.standard_normal((2, 7, tiny.STREAM)).astype(np.float32)}


class Calibration(tools.CalibrationDataReader):
    def __init__(self, draw):
        rng = np.random.default_rng(3)
        self.samples = iter([draw(rng) for _ in range(8)])

    def get_next(self):
        return next(self.samples, None)


def quantised(path, opset=17, dynamic=False, fused=False, form=tools.QuantFormat.QDQ, model=tiny.encoder, draw=draw,
              **options):
    """`fused`: as ONNX Runtime saves it once it has optimised."""
    plain, raw = path.with_suffix(".fp32.onnx"), path.with_suffix(".raw.onnx")
    onnx.save(model(TensorProto.FLOAT, opset=opset), plain)
    if dynamic:
        tools.quantize_dynamic(str(plain), str(raw if fused else path), **options)
    else:
        tools.quantize_static(str(plain), str(raw if fused else path), Calibration(draw), quant_format=form, **options)
    if fused:
        o = ort.SessionOptions()
        o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        o.optimized_model_filepath = str(path)
        ort.InferenceSession(str(raw), o, providers=["CPUExecutionProvider"])
    return path


INT8, UINT8, UINT16 = tools.QuantType.QInt8, tools.QuantType.QUInt8, tools.QuantType.QUInt16
SMALL = {
    "per-tensor": dict(weight_type=INT8, activation_type=UINT8),
    "per-channel": dict(weight_type=INT8, activation_type=UINT8, per_channel=True),
    "with-zero-points": dict(weight_type=UINT8, activation_type=UINT8, extra_options={"WeightSymmetric": False}),
    "signed-activations": dict(weight_type=INT8, activation_type=INT8),
    "matmul-only": dict(weight_type=INT8, activation_type=UINT8, per_channel=True, op_types_to_quantize=["MatMul"]),
    "dynamic": dict(weight_type=INT8, dynamic=True),
    "dynamic-per-channel": dict(weight_type=INT8, dynamic=True, per_channel=True),
    "dynamic-with-zero-points": dict(weight_type=UINT8, dynamic=True),
    "operators": dict(weight_type=INT8, activation_type=UINT8, form=tools.QuantFormat.QOperator),
    "operators-per-channel": dict(weight_type=INT8, activation_type=UINT8, form=tools.QuantFormat.QOperator,
                                  per_channel=True),
    "operators-with-zero-points": dict(weight_type=UINT8, activation_type=UINT8, form=tools.QuantFormat.QOperator,
                                       extra_options={"WeightSymmetric": False}),
    "fused": dict(weight_type=INT8, activation_type=UINT8, fused=True),
    "fused-dynamic": dict(weight_type=INT8, dynamic=True, fused=True),
    "16-bit-of-microsoft": dict(weight_type=INT8, activation_type=UINT16),
    "16-bit": dict(weight_type=INT8, activation_type=UINT16, opset=21),
}


HYBRID = {"fused": dict(weight_type=INT8, activation_type=UINT8, fused=True),
          "operators": dict(weight_type=INT8, activation_type=UINT8, form=tools.QuantFormat.QOperator),
          "operators-per-channel": dict(weight_type=INT8, activation_type=UINT8, form=tools.QuantFormat.QOperator,
                                        per_channel=True),
          "dynamic": dict(weight_type=INT8, dynamic=True),
          "dynamic-with-zero-points": dict(weight_type=UINT8, dynamic=True, fused=True)}


def weights(path):
    return {t.name: t for t in onnx.load(str(path)).graph.initializer}


def compress(path, tmp_path, npz, *options):
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--train", npz, "--save-masked", masked, "--report", tmp_path / "report", "-q",
        *options)
    proof = json.load(open(tmp_path / "report" / "report.json"))["validation"]
    assert proof["passed"] and proof["masked_vs_compact_rel"] <= 1e-4, proof
    return masked, compact


def check_pair(original, masked, compact):
    model = onnx.load(str(original))
    assert accepted(compact) or not accepted(original)
    before, after = weights(original), weights(compact)
    assert all(after[n].data_type == before[n].data_type for n in before), "a type has changed"
    for level in LEVELS:
        a, b, dense = session(masked, level), session(compact, level), session(original, level)
        for batch, length in ((2, 9), (3, 14)):
            f = feeds(model, batch, length)
            for x, y, z in zip(a.run(None, f), b.run(None, f), dense.run(None, f)):
                assert relative(x, y) <= STEP, f"{level}, batch {batch}: {relative(x, y)}"
                assert relative(z, x) > STEP, "nothing was pruned"


def pruned_matrices(original, compact):
    """Names of stored matrices that lost rows or columns."""
    before, after = weights(original), weights(compact)
    return [n for n, t in before.items() if t.data_type in (TensorProto.INT8, TensorProto.UINT8)
            and len(t.dims) == 2 and list(t.dims) != list(after[n].dims)]


def check_untouched(original, compact):
    """What is left of a matrix is a part of it, bit by bit."""
    for name in pruned_matrices(original, compact):
        was, now = (numpy_helper.to_array(weights(p)[name]) for p in (original, compact))
        if was.shape[0] != now.shape[0]:
            was, now = was.T, now.T
        columns = {c.tobytes() for c in np.ascontiguousarray(was.T)}
        assert was.shape[0] == now.shape[0], name
        assert all(c.tobytes() in columns for c in np.ascontiguousarray(now.T)), name


def samples(path, npz):
    if path.parent.name in NAMES:
        training_data(onnx.load(str(path)), npz)
    else:
        np.savez(npz, x=np.random.default_rng(1).standard_normal((24, 7, tiny.STREAM)).astype(np.float32))
    return npz


@pytest.mark.parametrize("how", TUNING)
@pytest.mark.parametrize("name", SMALL)
def test_half_of_a_small_model(name, how, tmp_path):
    path = quantised(tmp_path / "model.onnx", **SMALL[name])
    masked, compact = compress(path, tmp_path, samples(path, tmp_path / "train.npz"), *TUNING[how])
    check_pair(path, masked, compact)
    assert len(pruned_matrices(path, compact)) == 6  # q, k, v, out, up, down
    if how == "untuned":
        check_untouched(path, compact)


@pytest.mark.parametrize("how", TUNING)
@pytest.mark.parametrize("name", HYBRID)
def test_half_of_a_hybrid_with_pools_and_packed_qkv(name, how, tmp_path):
    path = quantised(tmp_path / "model.onnx", model=tiny.hybrid, **HYBRID[name])
    masked, compact = compress(path, tmp_path, samples(path, tmp_path / "train.npz"), *TUNING[how])
    check_pair(path, masked, compact)
    assert len(pruned_matrices(path, compact)) == 4  # q, k and v, out, up, down
    f = feeds(onnx.load(str(path)), 8, 9)
    want = session(path, LEVELS[0]).run(None, f)[0]
    np.savez(tmp_path / "data.npz", labels=want, **f)
    ours = json.loads(run("eval", path, "--data", tmp_path / "data.npz", "--metric", "mse", "--json").stdout)["value"]
    assert np.sqrt(ours) <= STEP * np.abs(want).max(), (ours, want)


@needs_fixtures
@pytest.mark.parametrize("how", TUNING)
@pytest.mark.parametrize("name", NAMES)
def test_half_of_a_fixture(name, how, tmp_path):
    path = FIXTURES / name / "model.onnx"
    masked, compact = compress(path, tmp_path, samples(path, tmp_path / "train.npz"), *TUNING[how])
    check_pair(path, masked, compact)
    assert compact.stat().st_size < path.stat().st_size
    if how == "untuned":
        check_untouched(path, compact)


@pytest.mark.parametrize("name", ["per-channel", "operators", "dynamic", "fused-dynamic"])
def test_tuning_moves_integers_and_no_scale(name, tmp_path):
    path = quantised(tmp_path / "model.onnx", **SMALL[name])
    npz, rng = tmp_path / "train.npz", np.random.default_rng(1)
    np.savez(npz, x=rng.standard_normal((24, 7, tiny.STREAM)).astype(np.float32), labels=rng.integers(0, 3, 24))
    _, compact = compress(path, tmp_path, npz, "--steps", 40, "--batch", 8, "--lr", 1e-2, "--prune", "ffn")
    before, after = weights(path), weights(compact)
    moved = 0
    for name, t in before.items():
        was, now = numpy_helper.to_array(t), numpy_helper.to_array(after[name])
        if t.data_type == TensorProto.INT8 and was.ndim == 2 and was.shape == now.shape:
            moved += int((was != now).sum())
        elif was.shape == now.shape:
            assert (was == now).all(), name
        else:
            assert was.ndim == 2 or set(now.ravel().tolist()) <= set(was.ravel().tolist()), name
    assert moved > 100, moved


@needs_fixtures
@pytest.mark.parametrize("name", NAMES)
def test_inspect_finds_what_the_index_says(name):
    twin = "tinybert-sst2-ts-op17" if name.startswith("tinybert") else "deit-fashion-ts-op17-dyn"
    seen, plain = (json.loads(run("inspect", FIXTURES / n / "model.onnx", "--json").stdout) for n in (name, twin))
    assert [(g["kind"], g["count"]) for g in seen["groups"]] == [(g["kind"], g["count"]) for g in plain["groups"]]
    assert seen["macs"] == plain["macs"]
    # the same numbers and, besides, scales
    assert plain["params"] <= seen["params"] < 1.02 * plain["params"]


@needs_fixtures
def test_eval_agrees_with_the_runtime_on_real_images(tmp_path):
    import gzip
    folder = FIXTURES / "data-fashion-mnist"
    x = np.frombuffer(gzip.open(folder / "t10k-images-idx3-ubyte.gz").read(), np.uint8, offset=16)[:1000 * 784]
    y = np.frombuffer(gzip.open(folder / "t10k-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)[:1000]
    x = ((x.reshape(-1, 1, 28, 28) / 255 - 0.2860) / 0.3530).astype(np.float32)
    np.savez(tmp_path / "t.npz", pixel_values=x, labels=y.astype(np.int64))
    path = FIXTURES / "deit-fashion-ort-qdq" / "model.onnx"
    ours = json.loads(run("eval", path, "--data", tmp_path / "t.npz", "--json").stdout)
    theirs = (session(path, LEVELS[0]).run(None, {"pixel_values": x})[0].argmax(1) == y).mean()
    assert abs(ours["value"] - theirs) <= 0.002, (ours, theirs)


# --- weights that are moved before they are dequantised ---

MOVES = {  # how a matrix is stored, and the nodes that make the matrix of it
    "turned": (lambda w: w.T, lambda w: [("Transpose", None, {"perm": [1, 0]})]),
    "flat": (lambda w: w.reshape(-1), lambda w: [("Reshape", w.shape, {})]),
    "stacked": (lambda w: w.T[None], lambda w: [("Squeeze", [0], {}), ("Identity", None, {}), ("Transpose", None, {})]),
}


def is_integers(t):
    return t.data_type in (TensorProto.INT8, TensorProto.UINT8)


def is_matrix(t):
    return is_integers(t) and len(t.dims) == 2


def moved(path, how):
    """The same model with its matrices of integers stored otherwise; the matrices are called as before, '.stored' what is
    in the file."""
    model = onnx.load(str(path))
    store, back = MOVES[how]
    nodes = []
    for t in [t for t in model.graph.initializer if is_matrix(t)]:
        w, name = numpy_helper.to_array(t), t.name
        at = f"{name}.stored"
        t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(store(w)), at))
        steps = back(w)
        for i, (op, numbers, attrs) in enumerate(steps):
            inputs, last = [at], i == len(steps) - 1
            if numbers is not None:
                inputs.append(f"{name}.{op}")
                model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), inputs[1]))
            at = name if last else f"{name}.step{i}"
            nodes.append(helper.make_node(op, inputs, [at], name=f"{name}/{op}", **attrs))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes + rest)
    onnx.save(model, path)
    return path


def matrices(path):
    """By name: what the products or what dequantises reads."""
    model, out = onnx.load(str(path)), {}
    have = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for n in model.graph.node:
        if n.op_type not in ("Transpose", "Reshape", "Squeeze", "Identity") or n.input[0] not in have:
            continue
        w = have[n.input[0]]
        have[n.output[0]] = {"Transpose": lambda: w.transpose(), "Reshape": lambda: w.reshape(have[n.input[1]]),
                             "Squeeze": lambda: w.squeeze(0), "Identity": lambda: w}[n.op_type]()
    return {k: v for k, v in have.items() if v.dtype in (np.int8, np.uint8) and v.ndim == 2}


MOVED = ["per-tensor", "per-channel", "with-zero-points", "operators-per-channel", "dynamic-per-channel",
         "dynamic-with-zero-points", "fused-dynamic"]


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", MOVED)
def test_half_of_a_model_whose_integers_are_moved(name, move, tmp_path):
    path = moved(quantised(tmp_path / "model.onnx", **SMALL[name]), move)
    masked, compact = compress(path, tmp_path, samples(path, tmp_path / "train.npz"), *TUNING["tuned"])
    check_pair(path, masked, compact)
    before, after = matrices(path), matrices(compact)
    cut = [n for n in before if before[n].shape != after[n].shape]
    assert len([n for n in cut if n.endswith("_quantized")]) == 6, cut


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", MOVED)
def test_integers_that_are_moved_end_as_those_that_are_not(name, move, tmp_path):
    """Cut, and what goes made up for in what stays: requantised at the same scales."""
    ends = []
    for where, change in (("plain", lambda p: p), ("moved", lambda p: moved(p, move))):
        folder = tmp_path / where
        folder.mkdir()
        path = change(quantised(folder / "model.onnx", **SMALL[name]))
        _, compact = compress(path, folder, samples(path, folder / "train.npz"), *TUNING["made up for"])
        ends.append(matrices(compact))
    a, b = ends
    for n, w in a.items():
        assert b[n].shape == w.shape, n
        far = np.abs(b[n].astype(int) - w.astype(int)).max()
        assert far <= 1, f"{n}: {far} steps apart"


# --- weights that are parted or joined before they are dequantised ---

def in_two(w, axis):
    """Stored as two matrices, one behind the other."""
    return np.split(w, [w.shape[axis] // 3], axis), lambda at, name, more: [
        helper.make_node("Concat", at, [name], name=f"{name}/joined", axis=axis)]


def among_others(w, axis):
    """Stored as a part of a larger matrix."""
    n, more_of_it = w.shape[axis], np.flip(w, axis)
    return [np.concatenate([more_of_it, w], axis)], lambda at, name, more: [
        helper.make_node("Split", [at[0], more("sizes", [n, n])], [f"{name}.other", name], f"{name}/part", axis=axis)]


def out_of_a_stack(w, axis):
    return [np.stack([w[::-1], w, w])], lambda at, name, more: [
        helper.make_node("Slice", [at[0], more("from", [1]), more("to", [2]), more("axis", [0])], [f"{name}.slice"],
                         name=f"{name}/slice"),
        helper.make_node("Squeeze", [f"{name}.slice", more("axis", [0])], [name], name=f"{name}/flat")]


def made(path, how):
    """The same model, its matrices made of what is stored under their names, '.0' and so on: across the heads, and
    along the channels."""
    model, nodes = onnx.load(str(path)), []
    tensors = [t for t in model.graph.initializer if is_matrix(t)]
    for t in tensors:
        stored, make = how(numpy_helper.to_array(t), int("out" in t.name or "up" in t.name))
        parts = [numpy_helper.from_array(np.ascontiguousarray(w), f"{t.name}.{k}") for k, w in enumerate(stored)]
        numbers = {}

        def more(what, values, name=t.name):
            numbers[what] = numpy_helper.from_array(np.array(values, np.int64), f"{name}.{what}")
            return numbers[what].name
        nodes += make([p.name for p in parts], t.name, more)
        model.graph.initializer.extend(parts + list(numbers.values()))
    for t in tensors:
        model.graph.initializer.remove(t)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes + rest)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("how", [in_two, among_others, out_of_a_stack], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", MOVED)
def test_half_of_a_model_whose_integers_are_parted_or_joined(name, how, tmp_path):
    path = made(quantised(tmp_path / "model.onnx", **SMALL[name]), how)
    masked, compact = compress(path, tmp_path, samples(path, tmp_path / "train.npz"), *TUNING["tuned"])
    check_pair(path, masked, compact)
    before, after = weights(path), weights(compact)
    smaller = [n for n, t in before.items() if is_integers(t) and list(t.dims) != list(after[n].dims)]
    cut = {n.rpartition(".")[0] for n in smaller}
    assert len([n for n in cut if n.endswith("_quantized")]) == 6, cut


@pytest.mark.parametrize("how", TUNING)
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
def test_half_of_a_model_that_quantises_its_weights_itself(per_channel, how, tmp_path):
    """As tools write it that go on training: weights are floats, with a pair of quantisation behind them."""
    path = quantised(tmp_path / "model.onnx", weight_type=INT8, activation_type=UINT8, per_channel=per_channel,
                     extra_options={"AddQDQPairToWeight": True})
    masked, compact = compress(path, tmp_path, samples(path, tmp_path / "train.npz"), *TUNING[how])
    check_pair(path, masked, compact)
    before, after = ({n: numpy_helper.to_array(t) for n, t in weights(p).items() if len(t.dims) == 2}
                     for p in (path, compact))
    assert sum(before[n].shape != after[n].shape for n in before) == 6, {n: w.shape for n, w in after.items()}
    if how == "tuned":
        new = [n for n in before if not set(after[n].ravel()) <= set(before[n].ravel())]
        assert len(new) >= 6, f"adapters have changed {new}"


def scales_aside(path):
    """The same model with its scales and zero points by channel as rows of a table."""
    model, nodes = onnx.load(str(path)), []
    read = {n for node in model.graph.node if node.op_type == "DequantizeLinear" for n in node.input[1:]}
    for t in [t for t in model.graph.initializer if t.name in read and len(t.dims) == 1]:
        x, name = numpy_helper.to_array(t), t.name
        t.CopyFrom(numpy_helper.from_array(x[None], f"{name}.row"))
        if "flat" not in {t.name for t in model.graph.initializer}:
            model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "flat"))
        nodes.append(helper.make_node("Squeeze", [t.name, "flat"], [name], name=f"{name}/flat"))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes + rest)
    onnx.save(model, path)
    assert nodes
    return path


@pytest.mark.parametrize("how", TUNING)
def test_scales_may_be_moved_too(how, tmp_path):
    path = scales_aside(quantised(tmp_path / "model.onnx", **SMALL["per-channel"]))
    masked, compact = compress(path, tmp_path, samples(path, tmp_path / "train.npz"), *TUNING[how])
    check_pair(path, masked, compact)
    assert len([n for n in pruned_matrices(path, compact) if n.endswith("_quantized")]) == 6


# --- whole branches ---

DEEP = {"operators": dict(form=tools.QuantFormat.QOperator), "fused": dict(fused=True),
        "pairs": dict(extra_options={"DedicatedQDQPair": True})}


def deep(path, form, post_norm):
    """Three layers whose sums are of integers, or of floats that are quantised for each reader."""
    draw = lambda rng: {"ids": rng.integers(0, test_dimensions.TOKENS, (2, 7))}
    plain = lambda *_, **__: onnx.load(test_dimensions.text_model(path.with_suffix(".plain.onnx"), post_norm=post_norm))
    return quantised(path, model=plain, draw=draw, weight_type=INT8, activation_type=UINT8, **DEEP[form])


def branches(path):
    groups = json.loads(run("inspect", path, "--prune", "depth", "--json").stdout)["groups"]
    return [g["count"] for g in groups if g["kind"] == "depth"]


def products(path):
    return [n.op_type for n in onnx.load(str(path)).graph.node if "MatMul" in n.op_type]


@pytest.mark.parametrize("how", TUNING)
@pytest.mark.parametrize("post_norm", [False, True], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("form", DEEP)
def test_branches_go_where_their_sum_is_of_integers(form, post_norm, how, tmp_path):
    path = deep(tmp_path / "model.onnx", form, post_norm)
    assert branches(path) == [test_dimensions.LAYERS] * 2
    np.savez(tmp_path / "train.npz", ids=np.random.default_rng(1).integers(0, test_dimensions.TOKENS, (24, 7)))
    masked, compact = compress(path, tmp_path, tmp_path / "train.npz", "--prune", "depth", "--sparsity", 0.5, *TUNING[how])
    assert branches(compact) == [2] and len(products(compact)) < len(products(path))
    graph = onnx.load(str(compact)).graph
    assert {t.name for t in graph.initializer} <= {name for n in graph.node for name in n.input}
    # where a sum has become nothing, two pairs of quantisation stand behind each other, and a runtime that optimises
    # makes one of them, of another scale
    for level in LEVELS if form != "pairs" else LEVELS[:1]:
        a, b, dense = session(masked, level), session(compact, level), session(path, level)
        f = feeds(onnx.load(str(path)), 3, 11)
        x, y, z = (s.run(None, f)[0] for s in (a, b, dense))
        assert relative(x, y) <= STEP, f"{level}: {relative(x, y)}"
        assert relative(z, x) > STEP, "nothing was pruned"


# --- what makes no sense ---


def pair(scale, zero, axis=None, x=TensorProto.FLOAT, opset=17, **attrs):
    """x[batch, 4] quantised and dequantised again."""
    if axis is not None:
        attrs["axis"] = axis
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attrs),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attrs)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", x, ["batch", 4])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
                              [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


F, U = np.float32, np.uint8
NONSENSE = {
    "zero scale": (4, "holds 0", pair(np.array(0, F), np.array(0, U))),
    "scale that is no number": (4, "holds nan", pair(np.array([1, 1, np.nan, 1], F), np.zeros(4, U))),
    "zero point of another type": (3, "not to i64", pair(np.array(1, F), np.array(0, np.int64))),
    "axis out of range": (4, "axis 2 is outside", pair(np.ones(4, F), np.zeros(4, U), axis=2)),
    "scales that do not fit": (4, "one scale", pair(np.ones(3, F), np.zeros(3, U))),
    "zero points that do not fit": (4, "as many zero points", pair(np.ones(4, F), np.zeros(3, U))),
    "blocks": (3, "by blocks", pair(np.ones((1, 2), F), np.zeros((1, 2), U), opset=21, block_size=2)),
    "no scale at all": (4, "one scale", pair(np.ones(0, F), np.zeros(0, U))),
    "integers to quantise": (4, "only floats", pair(np.array(1, F), np.array(0, U), x=TensorProto.INT32)),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_what_makes_no_sense_ends_in_a_sentence(what, tmp_path):
    code, words, model = NONSENSE[what]
    onnx.save(model, tmp_path / "model.onnx")
    said = run("inspect", tmp_path / "model.onnx", code=code).stderr.strip().splitlines()
    assert len(said) == 1 and words in said[0] and "QuantizeLinear" in said[0], said


def test_an_empty_batch_axis_is_no_harm(tmp_path):
    model = pair(np.ones(4, F), np.zeros(4, U))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    onnx.save(model, tmp_path / "model.onnx")
    run("inspect", tmp_path / "model.onnx")
