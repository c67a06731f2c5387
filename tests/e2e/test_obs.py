"""--method obs on whole models: the order in which groups go, against least squares solved in float64 by numpy on what ONNX
Runtime says that the layers read. Sequences of one token, so that every row counts alike (relevance is 1 a sample)."""
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper

import tiny
from conftest import run

SAMPLES, DAMPING = 96, 1e-2
READERS = {"heads": ("attention.out", tiny.HEADS), "ffn": ("ffn.down", tiny.FFN)}


def layer_inputs(model, x):
    """By class: what its reader's MatMul reads [samples, K], and its weight [K, N]."""
    m = onnx.load(str(model))
    weight = {t.name: numpy_helper.to_array(t).astype(float) for t in m.graph.initializer}
    reads = {n.input[1]: n.input[0] for n in m.graph.node if n.op_type == "MatMul"}
    for reader, _ in READERS.values():
        m.graph.output.append(onnx.helper.make_tensor_value_info(reads[f"{reader}.weight"], TensorProto.FLOAT, None))
    session = ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
    return {kind: (session.run([reads[f"{r}.weight"]], {"x": x})[0].reshape(len(x), -1).astype(float), weight[f"{r}.weight"])
            for kind, (r, _) in READERS.items()}


def losses(x, w, groups):
    """For every group the least Σ |x·W - x_rest·V|² + ridge·(all that changes)² over V, about the mean as a bias makes up for
    it: solved as ordinary least squares with rows for the ridge."""
    x = x - x.mean(0)
    ridge = DAMPING * (x * x).sum() / x.shape[1]
    of, out = np.arange(len(w)) // (len(w) // groups), []
    for g in range(groups):
        s, r = of == g, of != g
        rows = np.vstack([x[:, r], np.sqrt(ridge) * np.eye(r.sum())])
        want = np.vstack([x[:, s] @ w[s], np.zeros((r.sum(), w.shape[1]))])
        d = np.linalg.lstsq(rows, want, rcond=None)[0]
        out.append(((rows @ d - want) ** 2).sum() + ridge * (w[s] ** 2).sum())
    return np.array(out)


def order(model, npz, kind, groups, folder):
    """Which group goes at which share: the first first."""
    gone, out = [], folder / "plan.json"
    for k in range(1, groups):
        run("compress", model, folder / "o.onnx", "--train", npz, "--eval", npz, "--method", "obs", "--steps", 0, "--prune", kind,
            "--sparsity", k / groups, "--save-plan", out, "--reconstruct", "off", "--overwrite", "-q")
        dim = next(d for d in json.loads(out.read_text())["dimensions"] if d["kind"] == kind)
        now = [i for i in range(groups) if i not in dim["keep"]]
        assert len(now) == k and set(gone) <= set(now), (gone, now)
        gone += [i for i in now if i not in gone]
    return gone


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", READERS)
def test_groups_go_in_the_order_of_what_the_rest_cannot_take_over(kind, seed, tmp_path):
    model, npz = tmp_path / "m.onnx", tmp_path / "d.npz"
    onnx.save(tiny.encoder(TensorProto.FLOAT, seed=seed), str(model))
    x = np.random.default_rng(seed).standard_normal((SAMPLES, 1, tiny.STREAM)).astype(np.float32)
    np.savez(npz, x=x)
    groups = READERS[kind][1]
    want = losses(*layer_inputs(model, x)[kind], groups)
    got = order(model, npz, kind, groups, tmp_path)
    print(got, want[got])
    left = [g for g in range(groups) if g not in got]
    steps = np.diff(want[got + left]) / want.max()
    assert (steps > -1e-5).all(), steps  # f32 sums of some hundred terms
    assert want.max() > 1.1 * want.min()
