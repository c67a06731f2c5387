"""Drives the binary: inspect, eval, verify, data and every exit code that needs
no tuning. PARE names the binary (build/pare), PARE_FIXTURES the folder of real
models (../shared/fixtures); tests that need models are skipped without them.
"""
import csv
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARE = pathlib.Path(os.environ.get("PARE", ROOT / "build" / "pare")).resolve()
FIXTURES = pathlib.Path(os.environ.get("PARE_FIXTURES", ROOT.parent / "shared" / "fixtures")).resolve()

needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures at {FIXTURES}")


def pare(*args, code=0):
    """Runs pare; the exit code must be `code`, and a failure one sentence that is no crash."""
    r = subprocess.run([PARE, *map(str, args)], capture_output=True, text=True, timeout=600)
    said = f"pare {' '.join(map(str, args))}\nexit code {r.returncode}, expected {code}\n{r.stdout}{r.stderr}"
    assert r.returncode == code, said
    if code in (2, 3, 4):
        assert r.stderr.splitlines()[-1].startswith("pare: "), said
        assert r.stdout == "", said
    return r


def model(name):
    return next((FIXTURES / name).glob("*.onnx"))


def traced():
    """Set A, and the whole models of set B whose composite ops are expanded."""
    if not FIXTURES.is_dir():
        return []
    more = ("tinybert-sst2-ortpy-fused", "tinybert-sst2-ort130-extended", "deit-fashion-ortpy-fused")
    with open(FIXTURES / "INDEX.tsv", newline="") as f:
        return [row for row in csv.DictReader(f, delimiter="\t") if row["set"] == "A" or row["name"] in more]


# --- inspect ---


@needs_fixtures
@pytest.mark.parametrize("row", traced(), ids=lambda row: row["name"])
def test_inspect_finds_the_heads_and_channels_that_the_index_names(row):
    facts = json.loads(pare("inspect", model(row["name"]), "--json").stdout)
    assert facts["opset"] == int(row["opset"].split("+")[0])
    assert facts["bytes"] == sum(p.stat().st_size for p in model(row["name"]).parent.glob("model.onnx*"))
    # the index counts integer initializers too
    assert 0.98 * int(row["params"]) <= facts["params"] <= int(row["params"])
    assert facts["macs"] > 0
    layers = 1 if row["name"] == "vespa-mlm-transformer" else int(row["layers"])  # its two share all weights
    for kind, column in (("heads", "heads_per_layer"), ("ffn", "ffn_channels_per_layer")):
        found = [g["count"] for g in facts["groups"] if g["kind"] == kind]
        assert found == [int(row[column])] * layers, kind
    for g in facts["groups"]:
        assert g["params"] > 0 and g["members"] and g["name"]
    for f in facts["frozen"]:
        assert f["name"] and "node '" in f["reason"] or "graph's" in f["reason"]


@needs_fixtures
def test_inspect_keeps_symbolic_names_and_counts_macs_at_a_shape():
    facts = json.loads(pare("inspect", model("tinybert-sst2-ts-op17"), "--json", "--shape", "input_ids:1x64").stdout)
    assert [i["name"] for i in facts["inputs"]] == ["input_ids", "attention_mask", "token_type_ids"]
    assert facts["inputs"][0]["shape"] == ["batch", "sequence"]
    assert facts["outputs"][0]["shape"] == ["batch", 2]
    # 3 layers of 4·64·64 (q k v o) + 2·64·256 (ffn) a token and 2·64·64² for scores and context; pooler and head once
    assert facts["macs"] == 3 * (64 * (4 * 64 * 64 + 2 * 64 * 256) + 2 * 64 * 64 * 64) + 64 * 64 + 2 * 64


@needs_fixtures
def test_inspect_prints_every_dimension_with_its_members():
    text = pare("inspect", model("vespa-mlm-transformer"), "--groups").stdout
    assert "opset      12" in text
    assert "transformer_encoder.layers.0.self_attn.out_proj.weight:1" in text
    assert "ReduceMean_101" in text, "the node that forbids a cut is named"


# --- eval, verify ---


