"""Tasks and metrics: what labels ask for is told by shapes. Truth is numpy on ONNX Runtime's outputs."""
import json
import os
import subprocess

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import tiny
from conftest import PARE, ROOT, run
from test_cuda import REL, emulated, pare as on_plugin

N, L = 48, 7
IGNORED = -100


def outputs(path, arrays):
    s = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {i.name: arrays[i.name] for i in s.get_inputs()}
    return dict(zip([o.name for o in s.get_outputs()], s.run(None, feed)))


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, L + 1, N)
    return {"x": rng.standard_normal((N, L, tiny.STREAM)).astype(np.float32),
            "attention_mask": (np.arange(L) < lengths[:, None]).astype(np.int64)}


def labels_of(task, y, mask, rng):
    """What the model says, with some of it changed, so that every figure is between its ends."""
    if task == "sentence":
        return np.where(rng.random(N) < 0.3, rng.integers(0, 3, N), y["y"].argmax(-1))
    if task == "number":
        return (y["y"][:, 0].round(1) + 0.3 * rng.standard_normal(N)).round(1).astype(np.float32)
    if task == "tokens":
        said = np.where(rng.random((N, L)) < 0.3, rng.integers(0, 3, (N, L)), y["y"].argmax(-1))
        return np.where(mask == 1, said, IGNORED)
    start, end = spans_of(y)
    best = np.array([best_span(a, b) for a, b in zip(start, end)])
    return np.clip(best + (rng.random((N, 2)) < 0.4), 0, L - 1)


def spans_of(y):
    return (y["y"][..., 0], y["y"][..., 1]) if "y" in y else (y["start_logits"], y["end_logits"])


def best_span(start, end):
    score = start[:, None].astype(np.float64) + end
    score[np.tril_indices(len(start), -1)] = -np.inf
    return np.unravel_index(score.argmax(), score.shape)


def made(task, tmp_path, seed=0):
    model, rng = tmp_path / "m.onnx", np.random.default_rng(seed + 100)
    onnx.save(tiny.for_task(task), str(model))
    arrays = inputs(seed)
    y = outputs(model, arrays)
    arrays["labels"] = labels_of(task, y, arrays["attention_mask"], rng)
    np.savez(tmp_path / "d.npz", **arrays)
    return model, tmp_path / "d.npz", arrays, y


def evaluated(model, data, *options):
    return json.loads(run("eval", model, "--data", data, "--json", *options).stdout)


# --- metrics, by their definitions ---


def log_softmax(x):
    x = x.astype(np.float64)
    return x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))


def f1(said, true, k):
    tp = ((said == k) & (true == k)).sum()
    return 2 * tp / ((said == k).sum() + (true == k).sum())


def matthews(said, true, classes):
    a, b = (np.eye(classes)[v] - np.eye(classes)[v].mean(0) for v in (said, true))
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def ranks(x):
    return (x[:, None] > x).sum(1) + ((x[:, None] == x).sum(1) + 1) / 2


def overlap(a, b):
    common = min(a[1], b[1]) - max(a[0], b[0]) + 1
    return max(0, common) * 2 / (a[1] - a[0] + b[1] - b[0] + 2)


def wanted(task, y, labels):
    """Every metric of the task, and the loss."""
    if task in ("sentence", "tokens"):
        rows = y["y"].reshape(-1, 3)[labels.ravel() >= 0]
        true = labels.ravel()[labels.ravel() >= 0]
        said = rows.argmax(-1)
        each = [f1(said, true, k) for k in range(3)]
        others = 2 * ((said == true) & (true > 0)).sum() / ((said > 0).sum() + (true > 0).sum())
        loss = -log_softmax(rows)[np.arange(len(true)), true].mean()
        return {"accuracy": (said == true).mean(), "f1": np.mean(each), "f1-macro": np.mean(each), "token-f1": others,
                "matthews": matthews(said, true, 3)}, loss
    if task == "number":
        x, t = y["y"][:, 0].astype(np.float64), labels.astype(np.float64)
        mse = ((x - t) ** 2).mean()
        return {"mse": mse, "pearson": np.corrcoef(x, t)[0, 1], "spearman": np.corrcoef(ranks(x), ranks(t))[0, 1]}, mse
    start, end = spans_of(y)
    said = [best_span(a, b) for a, b in zip(start, end)]
    both = np.stack([log_softmax(start), log_softmax(end)], 1)
    loss = -np.take_along_axis(both, labels[:, :, None], 2).mean()
    return {"span-em": np.mean([tuple(a) == tuple(b) for a, b in zip(said, labels)]),
            "span-f1": np.mean([overlap(a, b) for a, b in zip(said, labels)])}, loss


