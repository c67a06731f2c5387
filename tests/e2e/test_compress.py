"""pare compress on real exports, judged by the ONNX checker and ONNX Runtime."""
import json
import time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import tiny
from conftest import COMPOSITE, ROOT, example, feeds, models, run

LEVELS = [ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
          ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, ort.GraphOptimizationLevel.ORT_ENABLE_ALL]
REL = 1e-4  # max|a-b| / max|a|, fp32: what the project promises


def session(path, level):
    o = ort.SessionOptions()
    o.graph_optimization_level = level
    o.log_severity_level = 3
    return ort.InferenceSession(str(path), o, providers=["CPUExecutionProvider"])


def relative(a, b):
    scale = np.abs(a).max()
    worst = np.abs(a.astype(np.float64) - b).max()
    return 0.0 if worst == 0 else worst / scale


def accepted(path):
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return True
    except Exception:  # the checker has no common base class for its errors
        return False


def training_data(model, path, n=24):
    """Samples on axis 0, also for models whose batch is fixed at 1."""
    parts = [feeds(model, 1, 9, seed) for seed in range(n)]
    np.savez(path, **{k: np.concatenate([p[k] for p in parts]) for k in parts[0]})


def dims(model):
    return [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in list(model.graph.input) + list(model.graph.output)]


def check_equal(original, masked, compact, levels=LEVELS):
    """Masked and cut file agree in ONNX Runtime at these levels, at two sizes of the dynamic axes."""
    model = onnx.load(str(original))
    assert dims(onnx.load(str(compact))) == dims(model), "the interface has changed"
    assert accepted(compact) or not accepted(original), "the checker refuses what it accepted before"
    for level in levels:
        a, b = session(masked, level), session(compact, level)
        for batch, length in ((2, 9), (3, 14)):
            f = feeds(model, batch, length)
            for x, y, out in zip(a.run(None, f), b.run(None, f), a.get_outputs()):
                assert relative(x, y) <= REL, f"{out.name} at {level}, batch {batch}: {relative(x, y)}"


@pytest.mark.parametrize("fixture", example() + models("A") + models(COMPOSITE))
def test_half_of_heads_and_channels_without_tuning(fixture, tmp_path):
    row, path = fixture
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--method", "magnitude", "--steps", 0, "--save-masked", masked,
        "--train", data(path, tmp_path), "--report", tmp_path / "report", "-q")
    check_equal(path, masked, compact)
    report = json.load(open(tmp_path / "report" / "report.json"))
    assert report["validation"]["passed"] and report["validation"]["masked_vs_compact_rel"] <= REL
    assert report["output"]["params"] < report["input"]["params"]


def data(path, tmp_path):
    npz = tmp_path / "train.npz"
    training_data(onnx.load(str(path)), npz)
    return npz


@pytest.mark.parametrize("fixture", example() + models("A") + models(COMPOSITE))
def test_half_of_heads_and_channels_with_distillation(fixture, tmp_path):
    row, path = fixture
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--steps", 6, "--batch", 4, "--prune-every", 2, "--save-masked", masked,
        "--train", data(path, tmp_path), "-q")
    check_equal(path, masked, compact)
    assert compact.stat().st_size < path.stat().st_size


@pytest.mark.parametrize("fixture", example() + models("A"))
def test_every_class_at_once_ranked_over_the_whole_model(fixture, tmp_path):
    row, path = fixture
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--prune", "heads,ffn,head-dim,other", "--method", "gate", "--ranking", "global",
        "--steps", 4, "--batch", 4, "--prune-every", 1, "--train", data(path, tmp_path), "--save-masked", masked, "-q")
    check_equal(path, masked, compact)


@pytest.mark.parametrize("fixture", example())
@pytest.mark.parametrize("target", ["params=0.7", "macs=0.6", "bytes=0.65"])
def test_a_target_is_reached_under_global_ranking(fixture, target, tmp_path):
    row, path = fixture
    run("compress", path, tmp_path / "compact.onnx", "--method", "gate", "--ranking", "global", "--target", target,
        "--steps", 6, "--batch", 4, "--prune-every", 2, "--train", data(path, tmp_path),
        "--report", tmp_path / "report", "-q")
    got = json.load(open(tmp_path / "report" / "report.json"))["target"]
    assert got["requested"] - 0.02 <= got["reached"] <= got["requested"], got


