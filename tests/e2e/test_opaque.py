"""Ops that pare does not know: left as they are behind all that can be cut, else refused by name.

ONNX Runtime runs the models with the unknown op taken away: what it reads is made an output."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tiny
from conftest import run
from test_compress import check_equal, training_data

LOCAL = helper.make_opsetid("acme", 1)


def encoder(path, wrap):
    """tiny's encoder with `wrap` having changed its graph."""
    model = tiny.encoder(TensorProto.FLOAT)
    model.opset_import.append(LOCAL)
    wrap(model.graph)
    onnx.save(model, str(path))
    return path


def custom(inputs, output="y", name="secret", op="Secret", **attrs):
    return helper.make_node(op, inputs, [output], name=name, domain="acme", **attrs)


def behind_the_output(graph):
    """Secret(logits) is the output; it reads a table of its own too."""
    graph.node[-1].output[0] = "logits"
    graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "table"))
    graph.node.append(custom(["logits", "table"], level=3))


def beside_the_output(graph):
    graph.node.append(custom([graph.node[-1].output[0]], "z"))
    graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))


def before_the_classifier(graph):
    at = next(i for i, n in enumerate(graph.node) if "classifier.weight" in n.input)
    graph.node.insert(at, custom([graph.node[at].input[0]], "pooled"))
    graph.node[at + 1].input[0] = "pooled"


def of_a_cut_activation(graph):
    """It reads the heads' probabilities: they may not be cut."""
    p = next(n.output[0] for n in graph.node if n.op_type == "Softmax")
    graph.node.append(custom([p], "z"))
    graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))


def of_a_cut_weight(graph):
    """It reads a matrix that is cut elsewhere, as it is and in a loop's body."""
    behind_the_output(graph)
    graph.node[-1].input.append("ffn.up.weight")
    graph.node[-1].attribute.append(helper.make_attribute("body", helper.make_graph(
        [helper.make_node("Identity", ["ffn.down.weight"], ["inner"])], "body", [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])))


def as_activation(graph):
    """In the FFN: what follows has to be run."""
    relu = next(n for n in graph.node if n.op_type == "Relu")
    relu.op_type, relu.domain = "Secret", "acme"


def at_the_front(graph):
    first = graph.node[0]
    assert first.input[0] == "x"
    graph.node.insert(0, custom(["x"], "x2"))
    for n in list(graph.node)[1:]:
        for i, name in enumerate(n.input):
            if name == "x":
                n.input[i] = "x2"


def without(path, out, ends):
    """The model up to what the unknown op reads."""
    model = onnx.load(str(path))
    gone, nodes = set(), []
    for n in model.graph.node:
        if n.domain == "acme" or gone & set(n.input):
            gone |= set(n.output)
        else:
            nodes.append(n)
    kept = [o for o in model.graph.output if o.name not in gone]
    kept += [helper.make_tensor_value_info(e, TensorProto.FLOAT, None) for e in ends]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.output.extend(kept)
    onnx.save(model, str(out))
    return out


KEPT = [(behind_the_output, ["logits"]), (beside_the_output, []), (before_the_classifier, None), (of_a_cut_activation, None),
        (of_a_cut_weight, ["logits"])]


def ends_of(path, given):
    node = next(n for n in onnx.load(str(path)).graph.node if n.domain == "acme")
    return given if given is not None else [node.input[0]]


