"""What is tuned beside the adapters, or in their place: --trainable, and fresh classifiers: --num-labels."""
import json
import signal
import subprocess
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tiny
from conftest import COMPOSITE, FIXTURES, PARE, example, feeds, models, run
from test_compress import check_equal, data, session, LEVELS
from test_half import check_pair

F32 = TensorProto.FLOAT
LAYERS = [f"attention.{n}" for n in ("q", "k", "v", "out")] + ["ffn.up", "ffn.down"]
WEIGHTS = {f"{n}.weight" for n in LAYERS}
BIASES = {f"{n}.bias" for n in LAYERS + ["classifier"]}
NORMS = {f"norm{i}.{n}" for i in (1, 2) for n in ("gamma", "beta")}
HEAD = {"classifier.weight", "classifier.bias"}


def samples(path, labels=tiny.CLASSES, n=64, seed=0, learnable=False):
    """x and labels, which are random or told by the signs of a few means of x."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5, tiny.STREAM)).astype(np.float32)
    y = rng.integers(0, max(labels, 1), n)
    if learnable:
        x[:, :, :labels] += 3 * (np.arange(labels) == y[:, None])[:, None, :]
    np.savez(path, x=x, **({"labels": y} if labels else {}))
    return path


def saved(model, path):
    onnx.save(model, str(path))
    return path


def weights(path):
    return {t.name: t for t in onnx.load(str(path)).graph.initializer}


def same_bytes(a, b):
    return a.SerializeToString() == b.SerializeToString()


def compress(model, out, *args, code=0):
    return run("compress", model, out, "--batch", 8, "--threads", 1, *args, code=code)


# --- what changes, and what does not ---


@pytest.mark.parametrize("words, tuned", [
    ("lora", WEIGHTS), ("bias", BIASES), ("norm", NORMS), ("head", HEAD), ("all", WEIGHTS | BIASES | NORMS | HEAD),
    ("lora,bias,norm", WEIGHTS | BIASES | NORMS), ("lora,head", WEIGHTS | HEAD)])
@pytest.mark.parametrize("stored", [F32, TensorProto.FLOAT16, TensorProto.BFLOAT16], ids=["f32", "f16", "bf16"])
def test_what_is_named_is_tuned_and_every_other_byte_is_the_files(tmp_path, words, tuned, stored):
    model = saved(tiny.encoder(stored), tmp_path / "m.onnx")
    compress(model, tmp_path / "o.onnx", "--train", samples(tmp_path / "d.npz"), "--trainable", words, "--steps", 12,
             "--sparsity", 0, "--lr", 0.02, "--report", tmp_path / "r", "-q")
    before, after = weights(model), weights(tmp_path / "o.onnx")
    assert list(before) == list(after)
    assert {n for n in before if not same_bytes(before[n], after[n])} == tuned
    for name in tuned:
        assert before[name].data_type == after[name].data_type and before[name].dims == after[name].dims, name
    training = json.load(open(tmp_path / "r" / "report.json"))["training"]
    elements = sum(int(np.prod(before[n].dims)) for n in tuned if "lora" not in words or n not in WEIGHTS)
    adapters = sum(8 * sum(before[n].dims) for n in WEIGHTS if "lora" in words)
    assert training["trained_parameters"] == elements + adapters


@pytest.mark.parametrize("words", ["all", "lora,bias,norm,head"])
@pytest.mark.parametrize("fixture", example() + models("A") + models(COMPOSITE))
def test_tuned_weights_are_cut_with_their_groups(fixture, words, tmp_path):
    row, path = fixture
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    compress(path, compact, "--trainable", words, "--steps", 6, "--prune-every", 2, "--save-masked", masked,
             "--train", data(path, tmp_path), "-q")
    check_equal(path, masked, compact)
    assert compact.stat().st_size < path.stat().st_size


@pytest.mark.parametrize("stored, products", [(TensorProto.FLOAT16, None), (TensorProto.FLOAT16, F32),
                                              (TensorProto.BFLOAT16, None)], ids=["f16", "mixed", "bf16"])
def test_half_precision_is_tuned_in_full_and_stored_as_it_was(tmp_path, stored, products):
    model = saved(tiny.encoder(stored, products), tmp_path / "m.onnx")
    compress(model, tmp_path / "o.onnx", "--train", samples(tmp_path / "d.npz"), "--trainable", "all", "--steps", 12,
             "--save-masked", tmp_path / "masked.onnx", "-q")
    if stored != TensorProto.BFLOAT16:  # which ONNX Runtime's CPU does not run
        check_pair(model, tmp_path / "masked.onnx", tmp_path / "o.onnx")
    kinds = [{n: t.data_type for n, t in weights(p).items()} for p in (model, tmp_path / "o.onnx")]
    assert kinds[0] == kinds[1]


WAYS = [["--precision", "bf16"], ["--distill", "both"], ["--prune", "heads,ffn,width,depth,head-dim"], ["--regrow"],
        ["--schedule", "one-shot"], ["--granularity", "unstructured"], ["--granularity", "2:4"]]


@pytest.mark.parametrize("words, options", [(w, o) for o in WAYS for w in ("all", "lora,bias,norm,head")] +
                         [("lora,bias,norm,head", ["--adapter", "sequential"])],
                         ids=lambda v: " ".join(v) if isinstance(v, list) else v)
def test_every_way_to_prune_takes_tuned_weights_along(tmp_path, words, options):
    model, masked = saved(tiny.encoder(F32), tmp_path / "m.onnx"), tmp_path / "masked.onnx"
    groups = "--granularity" not in options
    compress(model, tmp_path / "o.onnx", "--train", samples(tmp_path / "d.npz"), "--trainable", words, "--steps", 20,
             "--prune-every", 4, *options, *(["--save-masked", masked] if groups else []), "-q")
    if groups:
        check_equal(model, masked, tmp_path / "o.onnx")


def test_weights_that_a_model_shares_stay_shared(tmp_path):
    """Its two layers have one set of weights, as in ALBERT."""
    path = next((FIXTURES / "vespa-mlm-transformer").glob("*.onnx"), None) if FIXTURES.is_dir() else None
    if not path:
        pytest.skip("no fixtures beside the project")
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    compress(path, compact, "--trainable", "all", "--steps", 4, "--save-masked", masked, "--train", data(path, tmp_path),
             "-q")
    check_equal(path, masked, compact)
    before, after = weights(path), onnx.load(str(compact)).graph
    for t in after.initializer:
        if t.name in before or t.data_type != F32:
            continue  # what follows is a bias that the exporter has merged with a norm's shift, since both are zeros
        assert not numpy_helper.to_array(before[t.name.removesuffix(".pare1")]).any(), t.name
        assert sum(t.name in n.input for n in after.node) == 2, f"'{t.name}' is not of both layers"


def test_what_no_gradient_reaches_is_left_byte_for_byte_and_said(tmp_path):
    model = tiny.encoder(F32)
    extra = numpy_helper.from_array(np.ones((tiny.CLASSES, 2), np.float32) / 3, "aside.weight")
    model.graph.initializer.append(extra)
    model.graph.node.append(helper.make_node("MatMul", ["y", "aside.weight"], ["z"], name="aside"))
    model.graph.output.append(helper.make_tensor_value_info("z", F32, ["batch", 2]))
    path = saved(model, tmp_path / "m.onnx")
    said = compress(path, tmp_path / "o.onnx", "--train", samples(tmp_path / "d.npz"), "--trainable", "all", "--steps", 8,
                    "--weight-decay", 0.5).stderr
    assert "1 weights stay as they are" in said and "'aside.weight'" in said
    assert same_bytes(weights(tmp_path / "o.onnx")["aside.weight"], extra)


def test_the_model_that_is_followed_and_judged_stays_the_untouched_one(tmp_path):
    model, d = saved(tiny.encoder(F32), tmp_path / "m.onnx"), samples(tmp_path / "d.npz")
    test = samples(tmp_path / "t.npz", seed=1)
    compress(model, tmp_path / "o.onnx", "--train", d, "--eval", test, "--trainable", "all", "--steps", 30, "--lr", 0.05,
             "--distill", "logits", "--report", tmp_path / "r", "-q")
    dense = json.load(open(tmp_path / "r" / "report.json"))["metrics"]["dense"]
    want = json.loads(run("eval", model, "--data", test, "--json").stdout)["value"]
    assert dense == pytest.approx(want, abs=1e-9)


def test_what_goes_is_taken_over_by_weights_that_are_tuned_themselves_as_by_others(tmp_path):
    """At a rate of zero nothing else changes."""
    model, d = saved(tiny.encoder(F32), tmp_path / "m.onnx"), samples(tmp_path / "d.npz")
    made = {}
    for words in ("lora", "all"):
        compress(model, tmp_path / f"{words}.onnx", "--train", d, "--trainable", words, "--schedule", "one-shot", "--steps",
                 2, "--lr", 0, "-q")
        made[words] = {n: numpy_helper.to_array(t) for n, t in weights(tmp_path / f"{words}.onnx").items()}
    before = numpy_helper.to_array(weights(model)["ffn.down.bias"])
    assert np.abs(made["all"]["ffn.down.bias"] - before).max() > 0.01, "nothing was taken over"
    for name, a in made["lora"].items():
        b = made["all"][name]
        assert np.allclose(a, b, rtol=2.0 ** -22, atol=1e-7), f"{name}: {np.abs(a - b).max()}"


# --- criteria ---


@pytest.mark.parametrize("method", ["gate", "grad", "fisher", "movement", "magnitude", "wanda", "random"])
def test_criteria_that_read_no_adapters_score_weights_that_are_tuned_themselves(tmp_path, method):
    model, masked = saved(tiny.encoder(F32), tmp_path / "m.onnx"), tmp_path / "masked.onnx"
    compress(model, tmp_path / "o.onnx", "--train", samples(tmp_path / "d.npz"), "--trainable", "all", "--method", method,
             "--steps", 12, "--prune-every", 3, "--save-masked", masked, "-q")
    check_equal(model, masked, tmp_path / "o.onnx")


@pytest.mark.parametrize("options, said", [
    (["--trainable", "all", "--method", "loraprune"], "--method loraprune reads the gradients of adapters"),
    (["--trainable", "bias", "--rank", 4], "--rank is about adapters"),
    (["--trainable", "norm", "--adapter", "sequential"], "--adapter is about adapters"),
    (["--trainable", "all,lora"], "nothing else stands beside it"),
    (["--trainable", "biases"], "--trainable takes lora, bias, norm, head or all, not 'biases'"),
    (["--num-labels", 0], "--num-labels must be between 1 and 1048576"),
    (["--num-labels", 5, "--steps", 0], "it needs --train DATA and steps"),
    (["--num-labels", 5, "--loss", "kd"], "its outputs cannot be distilled"),
    (["--num-labels", 5, "--distill", "both"], "its outputs cannot be distilled"),
], ids=lambda v: " ".join(map(str, v)) if isinstance(v, list) else "")
def test_what_has_no_meaning_is_refused(tmp_path, options, said):
    model, d = saved(tiny.encoder(F32), tmp_path / "m.onnx"), samples(tmp_path / "d.npz")
    assert said in compress(model, tmp_path / "o.onnx", "--train", d, *options, code=2).stderr
    assert not (tmp_path / "o.onnx").exists()


def test_a_model_of_integers_has_biases_and_norms_but_not_all_weights_tuned(tmp_path):
    path = next((FIXTURES / "tinybert-sst2-ort-dynint8").glob("*.onnx"), None) if FIXTURES.is_dir() else None
    if not path:
        pytest.skip("no fixtures beside the project")
    arrays = dict(np.load(data(path, tmp_path)))
    labels = np.arange(len(next(iter(arrays.values())))) % 2
    np.savez(tmp_path / "labelled.npz", **arrays, labels=labels)
    args = ["--steps", 4, "--train", tmp_path / "labelled.npz", "-q"]
    said = compress(path, tmp_path / "o.onnx", "--trainable", "all", *args, code=3).stderr
    assert "node '" in said and "its weight is of integers" in said
    compress(path, tmp_path / "o.onnx", "--trainable", "lora,bias,norm", "--sparsity", 0, *args)
    before, after = weights(path), weights(tmp_path / "o.onnx")
    changed = {n for n in before if not same_bytes(before[n], after[n])}
    for what in ("LayerNorm.weight", "query.bias", "output.dense.bias"):
        assert any(n.endswith(what) for n in changed), f"{what} is as it was"
    assert not any("scale" in n or "zero_point" in n for n in changed), changed


# --- interrupted and resumed ---


@pytest.mark.parametrize("options", [["--trainable", "all"], ["--trainable", "lora,bias,norm,head", "--reconstruct", "on"],
                                     ["--trainable", "all", "--num-labels", "7"]], ids=" ".join)
def test_a_run_that_is_interrupted_ends_with_the_bytes_of_an_unbroken_one(tmp_path, options):
    model = saved(tiny.encoder(F32), tmp_path / "m.onnx")
    args = ["--train", samples(tmp_path / "d.npz", labels=7 if "--num-labels" in options else tiny.CLASSES), "--steps",
            3000, "--batch", 8, "--threads", 1, "-q", *options]
    started = time.time()
    run("compress", model, tmp_path / "whole.onnx", *args)
    each, codes = (time.time() - started) / 4, []
    for attempt in range(40):
        resume = ["--resume"] if (tmp_path / "state" / "state.pare").exists() else []
        p = subprocess.Popen([PARE, "compress", *map(str, [model, tmp_path / "broken.onnx", *args, "--checkpoint",
                                                          tmp_path / "state", *resume])], stderr=subprocess.PIPE)
        time.sleep(each + 0.05 * attempt)
        p.send_signal(signal.SIGINT)
        said = p.communicate()[1]
        codes.append(p.returncode)
        assert p.returncode in (0, 130), said
        if p.returncode == 0:
            break
    assert codes[-1] == 0 and 130 in codes, codes
    assert (tmp_path / "broken.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    said = run("compress", model, tmp_path / "broken.onnx", "--train", tmp_path / "d.npz", "--steps", 3000, "--batch", 8,
               "--checkpoint", tmp_path / "state", "--resume", "-q", *options[2:], code=2).stderr
    assert "belongs to another run: --trainable" in said


# --- fresh classifiers ---


@pytest.mark.parametrize("stored", [F32, TensorProto.FLOAT16], ids=["f32", "f16"])
def test_a_fresh_classifier_has_the_outputs_that_were_asked_for_and_learns(tmp_path, stored):
    labels = 7
    model, d = saved(tiny.encoder(stored), tmp_path / "m.onnx"), samples(tmp_path / "d.npz", labels, 256, learnable=True)
    test = samples(tmp_path / "t.npz", labels, 200, seed=1, learnable=True)
    compress(model, tmp_path / "o.onnx", "--train", d, "--eval", test, "--num-labels", labels, "--steps", 300, "--lr", 5e-3,
             "--save-masked", tmp_path / "masked.onnx", "--report", tmp_path / "r", "-q")
    out = onnx.load(str(tmp_path / "o.onnx"))
    onnx.checker.check_model(out, full_check=True)
    shape = out.graph.output[0].type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("batch", labels)
    after = weights(tmp_path / "o.onnx")
    assert list(after["classifier.weight"].dims) == [tiny.STREAM, labels]
    assert list(after["classifier.bias"].dims) == [labels] and after["classifier.bias"].data_type == stored
    x = np.load(test)
    y = session(tmp_path / "o.onnx", LEVELS[0]).run(None, {"x": x["x"]})[0]
    accuracy = (y.argmax(1) == x["labels"]).mean()
    assert accuracy > 0.8, f"chance is {1 / labels:.2f}"
    if stored == F32:
        z = session(tmp_path / "masked.onnx", LEVELS[0]).run(None, {"x": x["x"]})[0]
        assert np.abs(y - z).max() <= 1e-4 * np.abs(z).max()


def test_labels_are_checked_against_the_fresh_classifier(tmp_path):
    model = saved(tiny.encoder(F32), tmp_path / "m.onnx")
    args = ["--num-labels", 5, "--steps", 4, "-q"]
    said = compress(model, tmp_path / "o.onnx", "--train", samples(tmp_path / "d.npz", 7), *args, code=4).stderr
    assert "holds" in said and "number 5" in said
    said = compress(model, tmp_path / "o.onnx", "--train", samples(tmp_path / "u.npz", 0), *args, code=4).stderr
    assert "--num-labels wants labels" in said
    compress(model, tmp_path / "o.onnx", "--train", samples(tmp_path / "e.npz", 5), *args)


def test_another_seed_is_another_classifier_and_the_same_seed_the_same(tmp_path):
    model, d = saved(tiny.encoder(F32), tmp_path / "m.onnx"), samples(tmp_path / "d.npz", 7)
    made = []
    for seed in (0, 0, 1):
        compress(model, tmp_path / "o.onnx", "--train", d, "--num-labels", 7, "--steps", 1, "--seed", seed, "--lr", 0, "-q")
        made.append(numpy_helper.to_array(weights(tmp_path / "o.onnx")["classifier.weight"]))
    bound = tiny.STREAM ** -0.5
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    assert np.abs(made[0]).max() <= bound and np.abs(made[0]).mean() == pytest.approx(bound / 2, rel=0.2)


def gemm_head(transposed):
    """The classifier as one Gemm, its weight either way round."""
    model = tiny.encoder(F32)
    w = next(t for t in model.graph.initializer if t.name == "classifier.weight")
    if transposed:
        w.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(w).T.copy(), w.name))
    product = next(n for n in model.graph.node if "classifier.weight" in n.input)
    add = next(n for n in model.graph.node if "classifier.bias" in n.input)
    gemm = helper.make_node("Gemm", [product.input[0], "classifier.weight", "classifier.bias"], add.output, name="gemm",
                            transB=int(transposed))
    at = list(model.graph.node).index(product)
    model.graph.node.remove(product)
    model.graph.node.remove(add)
    model.graph.node.insert(at, gemm)
    return model


@pytest.mark.parametrize("transposed", [False, True])
def test_a_classifier_that_is_one_gemm_is_replaced_too(tmp_path, transposed):
    model = saved(gemm_head(transposed), tmp_path / "m.onnx")
    compress(model, tmp_path / "o.onnx", "--train", samples(tmp_path / "d.npz", 6), "--num-labels", 6, "--steps", 4, "-q")
    onnx.checker.check_model(str(tmp_path / "o.onnx"), full_check=True)
    shape = [6, tiny.STREAM] if transposed else [tiny.STREAM, 6]
    assert list(weights(tmp_path / "o.onnx")["classifier.weight"].dims) == shape


@pytest.mark.parametrize("op, attrs", [("Softmax", {"axis": -1}), ("ReduceMax", {"axes": [1], "keepdims": 1})])
def test_without_a_linear_layer_at_the_end_it_says_what_stands_there(tmp_path, op, attrs):
    model = tiny.encoder(F32)
    last = model.graph.node[-1]
    last.op_type, last.name = op, "at_the_end"
    last.attribute.extend(helper.make_attribute(k, v) for k, v in attrs.items())
    path = saved(model, tmp_path / "m.onnx")
    said = compress(path, tmp_path / "o.onnx", "--train", samples(tmp_path / "d.npz"), "--num-labels", 5, "-q",
                    code=3).stderr
    assert "node 'at_the_end'" in said and "no linear layer at the end of 'y'" in said
