"""Sparse initializers: --sparse-format onnx, and files that hold them, judged by the ONNX checker and ONNX Runtime."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import example, feeds, models, run
from test_compress import LEVELS, session

MAGNITUDE = ["--granularity", "unstructured", "--method", "magnitude", "--steps", 0, "-q"]


def checked(path):
    """Not the checker's shape inference, which knows no op that reads a sparse tensor (onnx 1.23)."""
    try:
        onnx.checker.check_model(str(path))
        return True
    except Exception:
        return False


EXAMPLE = example()[0].values[0][1]
SPARSE = ["--sparsity", 0.9, "--sparse-format", "onnx", *MAGNITUDE]
MODELS = example() + models(["tinybert-sst2-ts-op17", "deit-fashion-ts-op13-static", "torchvision-vit-dyn-op17"])


def dense(t):
    """The array that a SparseTensorProto stands for."""
    out = np.zeros(list(t.dims), helper.tensor_dtype_to_np_dtype(t.values.data_type))
    at, values = numpy_helper.to_array(t.indices), numpy_helper.to_array(t.values)
    out[np.unravel_index(at, out.shape) if at.ndim == 1 else tuple(at.T)] = values
    return out


def weights(path):
    g = onnx.load(str(path)).graph
    return ({t.name: numpy_helper.to_array(t) for t in g.initializer},
            {t.values.name: t for t in g.sparse_initializer})


def both(path, tmp_path, *options):
    for form in ("dense", "onnx"):
        run("compress", path, tmp_path / f"{form}.onnx", *MAGNITUDE, *options, "--sparse-format", form)
    return tmp_path / "dense.onnx", tmp_path / "onnx.onnx"


@pytest.mark.parametrize("fixture", MODELS)
def test_a_sparse_file_is_the_dense_one_in_fewer_bytes(fixture, tmp_path):
    full, sparse = both(fixture[1], tmp_path, "--sparsity", 0.9)
    (want, none), (rest, made) = weights(full), weights(sparse)
    assert not none and made and want.keys() == rest.keys() | made.keys() and not rest.keys() & made.keys()
    for name, t in made.items():
        a = dense(t)
        assert a.dtype == want[name].dtype and np.array_equal(a, want[name]), name
        at = numpy_helper.to_array(t.indices)
        assert at.ndim == 1 and (np.diff(at) > 0).all() and (numpy_helper.to_array(t.values) != 0).all(), name
        assert at.nbytes + t.values.ByteSize() < a.nbytes + 200, f"{name} is no smaller"
    assert all(np.array_equal(want[k], rest[k]) for k in rest)
    assert sparse.stat().st_size < full.stat().st_size
    assert checked(sparse)


@pytest.mark.parametrize("fixture", MODELS)
def test_onnx_runtime_makes_the_same_of_both(fixture, tmp_path):
    full, sparse = both(fixture[1], tmp_path, "--sparsity", 0.9)
    f = feeds(onnx.load(str(full)), 2, 9)
    for level in LEVELS:
        for x, y in zip(session(full, level).run(None, f), session(sparse, level).run(None, f)):
            assert np.array_equal(x, y), level


@pytest.mark.parametrize("options", [("--sparsity", 0.6, "--ranking", "uniform"), ("--granularity", "2:4")])
def test_where_it_would_not_be_smaller_weights_stay_dense_and_the_log_says_so(options, tmp_path):
    full, sparse = both(EXAMPLE, tmp_path, *options)
    assert full.read_bytes() == sparse.read_bytes()
    said = run("compress", EXAMPLE, tmp_path / "c.onnx", *MAGNITUDE[:-1], *options, "--sparse-format",
               "onnx").stderr
    assert "0 weights are sparse initializers; 16 are left dense" in said


def test_a_model_older_than_sparse_initializers_stays_dense_and_the_log_says_so(tmp_path):
    m = onnx.load(str(EXAMPLE))
    m.ir_version = 5
    onnx.save(m, str(tmp_path / "old.onnx"))
    said = run("compress", tmp_path / "old.onnx", tmp_path / "c.onnx", *SPARSE[:-1])
    assert "IR version is 5" in said.stderr and not weights(tmp_path / "c.onnx")[1]


def test_an_initializer_that_an_input_may_replace_stays_dense(tmp_path):
    m = onnx.load(str(EXAMPLE))
    large = max(m.graph.initializer, key=lambda t: np.prod(t.dims))
    m.graph.input.append(helper.make_tensor_value_info(large.name, large.data_type, list(large.dims)))
    onnx.save(m, str(tmp_path / "in.onnx"))
    run("compress", tmp_path / "in.onnx", tmp_path / "c.onnx", *SPARSE)
    rest, made = weights(tmp_path / "c.onnx")
    assert made and large.name in rest


def test_weights_in_a_file_of_their_own_stay_dense(tmp_path):
    m = onnx.load(str(EXAMPLE))
    onnx.save(m, str(tmp_path / "ext.onnx"), save_as_external_data=True, location="w.bin")
    said = run("compress", tmp_path / "ext.onnx", tmp_path / "c.onnx", *SPARSE[:-1])
    assert "in a file of their own" in said.stderr and not weights(tmp_path / "c.onnx")[1]


def test_it_is_refused_where_groups_go(tmp_path):
    r = run("compress", EXAMPLE, tmp_path / "c.onnx", "--sparse-format", "onnx", "--steps", 0, "--method", "magnitude",
            code=2)
    assert "--granularity" in r.stderr and not (tmp_path / "c.onnx").exists()


