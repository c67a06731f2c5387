"""pare sweep: every point of its curves, judged by ONNX Runtime on the masked file of the same groups."""
import json
import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import tiny
from conftest import ROOT, run

SAMPLES, CLOSE = 60, 2e-5  # a mean of f32 losses of order 1, each with the rounding of a few hundred sums


def log_softmax(x):
    x = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def outputs(path, x):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.fixture
def files(tmp_path):
    """A model, data to score on and data to judge by, whose labels it mostly gets right."""
    rng = np.random.default_rng(3)
    model = tmp_path / "model.onnx"
    onnx.save(tiny.encoder(onnx.TensorProto.FLOAT), str(model))
    x = {n: rng.standard_normal((SAMPLES, 6, tiny.STREAM)).astype(np.float32) for n in ("train", "eval")}
    y = {n: outputs(model, v).argmax(axis=1) for n, v in x.items()}
    y["eval"][::7] = (y["eval"][::7] + 1) % tiny.CLASSES
    for n in x:
        np.savez(tmp_path / f"{n}.npz", x=x[n], labels=y[n])
        np.savez(tmp_path / f"{n}-bare.npz", x=x[n])
    return tmp_path, model, x["eval"], y["eval"]


def sweep(folder, model, *more, bare=False):
    kind = "-bare" if bare else ""
    r = run("sweep", model, "--train", folder / f"train{kind}.npz", "--eval", folder / f"eval{kind}.npz", "--threads", 1,
            "--json", "-q", *more)
    return json.loads(r.stdout)


def masked(folder, model, *more, bare=False):
    """The masked file of what compress cuts."""
    kind, out = "-bare" if bare else "", folder / "masked.onnx"
    run("compress", model, folder / "out.onnx", "--train", folder / f"train{kind}.npz", "--eval", folder / f"eval{kind}.npz",
        "--steps", 0, "--reconstruct", "off", "--threads", 1, "--save-masked", out, "-q", *more)
    return out


def cross_entropy(y, labels):
    return -log_softmax(y)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("method", ["gate", "magnitude"])
def test_curves_of_classes_and_layers_are_the_losses_of_the_masked_models(files, method):
    folder, model, x, labels = files
    s = sweep(folder, model, "--method", method)
    assert (s["metric"], s["loss"], s["samples"]) == ("accuracy", "ce", SAMPLES)
    assert s["dense"]["loss"] == pytest.approx(cross_entropy(outputs(model, x), labels), abs=CLOSE)
    assert [c["kind"] for c in s["classes"]] == ["heads", "ffn"]
    assert sum(c["groups"] for c in s["layers"]) == tiny.HEADS + tiny.FFN
    for c in s["classes"] + s["layers"]:
        assert [p["share"] for p in c["points"]] == [0, 0.125, 0.25, 0.5, 0.75, 1]
        assert c["points"][0]["loss"] == s["dense"]["loss"] and c["points"][-1]["gone"] == c["groups"] - 1
        for p in c["points"]:
            if p["gone"] == 0 or p["share"] == 1:
                continue
            only = ["--include", f"^{re.escape(c['name'])}$"] if c["name"] else []
            y = outputs(masked(folder, model, "--method", method, "--prune", c["kind"], "--sparsity", p["share"], *only), x)
            assert p["loss"] == pytest.approx(cross_entropy(y, labels), abs=CLOSE), (c["name"], c["kind"], p)
            assert p["metric"] == pytest.approx((y.argmax(axis=1) == labels).mean(), abs=1e-9)