def retrained(path, out):
    """The same architecture with other weights and other names: next month's export."""
    model = onnx.load(str(path))
    for t in model.graph.initializer:
        if t.data_type == onnx.TensorProto.FLOAT:
            t.raw_data = (numpy_helper.to_array(t) * np.float32(0.9)).tobytes()
            del t.float_data[:]
    for n in model.graph.node:
        n.name = "again/" + n.name
    onnx.save(model, str(out))


@pytest.mark.parametrize("fixture", example())
def test_a_plan_is_replayed_on_the_next_export_and_refused_by_another_architecture(fixture, tmp_path):
    row, path = fixture
    plan, first, second, again = (tmp_path / n for n in ("plan.json", "first.onnx", "second.onnx", "again.onnx"))
    run("compress", path, first, "--method", "magnitude", "--steps", 0, "--save-plan", plan, "-q")
    retrained(path, again)
    run("compress", again, second, "--plan", plan, "--steps", 3, "--batch", 4, "--train", data(path, tmp_path),
        "--report", tmp_path / "report", "-q")
    shapes = [[list(t.dims) for t in onnx.load(str(p)).graph.initializer] for p in (first, second)]
    assert shapes[0] == shapes[1]
    report = json.load(open(tmp_path / "report" / "report.json"))
    assert report["target"]["kind"] == "plan" and report["target"]["reached"] == report["target"]["requested"] > 0
    cut = run("compress", first, tmp_path / "none.onnx", "--plan", plan, "--steps", 0, code=6)
    assert "does not fit" in cut.stderr and not (tmp_path / "none.onnx").exists()
    for text, code in (("{", 4), ('{"dimensions": []}', 4), ('{"dimensions": [{"name": "x"}]}', 4)):
        plan.write_text(text)
        run("compress", path, tmp_path / "none.onnx", "--plan", plan, "--steps", 0, code=code)


@pytest.mark.parametrize("fixture", example())
def test_weights_that_stay_take_over_what_was_carried(fixture, tmp_path):
    """The same groups go; what the data show of them comes back, in the cut file as in the masked one."""
    row, path = fixture
    npz, error = data(path, tmp_path), {}
    inputs = dict(np.load(npz))
    want = session(path, ort.GraphOptimizationLevel.ORT_DISABLE_ALL).run(None, inputs)[0]
    for how in ("off", "on"):
        compact, masked = tmp_path / f"{how}.onnx", tmp_path / f"masked-{how}.onnx"
        run("compress", path, compact, "--method", "magnitude", "--steps", 0, "--sparsity", 0.25, "--reconstruct", how,
            "--train", npz, "--save-masked", masked, "-q")
        check_equal(path, masked, compact)
        got = session(compact, ort.GraphOptimizationLevel.ORT_DISABLE_ALL).run(None, inputs)[0]
        error[how] = float(np.square(got - want).sum() / np.square(want - want.mean(0)).sum())
    assert error["on"] < 0.5 * error["off"], error


def test_a_gradual_run_takes_over_only_what_helps_on_held_out_samples(tmp_path):
    """Half of the heads and channels go. Where labels are what the model says when nothing is taken over, on the samples
    where that makes a difference, taking over can only raise the loss; where they are what it says otherwise, lower it.
    Without a rate nothing is learnt from them."""
    path, npz = ROOT / "examples" / "fashion-vit" / "model.onnx", tmp_path / "d.npz"
    rng = np.random.default_rng(3)
    x = rng.standard_normal((600, 1, 28, 28)).astype(np.float32).cumsum(2).cumsum(3) / 9

    def compressed(how, labels, x):
        np.savez(npz, pixel_values=x, labels=labels)
        out = tmp_path / f"{how}.onnx"
        said = run("compress", path, out, "--train", npz, "--eval", npz, "--method", "magnitude", "--steps", 2, "--batch", 8, "--lr", 0,
                   "--distill", "none", "--reconstruct", how, "--threads", 1, "--overwrite").stderr
        return onnx.load(out).graph.SerializeToString(), session(out, ort.GraphOptimizationLevel.ORT_DISABLE_ALL).run(None, {"pixel_values": x})[0].argmax(-1), said

    any_ = np.arange(len(x)) % 10
    plain, on = (compressed(how, any_, x)[1] for how in ("off", "on"))
    x, plain, on = x[plain != on], plain[plain != on], on[plain != on]
    assert len(x) > 60, len(x)
    off = compressed("off", plain, x)[0]
    left, _, said = compressed("auto", plain, x)
    assert left == off and "is not made up for: on held-out samples ce is" in said, said
    taken, says, said = compressed("auto", on, x)
    assert taken != off and "is not made up for" not in said and (says == on).mean() > 0.5, ((says == on).mean(), said)


