"""The classes beyond heads and FFN channels: the width of q and k, the residual width, whole branches, a vocabulary.
The truth is a second model that Python builds or slices by what the report says was kept, run by ONNX Runtime."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import FIXTURES, models, run
from test_compress import LEVELS, REL, check_equal, relative, session
from tiny import CLASSES, FFN, HEADS, STREAM, WIDTH, Builder, feed_forward

TOKENS, POSITIONS, LAYERS = 40, 12, 3
PAD = 3  # the id that the graph itself compares with


class Layered(Builder):
    """Names of initializers begin with the layer's."""
    prefix = ""

    def constant(self, name, values, elem):
        return super().constant(self.prefix + name, values, elem)


def attention(b, x, computed_scale):
    split = b.ints(0, 0, HEADS, WIDTH)
    q, k, v = (b.node("Reshape", b.dense(x, f"attention.{n}", STREAM, STREAM), split) for n in "qkv")
    q, v = (b.node("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
    k = b.node("Transpose", k, perm=[0, 2, 3, 1])
    if computed_scale:  # as torch's scaled_dot_product_attention is exported
        width = b.node("Cast", b.node("Gather", b.node("Shape", q), b.ints(3), axis=0), to=TensorProto.FLOAT)
        s = b.node("Div", b.node("MatMul", q, k), b.node("Sqrt", width))
    else:
        s = b.node("Mul", b.node("MatMul", q, k), b.constant("scale", WIDTH ** -0.5, TensorProto.FLOAT))
    y = b.node("Transpose", b.node("MatMul", b.node("Softmax", s, axis=-1), v), perm=[0, 2, 1, 3])
    return b.dense(b.node("Reshape", y, b.ints(0, 0, HEADS * WIDTH)), "attention.out", STREAM, STREAM)


def text_model(path, tokens_out=False, skip=(), computed_scale=False, numbers=False, post_norm=False):
    """ids[batch, sequence] -> y[batch, 3], or logits over the vocabulary by the transposed embedding. `skip`: numbers of
    branches (attention and feed-forward of each layer in turn) that are built and not added."""
    b = Layered(TensorProto.FLOAT, seed=1)
    table = b.constant("embedding", b.rng.standard_normal((TOKENS, STREAM)), TensorProto.FLOAT)
    ids = b.node("Mul", "ids", b.ints(1)) if numbers else "ids"
    length = b.node("Gather", b.node("Shape", "ids"), b.ints(1), axis=0)
    positions = b.constant("positions", b.rng.standard_normal((POSITIONS, STREAM)), TensorProto.FLOAT)
    x = b.node("Add", b.node("Gather", table, ids, axis=0),
               b.node("Slice", positions, b.ints(0), length, b.ints(0)))
    real = b.node("Not", b.node("Equal", "ids", b.ints(PAD)))
    x = b.node("Mul", x, b.node("Unsqueeze", b.node("Cast", real, to=TensorProto.FLOAT), b.ints(2)))
    for i in range(2 * LAYERS):
        b.prefix = f"{i}."
        h = x if post_norm else b.norm(x, "norm")
        y = feed_forward(b, h) if i % 2 else attention(b, h, computed_scale)
        if i not in skip:
            x = b.node("Add", x, y)
        x = b.norm(x, "norm") if post_norm else x
    b.prefix = ""
    x = b.norm(x, "last")
    if tokens_out:
        y = b.node("MatMul", x, b.node("Transpose", table, perm=[1, 0]))
        y = b.node("Add", y, b.constant("bias", b.rng.standard_normal(TOKENS), TensorProto.FLOAT))
    else:
        y = b.dense(b.node("ReduceMean", x, axes=[1], keepdims=0), "classifier", STREAM, CLASSES)
    b.nodes.append(helper.make_node("Identity", [y], ["y"], name="end"))
    shape = ["batch", "sequence", TOKENS] if tokens_out else ["batch", CLASSES]
    graph = helper.make_graph(b.nodes, "text", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], b.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def weights(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def edited(path, out, edit):
    """The model with edit(name, array) in the place of each initializer."""
    m = onnx.load(path)
    for t in m.graph.initializer:
        t.CopyFrom(numpy_helper.from_array(edit(t.name, numpy_helper.to_array(t)).copy(), t.name))
    del m.graph.value_info[:]
    onnx.save(m, out)
    return out


def compress(model, out, *options):
    """The report."""
    folder = out.parent / (out.stem + "-report")
    run("compress", model, out, "--report", folder, "--threads", 1, *options)
    return json.loads((folder / "report.json").read_text())


def kept(report, kind):
    """Lists of indices of the dimensions of a kind."""
    return [g["kept"] for g in report["groups"] if g["kind"] == kind]


def outputs(path, ids, level=LEVELS[-1]):
    return session(path, level).run(None, {"ids": ids})[0]


def random_ids(rng, batch, length, of):
    return np.asarray(of, np.int64)[rng.integers(0, len(of), (batch, length))]


def expect_same(reference, path, make=lambda ids: ids, of=range(TOKENS)):
    """The same numbers on ids and make(ids), at every level and two sizes."""
    rng = np.random.default_rng(5)
    for level in LEVELS:
        for batch, length in ((1, 4), (3, 9)):
            ids = random_ids(rng, batch, length, of)
            want, got = reference(ids), outputs(path, make(ids), level)
            assert want.shape == got.shape and relative(want, got) <= REL, f"{relative(want, got)} at {level}"


def train(path, n=24, length=8, of=range(TOKENS)):
    rng = np.random.default_rng(2)
    np.savez(path, ids=random_ids(rng, n, length, of), labels=rng.integers(0, CLASSES, n))
    return path


# --- the width of q and k ---


@pytest.mark.parametrize("computed", [False, True], ids=["constant-scale", "scale-of-the-shape"])
def test_q_and_k_lose_width_and_the_scale_stays(tmp_path, computed):
    model = text_model(tmp_path / "m.onnx", computed_scale=computed)
    report = compress(model, tmp_path / "c.onnx", "--prune", "head-dim", "--include", "qk", "--steps", 0, "--method",
                      "magnitude", "--save-masked", tmp_path / "masked.onnx")
    keep = {2 * i: k for i, k in enumerate(g["kept"] for g in report["groups"] if "qk" in g["name"])}
    assert len(keep) == LAYERS and report["validation"]["exact"]
    assert sum(len(k) for k in keep.values()) == LAYERS * WIDTH // 2

    def zero(name, w):
        layer, _, rest = name.partition(".")
        if rest.startswith(("attention.q.", "attention.k.")):
            dead = [h * WIDTH + i for h in range(HEADS) for i in range(WIDTH) if i not in keep[int(layer)]]
            w = w.copy()
            w[..., dead] = 0
        return w

    truth = edited(model, tmp_path / "truth.onnx", zero)
    expect_same(lambda ids: outputs(truth, ids), tmp_path / "c.onnx")
    expect_same(lambda ids: outputs(tmp_path / "masked.onnx", ids), tmp_path / "c.onnx")
    for name, w in weights(tmp_path / "c.onnx").items():
        if ".attention.q.weight" in name:
            assert w.shape == (STREAM, HEADS * len(keep[int(name.split(".")[0])]))


# --- the residual width ---

# Axes of the stream, by the end of a name.
STREAM_AXIS = {"embedding": 1, "positions": 1, "gamma": 0, "beta": 0, "q.weight": 0, "k.weight": 0, "v.weight": 0,
               "out.weight": 1, "out.bias": 0, "up.weight": 0, "down.weight": 1, "down.bias": 0, "classifier.weight": 0}


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
def test_the_residual_width_goes_everywhere_and_the_norms_are_taken_over_what_stays(tmp_path, post):
    model = text_model(tmp_path / "m.onnx", post_norm=post)
    report = compress(model, tmp_path / "c.onnx", "--prune", "width", "--train", train(tmp_path / "t.npz"), "--steps", 0,
                      "--reconstruct", "off", "--save-masked", tmp_path / "masked.onnx")
    [keep] = kept(report, "width")
    assert len(keep) == STREAM // 2 and report["validation"]["exact"] is False and report["validation"]["passed"]

    def cut(name, w):
        for end, axis in STREAM_AXIS.items():
            if name.endswith(end):
                return np.take(w, keep, axis)
        return w

    truth = edited(model, tmp_path / "truth.onnx", cut)
    expect_same(lambda ids: outputs(truth, ids), tmp_path / "c.onnx")
    assert all(np.array_equal(w, weights(tmp_path / "c.onnx")[n]) for n, w in weights(truth).items())
    expect_same(lambda ids: outputs(tmp_path / "masked.onnx", ids), tmp_path / "c.onnx")


def test_a_width_is_cut_while_tuning_and_the_console_says_what_is_compared(tmp_path):
    model = text_model(tmp_path / "m.onnx")
    r = run("compress", model, tmp_path / "c.onnx", "--prune", "heads,ffn,width", "--train", train(tmp_path / "t.npz"),
            "--steps", 20, "--prune-every", 2, "--threads", 1, "--save-masked", tmp_path / "masked.onnx")
    assert "re-specialised and cut model differ" in r.stdout
    assert weights(tmp_path / "c.onnx")["embedding"].shape == (TOKENS, STREAM // 2)
    expect_same(lambda ids: outputs(tmp_path / "masked.onnx", ids), tmp_path / "c.onnx")


@pytest.mark.parametrize("option", [("--regrow",), ("--adapter", "sequential")], ids="".join)
def test_a_width_is_not_masked_so_nothing_that_needs_masks_goes_with_it(tmp_path, option):
    r = run("compress", text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "heads,width", "--train",
            train(tmp_path / "t.npz"), *option, code=2)
    assert "leave width out" in r.stderr


def test_a_width_that_is_an_output_stays(tmp_path):
    model = onnx.load(text_model(tmp_path / "m.onnx"))
    norm = [n for n in model.graph.node if n.op_type == "LayerNormalization"][-1]
    model.graph.output.append(helper.make_tensor_value_info(norm.output[0], TensorProto.FLOAT, ["batch", "sequence", STREAM]))
    onnx.save(model, tmp_path / "m.onnx")
    r = run("compress", tmp_path / "m.onnx", tmp_path / "c.onnx", "--prune", "width", "--steps", 0, "--method", "magnitude",
            code=6)
    assert "no group of kind width" in r.stderr


# --- whole branches ---


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
def test_a_branch_that_goes_is_not_added_and_leaves_nothing_behind(tmp_path, post):
    model = text_model(tmp_path / "m.onnx", post_norm=post)
    report = compress(model, tmp_path / "c.onnx", "--prune", "depth", "--train", train(tmp_path / "t.npz"), "--steps", 0,
                      "--reconstruct", "off", "--save-masked", tmp_path / "masked.onnx")
    attentions, feeds = kept(report, "depth")  # in the order of the graph
    gone = {2 * i for i in range(LAYERS) if i not in attentions} | {2 * i + 1 for i in range(LAYERS) if i not in feeds}
    assert len(gone) == LAYERS and report["validation"]["exact"]
    truth = text_model(tmp_path / "truth.onnx", skip=gone, post_norm=post)
    expect_same(lambda ids: outputs(truth, ids), tmp_path / "c.onnx")
    check_ids = lambda ids: outputs(tmp_path / "masked.onnx", ids)  # noqa: E731
    expect_same(check_ids, tmp_path / "c.onnx")
    after = onnx.load(tmp_path / "c.onnx")
    onnx.checker.check_model(after, full_check=True)
    left = {n.split(".")[0] for n in weights(tmp_path / "c.onnx") if n[0].isdigit() and "attention" in n or "ffn" in n}
    assert left == {str(i) for i in range(2 * LAYERS) if i not in gone}
    read = {i for n in after.graph.node for i in n.input} | {o.name for o in after.graph.output}
    made = {o for n in after.graph.node for o in n.output} | set(weights(tmp_path / "c.onnx"))
    assert made <= read, f"nobody reads {made - read}"
    assert [n.name for n in after.graph.node if n.op_type == "Identity" and n.name != "end"] == \
        [n.name for n in onnx.load(model).graph.node if n.name not in {m.name for m in after.graph.node if m.op_type == "Add"}
         and n.op_type == "Add" and n.name in {m.name for m in after.graph.node}]


def fused(model, path):
    """As ONNX Runtime's optimizer fuses it: residual sum, the bias before it and the norm behind it become one
    SkipLayerNormalization, which hands out the sum where others read it."""
    m = onnx.load(model)
    nodes, gone = list(m.graph.node), set()
    by = {n.output[0]: n for n in nodes}
    for norm in (n for n in nodes if n.op_type == "LayerNormalization"):
        add = by[norm.input[0]]
        bias = by.get(add.input[1]) if add.op_type == "Add" else None
        if bias is None or bias.op_type != "Add":
            continue
        gone |= {add.name, bias.name}
        norm.input[:] = [bias.input[0], add.input[0], *norm.input[1:], bias.input[1]]
        if any(add.output[0] in n.input for n in nodes):
            norm.output.extend(["", "", add.output[0]])
        norm.op_type, norm.domain = "SkipLayerNormalization", "com.microsoft"
        del norm.attribute[:]
        norm.attribute.append(helper.make_attribute("epsilon", 1e-5))
    left = [n for n in nodes if n.name not in gone]
    del m.graph.node[:]
    m.graph.node.extend(left)
    m.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(m, path)
    return path


def skips(path):
    return {n.name: n for n in onnx.load(path).graph.node if n.op_type == "SkipLayerNormalization"}


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("options", [[], ["--method", "fisher"], ["--steps", 6, "--prune-every", 2, "--distill", "both",
                                                                 "--trainable", "lora,bias,norm"]], ids=["gate", "fisher", "tuned"])
def test_a_branch_that_goes_out_of_a_fused_sum_leaves_a_norm(tmp_path, post, options):
    plain = text_model(tmp_path / "m.onnx", post_norm=post)
    model = fused(plain, tmp_path / "fused.onnx")
    assert len(skips(model)) == 2 * LAYERS and any(n.input[4:] for n in skips(model).values())
    report = compress(model, tmp_path / "c.onnx", "--prune", "depth", "--train", train(tmp_path / "t.npz"), "--steps", 0,
                      "--reconstruct", "off", "--save-masked", tmp_path / "masked.onnx", *options)
    attentions, feeds = kept(report, "depth")
    gone = {2 * i for i in range(LAYERS) if i not in attentions} | {2 * i + 1 for i in range(LAYERS) if i not in feeds}
    assert len(gone) == LAYERS and report["validation"]["exact"]
    expect_same(lambda ids: outputs(tmp_path / "masked.onnx", ids), tmp_path / "c.onnx")
    after = onnx.load(tmp_path / "c.onnx")
    onnx.checker.check_model(after, full_check=True)
    read = {i for n in after.graph.node for i in n.input} | {o.name for o in after.graph.output}
    made = {n.output[0] for n in after.graph.node} | set(weights(tmp_path / "c.onnx"))
    assert made <= read, f"nobody reads {made - read}"
    assert not any(n.op_type == "Sub" for n in after.graph.node) and len(skips(tmp_path / "c.onnx")) < len(skips(model))
    if "--trainable" not in options:
        truth = text_model(tmp_path / "truth.onnx", skip=gone, post_norm=post)
        expect_same(lambda ids: outputs(truth, ids), tmp_path / "c.onnx")


FUSED = ["tinybert-sst2-ortpy-fused", "deit-fashion-ortpy-fused"]  # post-norm of opset 11, pre-norm of opset 17


@pytest.mark.parametrize("kinds", ["depth", "heads,ffn,depth"])
@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("fixture", models(FUSED))
def test_fused_exports_less_branches_equal_their_masked_form(fixture, share, kinds, tmp_path):
    _, path = fixture
    report = compress(path, tmp_path / "c.onnx", "--prune", kinds, "--steps", 0, "--method", "magnitude", "--ranking", "global",
                      "--sparsity", share, "--save-masked", tmp_path / "masked.onnx")
    branches = [g for g in report["groups"] if g["kind"] == "depth"]
    assert sum(g["after"] for g in branches) < sum(g["before"] for g in branches)
    check_equal(path, tmp_path / "masked.onnx", tmp_path / "c.onnx")


@pytest.mark.parametrize("method", ["gate", "loraprune", "grad", "fisher", "wanda", "magnitude"])
def test_every_criterion_tells_branches_apart_also_where_layers_are_compared(method, tmp_path):
    report = compress(text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "depth", "--train",
                      train(tmp_path / "t.npz"), "--steps", 0, "--method", method, "--ranking", "global")
    for g in (g for g in report["groups"] if g["kind"] == "depth"):
        least, most = min(g["scores"]), max(g["scores"])
        assert len(g["scores"]) == LAYERS and most - least > 1e-3 * most, (g["name"], g["scores"])


def test_obs_and_branches_which_nothing_reads_are_refused_together(tmp_path):
    r = run("compress", text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "depth", "--train",
            train(tmp_path / "t.npz"), "--steps", 0, "--method", "obs", code=2)
    assert "--method obs" in r.stderr and "leave depth out" in r.stderr and r.stderr.count("\n") == 1


def test_heads_of_a_branch_that_went_are_no_groups_any_more(tmp_path):
    model = text_model(tmp_path / "m.onnx")
    report = compress(model, tmp_path / "c.onnx", "--prune", "heads,ffn,depth", "--train", train(tmp_path / "t.npz"),
                      "--steps", 20, "--prune-every", 2, "--save-masked", tmp_path / "masked.onnx")
    attentions, feeds = kept(report, "depth")
    heads = [g for g in report["groups"] if g["kind"] == "heads"]
    assert [i for i, g in enumerate(heads) if g["after"]] == attentions
    assert sum(g["after"] for g in heads) == len(attentions) * HEADS // 2
    assert sum(g["after"] for g in report["groups"] if g["kind"] == "ffn") == len(feeds) * FFN // 2
    expect_same(lambda ids: outputs(tmp_path / "masked.onnx", ids), tmp_path / "c.onnx")


def test_a_branch_whose_insides_are_an_output_stays(tmp_path):
    model = onnx.load(text_model(tmp_path / "m.onnx"))
    relu = next(n for n in model.graph.node if n.op_type == "Relu")
    model.graph.output.append(helper.make_tensor_value_info(relu.output[0], TensorProto.FLOAT, ["batch", "sequence", FFN]))
    onnx.save(model, tmp_path / "m.onnx")
    report = compress(tmp_path / "m.onnx", tmp_path / "c.onnx", "--prune", "depth", "--steps", 0, "--method", "magnitude")
    assert [g["before"] for g in report["groups"] if g["kind"] == "depth"] == [LAYERS, LAYERS - 1]


@pytest.mark.parametrize("options", [["--target", "latency=0.5"], ["--ranking", "cost"]], ids=["latency", "cost"])
def test_depth_beside_other_classes_has_no_cost_of_its_own(tmp_path, options):
    r = run("compress", text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "heads,depth", *options, code=2)
    assert "depth stands alone" in r.stderr


# --- targets where groups overlap ---

def params_of(path):
    return sum(t.size for t in weights(path).values() if t.dtype == np.float32)


def macs_of(path, length=7):
    """Multiply-adds of all MatMuls of one sample, by the shapes that ONNX infers."""
    m = onnx.load(path)
    for d, n in zip(m.graph.input[0].type.tensor_type.shape.dim, (1, length)):
        d.Clear()
        d.dim_value = n
    del m.graph.value_info[:]
    m = onnx.shape_inference.infer_shapes(m, strict_mode=True, data_prop=True)
    shape = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in m.graph.value_info}
    shape |= {n: list(t.shape) for n, t in weights(path).items()}
    assert all(0 not in shape[n.output[0]] for n in m.graph.node if n.op_type == "MatMul")
    return sum(int(np.prod(shape[n.output[0]])) * shape[n.input[0]][-1] for n in m.graph.node if n.op_type == "MatMul")


COST = {"params": params_of, "macs": macs_of}
OVERLAPPING = ["heads,ffn,head-dim", "heads,ffn,width", "heads,ffn,head-dim,width", "heads,ffn,depth",
               "heads,ffn,head-dim,width,depth"]


@pytest.mark.parametrize("kinds,ranking", [(k, r) for k in OVERLAPPING for r in ("uniform", "global", "cost")
                                           if r != "cost" or "depth" not in k])
@pytest.mark.parametrize("unit", COST)
def test_a_target_is_kept_to_a_group_where_groups_overlap(tmp_path, kinds, ranking, unit):
    model = text_model(tmp_path / "m.onnx")
    report = compress(model, tmp_path / "c.onnx", "--prune", kinds, "--target", f"{unit}=0.5", "--ranking", ranking,
                      "--steps", 0, "--method", "magnitude", "--shape", "ids:1x7")
    before, after = COST[unit](model), COST[unit](tmp_path / "c.onnx")
    assert report["input"][unit] == before and report["output"][unit] == after
    # the finest group is an FFN channel: a column and a row of the stream and a bias, 7 times in work
    finest = 2 * STREAM * 7 if unit == "macs" else 2 * STREAM + 1
    # in one order of all groups the last one to go may be any: a head is at most one of so many equal parts of the model
    last = before / (HEADS * LAYERS) if ranking == "cost" else finest
    assert 0 <= 0.5 * before - after < last, f"{after} of {before} {unit} are left"


@pytest.mark.parametrize("kinds", ["heads,ffn,head-dim", "heads,ffn,head-dim,width,depth"])
def test_a_target_is_kept_by_a_gradual_run_where_groups_overlap(tmp_path, kinds):
    model = text_model(tmp_path / "m.onnx")
    report = compress(model, tmp_path / "c.onnx", "--prune", kinds, "--target", "params=0.5", "--train",
                      train(tmp_path / "t.npz"), "--steps", 16, "--prune-every", 2, "--batch", 8)
    before, after = params_of(model), params_of(tmp_path / "c.onnx")
    assert report["target"]["reached"] == pytest.approx(after / before)
    assert 0 <= 0.5 * before - after < 2 * STREAM + 1, f"{after} of {before} parameters are left"


def test_bytes_where_groups_overlap_are_at_most_what_was_asked_for(tmp_path):
    model = text_model(tmp_path / "m.onnx")
    for kinds in OVERLAPPING:
        compress(model, tmp_path / "c.onnx", "--prune", kinds, "--target", "bytes=0.6", "--steps", 0, "--method", "magnitude",
                 "--overwrite")
        assert (tmp_path / "c.onnx").stat().st_size <= 0.6 * model.stat().st_size


def test_what_overlapping_groups_cannot_reach_is_told_at_once(tmp_path):
    r = run("compress", text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "heads,ffn,width", "--target",
            "params=0.001", "--train", train(tmp_path / "t.npz"), code=6)
    assert "cannot be reached: at least" in r.stderr and not (tmp_path / "c.onnx").exists()


@pytest.mark.parametrize("kinds", ["depth", "head-dim", "width", "heads,ffn,head-dim,width,depth"])
@pytest.mark.parametrize("fixture", models(["tinybert-sst2-ts-op17", "deit-fashion-ts-op13-nofold", "deit-fashion-ts-op9-dyn",
                                            "vespa-mlm-transformer", "tinybert-sst2-extdata", "torchvision-vit-dyn-op11"]))
def test_real_exports_equal_their_masked_form(fixture, kinds, tmp_path):
    _, path = fixture
    run("compress", path, tmp_path / "c.onnx", "--prune", kinds, "--steps", 0, "--method", "magnitude", "--save-masked",
        tmp_path / "masked.onnx")
    check_equal(path, tmp_path / "masked.onnx", tmp_path / "c.onnx")


# --- a vocabulary ---

KEEP = [0, 1, 2, 3, 5, 8, 13, 21, 34]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def keep_ids(path, ids=KEEP):
    path.write_text("".join(f"{i}\n" for i in ids))
    return path


def vocab_file(path):
    """Token number i, special ones first, is written w<i>."""
    path.write_text("\n".join(SPECIAL + [f"w{i}" for i in range(len(SPECIAL), TOKENS)]) + "\n")
    return path


def renumbered(ids):
    return np.searchsorted(KEEP, ids)


@pytest.mark.parametrize("tokens_out", [False, True], ids=["classes", "tied-tokens"])
def test_tokens_that_stay_mean_the_same_under_new_ids(tmp_path, tokens_out):
    model = text_model(tmp_path / "m.onnx", tokens_out=tokens_out)
    report = compress(model, tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep", keep_ids(tmp_path / "keep.txt"),
                      "--steps", 0)
    assert all(k == KEEP for k in kept(report, "vocab")) and len(kept(report, "vocab")) == 1 + tokens_out
    want = (lambda ids: outputs(model, ids)[..., KEEP]) if tokens_out else (lambda ids: outputs(model, ids))
    expect_same(want, tmp_path / "c.onnx", renumbered, KEEP)
    after = onnx.load(tmp_path / "c.onnx")
    assert {p.key: p.value for p in after.metadata_props}["pare.vocab"] == str(len(KEEP))
    assert np.array_equal(weights(tmp_path / "c.onnx")["embedding"], weights(model)["embedding"][KEEP])
    onnx.checker.check_model(after, full_check=True)


def test_an_id_that_the_graph_compares_with_is_numbered_anew_or_never_met(tmp_path):
    model = text_model(tmp_path / "m.onnx")
    for ids in (KEEP, [i for i in KEEP if i != PAD], [PAD, 30, 31]):
        run("compress", model, tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep", keep_ids(tmp_path / "k.txt", ids),
            "--steps", 0)
        expect_same(lambda x: outputs(model, x), tmp_path / "c.onnx", lambda x: np.searchsorted(ids, x), ids)


def test_a_list_of_tokens_keeps_the_special_ones_and_the_vocabulary_is_written_anew(tmp_path):
    model = text_model(tmp_path / "m.onnx")
    vocab = vocab_file(tmp_path / "vocab.txt")
    (tmp_path / "keep.txt").write_text("w30\nw7\n\nw30\n")
    data = train(tmp_path / "t.npz")
    r = run("compress", model, tmp_path / "c.onnx", "--prune", "heads,ffn,vocab", "--vocab-keep", tmp_path / "keep.txt",
            "--vocab", vocab, "--train", data, "--steps", 4, "--threads", 1, "--save-plan", tmp_path / "plan.json")
    assert "7 of 40 tokens stay" in r.stderr and "0 of 24 samples are left out, the rest read [UNK]" in r.stderr
    assert (tmp_path / "c.onnx.vocab.txt").read_text().split() == SPECIAL + ["w7", "w30"]
    (tmp_path / "text.tsv").write_text("sentence\tlabel\nw7 w30 w8\t1\n")
    run("data", "text", tmp_path / "text.tsv", "-o", tmp_path / "text.npz", "--vocab", tmp_path / "c.onnx.vocab.txt")
    assert np.load(tmp_path / "text.npz")["input_ids"].tolist() == [[2, 5, 6, 1, 3]]
    run("compress", model, tmp_path / "again.onnx", "--plan", tmp_path / "plan.json", "--vocab", vocab, "--train", data,
        "--steps", 0)
    assert {n: w.shape for n, w in weights(tmp_path / "again.onnx").items()} == \
        {n: w.shape for n, w in weights(tmp_path / "c.onnx").items()}
    assert (tmp_path / "again.onnx.vocab.txt").read_text() == (tmp_path / "c.onnx.vocab.txt").read_text()


def test_samples_with_tokens_that_nobody_can_name_are_left_out(tmp_path):
    data = tmp_path / "t.npz"
    ids = np.array([[1, 2, 3], [1, 2, 4], [5, 8, 13], [21, 34, 0]])
    np.savez(data, ids=ids, labels=np.arange(4) % CLASSES)
    r = run("compress", text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "heads,vocab", "--vocab-keep",
            keep_ids(tmp_path / "keep.txt"), "--train", data, "--steps", 2, "--batch", 2)
    assert "1 of 4 samples are left out" in r.stderr


def test_a_vocabulary_is_not_cut_under_a_teacher_or_adapters_that_know_all_of_it(tmp_path):
    args = ["compress", text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep",
            keep_ids(tmp_path / "keep.txt"), "--train", train(tmp_path / "t.npz", of=KEEP), "--steps", 2]
    assert "--teacher is for the whole vocabulary" in run(*args, "--teacher", tmp_path / "m.onnx", code=2).stderr
    assert "--adapters is for the whole vocabulary" in run(*args, "--adapters", tmp_path, code=2).stderr


def test_sequential_adapters_are_tuned_on_what_is_left_of_the_vocabulary(tmp_path):
    run("compress", text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "heads,ffn,depth,vocab", "--vocab-keep",
        keep_ids(tmp_path / "keep.txt"), "--train", train(tmp_path / "t.npz", of=KEEP), "--steps", 6, "--prune-every", 2,
        "--adapter", "sequential", "--save-masked", tmp_path / "masked.onnx")
    expect_same(lambda ids: outputs(tmp_path / "masked.onnx", ids), tmp_path / "c.onnx", renumbered, KEEP)


def test_labels_that_are_tokens_follow_the_vocabulary(tmp_path):
    rng = np.random.default_rng(0)
    ids, labels = random_ids(rng, 12, 6, KEEP), random_ids(rng, 12, 6, range(TOKENS))
    np.savez(tmp_path / "t.npz", ids=ids, labels=labels)
    report = compress(text_model(tmp_path / "m.onnx", tokens_out=True), tmp_path / "c.onnx", "--prune", "vocab",
                      "--vocab-keep", keep_ids(tmp_path / "keep.txt"), "--train", tmp_path / "t.npz", "--eval",
                      tmp_path / "t.npz", "--steps", 0)
    known = np.isin(labels, KEEP)
    guesses = outputs(tmp_path / "c.onnx", renumbered(ids)).argmax(-1)
    want = (guesses == renumbered(labels))[known].mean()
    assert abs(report["metrics"]["compact"] - want) < 1e-6, (report["metrics"], want)


@pytest.mark.parametrize("lines,options,code,says", [
    ("1\n40\n", [], 4, "line 2: there is no id 40"),
    ("w7\n", [], 2, "give --vocab"),
    ("w7\nw99\n", ["--vocab", "vocab.txt"], 4, "line 2: 'w99' is no token"),
    ("\n", [], 4, "keeps no token"),
    ("\n", ["--vocab", "vocab.txt"], 4, "keeps no token"),
], ids=["no-such-id", "tokens-without-a-vocabulary", "no-such-token", "nothing", "nothing-of-a-vocabulary"])
def test_a_list_that_does_not_fit_is_refused_by_line(tmp_path, lines, options, code, says):
    vocab_file(tmp_path / "vocab.txt")
    (tmp_path / "keep.txt").write_text(lines)
    options = [tmp_path / o if o.endswith(".txt") else o for o in options]
    r = run("compress", text_model(tmp_path / "m.onnx"), tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep",
            tmp_path / "keep.txt", *options, "--steps", 0, code=code)
    assert says in r.stderr and not (tmp_path / "c.onnx").exists()


def test_a_class_without_its_list_and_a_list_without_its_class_are_refused(tmp_path):
    model = text_model(tmp_path / "m.onnx")
    assert "--vocab-keep FILE" in run("compress", model, tmp_path / "c.onnx", "--prune", "vocab", code=2).stderr
    assert "add it to --prune" in run("compress", model, tmp_path / "c.onnx", "--vocab-keep", "keep.txt", code=2).stderr


def test_ids_that_are_computed_with_keep_their_vocabulary(tmp_path):
    model = text_model(tmp_path / "m.onnx", numbers=True)
    r = run("compress", model, tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep", keep_ids(tmp_path / "k.txt"),
            "--steps", 0, code=6)
    assert "the vocabulary cannot be cut" in r.stderr


@pytest.mark.skipif(not FIXTURES.exists(), reason="no fixtures beside the project")
@pytest.mark.parametrize("fixture", models(["tinybert-sst2-ts-op17", "tinybert-sst2-ortpy-fused", "tinybert-sst2-ts-op17-fp16",
                                            "tinybert-sst2-ort-qdq", "tinybert-sst2-ort-dynint8"]))
def test_the_vocabulary_of_a_real_export_is_cut(fixture, tmp_path):
    _, path = fixture
    ids = [0, 100, 101, 102, 103] + list(range(1000, 3000, 7))
    run("compress", path, tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep", keep_ids(tmp_path / "k.txt", ids),
        "--steps", 0)
    rng = np.random.default_rng(3)
    x = random_ids(rng, 3, 9, ids)
    old = {"input_ids": x, "attention_mask": np.ones_like(x), "token_type_ids": np.zeros_like(x)}
    new = dict(old, input_ids=np.searchsorted(ids, x))
    for level in LEVELS:
        a, b = session(path, level), session(tmp_path / "c.onnx", level)
        names = [i.name for i in a.get_inputs()]
        want, got = (s.run(None, {n: f[n] for n in names})[0] for s, f in ((a, old), (b, new)))
        assert np.array_equal(want, got), (want, got)


# --- inspect ---


def test_inspect_shows_the_classes_that_are_asked_for(tmp_path):
    model = text_model(tmp_path / "m.onnx")
    usual = json.loads(run("inspect", model, "--json").stdout)
    assert {g["kind"] for g in usual["groups"]} == {"heads", "ffn", "head-dim"} and all(g["exact"] for g in usual["groups"])
    assert any("--prune width cuts it" in f["reason"] for f in usual["frozen"])
    more = json.loads(run("inspect", model, "--json", "--prune", "width,depth,vocab,head-dim").stdout)
    assert more["prunable_params"] == usual["prunable_params"]
    found = {}
    for g in more["groups"]:
        found.setdefault(g["kind"], []).append(g)
    assert [(g["count"], g["exact"]) for g in found["width"]] == [(STREAM, False)]
    assert [(g["count"], len(g["members"])) for g in found["depth"]] == [(LAYERS, LAYERS)] * 2
    assert [(g["count"], g["params"]) for g in found["vocab"]] == [(TOKENS, STREAM)]
    assert [g["count"] for g in found["head-dim"]] == [WIDTH] * 2 * LAYERS
    assert "no such class" in run("inspect", model, "--prune", "layers", code=2).stderr
