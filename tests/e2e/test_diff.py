"""pare diff against the onnx package's reading of the same files."""
import json

import onnx
import pytest

from conftest import example, models, run


def tensors(path):
    return {t.name: list(t.dims) for t in onnx.load(str(path), load_external_data=False).graph.initializer}


@pytest.mark.parametrize("fixture", example() + models("A") + models("B"))
def test_a_model_does_not_differ_from_itself(fixture):
    row, path = fixture
    r = json.loads(run("diff", path, path, "--json").stdout)
    assert r["changes"] == []
    assert r["outputs"] is None or r["outputs"]["max_abs"] == 0


@pytest.mark.parametrize("fixture", example() + models("A"))
def test_a_cut_names_every_tensor_that_has_another_shape_and_no_other(fixture, tmp_path):
    row, path = fixture
    compact = tmp_path / "compact.onnx"
    run("compress", path, compact, "--method", "magnitude", "--steps", 0, "-q")
    changes = json.loads(run("diff", path, compact, "--json", code=1).stdout)["changes"]
    was, now = tensors(path), tensors(compact)
    told = {c["name"] for c in changes if c["what"] == "tensor"}
    cut = {n for n in was.keys() & now.keys() if was[n] != now[n]}
    assert cut <= told and (now.keys() - was.keys()) <= told
    assert {c["what"] for c in changes} <= {"tensor", "attribute", "metadata", "value", "node"}
    names = {c["name"] for c in changes if c["what"] == "metadata"}
    assert {"pare.version", "pare.method", "pare.target", "pare.requested"} == names


@pytest.mark.parametrize("fixture", example())
def test_a_changed_attribute_opset_and_output_are_told_with_both_values(fixture, tmp_path):
    row, path = fixture
    model, other = onnx.load(str(path)), tmp_path / "other.onnx"
    node = next(n for n in model.graph.node if n.op_type == "LayerNormalization" or n.op_type == "Softmax")
    attribute = node.attribute[0]
    before = attribute.i if attribute.type == onnx.AttributeProto.INT else attribute.f
    if attribute.type == onnx.AttributeProto.INT:
        attribute.i += 1
    else:
        attribute.f *= 2
    model.graph.output[0].name = "elsewhere"
    model.opset_import.add(domain="example.org", version=3)
    onnx.save(model, str(other))
    changes = json.loads(run("diff", path, other, "--json", code=1).stdout)["changes"]
    by = {(c["what"], c["name"]): c for c in changes}
    assert by["opset", "example.org"]["before"] is None and by["opset", "example.org"]["after"] == "3"
    assert by["output", "elsewhere"]["before"] is None
    changed = by["attribute", f"{node.name or node.output[0]}.{attribute.name}"]
    assert abs(float(changed["before"]) - before) <= 1e-6 * abs(before) and changed["after"] != changed["before"]


def test_a_missing_or_broken_file_ends_in_one_sentence(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\xff" * 40)
    for path in (tmp_path / "none.onnx", broken):
        r = run("diff", path, path, code=4)
        assert r.stdout == "" and r.stderr.count("\n") == 1
