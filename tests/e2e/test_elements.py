"""pare compress --granularity unstructured and 2:4: which elements of the weights become zero, and nothing else."""
import json

import numpy as np
import onnx
from onnx import numpy_helper
import pytest

from conftest import example, models, run
from test_compress import accepted, data

GRANULARITIES = ["unstructured", "2:4"]


def weights(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}


def pruned(before, after):
    """Names of the matrices that have zeros which were none."""
    return [k for k in before if ((after[k] == 0) & (before[k] != 0)).any()]


@pytest.mark.parametrize("fixture", example())
@pytest.mark.parametrize("ranking", ["uniform", "global"])
def test_without_tuning_the_smallest_elements_go_and_the_others_stay_bit_by_bit(fixture, ranking, tmp_path):
    row, path = fixture
    run("compress", path, tmp_path / "c.onnx", "--granularity", "unstructured", "--method", "magnitude", "--ranking",
        ranking, "--importance", "abs", "--sparsity", 0.7, "--steps", 0, "-q")
    before, after = weights(path), weights(tmp_path / "c.onnx")
    names = pruned(before, after)
    scores = {k: np.abs(before[k].astype(np.float64)) for k in names}
    if ranking == "global":
        scores = {k: v / np.sqrt((v * v).sum()) for k, v in scores.items()}
    each = np.concatenate([v.ravel() for v in scores.values()])
    assert len(names) >= 8 and before.keys() == after.keys()
    for k in before:
        if k not in names:
            assert np.array_equal(before[k], after[k]), k
            continue
        pool = np.sort(each if ranking == "global" else scores[k].ravel())
        edge = pool[round(0.7 * len(pool)) - 1]
        near = np.abs(scores[k] - edge) < 1e-6 * edge
        gone = after[k] == 0
        assert np.array_equal(gone | near, (scores[k] <= edge) | near), k
        assert np.array_equal(after[k][~gone], before[k][~gone]), k
    zeros = sum((after[k] == 0).sum() for k in names) / sum(after[k].size for k in names)
    assert zeros == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize("fixture", example() + models("A"))
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_tuned_models_have_their_zeros_and_are_accepted(fixture, granularity, tmp_path):
    row, path = fixture
    report = tmp_path / "report"
    fits = granularity == "unstructured" or any(w.ndim == 2 and min(w.shape) >= 4 for w in weights(path).values())
    run("compress", path, tmp_path / "c.onnx", "--granularity", granularity, "--steps", 4, "--batch", 4, "--prune-every", 1,
        "--train", data(path, tmp_path), "--report", report, "-q", code=0 if fits else 6)
    if not fits:
        return
    said = json.loads((report / "report.json").read_text())
    assert said["validation"]["passed"] and said["target"]["reached"] == pytest.approx(0.5, abs=0.01)
    assert accepted(tmp_path / "c.onnx") == accepted(path)


@pytest.mark.parametrize("fixture", example())
def test_two_of_every_four_along_the_inputs_are_zero(fixture, tmp_path):
    row, path = fixture
    run("compress", path, tmp_path / "c.onnx", "--granularity", "2:4", "--steps", 4, "--batch", 4, "--train",
        data(path, tmp_path), "-q")
    before, after = weights(path), weights(tmp_path / "c.onnx")
    names = pruned(before, after)
    assert len(names) >= 8
    products = {i: n for n in onnx.load(str(tmp_path / "c.onnx")).graph.node for i in n.input}
    for k in names:
        w = after[k]
        if any(a.name == "transB" and a.i for a in products[k].attribute):
            w = w.T
        fours = w[: len(w) // 4 * 4].reshape(-1, 4, w.shape[1])
        assert ((fours == 0).sum(1) == 2).all(), k


@pytest.mark.parametrize("method", ["loraprune", "grad", "movement", "magnitude", "wanda", "random"])
def test_every_method_of_elements_runs_under_every_schedule(method, tmp_path):
    row, path = example()[0].values[0]
    for schedule in ("gradual", "one-shot", "tune-then-one-shot"):
        run("compress", path, tmp_path / "c.onnx", "--granularity", "unstructured", "--method", method, "--schedule",
            schedule, "--steps", 4, "--batch", 4, "--prune-every", 1, "--train", data(path, tmp_path), "-q")
