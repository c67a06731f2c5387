"""Outputs that are not one of each sample: tuning goes by the others, and says which ones it leaves out. Truth: the same
model without them, whose tuned weights must be the same bytes, and ONNX Runtime."""
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import tiny
from conftest import run

LENGTH, SAMPLES = 5, 48
SAME, ONE, OTHER = ("it is the same whatever the inputs are", "it is one number for all samples",
                    "its axis 0 does not count samples")
SCORES = next(n.output[0] for n in tiny.encoder(TensorProto.FLOAT).graph.node if n.op_type == "Softmax")


def constant(name, values):
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def node(op, inputs, output, **attrs):
    return helper.make_node(op, inputs, [output], name=f"extra_{output}", **attrs)


# name: nodes, initializers, the output's shape, why it is left out
EXTRA = {
    "exp": ([node("Exp", ["logit_scale"], "exp")], [constant("logit_scale", 2.6)], [], SAME),
    "one": ([node("Identity", ["number"], "one")], [constant("number", [0.5])], [1], SAME),
    "ffn.up.weight": ([], [], [tiny.STREAM, tiny.FFN], SAME),
    "loss": ([node("ReduceMean", ["x"], "loss", keepdims=0)], [], [], ONE),
    "mean": ([node("ReduceMean", ["x"], "mean", axes=[0], keepdims=0)], [], ["sequence", tiny.STREAM], OTHER),
    "attentions": ([node("ReduceSum", [SCORES, "batch_axis"], "attentions", keepdims=0)],
                   [numpy_helper.from_array(np.array([0]), "batch_axis")], [tiny.HEADS, "sequence", "sequence"], OTHER),
}


def with_extra(names, seed=0, first=False):
    m = tiny.encoder(TensorProto.FLOAT, seed=seed)
    made = []
    for name in names:
        nodes, weights, shape, _ = EXTRA[name]
        m.graph.node.extend(nodes)
        m.graph.initializer.extend(weights)
        made.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    rest = list(m.graph.output)
    del m.graph.output[:]
    m.graph.output.extend(made + rest if first else rest + made)
    onnx.checker.check_model(m, full_check=True)
    return m


def save(model, path):
    onnx.save(model, str(path))
    return path


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, LENGTH, tiny.STREAM)).astype(np.float32)
    np.savez(tmp_path / "plain.npz", x=x)
    np.savez(tmp_path / "labels.npz", x=x, labels=rng.integers(0, tiny.CLASSES, SAMPLES))
    return {False: tmp_path / "plain.npz", True: tmp_path / "labels.npz"}


def weights(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}


def report(folder):
    return json.loads((folder / "report.json").read_text())


def tune(model, data, tmp_path, name, *more, code=0):
    out = tmp_path / f"{name}.out.onnx"
    r = run("compress", model, out, "--train", data, "--steps", 8, "--batch", 4, "--prune-every", 2, "--threads", 1,
            "--report", tmp_path / name, "--save-masked", tmp_path / f"{name}.masked.onnx", *more, code=code)
    return out, r


# The scores of the attention are an output of all its heads, which stay.
@pytest.mark.parametrize("names", [["exp"], ["one"], ["loss"], ["mean"], ["exp", "one", "loss", "mean"]],
                         ids=" ".join)
@pytest.mark.parametrize("labelled", [False, True], ids=["distilled", "labelled"])
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_tuning_goes_as_if_they_were_not_there(names, labelled, first, data, tmp_path):
    with_ = save(with_extra(names, first=first), tmp_path / "with.onnx")
    without = save(with_extra([]), tmp_path / "without.onnx")
    distill = ["--distill", "both"]
    out, r = tune(with_, data[labelled], tmp_path, "a", *distill)
    plain, _ = tune(without, data[labelled], tmp_path, "b", *distill)
    have, want = weights(out), weights(plain)
    for name in want:
        assert np.array_equal(have[name], want[name]), name
    a, b = report(tmp_path / "a"), report(tmp_path / "b")
    assert a["training"]["final_loss"] == b["training"]["final_loss"] and a["metrics"] == b["metrics"]
    assert a["training"]["left_out"] == [{"output": n, "reason": EXTRA[n][3]} for n in names]
    assert b["training"]["left_out"] == []
    for n in names:
        assert f"output '{n}' is left out of losses and metrics: {EXTRA[n][3]}" in r.stderr


@pytest.mark.parametrize("names", [["ffn.up.weight"], ["attentions"], list(EXTRA)], ids=" ".join)
def test_all_outputs_are_those_of_the_masked_model(names, data, tmp_path):
    model = save(with_extra(names), tmp_path / "model.onnx")
    out, _ = tune(model, data[False], tmp_path, "a")
    assert [x["output"] for x in report(tmp_path / "a")["training"]["left_out"]] == names
    for batch in (1, 4):
        x = np.random.default_rng(batch).standard_normal((batch, LENGTH, tiny.STREAM)).astype(np.float32)
        have, want = (ort.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(None, {"x": x})
                      for p in (out, tmp_path / "a.masked.onnx"))
        for n, p, q in zip(["y"] + names, have, want):
            assert p.shape == q.shape and np.abs(p - q).max() <= 1e-5 * max(1, np.abs(q).max()), n