@pytest.mark.parametrize("fixture", MODELS)
def test_every_command_takes_a_sparse_file_for_the_dense_one(fixture, tmp_path):
    full, sparse = both(fixture[1], tmp_path, "--sparsity", 0.9)
    a, b = (json.loads(run("inspect", p, "--groups", "--json").stdout) for p in (full, sparse))
    for key in ("path", "bytes"):
        del a[key], b[key]
    assert a == b
    v = json.loads(run("verify", full, sparse, "--json").stdout)
    assert v["passed"] and v["max_abs"] == 0
    run("bench", sparse, "--json")
    changed = json.loads(run("diff", full, sparse, "--json", code=1).stdout)["changes"]
    assert sorted(c["name"] for c in changed) == sorted(weights(sparse)[1])
    assert all(c["after"] == c["before"] + ", sparse" for c in changed)


@pytest.mark.parametrize("fixture", MODELS)
def test_a_cut_keeps_sparse_what_was_sparse(fixture, tmp_path):
    full, sparse = both(fixture[1], tmp_path, "--sparsity", 0.9)
    for name, path in (("a", full), ("b", sparse)):
        run("compress", path, tmp_path / f"{name}.onnx", "--method", "magnitude", "--steps", 0, "-q")
    (want, _), (rest, made) = weights(tmp_path / "a.onnx"), weights(tmp_path / "b.onnx")
    assert made.keys() == weights(sparse)[1].keys() and want.keys() == rest.keys() | made.keys()
    for k, w in want.items():
        assert np.array_equal(w, dense(made[k]) if k in made else rest[k]), k
    assert checked(tmp_path / "b.onnx")


# --- files made by hand ---

def tiny(indices, values=(1.0, 2.0), dims=(2, 3), name="w", dtype=TensorProto.INT64):
    """y = x + w; w is sparse."""
    indices = np.asarray(indices)
    v = helper.make_tensor(name, TensorProto.FLOAT, [len(values)], list(values))
    i = helper.make_tensor("", dtype, indices.shape, indices.ravel().tolist())
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy"]
    g = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", info[:1], info[1:])
    t = g.sparse_initializer.add()
    t.values.CopyFrom(v)
    t.indices.CopyFrom(i)
    t.dims.extend(dims)
    return helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_indices_may_be_rows(tmp_path):
    onnx.save(tiny([1, 5]), str(tmp_path / "flat.onnx"))
    onnx.save(tiny([[0, 1], [1, 2]]), str(tmp_path / "rows.onnx"))
    assert checked(tmp_path / "rows.onnx")
    v = json.loads(run("verify", tmp_path / "flat.onnx", tmp_path / "rows.onnx", "--json").stdout)
    assert v["passed"] and v["max_abs"] == 0


HOSTILE = {
    "out of range": (tiny([1, 6]), 4, "outside"),
    "negative": (tiny([-1, 1]), 4, "outside"),
    "not sorted": (tiny([5, 1]), 4, "not above"),
    "twice": (tiny([1, 1]), 4, "not above"),
    "too few": (tiny([1]), 4, "indices"),
    "too many": (tiny([1, 2, 3]), 4, "indices"),
    "32 bits": (tiny([1, 5], dtype=TensorProto.INT32), 4, "indices"),
    "rows of another rank": (tiny([[0, 1, 1], [1, 2, 1]]), 4, "indices"),
    "a row outside": (tiny([[0, 1], [1, 3]]), 4, "outside"),
    "rows not sorted": (tiny([[1, 2], [0, 1]]), 4, "not above"),
    "dims that overflow": (tiny([1, 5], dims=(2 ** 40, 2 ** 40)), 4, "dims"),
    "negative dims": (tiny([1, 5], dims=(-2, 3)), 4, "dims"),
    "a bomb": (tiny([1, 5], dims=(2 ** 20, 2 ** 20)), 3, "bytes"),
    "nine axes": (tiny([1, 5], dims=(1,) * 8 + (6,)), 3, "rank"),
    "no name": (tiny([1, 5], name=""), 4, "name"),
    "another shape": (tiny([1, 5], dims=(7,)), 4, None),
}


@pytest.mark.parametrize("command", ["inspect", "compress", "verify", "bench", "eval"])
@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_wrong_with_a_sparse_tensor_is_said(case, command, tmp_path):
    model, code, word = HOSTILE[case]
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3), np.float32))
    args = {"compress": [path, tmp_path / "c.onnx", "--steps", 0, "--method", "magnitude"], "verify": [path, path],
            "eval": [path, "--data", tmp_path / "d.npz"]}.get(command, [path])
    if case == "another shape" and command == "inspect":
        return  # a shape that does not fit its reader is found when shapes are bound
    r = run(command, *args, code=code)
    assert word is None or word in r.stderr, r.stderr


@pytest.mark.parametrize("part", ["values", "indices"])
def test_a_sparse_tensor_without_a_part_is_said(part, tmp_path):
    m = tiny([1, 5])
    m.graph.sparse_initializer[0].ClearField(part)
    (tmp_path / "m.onnx").write_bytes(m.SerializeToString())
    run("inspect", tmp_path / "m.onnx", code=4)


def test_a_sparse_and_a_dense_initializer_of_one_name_are_refused(tmp_path):
    m = tiny([1, 5])
    m.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [0.0] * 6))
    (tmp_path / "m.onnx").write_bytes(m.SerializeToString())
    assert "twice" in run("inspect", tmp_path / "m.onnx", code=4).stderr