USUAL = {"sentence": "accuracy", "tokens": "accuracy", "number": "mse", "spans": "span-f1", "spans in one": "span-f1"}
TASKS = list(USUAL)


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_of_a_task_is_what_numpy_says_of_onnx_runtimes_outputs(task, tmp_path):
    model, data, arrays, y = made(task, tmp_path)
    metrics, loss = wanted(task, y, arrays["labels"])
    for name, value in metrics.items():
        assert name == "mse" or 0.1 < value < 1, f"{name} {value} shows nothing"
        got = evaluated(model, data, "--metric", name)
        assert got["metric"] == name and got["points"] == (1 if name == "mse" else 100)
        assert got["value"] == pytest.approx(value, abs=1e-5), (name, got, value)
        assert got["loss"] == pytest.approx(loss, abs=1e-5), (name, got, loss)
    assert evaluated(model, data)["metric"] == USUAL[task]


def bce(x, marks):
    x = x.astype(np.float64)
    return np.mean(np.maximum(x, 0) - x * marks + np.log1p(np.exp(-np.abs(x))))


def test_several_labels_of_zero_and_one_are_marks(tmp_path):
    model, data, arrays, y = made("sentence", tmp_path)
    rng = np.random.default_rng(5)
    x = y["y"].astype(np.float64)
    marks = ((x > 0) ^ (rng.random(x.shape) < 0.2)).astype(np.float32)
    said = x > 0
    tp, pos, true = (said & (marks == 1)).sum(0), said.sum(0), marks.sum(0)
    for kind in (np.float32, np.int64, bool):
        np.savez(data, **{**arrays, "labels": marks.astype(kind)})
        got = evaluated(model, data)
        assert (got["metric"], got["value"], got["loss"]) == ("f1", pytest.approx(2 * tp.sum() / (pos.sum() + true.sum())),
                                                            pytest.approx(bce(x, marks), abs=1e-6)), kind
        got = evaluated(model, data, "--metric", "f1-macro")
        assert got["value"] == pytest.approx(np.mean(2 * tp / (pos + true)))


def test_top5_of_eight_classes(tmp_path):
    b = tiny.Builder(onnx.TensorProto.FLOAT)
    y = b.dense("x", "head", tiny.STREAM, 8)
    info, model = onnx.helper.make_tensor_value_info, tmp_path / "m.onnx"
    graph = onnx.helper.make_graph(b.nodes, "g", [info("x", 1, ["batch", tiny.STREAM])], [info(y, 1, ["batch", 8])],
                                   b.initializers)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), model)
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((200, tiny.STREAM)).astype(np.float32), "labels": rng.integers(0, 8, 200)}
    np.savez(tmp_path / "d.npz", **arrays)
    x = outputs(model, arrays)[y]
    want = np.mean([t in np.argsort(-r)[:5] for r, t in zip(x, arrays["labels"])])
    assert evaluated(model, tmp_path / "d.npz", "--metric", "top5")["value"] == pytest.approx(want)


@pytest.mark.parametrize("limit", ["OMP_THREAD_LIMIT=1", "OMP_DYNAMIC=true", "OMP_NUM_THREADS=1"])
def test_fewer_threads_than_were_asked_for_leave_no_work_undone(limit, tmp_path):
    """Labels are what ONNX Runtime says, so all are met, but where two logits are as good as equal."""
    model, rng = ROOT / "examples" / "fashion-vit" / "model.onnx", np.random.default_rng(0)
    arrays = {"pixel_values": rng.standard_normal((256, 1, 28, 28)).astype(np.float32)}
    y = outputs(model, arrays)["logits"]
    np.savez(tmp_path / "d.npz", labels=y.argmax(-1), **arrays)
    r = subprocess.run([PARE, "eval", model, "--data", tmp_path / "d.npz", "--threads", "8", "--json", "-q"], text=True,
                       capture_output=True, env={**os.environ, **dict([limit.split("=")])})
    got, want = json.loads(r.stdout), -log_softmax(y)[np.arange(256), y.argmax(-1)].mean()
    assert got["value"] > 0.99 and got["loss"] == pytest.approx(want, rel=1e-4), (got, want)


# --- compression ---


def compressed(model, data, tmp_path, *options, code=0):
    return run("compress", model, tmp_path / "c.onnx", "--train", data, "--eval", data, "--batch", 8, "--prune-every", 5,
               "--report", tmp_path / "r", "--overwrite", *options, "-q", code=code)


def report(tmp_path):
    return json.load(open(tmp_path / "r" / "report.json"))


@pytest.mark.parametrize("task", TASKS)
def test_tuning_on_labels_learns_them_and_the_report_says_by_what_it_judges(task, tmp_path):
    model, data, arrays, y = made(task, tmp_path)
    _, before = wanted(task, y, arrays["labels"])
    compressed(model, data, tmp_path, "--steps", 80, "--lr", "1e-2", "--sparsity", 0.25)
    r = report(tmp_path)
    metrics, loss = wanted(task, outputs(tmp_path / "c.onnx", arrays), arrays["labels"])
    assert r["metrics"]["name"] == USUAL[task]
    assert r["metrics"]["compact"] == pytest.approx(metrics[USUAL[task]], abs=1e-5)
    assert loss < before, f"{loss} is not below the dense model's {before}"
    curve = r["curves"]["metric"]
    assert curve and all(np.isfinite(p["value"]) for p in curve)


