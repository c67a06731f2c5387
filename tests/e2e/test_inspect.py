"""inspect: why a dimension is there or frozen, how much may be pruned, and who made the file."""
import json
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tiny
from conftest import PARE, example, models, run

FIXTURES = models("A") + models("B") + example()


def groups(path):
    return json.loads(run("inspect", path, "--groups", "--json").stdout)


def why(path, name):
    return json.loads(run("inspect", path, "--why", name, "--json").stdout)


def supported(path):
    return subprocess.run([PARE, "inspect", str(path)], capture_output=True).returncode == 0


def tensors_of(model):
    """By node name: the names that it reads or makes. Nodes without a name have that of their first output."""
    return {n.name or n.output[0]: set(n.input) | set(n.output) for n in model.graph.node}


def check_chain(nodes, start, chain):
    """Every link's node reads or makes the tensor before it and the one that it leads to."""
    at = start
    for step in chain["steps"]:
        if step["node"] is None:
            assert step["tensor"] == at
        elif step["node"] in nodes:  # else inside of a composite op or function
            assert {at, step["tensor"]} <= nodes[step["node"]], (at, step)
        at = step["tensor"]
    assert at == chain["tensor"]


@pytest.mark.parametrize("fixture", FIXTURES)
def test_every_weight_of_a_dimension_has_a_chain_to_all_the_others(fixture):
    _, path = fixture
    if not supported(path):
        pytest.skip("a dialect that is refused")
    model = onnx.load(str(path), load_external_data=False)
    nodes = tensors_of(model)
    for g in groups(path)["groups"][:4]:
        name, axis = g["members"][0].rsplit(":", 1)
        told = why(path, name)
        assert told["what"] in ("weight", "node")
        if told["what"] == "node":
            continue  # a Constant node of the same name
        parts = [p for a in told["axes"] if a["axis"] == int(axis) for p in a["parts"]]
        mine = [p for p in parts if p["dimension"] == g["name"]]
        assert len(mine) == 1 and mine[0]["size"] == g["count"] and mine[0]["kind"] == g["kind"], parts
        reached = {f"{c['tensor']}:{c['axis']}" for c in mine[0]["chains"]}
        assert reached == set(g["members"][1:]), (reached, g["members"])
        for p in parts:
            for c in p["chains"]:
                check_chain(nodes, name, c)


