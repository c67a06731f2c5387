"""Where the binary and the fixtures are, and how to run the one on the other."""
import csv
import os
import pathlib
import subprocess

import numpy as np
import onnx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARE = str(pathlib.Path(os.environ.get("PARE", ROOT / "build" / "pare")).resolve())
FIXTURES = pathlib.Path(os.environ.get("PARE_FIXTURES", ROOT.parent / "shared" / "fixtures"))


def index_rows():
    path = FIXTURES / "INDEX.tsv"
    if not path.exists():
        return []
    with open(path, newline="") as f:
        return list(csv.DictReader(f, delimiter="\t"))


# Models of set B, other dialects, that are compressed like those of set A.
COMPOSITE = ["tinybert-sst2-ortpy-fused", "tinybert-sst2-ort130-extended", "deit-fashion-ortpy-fused",
             "ortfrag-attention_opt", "ortfrag-attention_mha", "ortfrag-pruned_attention_opt",
             "ortfrag-attention_with_varied_qkv_opt", "ortfrag-gemma3-vision-attention_fp32",
             "ortfrag-phi-3.5-v-instruct-vision-attention", "ortfrag-phi-4-v-instruct-vision-attention",
             "ortfrag-attention_mask_no_cast"]


def models(which):
    """(row, path) of every fixture of a set or a list of names, or one skipped parameter."""
    rows = [r for r in index_rows() if (r["set"] == which if isinstance(which, str) else r["name"] in which)]
    if not rows:
        return [pytest.param(None, marks=pytest.mark.skip(reason="no fixtures beside the project"))]
    files = [(r, path) for r in rows for path in sorted((FIXTURES / r["name"]).glob("*.onnx"))[:1]]
    return [pytest.param(f, id=f[0]["name"]) for f in files]


def example():
    """The committed model: what the same tests run on where there are no fixtures."""
    return [pytest.param((None, ROOT / "examples" / "fashion-vit" / "model.onnx"), id="fashion-vit")]


def run(*args, code=0):
    """Runs pare, which must exit with `code`; None: with any."""
    r = subprocess.run([PARE, *map(str, args)], capture_output=True, text=True, timeout=300)
    assert code is None or r.returncode == code, f"exit {r.returncode}, not {code}: {r.stderr[-2000:]}"
    return r


def tuning(*args):
    """A run that has made steps and lost groups, by its own log: how long that takes is up to what else the machine does."""
    p = subprocess.Popen([PARE, "compress", *map(str, args), "-v"], stderr=subprocess.PIPE)
    said = []
    while not said or (b"took over" not in said[-1] and b"is not made up for" not in said[-1]):
        said.append(p.stderr.readline())
        assert said[-1], (p.wait(), said)
    return p


def feeds(model, batch, length, seed=0):
    """Seeded inputs: token ids below 16, masks of ones with a tail of zeros, normal floats."""
    rng = np.random.default_rng(seed)
    weights = {t.name for t in model.graph.initializer}
    out = {}
    for i in model.graph.input:
        if i.name in weights:
            continue
        t = i.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else (batch if k == 0 else length)
                 for k, d in enumerate(t.shape.dim)]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)
        if np.issubdtype(dtype, np.floating):
            x = rng.standard_normal(shape)
        elif "mask" in i.name:
            x = np.ones(shape)
            x[:, max(1, shape[1] - 2):] = 0
        elif "type" in i.name:
            x = np.zeros(shape)
        else:
            x = rng.integers(1, 16, shape)
        out[i.name] = x.astype(dtype)
    return out