@pytest.mark.parametrize("what", ["none", "logits", "hidden", "both"])
def test_what_is_distilled_goes_with_labels_and_without(what, tmp_path):
    path = ROOT / "examples" / "fashion-vit" / "model.onnx"
    args = ["--steps", 4, "--batch", 4, "--distill", what, "-q"]
    run("compress", path, tmp_path / "a.onnx", "--train", data(path, tmp_path), *args, code=2 if what == "none" else 0)
    inputs = dict(np.load(tmp_path / "train.npz"))
    np.savez(tmp_path / "labelled.npz", labels=np.arange(24) % 10, **inputs)
    run("compress", path, tmp_path / "b.onnx", "--train", tmp_path / "labelled.npz", *args)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_that_teaches_itself_has_nothing_to_learn_from_rounding(precision, tmp_path):
    """The teacher runs in the tuning's precision: before anything changes the loss is zero but for the order of sums."""
    path = ROOT / "examples" / "fashion-vit" / "model.onnx"
    run("tune", path, tmp_path / "o.onnx", "--train", data(path, tmp_path), "--loss", "kd", "--steps", 1, "--batch", 8, "--precision",
        precision, "--report", tmp_path / "r", "-q")
    first = json.loads((tmp_path / "r" / "report.json").read_text())["curves"]["loss"][0]
    assert first <= 1e-9, first


def test_mu_blends_the_losses_of_labels_and_of_distillation_and_ramps_from_labels_alone(tmp_path):
    """The first step's loss, on groups that have gone before it, as it is told: to six digits."""
    path = ROOT / "examples" / "fashion-vit" / "model.onnx"
    data(path, tmp_path)
    np.savez(tmp_path / "labelled.npz", labels=np.arange(24) % 10, **dict(np.load(tmp_path / "train.npz")))

    def first(*args):
        run("compress", path, tmp_path / "o.onnx", "--train", tmp_path / "labelled.npz", "--steps", 2, "--batch", 4, "--overwrite",
            "--method", "magnitude", "--schedule", "one-shot", "--report", tmp_path / "r", "-q", *args)
        return json.loads((tmp_path / "r" / "report.json").read_text())["curves"]["loss"][0]

    task, taught = first("--distill", "none"), first("--loss", "kd", "--distill", "logits")
    for mu in (0, 0.25, 1):
        got, want = first("--distill", "logits", "--mu", mu), (1 - mu) * task + mu * taught
        assert abs(got - want) <= 1e-5 * abs(want), (mu, got, want, task, taught)
    assert first("--distill", "logits", "--mu", 1, "--mu-ramp", 1) == task
    assert abs(taught - task) > 0.1 * task, "the two losses differ"
    for one in (["--mu", 0.3, "--distill", "none"], ["--mu-ramp", 0.5, "--loss", "kd"]):
        said = run("compress", path, tmp_path / "o.onnx", "--train", tmp_path / "labelled.npz", "--overwrite", *one, code=2).stderr
        assert f"{one[0]} blends" in said and len(said.strip().splitlines()) == 1, said


def test_reconstruction_without_data_is_refused(tmp_path):
    path = ROOT / "examples" / "fashion-vit" / "model.onnx"
    said = run("compress", path, tmp_path / "o.onnx", "--method", "magnitude", "--steps", 0, "--reconstruct", "on",
               code=2).stderr
    assert "--reconstruct on needs data" in said, said


@pytest.mark.parametrize("fixture", example())
def test_the_same_input_gives_the_same_bytes(fixture, tmp_path):
    row, path = fixture
    npz = data(path, tmp_path)
    for name in ("a.onnx", "b.onnx"):
        run("compress", path, tmp_path / name, "--steps", 4, "--batch", 4, "--train", npz, "--threads", 1, "-q")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("fixture", example() + models("A"))