@needs_fixtures
def test_eval_of_text_gives_the_accuracy_of_onnx_runtime(tmp_path):
    out = tmp_path / "sst2.npz"
    pare("data", "text", FIXTURES / "data-sst2" / "test-labeled.tsv", "-o", out, "--max-length", 64,
         "--vocab", FIXTURES / "vocab-bert-base-uncased" / "vocab.txt")
    r = json.loads(pare("eval", model("tinybert-sst2-ts-op17"), "--data", out, "--json").stdout)
    assert (r["metric"], r["samples"]) == ("accuracy", 1821)
    assert abs(r["value"] - 0.8122) < 5e-5, r  # fixtures/README.md


@needs_fixtures
def test_eval_of_images_gives_the_accuracy_of_onnx_runtime(tmp_path):
    out = tmp_path / "fashion.npz"
    pare("data", "images", FIXTURES / "data-fashion-mnist" / "t10k-images-idx3-ubyte.gz", "-o", out,
         "--mean", 0.2860, "--std", 0.3530, "--limit", 2000)
    r = json.loads(pare("eval", model("deit-fashion-ts-op17-dyn"), "--data", out, "--json").stdout)
    assert (r["metric"], r["samples"]) == ("accuracy", 2000)
    assert abs(r["value"] - 0.8640) < 5e-5, r  # fixtures/README.md, of the static file with the same weights


@needs_fixtures
def test_verify_calls_two_exports_of_one_network_equal():
    r = json.loads(pare("verify", model("deit-fashion-ts-op9-dyn"), model("deit-fashion-ts-op17-dyn"), "--json").stdout)
    assert r["passed"] and r["max_rel"] < 1e-4


@needs_fixtures
def test_verify_runs_onnx_test_data():
    folder = FIXTURES / "torchvision-vit-dyn-op17"
    r = pare("verify", model(folder.name), model("torchvision-vit-dyn-op11"), "--data", folder / "test_data_set_0")
    assert r.stdout.startswith("equal: output 'y'")


@needs_fixtures
def test_verify_tells_a_changed_weight(tmp_path):
    onnx = pytest.importorskip("onnx")
    numpy_helper = pytest.importorskip("onnx.numpy_helper")
    m = onnx.load(model("deit-fashion-ts-op17-dyn"))
    w = next(i for i in m.graph.initializer if len(i.dims) == 2)
    w.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(w) * 1.01, w.name))
    onnx.save(m, tmp_path / "changed.onnx")
    r = pare("verify", model("deit-fashion-ts-op17-dyn"), tmp_path / "changed.onnx", "--json", code=1)
    assert not json.loads(r.stdout)["passed"]
    assert "logits" in r.stderr


# --- data ---


@needs_fixtures
@pytest.mark.parametrize("split", ["dev", "test-labeled"])
def test_tokens_are_those_of_the_reference_tokenizer(tmp_path, split):
    vocab = FIXTURES / "vocab-bert-base-uncased" / "vocab.txt"
    text = FIXTURES / "data-sst2" / f"{split}.tsv"
    pare("data", "text", text, "-o", tmp_path / "t.npz", "--vocab", vocab, "--max-length", 64)
    r = subprocess.run([sys.executable, ROOT / "tests" / "e2e" / "check_tokenizer.py", tmp_path / "t.npz", text, vocab,
                        "--max-length", "64"], capture_output=True, text=True)
    if r.returncode == 77:
        pytest.skip(r.stdout.strip())
    assert r.returncode == 0, r.stdout + r.stderr


@needs_fixtures
def test_images_are_normalised_as_asked(tmp_path):
    np = pytest.importorskip("numpy")
    gzip = pytest.importorskip("gzip")
    source = FIXTURES / "data-fashion-mnist" / "t10k-images-idx3-ubyte.gz"
    pare("data", "images", source, "-o", tmp_path / "i.npz", "--mean", 0.5, "--std", 0.25, "--input", "x", "--limit", 7)
    got = np.load(tmp_path / "i.npz")
    px = np.frombuffer(gzip.open(source).read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:7]
    np.testing.assert_allclose(got["x"], (px.astype(np.float32) / 255 - 0.5) / 0.25, rtol=1e-6, atol=1e-6)
    labels = np.frombuffer(gzip.open(str(source).replace("images-idx3", "labels-idx1")).read(), np.uint8, offset=8)[:7]
    assert got["labels"].tolist() == labels.tolist()


# --- exit codes ---