@emulated
@pytest.mark.parametrize("task, labelled", [("tokens", True), ("tokens", False), ("spans", True), ("spans in one", True)])
def test_a_gpu_has_the_losses_and_the_metric_of_the_cpu(task, labelled, tmp_path):
    model, data, arrays, _ = made(task, tmp_path)
    if not labelled:
        del arrays["labels"]
        np.savez(data, **arrays)
    r = {}
    for device in ("cpu", "cuda"):
        on_plugin("compress", model, tmp_path / "c.onnx", "--train", data, "--eval", data, "--steps", 4, "--batch", 8,
                  "--prune-every", 2, "--precision", "fp32", "--device", device, "--report", tmp_path / "r", "--overwrite", "-q")
        r[device] = report(tmp_path)
    assert r["cuda"]["curves"]["loss"] == pytest.approx(r["cpu"]["curves"]["loss"], rel=REL)
    for a, b in zip(r["cuda"]["curves"]["metric"], r["cpu"]["curves"]["metric"], strict=True):
        assert a["value"] == pytest.approx(b["value"], rel=REL)


@pytest.mark.parametrize("task, loss", [("sentence", "ce"), ("tokens", "ce"), ("number", "mse"), ("spans", "ce"),
                                        ("spans in one", "ce")])
def test_the_first_loss_is_that_of_the_untouched_model(task, loss, tmp_path):
    """At step 1 adapters and masks change nothing: the loss of the whole data as one batch is numpy's."""
    model, data, arrays, y = made(task, tmp_path)
    _, want = wanted(task, y, arrays["labels"])
    for chosen in ("auto", loss):
        run("compress", model, tmp_path / "c.onnx", "--train", data, "--eval", data, "--batch", N, "--steps", 1, "--loss",
            chosen, "--sparsity", 0, "--report", tmp_path / "r", "--overwrite", "-q")
        assert report(tmp_path)["curves"]["loss"][0] == pytest.approx(want, rel=1e-5), chosen


@pytest.mark.parametrize("batch, options, steps", [(1, [], 600), (8, [], 300), (8, ["--epochs", "auto"], 300), (8, ["--epochs", 2], 12),
                                                  (8, ["--steps", 3], 3)])
def test_few_samples_are_gone_through_until_there_are_600_steps_but_50_times_at_most(batch, options, steps, tmp_path):
    model, data, *_ = made("sentence", tmp_path)
    run("compress", model, tmp_path / "c.onnx", "--train", data, "--eval", data, "--batch", batch, "--report", tmp_path / "r", "-q",
        *options)
    assert report(tmp_path)["training"]["steps"] == steps


@pytest.mark.parametrize("n, steps", [(577, 600), (600, 600), (1101, 600), (6400, 600), (9600, 900), (9601, 901),
                                      (19200, 1800), (32000, 1800), (57600, 1800), (64000, 2000)])
def test_three_passes_are_made_but_600_to_1800_steps_and_one_pass_at_least(n, steps, tmp_path):
    model, _, arrays, _ = made("sentence", tmp_path)
    np.savez(tmp_path / "n.npz", **{k: np.resize(v, (n, *v.shape[1:])) for k, v in arrays.items()})
    said = run("compress", model, tmp_path / "c.onnx", "--train", tmp_path / "n.npz", "--eval", tmp_path / "n.npz", "--dry-run").stderr
    assert f" {steps} steps of 32 samples" in said, said


@pytest.mark.parametrize("options, share, last", [([], 0.5, 200), (["--sparsity", 0.75], 0.75, 300), (["--num-labels", 5], 0.5, 350),
                                                  (["--target", "params=0.9"], None, 300)])  # its share is found by the way
def test_pruning_is_over_early_unless_a_fresh_head_learns(options, share, last, tmp_path):
    model, _, arrays, _ = made("sentence", tmp_path)
    np.savez(tmp_path / "n.npz", **arrays)
    run("compress", model, tmp_path / "c.onnx", "--train", tmp_path / "n.npz", "--eval", tmp_path / "n.npz", "--steps", 700,
        "--batch", 2, "--prune-every", 700, "--report", tmp_path / "r", "-q", *options)  # the last prune is the only one
    curve = report(tmp_path)["curves"]["sparsity"]
    assert curve[last] == pytest.approx(share, abs=0.05) if share else curve[last] > 0
    assert curve == [0] * last + [curve[last]] * (700 - last)


# Options that say what is so without them.
@pytest.mark.parametrize("options", [["--mu", "auto"], ["--mu-ramp", 0], ["--epochs", "auto"], ["--distill", "auto"]],
                         ids=lambda x: " ".join(map(str, x)))
@pytest.mark.parametrize("labels", ["known", "unknown", "one"])
def test_a_default_may_be_written_out(options, labels, tmp_path):
    model, data, arrays, y = made("sentence", tmp_path)
    arrays["labels"] = {"known": y["y"].argmax(-1), "unknown": np.roll(y["y"].argmax(-1), 1), "one": np.zeros(N, int)}[labels]
    np.savez(data, **arrays)
    got = []
    for more in ([], options):
        compressed(model, data, tmp_path, "--steps", 3, "--threads", 1, *more)
        got.append((report(tmp_path)["training"]["mu"], report(tmp_path)["training"]["final_loss"]))
    assert got[0] == got[1], got