def test_sequential_adapters_fold_into_weights_and_biases(fixture, tmp_path):
    row, path = fixture
    compact, masked, plan = tmp_path / "compact.onnx", tmp_path / "masked.onnx", tmp_path / "plan.json"
    args = "--adapter", "sequential", "--batch", 4, "--prune-every", 2, "--train", data(path, tmp_path), "-q"
    run("compress", path, compact, "--steps", 6, "--save-masked", masked, "--save-plan", plan, *args)
    check_equal(path, masked, compact)
    run("compress", path, tmp_path / "again.onnx", "--steps", 2, "--plan", plan, *args)
    shapes = [[(t.name, t.dims) for t in onnx.load(str(p)).graph.initializer] for p in (compact, tmp_path / "again.onnx")]
    assert shapes[0] == shapes[1]


def test_a_sequential_adapter_leaves_a_bias_alone_that_the_model_computes(tmp_path):
    """Twice a constant, added to what the adapter has changed."""
    model, path = tiny.for_task("sentence"), tmp_path / "m.onnx"
    biases = {i.name for i in model.graph.initializer if len(i.dims) == 1}
    for add in [n for n in model.graph.node if n.op_type == "Add" and n.input[1] in biases]:
        twice = onnx.helper.make_node("Add", [add.input[1], add.input[1]], [add.input[1] + ".twice"])
        add.input[1] = twice.output[0]
        model.graph.node.insert(0, twice)
    onnx.save(model, path)
    rng, masked, compact = np.random.default_rng(0), tmp_path / "masked.onnx", tmp_path / "c.onnx"
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((24, 7, tiny.STREAM)).astype(np.float32),
             attention_mask=np.ones((24, 7), np.int64))
    run("compress", path, compact, "--adapter", "sequential", "--steps", 6, "--batch", 4, "--train", tmp_path / "d.npz", "--save-masked",
        masked, "-q")
    check_equal(path, masked, compact)


@pytest.mark.parametrize("method", ("loraprune", "gate", "grad", "fisher", "movement", "magnitude", "wanda", "random"))
def test_every_method_prunes_while_it_tunes_without_labels(method, tmp_path):
    row, path = example()[0].values[0]
    npz, report = data(path, tmp_path), tmp_path / "report"
    run("compress", path, tmp_path / "c.onnx", "--method", method, "--steps", 4, "--batch", 4, "--train", npz,
        "--prune-every", 1, "--report", report, "-q")
    said = json.loads((report / "report.json").read_text())
    assert said["target"]["reached"] == pytest.approx(0.5, abs=0.01) and said["validation"]["passed"]