def test_what_changes_one_of_them_alone_fails_verify(data, tmp_path):
    """Also where it is no number of each sample, and the batch is not one."""
    model = with_extra(["mean", "exp"])
    save(model, tmp_path / "a.onnx")
    next(t for t in model.graph.initializer if t.name == "logit_scale").CopyFrom(constant("logit_scale", 2.5))
    save(model, tmp_path / "b.onnx")
    run("verify", tmp_path / "a.onnx", tmp_path / "a.onnx", "--data", data[False])
    r = run("verify", tmp_path / "a.onnx", tmp_path / "b.onnx", "--data", data[False], code=1)
    assert "'exp'" in r.stderr


def test_samples_are_run_together_whatever_stands_beside_their_outputs(data, tmp_path):
    """A run of a batch makes a mean over it, so a batch is what it says."""
    model = save(with_extra(["mean", "one"]), tmp_path / "model.onnx")
    r = run("eval", model, "--data", data[True], "--json")
    plain = run("eval", save(with_extra([]), tmp_path / "plain.onnx"), "--data", data[True], "--json")
    drop = lambda text: {k: v for k, v in json.loads(text).items() if "seconds" not in k}
    assert drop(r.stdout) == drop(plain.stdout)
    for n in ("mean", "one"):
        assert f"output '{n}' is left out of losses and metrics: {EXTRA[n][3]}" in r.stderr


def test_labels_are_not_taken_for_those_of_an_output_that_has_as_many_axes(data, tmp_path):
    """[sequence, 16] is no output of 16 classes a sample."""
    model = save(with_extra(["mean"], first=True), tmp_path / "model.onnx")
    _, r = tune(model, data[True], tmp_path, "a", "--metric", "accuracy")
    assert report(tmp_path / "a")["metrics"]["name"] == "accuracy"


def test_what_pairs_of_samples_give_is_that_of_the_batch_at_hand(data, tmp_path):
    """A similarity [batch, batch], as CLIP's: a model that is its own teacher has nothing to learn in any epoch."""
    m = tiny.encoder(TensorProto.FLOAT)
    m.graph.node.extend([node("Transpose", ["y"], "turned"), node("MatMul", ["y", "turned"], "pairs")])
    del m.graph.output[:]
    m.graph.output.append(helper.make_tensor_value_info("pairs", TensorProto.FLOAT, ["batch", "batch"]))
    onnx.checker.check_model(m, full_check=True)
    for steps in (1, 40):  # an epoch is 11
        run("tune", save(m, tmp_path / "m.onnx"), tmp_path / "out.onnx", "--train", data[False], "--steps", steps,
            "--batch", 4, "--threads", 1, "--report", tmp_path / "r", "-q")
        assert report(tmp_path / "r")["training"]["final_loss"] < 1e-6, f"{steps} steps"


def test_a_teacher_may_have_such_an_output_too_or_none(data, tmp_path):
    student, teacher = with_extra(["exp", "mean"], first=True), with_extra(["one"], seed=7, first=True)
    s, t = save(student, tmp_path / "s.onnx"), save(teacher, tmp_path / "t.onnx")
    plain, p = save(with_extra([], seed=7), tmp_path / "plain.onnx"), save(with_extra([]), tmp_path / "p.onnx")
    for name, a, b in (("a", s, t), ("b", s, plain), ("c", p, t), ("d", p, plain)):
        run("tune", a, tmp_path / f"{name}.onnx", "--train", data[False], "--teacher", b, "--steps", 4, "--batch", 4,
            "--threads", 1, "--distill", "both", "-q")
    want = weights(tmp_path / "d.onnx")
    for name in "abc":
        have = weights(tmp_path / f"{name}.onnx")
        assert all(np.array_equal(have[w], want[w]) for w in want), name


@pytest.mark.parametrize("name", ["loss", "mean", "attentions"])
def test_a_model_with_no_other_output_is_refused_by_name(name, data, tmp_path):
    model = with_extra([name])
    del model.graph.output[0]
    out, r = tune(save(model, tmp_path / "m.onnx"), data[False], tmp_path, "a", code=3)
    assert f"output '{name}' is not one of each sample: {EXTRA[name][3]}" in r.stderr and not out.exists()
    r = run("eval", tmp_path / "m.onnx", "--data", data[True], code=3)
    assert f"output '{name}' is not one of each sample: {EXTRA[name][3]}" in r.stderr