def test_a_ramp_of_distillation_is_no_error_where_labels_turn_out_to_teach_alone(tmp_path):
    model, data, arrays, y = made("sentence", tmp_path)
    np.savez(data, **{**arrays, "labels": np.roll(y["y"].argmax(-1), 1)})
    r = run("compress", model, tmp_path / "c.onnx", "--train", data, "--eval", data, "--steps", 3, "--mu-ramp", 0.5)
    assert "of the labels: they alone teach" in r.stderr


# --- a Softmax or a Sigmoid at the end ---


def with_softmax(model, how, op="Softmax"):
    """Behind each output of floats; `views`: between an Unsqueeze and a Squeeze."""
    g = model.graph
    made_by = {o: n for n in g.node for o in n.output}
    for out in (o for o in g.output if o.type.tensor_type.elem_type == onnx.TensorProto.FLOAT):
        name, rank = out.name, len(out.type.tensor_type.shape.dim)
        n = made_by[name]
        n.output[list(n.output).index(name)] = x = name + ".logits"
        if how == "views":
            g.initializer.append(onnx.numpy_helper.from_array(np.array([0]), name + ".first"))
            g.node.append(onnx.helper.make_node("Unsqueeze", [x, name + ".first"], [name + ".high"]))
            g.node.append(onnx.helper.make_node(op, [name + ".high"], [name + ".soft"], **({"axis": -1} if op == "Softmax" else {})))
            g.node.append(onnx.helper.make_node("Squeeze", [name + ".soft", name + ".first"], [name]))
        else:
            g.node.append(onnx.helper.make_node(op, [x], [name], **({"axis": rank - 1} if op == "Softmax" else {})))
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("options", [["--loss", "ce"], [], ["--loss", "kd"], ["--distill", "both"]], ids=" ".join)
@pytest.mark.parametrize("task, how", [("sentence", "plain"), ("sentence", "views"), ("tokens", "plain"), ("spans", "plain")])
def test_a_model_that_ends_in_a_softmax_is_tuned_and_judged_as_the_one_without(task, how, options, tmp_path):
    """To the last bit: losses read the same logits. Scores, reconstruction and the share of distillation as well."""
    model, data, *_ = made(task, tmp_path)
    soft = tmp_path / "soft.onnx"
    onnx.save(with_softmax(tiny.for_task(task), how), str(soft))
    weights, told = [], []
    for m in (model, soft):
        compressed(m, data, tmp_path, "--steps", 12, "--threads", 1, *options)
        weights.append({t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "c.onnx").graph.initializer})
        r, e = report(tmp_path), evaluated(m, data)
        told.append((r["training"]["mu"], r["curves"]["loss"], r["curves"]["metric"], r["metrics"]["dense"],
                     r["metrics"]["compact"], e["value"], e["loss"]))
    assert told[0] == told[1], told
    assert all(np.array_equal(weights[1][k], v) for k, v in weights[0].items())


@pytest.mark.parametrize("how", ["plain", "views"])
@pytest.mark.parametrize("task", ["number", "sentence"])
def test_yes_and_no_are_learned_and_judged_by_their_logits_with_a_sigmoid_and_without(task, how, tmp_path):
    """One question, or three of a sample. Of one, labels are integers, which a measure's are not."""
    model, data, arrays, y = made(task, tmp_path)
    rng = np.random.default_rng(0)
    marks = ((y["y"] > np.median(y["y"])) ^ (rng.random(y["y"].shape) < 0.2)).astype(np.int64)
    labels = marks[:, 0] if task == "number" else marks
    np.savez(data, **{**arrays, "labels": labels})
    soft = tmp_path / "soft.onnx"
    onnx.save(with_softmax(tiny.for_task(task), how, "Sigmoid"), str(soft))
    right = ((y["y"] > 0) == marks).all(-1).mean()
    weights, told = [], []
    for m in (model, soft):
        e = evaluated(m, data, "--metric", "accuracy")
        assert e["value"] == pytest.approx(right) and e["loss"] == pytest.approx(bce(y["y"], marks), abs=1e-6)
        assert evaluated(m, data)["metric"] == ("accuracy" if task == "number" else "f1")
        compressed(m, data, tmp_path, "--steps", 12, "--threads", 1, "--distill", "none")
        weights.append({t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "c.onnx").graph.initializer})
        r = report(tmp_path)
        told.append((r["curves"]["loss"], r["curves"]["metric"], r["metrics"]["dense"], r["metrics"]["compact"]))
        assert 0 < np.mean([v["value"] for v in r["curves"]["metric"]]) < 1
    assert told[0] == told[1], told
    assert all(np.array_equal(weights[1][k], v) for k, v in weights[0].items())