USAGE = [
    [],
    ["frobnicate"],
    ["--frobnicate"],
    ["inspect"],
    ["inspect", "a.onnx", "b.onnx"],
    ["inspect", "--grups", "a.onnx"],
    ["inspect", "a.onnx", "--shape"],
    ["eval", "a.onnx"],
    ["eval", "a.onnx", "--data", "d.npz", "--batch", "many"],
    ["verify", "a.onnx"],
    ["bench", "a.onnx", "--runs", "0"],
    ["bench", "a.onnx", "--importance"],
    ["data"],
    ["data", "sounds"],
    ["data", "images", "x"],
    ["data", "images", "x", "-o", "y.zip"],
    ["compress", "a.onnx"],
    ["compress", "a.onnx", "b.onnx", "--sparsity", "1.5"],
    ["compress", "a.onnx", "b.onnx", "--sparsity"],
    ["compress", "a.onnx", "b.onnx", "--target", "latency=2"],
    ["compress", "a.onnx", "b.onnx", "--latency-cmd", "time it"],
    ["compress", "a.onnx", "b.onnx", "--target", "params=0.5", "--latency-table", "t.json"],
    ["compress", "a.onnx", "b.onnx", "--granularity", "2:4", "--align", "8"],
    ["compress", "a.onnx", "b.onnx", "--method", "obs", "--granularity", "unstructured"],
    ["compress", "a.onnx", "b.onnx", "--granularity", "unstructured", "--target", "params=0.5"],
    ["compress", "a.onnx", "b.onnx", "--granularity", "unstructured", "--adapter", "sequential"],
    ["compress", "a.onnx", "b.onnx", "--granularity", "unstructured", "--method", "gate"],
    ["compress", "a.onnx", "b.onnx", "--granularity", "2:4", "--sparsity", "0.3"],
    ["compress", "a.onnx", "b.onnx", "--align", "0"],
    ["compress", "a.onnx", "b.onnx", "--prune", "vocab"],
]


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_mistakes_of_usage_exit_2(args):
    r = subprocess.run([PARE, *args], capture_output=True, text=True)
    assert r.returncode == 2, r.stdout + r.stderr
    assert r.stdout == "" and r.stderr


@pytest.mark.parametrize("words", [["--help"], ["inspect"], ["compress"], ["eval"], ["verify"], ["bench"],
                                   ["data", "images"], ["data", "text"]], ids=" ".join)
def test_help_begins_with_the_usage(words):
    assert pare(*words, "--help").stdout.startswith("usage: pare")


def test_version():
    assert pare("--version").stdout.split()[0] == "pare"


def test_an_unknown_option_is_met_with_the_nearest():
    assert "did you mean --groups?" in pare("inspect", "--grups", "m.onnx", code=2).stderr


def test_a_missing_file_exits_4():
    assert "no-such.onnx" in pare("inspect", "no-such.onnx", code=4).stderr


def test_what_is_no_model_exits_4(tmp_path):
    for name, data in (("empty", b""), ("text", b"hello, world\n" * 50), ("zeros", bytes(4096))):
        (tmp_path / name).write_bytes(data)
        assert name in pare("inspect", tmp_path / name, code=4).stderr
    pare("inspect", tmp_path, code=4)


@needs_fixtures
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model_exits_4(tmp_path, share):
    data = model("deit-fashion-ts-op17-dyn").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[:int(len(data) * share)])
    assert "cut.onnx" in pare("inspect", tmp_path / "cut.onnx", code=4).stderr


@needs_fixtures
def test_unsupported_nodes_exit_3_with_op_domain_opset_and_count():
    said = pare("inspect", model("deit-fashion-ort130-all"), code=3).stderr
    for word in ("Conv", "ReorderOutput", "com.microsoft.nchwc", "opset", "1 time", "laid out for the machine"):
        assert word in said, said


