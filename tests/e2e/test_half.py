"""Models in float16, bfloat16 and mixed precision: cut and folded in fp32, stored as they were."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import tiny
from conftest import FIXTURES, feeds, run
from test_compress import LEVELS, accepted, relative, session, training_data

HALF = TensorProto.FLOAT16
FIXTURE = FIXTURES / "tinybert-sst2-ts-op17-fp16" / "model.onnx"
needs_fixture = pytest.mark.skipif(not FIXTURE.exists(), reason="no fixtures beside the project")

# name, model, does ONNX Runtime's CPU run it?
MODELS = {
    "f16": lambda: tiny.encoder(HALF),
    "f16-interface": lambda: tiny.encoder(HALF, interface=HALF),
    "mixed": lambda: tiny.encoder(HALF, products=TensorProto.FLOAT),
    "f16-products": lambda: tiny.encoder(HALF, products=HALF),
    "bf16": lambda: tiny.encoder(TensorProto.BFLOAT16),
}
RUNS = [name for name in MODELS if name != "bf16"]


def rounding(model):
    """Masked and compact file have the same weights in the same type. What a runtime stores between two nodes
    in f16 is rounded to u = 2^-11; so rounded, sums that differ in their last bit of f32 may be a u apart, and errors
    of n roundings one after another add up as sqrt(n)."""
    return 2.0 ** -11 * np.sqrt(len(model.graph.node))


def load(path):
    return onnx.load(str(path))


def types(model):
    return {t.name: t.data_type for t in model.graph.initializer}


def check_pair(original, masked, compact):
    """Checker and runtime take both at every level; they agree; types, names and interface are the original's."""
    before, after = load(original), load(compact)
    assert accepted(compact) and accepted(masked)
    for name, kind in types(after).items():
        assert kind == types(before).get(name, TensorProto.INT64), name
    assert [v.type.tensor_type.elem_type for v in after.graph.input] == [v.type.tensor_type.elem_type
                                                                         for v in before.graph.input]
    for level in LEVELS:
        a, b = session(masked, level), session(compact, level)
        for batch, length in ((2, 9), (3, 14)):
            f = feeds(before, batch, length)
            for x, y in zip(a.run(None, f), b.run(None, f)):
                x, y = x.astype(np.float64), y.astype(np.float64)
                assert np.isfinite(x).all() and relative(x, y) <= rounding(before), f"{level}: {relative(x, y)}"


def weight_bytes(model):
    return sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer if t.data_type in (HALF, 1))


def compress(path, tmp_path, npz, *options):
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--train", npz, "--save-masked", masked, "--report", tmp_path / "report", "-q",
        *options)
    proof = json.load(open(tmp_path / "report" / "report.json"))["validation"]
    assert proof["passed"] and proof["masked_vs_compact_rel"] <= 1e-4, proof
    return masked, compact


TUNING = {"untuned": ("--method", "magnitude", "--steps", 0),
          "tuned": ("--steps", 6, "--batch", 4, "--prune-every", 2, "--lr", 1e-3)}


@pytest.mark.parametrize("how", TUNING)
@pytest.mark.parametrize("name", MODELS)
def test_half_of_a_small_model(name, how, tmp_path):
    path = tmp_path / "model.onnx"
    model = MODELS[name]()
    onnx.save(model, path)
    npz = tmp_path / "train.npz"
    np.savez(npz, x=np.random.default_rng(1).standard_normal((24, 7, tiny.STREAM)).astype(np.float32))
    masked, compact = compress(path, tmp_path, npz, *TUNING[how])
    if name in RUNS:
        check_pair(path, masked, compact)
    assert accepted(compact)
    after = {t.name: t for t in load(compact).graph.initializer}
    before = {t.name: t for t in model.graph.initializer}
    assert list(after["ffn.up.weight"].dims) == [tiny.STREAM, tiny.FFN // 2]
    assert list(after["attention.q.weight"].dims) == [tiny.STREAM, tiny.STREAM // 2]
    for t in before.values():
        assert after[t.name].data_type == t.data_type, t.name
    if how == "untuned":  # what stays is the original's, bit by bit
        kept = {c.tobytes() for c in numpy_helper.to_array(before["ffn.up.weight"]).T}
        assert all(c.tobytes() in kept for c in numpy_helper.to_array(after["ffn.up.weight"]).T)


def test_tuning_moves_the_weights_of_a_half_precision_model(tmp_path):
    path, npz = tmp_path / "model.onnx", tmp_path / "train.npz"
    onnx.save(tiny.encoder(HALF), path)
    rng = np.random.default_rng(1)
    np.savez(npz, x=rng.standard_normal((24, 7, tiny.STREAM)).astype(np.float32), labels=rng.integers(0, 3, 24))
    _, compact = compress(path, tmp_path, npz, *TUNING["tuned"], "--reconstruct", "off")
    after = {t.name: numpy_helper.to_array(t) for t in load(compact).graph.initializer}["ffn.down.weight"]
    before = {t.name: numpy_helper.to_array(t) for t in load(path).graph.initializer}["ffn.down.weight"]
    nearest = [min(np.abs(before - row).max(axis=1)) for row in after]
    assert min(nearest) > 0 and max(nearest) < 0.1, nearest


@pytest.mark.parametrize("name", MODELS)
def test_data_may_be_half_or_float(name, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(MODELS[name](), path)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((12, 5, tiny.STREAM)).astype(np.float16)
    labels = rng.integers(0, 3, 12)
    said = []
    for kind in (np.float16, np.float32):
        npz = tmp_path / f"{np.dtype(kind).name}.npz"
        np.savez(npz, x=x.astype(kind), labels=labels)
        said.append(json.loads(run("eval", path, "--data", npz, "--json").stdout))
        del said[-1]["seconds"]
    assert said[0] == said[1]


@needs_fixture
def test_the_fixture_is_seen_and_judged_as_its_float32_twin():
    facts = json.loads(run("inspect", FIXTURE, "--json").stdout)
    for kind, count in (("heads", 4), ("ffn", 256)):  # INDEX.tsv
        assert [g["count"] for g in facts["groups"] if g["kind"] == kind] == [count] * 3
    twin = json.loads(run("inspect", FIXTURE.parents[1] / "tinybert-sst2-ts-op17" / "model.onnx", "--json").stdout)
    assert facts["params"] == twin["params"] and facts["macs"] == twin["macs"]
    assert [g["params"] for g in facts["groups"]] == [g["params"] for g in twin["groups"]]


@needs_fixture
@pytest.mark.parametrize("how", TUNING)
def test_half_of_the_fixture(how, tmp_path):
    npz = tmp_path / "train.npz"
    training_data(load(FIXTURE), npz)
    masked, compact = compress(FIXTURE, tmp_path, npz, *TUNING[how])
    check_pair(FIXTURE, masked, compact)
    before, after = load(FIXTURE), load(compact)
    tables = sum(numpy_helper.to_array(t).nbytes for t in before.graph.initializer if "embeddings" in t.name)
    # what is not a table of tokens or positions halves, but for biases and norms of the residual stream
    left = (weight_bytes(after) - tables) / (weight_bytes(before) - tables)
    assert 0.49 < left < 0.55, left
    assert compact.stat().st_size < FIXTURE.stat().st_size