def test_one_number_of_0_or_1_is_a_measure_where_labels_are_floats_or_the_loss_says_so(tmp_path):
    model, data, arrays, y = made("number", tmp_path)
    labels = (y["y"][:, 0] > np.median(y["y"])).astype(np.int64)
    np.savez(data, **{**arrays, "labels": labels.astype(np.float32)})
    assert evaluated(model, data)["metric"] == "mse"
    compressed(model, data, tmp_path, "--steps", 1, "--sparsity", 0, "--loss", "bce", "--batch", N)
    assert report(tmp_path)["metrics"]["name"] == "accuracy"
    assert report(tmp_path)["curves"]["loss"][0] == pytest.approx(bce(y["y"], labels[:, None]), rel=1e-5)
    np.savez(data, **{**arrays, "labels": labels})
    mse = ((y["y"][:, 0] - labels) ** 2).mean()
    compressed(model, data, tmp_path, "--steps", 1, "--sparsity", 0, "--loss", "mse", "--batch", N, "--distill", "logits")
    r = report(tmp_path)
    assert r["curves"]["loss"][0] == pytest.approx((1 - r["training"]["mu"]) * mse, rel=1e-5)
    assert (r["metrics"]["name"], r["metrics"]["dense"]) == ("mse", pytest.approx(mse, rel=1e-5))
    assert r["training"]["mu"] == pytest.approx(max(0.5, 1 - mse / labels.var()), abs=1e-5)


def changed(model, out, *nodes, shape=("batch",), **numbers):
    """The model with what these nodes make of its `y` in the place of it; numbers are initializers."""
    g = model.graph
    last = next(n for n in g.node if n.output[0] == "y")
    last.output[0] = "was"
    g.node.extend(nodes)
    g.initializer.extend(onnx.numpy_helper.from_array(np.array(v), k) for k, v in numbers.items())
    old = next(o for o in g.output if o.name == "y")
    g.output.remove(old)
    g.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list(shape)))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))
    return out


@pytest.mark.parametrize("batch", [1, 32, 47])
def test_an_output_of_one_axis_has_a_number_of_each_sample(batch, tmp_path):
    """Batches that the samples do not fill up count as well."""
    _, data, arrays, _ = made("number", tmp_path)
    model = changed(tiny.for_task("number"), tmp_path / "n.onnx", onnx.helper.make_node("Squeeze", ["was", "one"], ["y"]), one=[1])
    y = outputs(model, arrays)["y"]
    assert y.shape == (N,)
    for labels in (arrays["labels"], (y > np.median(y)).astype(np.int64)):
        np.savez(data, **{**arrays, "labels": labels})
        got = evaluated(model, data, "--batch", batch)
        if labels.dtype == np.int64:
            assert (got["metric"], got["value"]) == ("accuracy", pytest.approx(((y > 0) == labels).mean()))
            assert got["loss"] == pytest.approx(bce(y, labels), abs=1e-6)
        else:
            assert (got["metric"], got["value"]) == ("mse", pytest.approx(((y - labels) ** 2).mean(), rel=1e-5))
        compressed(model, data, tmp_path, "--steps", 3, "--sparsity", 0, "--distill", "none")
        assert 0 < report(tmp_path)["curves"]["metric"][0]["value"] < 10


def test_a_part_of_a_softmax_is_a_number(tmp_path):
    """The probability of a class alone: nothing is known of its logit."""
    node = onnx.helper.make_node
    model = changed(tiny.for_task("sentence"), tmp_path / "p.onnx", node("Softmax", ["was"], ["soft"], axis=-1),
                    node("Slice", ["soft", "from", "to", "axis"], ["y"]), shape=("batch", 1), **{"from": [1], "to": [2], "axis": [1]})
    arrays = inputs()
    y = outputs(model, arrays)["y"]
    np.savez(tmp_path / "d.npz", labels=(y[:, 0] > np.median(y)).astype(np.int64), **arrays)
    got = evaluated(model, tmp_path / "d.npz")
    assert got["metric"] == "mse" and got["loss"] == pytest.approx(((y[:, 0] - (y[:, 0] > np.median(y))) ** 2).mean(), rel=1e-5)


def test_a_sigmoid_is_distilled_as_it_is(tmp_path):
    """The untouched model has nothing to teach itself, and another one its own numbers."""
    model, data, arrays, _ = made("number", tmp_path)
    np.savez(data, **{k: v for k, v in arrays.items() if k != "labels"})
    soft, other = tmp_path / "soft.onnx", tmp_path / "other.onnx"
    onnx.save(with_softmax(tiny.for_task("number"), "plain", "Sigmoid"), str(soft))
    onnx.save(with_softmax(tiny.for_task("number", seed=5), "plain", "Sigmoid"), str(other))
    a, b = (outputs(m, arrays)["y"].astype(np.float64) for m in (soft, other))
    compressed(soft, data, tmp_path, "--steps", 3, "--distill", "hidden")
    said = compressed(soft, data, tmp_path, "--steps", 3, "--teacher", model, code=4).stderr
    assert "m.onnx: a Sigmoid makes one of its output 'y'" in said, said
    for teacher, want in (([], 0), (["--teacher", other], ((a - b) ** 2).mean())):
        compressed(soft, data, tmp_path, "--steps", 1, "--sparsity", 0, "--batch", N, *teacher)
        assert report(tmp_path)["curves"]["loss"][0] == pytest.approx(want, rel=1e-4, abs=1e-9)