@pytest.mark.parametrize("method", ["gate", "magnitude", "random"])
def test_the_proposal_is_a_plan_that_compress_follows_to_the_lower_of_the_two_losses(files, method):
    folder, model, x, labels = files
    plan = folder / "plan.json"
    s = sweep(folder, model, "--sparsity", 0.5, "--save-plan", plan, "--method", method)
    p = s["proposal"]
    print(p)
    assert p["by"] == ("ranked" if p["ranked"]["loss"] < p["split"]["loss"] else "split")
    y = outputs(masked(folder, model, "--plan", plan), x)
    assert p[p["by"]]["loss"] == pytest.approx(cross_entropy(y, labels), abs=CLOSE)
    kept = {d["name"]: len(d["keep"]) for d in json.loads(plan.read_text())["dimensions"]}
    assert kept == {c["name"]: c["kept"] for c in s["layers"]}
    assert [c["kept"] for c in s["classes"]] == [tiny.HEADS // 2, tiny.FFN // 2]
    y = outputs(masked(folder, model, "--sparsity", 0.5, "--method", method), x)
    assert p["ranked"]["loss"] == pytest.approx(cross_entropy(y, labels), abs=CLOSE)


def test_either_way_to_cut_is_proposed_where_it_is_the_better_one(tmp_path):
    """Of a model of four layers: the divergence of the masked file that compress makes of the plan."""
    model = ROOT / "examples" / "fashion-vit" / "model.onnx"
    x = np.random.default_rng(3).standard_normal((120, 1, 28, 28)).astype(np.float32).cumsum(2).cumsum(3) / 9
    np.savez(tmp_path / "train.npz", pixel_values=x[:96])
    np.savez(tmp_path / "eval.npz", pixel_values=x[96:])

    def logits(path):
        return log_softmax(ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"pixel_values": x[96:]})[0])

    before, by = logits(model), set()
    for method in ("gate", "magnitude"):
        for left_out in (0.1, 0.25):
            p = sweep(tmp_path, model, "--method", method, "--sparsity", left_out, "--save-plan", tmp_path / "plan.json")["proposal"]
            kl = (np.exp(before) * (before - logits(masked(tmp_path, model, "--plan", tmp_path / "plan.json", "--overwrite")))).sum(-1).mean()
            print(method, left_out, p, kl)
            assert p[p["by"]]["loss"] == min(p["split"]["loss"], p["ranked"]["loss"]) == pytest.approx(kl, abs=CLOSE)
            by.add(p["by"])
    assert by == {"split", "ranked"}


@pytest.mark.parametrize("kind", ["params", "macs", "bytes"])
@pytest.mark.parametrize("classes", ["heads,ffn", "heads,ffn,width"])
def test_the_proposal_for_a_target_reaches_it(kind, classes, files):
    """Also where groups overlap, as those of the stream's width and the layers' own do."""
    folder, model, _, _ = files
    plan, report = folder / "plan.json", folder / "report"
    for left in (0.9, 0.75):
        s = sweep(folder, model, "--target", f"{kind}={left}", "--prune", classes, "--save-plan", plan, "--align", 1)
        run("compress", model, folder / "out.onnx", "--plan", plan, "--prune", classes, "--train", folder / "train.npz", "--steps", 0,
            "--reconstruct", "off", "--report", report, "--overwrite", "-q")
        r = json.loads((report / "report.json").read_text())
        got = r["output"][kind] / r["input"][kind]
        print(kind, classes, left, got, s["proposal"])
        assert s["proposal"]["requested"] == left and left - 0.2 < got <= left


def test_without_labels_the_loss_is_the_divergence_from_the_whole_model(files):
    folder, model, x, _ = files
    s = sweep(folder, model, "--method", "magnitude", "--prune", "ffn", bare=True)
    assert (s["metric"], s["loss"], s["dense"]["loss"], s["dense"]["metric"]) == ("agreement", "kl", 0, 1)
    before = log_softmax(outputs(model, x))
    for p in s["classes"][0]["points"][1:-1]:
        y = outputs(masked(folder, model, "--method", "magnitude", "--prune", "ffn", "--sparsity", p["share"], bare=True), x)
        kl = (np.exp(before) * (before - log_softmax(y))).sum(axis=-1).mean()
        assert p["loss"] == pytest.approx(kl, abs=CLOSE)
        assert p["metric"] == pytest.approx((y.argmax(axis=1) == before.argmax(axis=1)).mean(), abs=1e-9)


def test_multiples_and_floors_hold_in_the_curves_and_in_the_proposal(files):
    folder, model, _, _ = files
    s = sweep(folder, model, "--method", "magnitude", "--prune", "ffn", "--align", 8, "--floor", 0.5, "--sparsity", 0.3)
    assert [p["gone"] for p in s["layers"][0]["points"]] == [0, 8, 8, 16, 16, 16]
    assert s["layers"][0]["kept"] == 16  # 32 - 9.6 is not a multiple of 8