@pytest.mark.parametrize("tuned", [False, True], ids=["scored", "tuned"])
@pytest.mark.parametrize("wrap, ends", KEPT, ids=lambda x: getattr(x, "__name__", ""))
def test_what_stands_before_it_is_cut_and_it_stays_as_it_was(tmp_path, wrap, ends, tuned):
    path = encoder(tmp_path / "m.onnx", wrap)
    ends = ends_of(path, ends)
    original = without(path, tmp_path / "plain.onnx", ends)
    options = ["--method", "magnitude", "--steps", 0]
    if tuned:
        training_data(onnx.load(str(original)), tmp_path / "d.npz")
        options = ["--steps", 4, "--batch", 4, "--prune-every", 2, "--train", tmp_path / "d.npz"]
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    said = run("compress", path, compact, "--save-masked", masked, *options).stderr
    assert "'secret' (Secret)" in said and "stay as they are" in said
    check_equal(original, without(masked, tmp_path / "masked-plain.onnx", ends),
                without(compact, tmp_path / "compact-plain.onnx", ends))
    before, after = onnx.load(str(path)).graph, onnx.load(str(compact)).graph
    assert [n for n in after.node if n.domain == "acme"] == [n for n in before.node if n.domain == "acme"]
    assert after.output == before.output
    old, new = ({t.name: t for t in g.initializer} for g in (before, after))
    up = next(n.input[1] for n in after.node if n.op_type == "MatMul" and "ffn.up" in n.input[1])
    assert list(new[up].dims) == [tiny.STREAM, tiny.FFN // 2]
    for n in after.node:
        inside = [i for a in n.attribute for b in a.g.node for i in b.input]
        reads = [*n.input, *inside] if n.domain == "acme" else []
        assert all(new[name] == old[name] for name in reads if name in old), "what the unknown op reads has changed"


def test_inspect_says_what_is_left_as_it_is(tmp_path):
    path = encoder(tmp_path / "m.onnx", before_the_classifier)
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert facts["opaque"] == [{"node": "secret", "op": "Secret", "domain": "acme"}]
    assert facts["left_out"] == 4  # itself, MatMul, Add, Identity
    assert [o["name"] for o in facts["outputs"]] == ends_of(path, None)
    assert sorted(g["kind"] for g in facts["groups"]) == ["ffn", "head-dim", "heads"]
    text = run("inspect", path).stdout
    assert "opaque     secret (Secret, acme)" in text and "4 nodes are left as they are" in text


def test_heads_that_it_reads_are_frozen(tmp_path):
    path = encoder(tmp_path / "m.onnx", of_a_cut_activation)
    assert {g["kind"] for g in json.loads(run("inspect", path, "--json").stdout)["groups"]} == {"ffn", "head-dim"}


def test_labels_judge_what_it_reads(tmp_path):
    path = encoder(tmp_path / "m.onnx", behind_the_output)
    plain = without(path, tmp_path / "plain.onnx", ["logits"])
    training_data(onnx.load(str(plain)), tmp_path / "d.npz", 40)
    d = dict(np.load(tmp_path / "d.npz"))
    np.savez(tmp_path / "d.npz", labels=np.arange(40) % 3, **d)
    scores = [json.loads(run("eval", p, "--data", tmp_path / "d.npz", "--json").stdout) for p in (path, plain)]
    assert scores[0]["value"] == scores[1]["value"] and scores[0]["metric"] == "accuracy"


@pytest.mark.parametrize("wrap, reason", [(as_activation, "layers stand behind it, up to 'MatMul_"),
                                          (at_the_front, "layers stand behind it, up to 'MatMul_")],
                         ids=["as_activation", "at_the_front"])
def test_one_that_has_to_be_run_is_refused_by_name(tmp_path, wrap, reason):
    path = encoder(tmp_path / "m.onnx", wrap)
    for args in (["inspect", path], ["compress", path, tmp_path / "c.onnx", "--steps", 0]):
        said = run(*args, code=3).stderr
        for word in ("Secret", "acme", "opset 1", "1 time", reason):
            assert word in said, said


def test_a_model_that_is_nothing_else_is_refused(tmp_path):
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    model = helper.make_model(helper.make_graph([custom(["x"])], "g", info[:1], info[1:]),
                              opset_imports=[helper.make_opsetid("", 17), LOCAL], ir_version=8)
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert "no output of the model is left" in run("inspect", tmp_path / "m.onnx", code=3).stderr