def gathered(model):
    """Its two outputs of places given by a Gather each, not by a Split."""
    g = model.graph
    split = next(n for n in g.node if n.op_type == "Split")
    names = [n.output[0] for n in g.node if n.op_type == "Squeeze" and n.input[0] in split.output]
    for n in [split, *(n for n in g.node if n.output[0] in names)]:
        g.node.remove(n)
    for i, name in enumerate(names):
        g.initializer.append(onnx.numpy_helper.from_array(np.array(i), f"column.{i}"))
        g.node.append(onnx.helper.make_node("Gather", [split.input[0], f"column.{i}"], [name], axis=2))
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("how", [lambda m: m, gathered], ids=["Split", "Gather"])
def test_places_without_labels_are_distributions(how, tmp_path):
    """Scores of first and last tokens: followed by their divergence, judged by their agreement."""
    model, data, arrays, y = made("spans", tmp_path)
    onnx.save(how(tiny.for_task("spans")), str(model))
    other = tmp_path / "other.onnx"
    onnx.save(how(tiny.for_task("spans", seed=5)), str(other))
    z = outputs(other, arrays)
    np.savez(data, **{k: v for k, v in arrays.items() if k != "labels"})
    compressed(model, data, tmp_path, "--steps", 1, "--sparsity", 0, "--batch", N, "--teacher", other, "--temperature", 1)
    want = sum((np.exp(q) * (q - p)).sum(-1).mean() for p, q in ((log_softmax(y[k]), log_softmax(z[k])) for k in ("start_logits", "end_logits")))
    assert report(tmp_path)["curves"]["loss"][0] == pytest.approx(want, rel=1e-4) and report(tmp_path)["metrics"]["name"] == "agreement"


def test_sweep_takes_the_divergence_of_what_a_softmax_says(tmp_path):
    model, data, arrays, _ = made("sentence", tmp_path)
    np.savez(data, **{k: v for k, v in arrays.items() if k != "labels"})
    soft = tmp_path / "soft.onnx"
    onnx.save(with_softmax(tiny.for_task("sentence"), "plain"), str(soft))
    told = [json.loads(run("sweep", m, "--train", data, "--eval", data, "--json").stdout) for m in (model, soft)]
    told = [{k: v for k, v in t.items() if k not in ("model", "seconds")} for t in told]
    assert told[0] == told[1]


def entropy(labels):
    """Of all that there might be, as a draw tells it: with Miller's and Madow's (K - 1) / 2n."""
    p = np.unique(labels, return_counts=True)[1] / len(labels)
    return -(p * np.log(p)).sum() + (len(p) - 1) / 2 / len(labels)


def constant_loss(task, labels):
    """Of the best that says the same of all samples."""
    if task == "number":
        return labels.astype(np.float64).var()
    if task == "marks":
        p = labels.mean(0, dtype=np.float64)
        return -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    asked = [c[c >= 0] for c in (labels.T if "spans" in task else [labels])]
    return np.average([entropy(c) for c in asked if len(c)], weights=[len(c) for c in asked if len(c)])


def explained(task, y, labels):
    """At the best of the temperatures; numbers have none."""
    soft = [{k: v / np.sqrt(2) ** i for k, v in y.items()} for i in range(9)] if task != "number" else [y]
    losses = [bce(s["y"], labels) if task == "marks" else wanted(task, s, labels)[1] for s in soft]
    return 1 - min(losses) / constant_loss(task, labels)


@pytest.mark.parametrize("task", [*TASKS, "marks"])
def test_distillation_has_the_share_of_the_loss_that_the_untouched_model_explains_of_the_labels(task, tmp_path):
    """R² of numbers, McFadden's of classes and places. Where nothing goes, or labels are not what the model says, nothing
    is distilled."""
    model, data, arrays, y = made("sentence" if task == "marks" else task, tmp_path)
    right = {"sentence": lambda: y["y"].argmax(-1), "marks": lambda: (y["y"] > 0).astype(np.float32), "tokens": lambda: np.where(arrays["attention_mask"] == 1, y["y"].argmax(-1), IGNORED),
             "number": lambda: y["y"][:, 0] + np.float32(0.2) * arrays["labels"]}
    arrays["labels"] = right.get(task, lambda: np.array([best_span(a, b) for a, b in zip(*spans_of(y))]))()
    np.savez(data, **arrays)
    want = explained(task, y, arrays["labels"])
    compressed(model, data, tmp_path, "--steps", 2)
    got = report(tmp_path)["training"]["mu"]
    print(task, got, want)
    assert want > 0.1 and got == pytest.approx(want, abs=1e-5), (got, want)
    for nothing in (["--sparsity", 0], ["--distill", "none"], ["--loss", {"number": "mse", "marks": "bce"}.get(task, "ce")]):
        compressed(model, data, tmp_path, "--steps", 2, *nothing)
        assert report(tmp_path)["training"]["mu"] is None, nothing
    arrays["labels"] = np.roll(arrays["labels"], 1, 0)
    np.savez(data, **arrays)
    share = explained(task, y, arrays["labels"])
    compressed(model, data, tmp_path, "--steps", 2)
    assert share < 0.1 and report(tmp_path)["training"]["mu"] is None, share