def test_the_report_has_a_picture_and_the_same_numbers(files):
    folder, model, _, _ = files
    r = folder / "report"
    s = sweep(folder, model, "--method", "magnitude", "--report", r)
    assert json.loads((r / "report.json").read_text()) == s
    page = (r / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 2 and page.count("<polyline") == 4
    assert all(c["name"] in page for c in s["layers"]) and "nan" not in page


def test_the_table_names_every_layer(files):
    folder, model, _, _ = files
    text = run("sweep", model, "--data", folder / "train.npz", "--threads", 1, "--method", "magnitude", "-q").stdout
    lines = text.splitlines()
    assert lines[0].split()[0] == "ce" and "50 %" in lines[0]
    assert [line.split()[0] for line in lines[1:5:2]] == ["heads", "ffn"]
    assert "6 samples" in text  # a tenth of the data


@pytest.mark.parametrize("args, says", [
    ([], "--train"),
    (["--train", "t.npz", "--data", "t.npz"], "same thing"),
    (["--train", "t.npz", "--prune", "vocab"], "vocabulary"),
    (["--train", "t.npz", "--steps", "3"], "unknown option --steps"),
    (["--train", "t.npz", "--target", "latency=0.5"], "not times"),
    (["--train", "t.npz", "--sparsity", "0"], "ranks nothing"),
], ids=["no data", "twice", "vocab", "not an option of it", "latency", "nothing goes"])
def test_mistakes_of_usage_exit_2(args, says):
    assert says in run("sweep", "m.onnx", *args, code=2).stderr


def test_a_plan_that_cannot_be_written_is_refused_before_the_sweep(files):
    folder, model, _, _ = files
    r = run("sweep", model, "--train", folder / "train.npz", "--save-plan", folder / "none" / "plan.json", code=4)
    assert "plan.json" in r.stderr and "sweeping" not in r.stderr


def test_a_model_with_nothing_to_prune_exits_6(files):
    folder, model, _, _ = files
    assert "nothing to prune" in run("sweep", model, "--train", folder / "train.npz", "--include", "no-such", code=6).stderr


def test_of_single_numbers_without_labels_the_loss_is_the_squared_difference(tmp_path):
    """A cosine of one number is its sign."""
    model, rng = tmp_path / "model.onnx", np.random.default_rng(4)
    onnx.save(tiny.for_task("number"), str(model))
    x = rng.standard_normal((SAMPLES, 6, tiny.STREAM)).astype(np.float32)
    mask = np.ones((SAMPLES, 6), np.int64)
    for name in ("train-bare", "eval-bare"):
        np.savez(tmp_path / f"{name}.npz", x=x, attention_mask=mask)

    def number(path):
        return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["y"], {"x": x, "attention_mask": mask})[0].astype(float)

    s = sweep(tmp_path, model, "--method", "magnitude", "--prune", "ffn", bare=True)
    assert (s["loss"], s["dense"]["loss"]) == ("mse", 0)
    for p in s["classes"][0]["points"][1:-1]:
        cut = number(masked(tmp_path, model, "--method", "magnitude", "--prune", "ffn", "--sparsity", p["share"], bare=True))
        want = ((cut - number(model)) ** 2).mean()
        assert want > 0 and p["loss"] == pytest.approx(want, abs=CLOSE), (p, want)


def test_samples_without_any_label_cannot_judge(tmp_path):
    model = tmp_path / "model.onnx"
    onnx.save(tiny.for_task("tokens"), str(model))
    x = np.random.default_rng(4).standard_normal((24, 6, tiny.STREAM)).astype(np.float32)
    rest = {"x": x, "attention_mask": np.ones((24, 6), np.int64)}
    np.savez(tmp_path / "train.npz", labels=np.zeros((24, 6), np.int64), **rest)
    np.savez(tmp_path / "eval.npz", labels=np.full((24, 6), -100), **rest)
    said = run("sweep", model, "--train", tmp_path / "train.npz", "--eval", tmp_path / "eval.npz", "--method", "magnitude", "-q", code=4).stderr
    assert "none of them has a label" in said, said


@pytest.mark.parametrize("method", ["gate", "magnitude", "random"])
def test_by_cost_the_curves_leave_as_little_as_the_scores(files, method):
    folder, model, _, _ = files
    report, params = folder / "report", {}
    s = sweep(folder, model, "--method", method, "--ranking", "cost", "--sparsity", 0.4, "--save-plan", folder / "plan.json")
    for name, how in (("plan", ["--plan", folder / "plan.json"]), ("scores", ["--method", method, "--ranking", "cost", "--sparsity", 0.4])):
        run("compress", model, folder / "out.onnx", *how, "--train", folder / "train.npz", "--eval", folder / "eval.npz", "--steps", 0, "--reconstruct", "off",
            "--report", report, "--overwrite", "-q")
        params[name] = json.loads((report / "report.json").read_text())["output"]["params"]
    print(params, s["proposal"])
    assert params["plan"] <= params["scores"]