def test_an_axis_that_is_frozen_names_the_node_and_the_way_there(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(tiny.encoder(TensorProto.FLOAT), str(path))
    heads, width = why(path, "attention.q.weight")["axes"][1]["parts"]
    assert heads["kind"] == "heads" and width["size"] == tiny.WIDTH
    assert (width["dimension"], width["op"]) == (None, "MatMul") and "two activations" in width["reason"]
    assert [s["op"] for s in width["chains"][0]["steps"]] == ["MatMul", "Add", "Reshape", "Transpose"]
    told = why(path, "ffn.up.weight")
    (stream,), (channels,) = told["axes"][0]["parts"], told["axes"][1]["parts"]
    assert (stream["dimension"], stream["node"]) == (None, None) and "the graph's input 'x'" in stream["reason"]
    assert stream["chains"][0]["tensor"] == "x" and stream["chains"][0]["steps"][-1]["tensor"] == "x"
    assert (channels["kind"], channels["size"]) == ("ffn", tiny.FFN)
    down = [c for c in channels["chains"] if c["tensor"] == "ffn.down.weight"]
    assert [s["op"] for s in down[0]["steps"]] == ["MatMul", "Add", "Relu", "MatMul"]


def test_a_node_is_asked_about_by_its_name_and_its_results_are_explained(tmp_path):
    path = tmp_path / "m.onnx"
    model = tiny.encoder(TensorProto.FLOAT)
    onnx.save(model, str(path))
    softmax = next(n for n in model.graph.node if n.op_type == "Softmax")
    told = why(path, softmax.name)
    assert told["what"] == "node" and [a["axis"] for a in told["axes"]] == [0, 1, 2, 3]
    assert told["axes"][1]["parts"][0]["kind"] == "heads"
    assert told["axes"][0]["size"] is None and "input 'x'" in told["axes"][0]["parts"][0]["reason"]
    text = run("inspect", path, "--why", softmax.name).stdout
    assert "4 heads: " in text and "tied to attention.q.weight:1 by " in text and "(MatMul)" in text


def test_what_is_not_in_the_model_cannot_be_explained(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(tiny.encoder(TensorProto.FLOAT), str(path))
    assert "no node, weight or tensor 'nobody'" in run("inspect", path, "--why", "nobody", code=2).stderr
    assert "--why" in run("inspect", path, "--why", "nobody", "--groups", code=2).stderr


# --- --strict ---


def test_strict_compares_the_share_of_parameters_in_heads_and_channels(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(tiny.encoder(TensorProto.FLOAT), str(path))
    s, f = tiny.STREAM, tiny.FFN
    inside = 4 * s * s + 3 * s + 2 * s * f + f  # q k v o, their biases but o's, up and down, the bias of up
    weights = inside + s + s + 4 * s + s * tiny.CLASSES + tiny.CLASSES + 1  # biases, two norms, classifier, the scale
    facts = groups(path)
    assert facts["prunable_params"] == inside
    assert facts["params"] in (weights, weights - 1), "the scale is a number of its own"
    share = inside / facts["params"]
    run("inspect", path, "--strict", f"{share - 1e-4:.6f}")
    said = run("inspect", path, "--strict", f"{share + 1e-4:.6f}", code=1).stderr
    assert said.count("\n") == 1 and "--strict" in said and "m.onnx" in said
    json.loads(run("inspect", path, "--strict", 1, "--json", code=1).stdout)


@pytest.mark.parametrize("share", ["1.5", "-0.1", "half"])
def test_strict_takes_a_share(tmp_path, share):
    run("inspect", "m.onnx", "--strict", share, code=2)


# --- the exporter ---

# By name of the fixture: who exported it and what has changed it since, as its README and file tell.
KNOWN = {
    "tinybert-sst2-ts-op17": ("PyTorch TorchScript", []),
    "deit-fashion-ts-op9-dyn": ("PyTorch TorchScript", []),
    "distilbert-tiny-optimum": ("PyTorch TorchScript", []),
    "vespa-dummy-transformer": ("PyTorch TorchScript", []),
    "metrocast-excelformer-dynamo": ("PyTorch dynamo", []),
    "tfbert-qa-keras2onnx": ("keras2onnx", []),
    "tinybert-sst2-ort130-extended": ("PyTorch TorchScript", ["ONNX Runtime"]),
    "tinybert-sst2-ortpy-fused": ("PyTorch TorchScript", ["ONNX Runtime transformers optimizer"]),
    "deit-fashion-ort-qdq": ("PyTorch TorchScript", ["ONNX Runtime quantizer"]),
}


@pytest.mark.parametrize("fixture", models(list(KNOWN)))
def test_the_exporter_is_known_by_its_marks(fixture):
    row, path = fixture
    e = groups(path)["exporter"]
    assert (e["exporter"], e["rewritten_by"]) == KNOWN[row["name"]]
    model = onnx.load(str(path), load_external_data=False)
    assert (e["producer_name"], e["producer_version"]) == (model.producer_name, model.producer_version)
    ops = [n.op_type for n in model.graph.node]
    assert sum(e["gelu"].values()) in (0, ops.count("Erf") + ops.count("BiasGelu"))
    assert sum(e["attention"].values()) == ops.count("Softmax") + ops.count("Attention")


def marked(path, producer="", graph="g", initializer="w", domain=None, node="n", metadata=None):
    w = numpy_helper.from_array(np.ones((4, 4), np.float32), initializer)
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in "xy"]
    g = helper.make_graph([helper.make_node("MatMul", ["x", initializer], ["y"], name=node)], graph, info[:1], info[1:], [w])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    m = helper.make_model(g, opset_imports=opsets, ir_version=8, producer_name=producer)
    for k, v in (metadata or {}).items():
        m.metadata_props.add(key=k, value=v)
    onnx.save(m, str(path))
    return groups(path)["exporter"]


@pytest.mark.parametrize("marks, exporter, rewriters", [
    (dict(producer="tf2onnx"), "tf2onnx", []),
    (dict(initializer="const_fold_opt__12"), "tf2onnx", []),
    (dict(producer="PaddlePaddle"), "paddle2onnx", []),
    (dict(graph="Model from PaddlePaddle."), "paddle2onnx", []),
    (dict(producer="pytorch", node="node_MatMul_1"), "PyTorch dynamo", []),
    (dict(graph="torch_jit", producer="onnxruntime.transformers"), "PyTorch TorchScript",
     ["ONNX Runtime transformers optimizer"]),
    (dict(graph="main_graph", producer="optimum-onnx"), None, ["Optimum"]),
    (dict(producer="pytorch"), "PyTorch TorchScript", ["onnxsim, onnxslim or alike"]),
    (dict(domain="com.microsoft.nchwc"), None, ["ONNX Runtime"]),
    (dict(metadata={"pare.version": "0"}), None, ["pare"]),
    (dict(), None, []),
], ids=lambda x: str(x))
def test_marks_of_the_table(tmp_path, marks, exporter, rewriters):
    e = marked(tmp_path / "m.onnx", **marks)
    assert (e["exporter"], e["rewritten_by"]) == (exporter, rewriters)


def test_the_report_has_the_fingerprint_of_the_input(tmp_path):
    path = tmp_path / "m.onnx"
    model = tiny.encoder(TensorProto.FLOAT)
    model.producer_name = "tf2onnx"
    onnx.save(model, str(path))
    run("compress", path, tmp_path / "c.onnx", "--method", "magnitude", "--steps", 0, "--report", tmp_path / "r", "-q")
    e = json.loads((tmp_path / "r" / "report.json").read_text())["exporter"]
    assert e["exporter"] == "tf2onnx" and e["layernorm"] == {"LayerNormalization": 2}
    assert e["attention"] == {"Softmax and MatMul": 1} and e["gelu"] == {}