def test_places_that_are_not_asked_for_count_neither_in_the_loss_nor_in_the_best_constants(tmp_path):
    model, data, arrays, y = made("spans", tmp_path)
    best = np.array([best_span(a, b) for a, b in zip(*spans_of(y))])
    best[N // 4:, 1] = -1
    np.savez(data, **{**arrays, "labels": best})
    rows = [np.concatenate([log_softmax(y["start_logits"] / t)[np.arange(N), best[:, 0]],
                            log_softmax(y["end_logits"] / t)[np.arange(N // 4), best[:N // 4, 1]]]).mean()
            for t in np.sqrt(2) ** np.arange(9)]
    want = 1 + max(rows) / constant_loss("spans", best)
    compressed(model, data, tmp_path, "--steps", 2)
    got = report(tmp_path)["training"]["mu"]
    assert want > 0.1 and got == pytest.approx(want, abs=1e-5), (got, want)


def test_a_model_that_is_too_sure_of_itself_is_followed_for_what_it_knows(tmp_path):
    """Three in four right, and so sure that its loss is above that of knowing nothing."""
    model, data, arrays, y = made("sentence", tmp_path)
    loud = onnx.load(model)
    for raw in loud.graph.initializer:
        if raw.name.startswith("classifier"):
            raw.CopyFrom(onnx.numpy_helper.from_array(20 * onnx.numpy_helper.to_array(raw), raw.name))
    onnx.save(loud, str(model))
    y = outputs(model, arrays)
    said, rng = y["y"].argmax(-1), np.random.default_rng(9)
    arrays["labels"] = np.where(rng.random(N) < 0.25, (said + 1) % 3, said)
    np.savez(data, **arrays)
    want, plain = explained("sentence", y, arrays["labels"]), wanted("sentence", y, arrays["labels"])[1]
    assert plain > constant_loss("sentence", arrays["labels"]) and want > 0.1, (plain, want)
    compressed(model, data, tmp_path, "--steps", 2)
    got = report(tmp_path)["training"]["mu"]
    assert got == pytest.approx(want, abs=1e-5), (got, want)


def test_labels_that_the_model_knows_by_heart_are_as_good_as_none(tmp_path):
    """They have no gradient to score by; the bytes are those of --loss kd."""
    model, data, arrays, y = made("number", tmp_path)
    np.savez(data, **{**arrays, "labels": y["y"][:, 0]})
    bytes_ = {}
    for loss in ("auto", "kd"):
        compressed(model, data, tmp_path, "--steps", 20, "--loss", loss, "--threads", 1)
        assert report(tmp_path)["training"]["mu"] is None
        bytes_[loss] = onnx.load(tmp_path / "c.onnx").graph.SerializeToString()
    assert bytes_["auto"] == bytes_["kd"]
    compressed(model, data, tmp_path, "--steps", 20, "--mu-ramp", 0.5)
    assert report(tmp_path)["training"]["mu"] == 0.95, "with a ramp they teach at first, and never nothing"


def test_labels_that_lie_in_order_are_drawn_from_all_over(tmp_path):
    """As folders of pictures are: of the first 512 samples all have one label, which nothing explains."""
    model, rng = tmp_path / "m.onnx", np.random.default_rng(0)
    onnx.save(tiny.for_task("sentence"), str(model))
    arrays = {"x": rng.standard_normal((2400, L, tiny.STREAM)).astype(np.float32), "attention_mask": np.ones((2400, L), np.int64)}
    said = outputs(model, arrays)["y"].argmax(-1)
    order = np.argsort(-np.bincount(said)[said], kind="stable")
    arrays = {"labels": said[order], **{k: v[order] for k, v in arrays.items()}}
    assert len(set(arrays["labels"][:512])) == 1
    np.savez(tmp_path / "d.npz", **arrays)
    want = explained("sentence", outputs(model, arrays), arrays["labels"])
    compressed(model, tmp_path / "d.npz", tmp_path, "--steps", 100)
    got = report(tmp_path)["training"]["mu"]
    assert got == pytest.approx(want, abs=0.1), (got, want)  # of 512: a standard error of some 0.03


def test_the_gate_counts_in_points_of_the_metric(tmp_path):
    """A drop of d of a correlation is 100·d points, a rise of mse its own."""
    model, data, arrays, y = made("number", tmp_path)
    for metric in ("spearman", "mse"):
        compressed(model, data, tmp_path, "--metric", metric, "--steps", 0, "--method", "magnitude", "--reconstruct", "off")
        m = report(tmp_path)["metrics"]
        worse = (m["dense"] - m["compact"] if metric == "spearman" else m["compact"] - m["dense"]) * m["points"]
        assert m["name"] == metric and worse > 0.01
        again = ["--metric", metric, "--steps", 0, "--method", "magnitude", "--reconstruct", "off"]
        compressed(model, data, tmp_path, *again, "--max-drop", worse * 1.01)
        said = compressed(model, data, tmp_path, *again, "--max-drop", worse * 0.99, code=1).stderr
        assert metric in said and ("fell" if metric == "spearman" else "rose") in said, said


@pytest.mark.parametrize("task, labelled, what", [("sentence", False, "both"), ("sentence", True, "both"), ("number", False, "both"),
                                                  ("tokens", False, "logits"), ("spans", False, "logits")])
def test_hidden_states_are_followed_by_default_where_outputs_are_a_few_numbers(task, labelled, what, tmp_path):
    """The bytes of --distill both, or of the outputs alone; the other's are others."""
    model, data, arrays, _ = made(task, tmp_path)
    if not labelled:
        np.savez(data, **{k: v for k, v in arrays.items() if k != "labels"})

    def bytes_with(*options):
        compressed(model, data, tmp_path, "--steps", 6, "--threads", 1, *options)
        return (tmp_path / "c.onnx").read_bytes()

    default = bytes_with()
    share = report(tmp_path)["training"]["mu"]
    assert (share is not None) == labelled, share
    again = ["--mu", repr(share)] if labelled else []  # what is asked for has at least a half
    other = "logits" if what == "both" else "both"
    assert default == bytes_with("--distill", what, *again)
    assert default != bytes_with("--distill", other, *again)


@pytest.mark.parametrize("method", ["magnitude", "gate"])
def test_padded_tokens_count_neither_in_distillation_nor_in_scores_nor_in_agreement(method, tmp_path):
    """Of a model that does not mix tokens, what stands behind the mask changes nothing at all."""
    b = tiny.Builder(onnx.TensorProto.FLOAT)
    y = b.dense(b.node("Add", "x", tiny.feed_forward(b, "x")), "head", tiny.STREAM, 3)
    b.nodes.append(onnx.helper.make_node("Identity", ["attention_mask"], ["m"]))
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(b.nodes, "g", [info("x", 1, ["b", "s", tiny.STREAM]), info("attention_mask", 7, ["b", "s"])],
                                   [info(y, 1, ["b", "s", 3]), info("m", 7, ["b", "s"])], b.initializers)
    model = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), model)
    arrays, bytes_, metrics = inputs(), [], []
    for fill in (0, 3):
        x = np.where(arrays["attention_mask"][..., None] == 1, arrays["x"], np.float32(fill) * arrays["x"])
        np.savez(tmp_path / "d.npz", x=x, attention_mask=arrays["attention_mask"])
        compressed(model, tmp_path / "d.npz", tmp_path, "--steps", 20, "--method", method, "--threads", 1)
        bytes_.append((tmp_path / "c.onnx").read_bytes())
        metrics.append((report(tmp_path)["metrics"], report(tmp_path)["curves"]["metric"]))
    assert bytes_[0] == bytes_[1]
    assert metrics[0] == metrics[1] and metrics[0][0]["name"] == "agreement" and metrics[0][0]["compact"] < 1


def test_what_does_not_fit_is_told_with_array_shape_and_outputs(tmp_path):
    model, data, arrays, _ = made("tokens", tmp_path)
    cases = {  # labels, options, exit code, what is said
        "wide": (np.zeros((N, 2 * L), np.int64), [], 4, ["i64[48,14]", "does not fit output 'y', f32"]),
        "numbers": (np.zeros((N, L), np.float32), [], 4, ["f32[48,7]", "does not fit"]),
        "large": (np.full((N, L), 3), [], 4, ["'labels' holds 3 at sample 0", "classes number 3"]),
        "mse": (arrays["labels"], ["--loss", "mse"], 4, ["--loss mse", "numbers"]),
        "bce": (np.full((N, L, 3), 2.0, np.float32), ["--loss", "bce"], 4, ["0 and 1"]),
        "ce": (np.zeros((N, L, 3), np.float32), ["--loss", "ce"], 4, ["--loss ce", "classes"]),
        "metric": (arrays["labels"], ["--metric", "pearson"], 2, ["--metric pearson", "accuracy, f1"]),
        "top5": (arrays["labels"], ["--metric", "top5"], 2, ["top5", "3 classes"]),
        "ids": (np.full((N, L, 3), 7), [], 4, ["i64[48,7,3]", "does not fit"]),  # of the output's shape, but no marks
    }
    for name, (labels, options, code, says) in cases.items():
        np.savez(tmp_path / "bad.npz", **{**arrays, "labels": labels})
        said = compressed(model, tmp_path / "bad.npz", tmp_path, "--steps", 1000000, *options, code=code).stderr
        assert all(s in said for s in says), f"{name}: {said}"
        assert said.count("\n") == 1, said
    del arrays["labels"]
    np.savez(tmp_path / "bad.npz", **arrays)
    assert "'labels'" in compressed(model, tmp_path / "bad.npz", tmp_path, "--metric", "f1", "--steps", 1000000, code=4).stderr
    assert "--metric needs data" in run("compress", model, tmp_path / "c.onnx", "--metric", "f1", "--steps", 0, "--method",
                                        "magnitude", "-q", code=2).stderr
    assert "two models" in run("eval", model, "--data", data, "--metric", "agreement", code=2).stderr
    assert "no metric 'f2'" in run("eval", model, "--data", data, "--metric", "f2", code=2).stderr