@needs_fixtures
def test_data_that_do_not_fit_exit_4_and_say_why(tmp_path):
    np = pytest.importorskip("numpy")
    good = np.zeros((4, 1, 28, 28), np.float32)
    bad = good.copy()
    bad[2, 0, 3, 3] = np.nan
    labels = np.arange(4)
    cases = {
        "name": (dict(pixels=good, labels=labels), "pixel_values"),
        "rank": (dict(pixel_values=good[:, 0], labels=labels), "f32[4,28,28]"),
        "size": (dict(pixel_values=good[..., :27], labels=labels), "f32[4,1,28,27]"),
        "type": (dict(pixel_values=good.astype(np.int64), labels=labels), "i64"),
        "nan": (dict(pixel_values=bad, labels=labels), "NaN at sample 2"),
        "count": (dict(pixel_values=good, labels=np.arange(3)), "samples"),
        "range": (dict(pixel_values=good, labels=np.array([0, 1, 10, 3])), "10 at sample 2"),
        "negative": (dict(pixel_values=good, labels=np.array([0, -1, 2, 3])), "-1 at sample 1"),
        "nothing": (dict(pixel_values=good), "labels"),
    }
    for name, (arrays, says) in cases.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        said = pare("eval", model("deit-fashion-ts-op17-dyn"), "--data", tmp_path / f"{name}.npz", code=4).stderr
        assert says in said and f"{name}.npz" in said, said
    (tmp_path / "garbage.npz").write_bytes(b"PK\3\4" + bytes(100))
    pare("eval", model("deit-fashion-ts-op17-dyn"), "--data", tmp_path / "garbage.npz", code=4)
    pare("eval", model("deit-fashion-ts-op17-dyn"), "--data", tmp_path / "missing.npz", code=4)


@needs_fixtures
def test_token_ids_beyond_the_vocabulary_exit_4(tmp_path):
    np = pytest.importorskip("numpy")
    ids = np.full((2, 8), 40000)
    np.savez(tmp_path / "ids.npz", input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=np.zeros_like(ids),
             labels=np.zeros(2, np.int64))
    said = pare("eval", model("tinybert-sst2-ts-op17"), "--data", tmp_path / "ids.npz", code=4).stderr
    assert "Gather" in said, said


@needs_fixtures
def test_results_that_cannot_be_written_exit_4():
    with open("/dev/full", "w") as full:
        r = subprocess.run([PARE, "inspect", model("deit-fashion-ts-op17-dyn")], stdout=full, stderr=subprocess.PIPE)
    assert r.returncode == 4


@needs_fixtures
def test_a_closed_pipe_is_no_crash():
    r = subprocess.run(f"'{PARE}' inspect --json '{model('tfbert-qa-keras2onnx')}' | head -c 1", shell=True,
                       capture_output=True, text=True)
    assert r.stdout == "{" and r.returncode == 0


# --- bench ---


@needs_fixtures
def test_bench_measures_a_run_and_its_ops():
    r = json.loads(pare("bench", model("vespa-dummy-transformer"), "--batch", 2, "--runs", 3, "--shape", "input_ids:1x8",
                        "--json").stdout)
    assert 0 < r["min_seconds"] <= r["median_seconds"]
    assert r["macs"] > 0 and r["memory_bytes"] > 0
    assert "MatMul" in [row["op"] for row in r["ops"]]


@needs_fixtures
def test_bench_tells_what_of_a_step_is_importance():
    step = ["bench", model("deit-fashion-ts-op17-dyn"), "--train", "--runs", 3, "--batch", 4, "--json"]
    r = json.loads(pare(*step, "--importance").stdout)
    assert r["importance_seconds"] < r["median_seconds"]
    assert "GroupSum" in [row["op"] for row in r["ops"]]
    assert "importance_seconds" not in json.loads(pare(*step).stdout)


@needs_fixtures
def test_bench_times_the_step_of_the_criterion_that_is_named():
    step = ["bench", model("deit-fashion-ts-op17-dyn"), "--train", "--runs", 1, "--batch", 2]
    ops = {m: {row["op"] for row in json.loads(pare(*step, "--method", m, "--json").stdout)["ops"]} for m in ("gate", "loraprune")}
    assert "MaskGrad" in ops["gate"] and "MaskGrad" not in ops["loraprune"]
    assert "scores once" in pare(*step, "--method", "obs", code=2).stderr
    assert "not 'nonsense'" in pare(*step, "--method", "nonsense", code=2).stderr
    assert "--train" in pare(*step[:2], "--method", "gate", code=2).stderr


@needs_fixtures
def test_bench_io_leaves_nothing_behind(tmp_path):
    env = dict(os.environ, TMPDIR=str(tmp_path))
    r = subprocess.run([PARE, "bench", model("deit-fashion-ts-op17-dyn"), "--io", "--json"], capture_output=True,
                       text=True, env=env)
    times = json.loads(r.stdout)
    assert all(times[f"{what}_seconds"] > 0 for what in ("load", "write", "sync"))
    assert list(tmp_path.iterdir()) == []