@pytest.mark.parametrize("fixture", example())
def test_nothing_is_left_behind_when_the_gate_fails(fixture, tmp_path):
    row, path = fixture
    npz = data(path, tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    run("compress", path, tmp_path / "c.onnx", "--steps", 0, "--method", "random", "--train", npz,
        "--max-drop", "-100", "-q", code=2)
    run("compress", path, path.with_name("nowhere") / "c.onnx", "--steps", 0, "--method", "magnitude", "-q", code=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def sparsities(path, tmp_path, *options):
    report = tmp_path / "report"
    run("compress", path, tmp_path / "c.onnx", "--train", data(path, tmp_path), "--steps", 10, "--batch", 4, "--report",
        report, "-q", *options)
    said = json.loads((report / "report.json").read_text())
    assert said["validation"]["passed"]
    return said["curves"]["sparsity"], said


@pytest.mark.parametrize("fixture", example())
def test_a_one_shot_prunes_before_the_first_step_and_the_other_before_the_cool_down(fixture, tmp_path):
    row, path = fixture
    now, _ = sparsities(path, tmp_path, "--schedule", "one-shot")
    late, _ = sparsities(path, tmp_path, "--schedule", "tune-then-one-shot", "--prune-cooldown", 0.3)
    assert now == [pytest.approx(0.5, abs=0.01)] * 10
    assert late == [0] * 7 + [pytest.approx(0.5, abs=0.01)] * 3


@pytest.mark.parametrize("fixture", example())
def test_a_linear_curve_drops_the_same_number_at_every_prune(fixture, tmp_path):
    row, path = fixture
    curve, _ = sparsities(path, tmp_path, "--curve", "linear", "--prune-every", 2, "--prune", "ffn",
                          "--prune-cooldown", 0.1, "--reconstruct", "off")
    assert curve == pytest.approx([0, 0, 0, 0.125, 0.125, 0.25, 0.25, 0.375, 0.375, 0.5], abs=0.01)


@pytest.mark.parametrize("fixture", example())
def test_a_floor_holds_in_every_layer_and_cost_ranking_takes_half_of_the_cost(fixture, tmp_path):
    row, path = fixture
    _, said = sparsities(path, tmp_path, "--floor", 0.45)
    assert all(g["after"] >= 0.45 * g["before"] for g in said["groups"] if g["kind"] in ("heads", "ffn"))
    _, said = sparsities(path, tmp_path, "--ranking", "cost")
    assert said["target"]["reached"] == pytest.approx(0.5, abs=0.01)
    _, said = sparsities(path, tmp_path, "--ranking", "cost", "--target", "params=0.6")
    assert 0.58 < said["target"]["reached"] <= 0.6


@pytest.mark.parametrize("fixture", example() + models("A"))
def test_obs_scores_at_the_one_prune_of_a_schedule(fixture, tmp_path):
    row, path = fixture
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    args = "--method", "obs", "--batch", 4, "--train", data(path, tmp_path), "-q"
    run("compress", path, compact, "--steps", 0, "--save-masked", masked, *args)
    check_equal(path, masked, compact)
    run("compress", path, compact, "--steps", 3, "--schedule", "tune-then-one-shot", *args)
    assert "scores groups at one prune" in run("compress", path, compact, "--steps", 3, *args, code=2).stderr


def test_what_was_dropped_comes_back_only_with_regrow(tmp_path):
    """Two prunes of a run without a rate that ranks by the last batch alone, a quarter before step 6 and half at the end.
    What goes at the first is what goes in a run that has no other prune."""
    path = ROOT / "examples" / "fashion-vit" / "model.onnx"
    npz = data(path, tmp_path)

    def dropped(*options):
        plan = tmp_path / "plan.json"
        run("compress", path, tmp_path / "c.onnx", "--train", npz, "--steps", 10, "--batch", 4, "--lr", 0, "--ema", 0, "--curve", "linear",
            "--prune-warmup", 0.2, "--reconstruct", "off", "--threads", 1, "--save-plan", plan, "--overwrite", "-q", *options)
        return {(d["name"], i) for d in json.loads(plan.read_text())["dimensions"]
                for i in range(d["count"]) if i not in set(d["keep"])}

    first = dropped("--sparsity", 0.25, "--prune-cooldown", 0.4, "--prune-every", 100)
    two = "--sparsity", 0.5, "--prune-cooldown", 0, "--prune-every", 4
    plain, regrown = dropped(*two), dropped(*two, "--regrow")
    print(len(first), len(plain), len(regrown), len(first - regrown))
    assert len(first) > 0 and len(plain) == len(regrown) and first <= plain
    assert first - regrown, "nothing has come back"


def test_regrowing_needs_more_than_one_prune(tmp_path):
    path = ROOT / "examples" / "fashion-vit" / "model.onnx"
    said = run("compress", path, tmp_path / "d.onnx", "--train", data(path, tmp_path), "--regrow", "--schedule", "one-shot", code=2).stderr
    assert "--regrow needs more than one prune" in said


@pytest.mark.parametrize("fixture", example())
def test_the_report_says_what_a_run_spent_its_time_on(fixture, tmp_path):
    path = fixture[1]
    start = time.perf_counter()
    run("compress", path, tmp_path / "c.onnx", "--method", "magnitude", "--steps", 0, "--report", tmp_path / "r", "-q")
    whole = time.perf_counter() - start
    spent = json.load(open(tmp_path / "r" / "report.json"))["seconds"]
    assert list(spent) == ["import", "trace", "tune", "emit", "prove", "judge", "sync"]
    assert all(s >= 0 for s in spent.values()) and spent["prove"] > 0
    assert 0 < sum(spent.values()) <= whole, f"{spent} in {whole} s"
