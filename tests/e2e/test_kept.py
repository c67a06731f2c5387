"""Nothing that was in the file is lost: after a cut, every field of the ModelProto is what it was, unknown ones too, but
for what the cut says that it changes."""
import json
import re
import shutil
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import external_data_helper, numpy_helper

import tiny
from conftest import PARE, example, index_rows, models, run

ALL = example() + models([r["name"] for r in index_rows()])
UNKNOWN = b"\xf8\xff\x03\x2a" + b"\xfa\xff\x03\x05later"  # fields 8191: the number 42, and a text
DATA = ["dims", "raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"]
CUT = ["--method", "magnitude", "--steps", "0", "-q"]
OURS = re.compile(r"(.*)\.pare\d+_*$")


def messages(m):
    """m and every message inside of it."""
    yield m
    for field, value in m.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for x in value if field.is_repeated else [value]:
                yield from messages(x)


def decorate(model):
    """Adds to every message what its type has room for, and fields that no version of ONNX knows."""
    for k, m in enumerate(list(messages(model))):
        names = {f.name for f in m.DESCRIPTOR.fields}
        if "doc_string" in names:
            m.doc_string = f"doc {k}"
        if "metadata_props" in names:
            m.metadata_props.add(key=f"key {k}", value=f"value {k}")
        m.MergeFromString(UNKNOWN)


def array(t, folder):
    t = onnx.TensorProto.FromString(t.SerializeToString())
    if t.data_location == onnx.TensorProto.EXTERNAL:
        external_data_helper.load_external_data_for_tensor(t, str(folder))
    return numpy_helper.to_array(t)


def is_part(x, y, axes):
    """y is x less some indices of these axes; looked up one by one where it is one axis."""
    if any(n != m and k not in axes or m > n for k, (n, m) in enumerate(zip(x.shape, y.shape))):
        return False
    if len(axes) != 1 or not y.size:
        return len(axes) > 0
    rows = iter([r.tobytes() for r in np.moveaxis(x, *axes, 0)])
    return all(r.tobytes() in rows for r in np.moveaxis(y, *axes, 0))  # `in` goes on from where it was


def whole(m):
    return m.SerializeToString(deterministic=True)


class Comparison:
    """Takes what may differ out of both models, checking that it may; what is left must be the same."""

    def __init__(self, before, after, cut):
        self.a, self.b = (onnx.load(str(p), load_external_data=False) for p in (before, after))
        self.folders = before.parent, after.parent
        self.cut = cut  # axes that may be shorter, by weight
        self.changed = 0

    def tensor(self, a, b, name):
        """Data and dims, where they differ; the rest stays."""
        x, y = array(a, self.folders[0]), array(b, self.folders[1])
        same = x.shape == y.shape and x.tobytes() == y.tobytes()
        assert x.dtype == y.dtype and x.ndim == y.ndim
        assert same or x.dtype in (np.int64, np.int32) or is_part(x, y, self.cut.get(name, ())), f"'{name}' has changed"
        self.changed += not same
        if not same or a.data_location == onnx.TensorProto.EXTERNAL:
            for m in (a, b):
                for field in DATA:
                    m.ClearField(field)

    def initializers(self, a, b):
        after = {t.name: t for t in b.initializer}
        assert len(after) == len(b.initializer) and [t.name for t in a.initializer] == [
            t.name for t in b.initializer][:len(a.initializer)], "initializers are lost, or in another order"
        for t in a.initializer:
            self.tensor(t, after[t.name], t.name)
        added = [t.name for t in b.initializer[len(a.initializer):]]
        assert all(OURS.match(n) for n in added), added
        del b.initializer[len(a.initializer):]
        return set(added)

    def sparse(self, a, b):
        assert len(a) == len(b), "sparse initializers are lost"
        for x, y in zip(a, b):
            if x.dims == y.dims:
                continue
            assert x.values.name in self.cut and x.values.data_type == y.values.data_type
            self.changed += 1
            for m in (x, y):
                m.ClearField("dims")
                for t in (m.values, m.indices):
                    t.ClearField("dims")
                    t.ClearField("raw_data")

    def infos(self, a, b):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            for d, e in zip(x.type.tensor_type.shape.dim, y.type.tensor_type.shape.dim):
                if d.dim_value != e.dim_value:
                    assert 0 < e.dim_value < d.dim_value, f"'{x.name}' is declared larger"
                    e.dim_value = d.dim_value
                    self.changed += 1

    def attribute(self, a, b, node):
        if a.HasField("t"):
            self.tensor(a.t, b.t, node.output[0])
        if (a.i, list(a.ints)) != (b.i, list(b.ints)):
            assert len(a.ints) == len(b.ints), f"'{a.name}' of '{node.name}'"
            self.changed += 1
            for m in (a, b):
                m.ClearField("i")
                m.ClearField("ints")

    def nodes(self, a, b, added):
        assert len(a) == len(b), "nodes are lost"
        for n, m in zip(a, b):
            for k, name in enumerate(n.input):
                if m.input[k] != name:
                    assert m.input[k] in added and OURS.match(m.input[k]), f"'{n.name}' reads '{m.input[k]}'"
                    m.input[k] = name
                    self.changed += 1
            if m.op_type != n.op_type:
                assert OURS.match(m.op_type).group(1) == n.op_type
                m.op_type = n.op_type
            for x in list(m.attribute)[len(n.attribute):]:  # what the file had left out
                assert x.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS)
                m.attribute.remove(x)
            for x, y in zip(n.attribute, m.attribute):
                self.attribute(x, y, n)

    def run(self):
        a, b = self.a, self.b
        assert whole_list(a.graph.input) == whole_list(b.graph.input), "the interface has changed"
        assert any(p.key.startswith("pare.") for p in b.metadata_props)
        for m in (a, b):
            for p in [p for p in m.metadata_props if p.key.startswith("pare.")]:
                m.metadata_props.remove(p)
        clones = list(b.functions)[len(a.functions):]
        assert all(OURS.match(f.name) for f in clones)
        for f in clones:
            b.functions.remove(f)
        self.nodes(a.graph.node, b.graph.node, self.initializers(a.graph, b.graph))
        self.sparse(a.graph.sparse_initializer, b.graph.sparse_initializer)
        self.infos(a.graph.value_info, b.graph.value_info)
        self.infos(a.graph.output, b.graph.output)
        for n, m in zip(a.graph.node, b.graph.node):
            assert whole(n) == whole(m), f"node '{n.name}':\n{n}\n{m}"
        for n, m in zip(a.graph.initializer, b.graph.initializer):
            assert whole(n) == whole(m), f"initializer '{n.name}'"
        assert whole_list(a.functions) == whole_list(b.functions)
        for m in (a, b):
            assert whole(m).count(b"later") > 4
        assert whole(a) == whole(b)


def whole_list(messages_):
    return [whole(m) for m in messages_]


def owned(path, report):
    """Weights that hold a dimension of which groups went, and the axes on which they do."""
    gone = {g["name"] for g in report["groups"] if g["after"] < g["before"]}
    groups = json.loads(run("inspect", path, "--groups", "--json").stdout)["groups"]
    axes = {}
    for weight, axis in (m.rsplit(":", 1) for g in groups if g["name"] in gone for m in g["members"]):
        axes.setdefault(weight, set()).add(int(axis))
    return axes


def check(source, tmp_path):
    """Decorates the file, cuts a half of it and compares; the code of `pare compress`."""
    model = onnx.load(str(source), load_external_data=False)
    decorate(model)
    source.write_bytes(model.SerializeToString())
    out, report = tmp_path / "out" / "c.onnx", tmp_path / "report"
    out.parent.mkdir()
    r = subprocess.run([PARE, "compress", source, out, *CUT, "--report", report], capture_output=True, text=True)
    if r.returncode == 0:
        c = Comparison(source, out, owned(source, json.loads((report / "report.json").read_text())))
        c.run()
        assert c.changed > 0
    return r.returncode


@pytest.mark.parametrize("fixture", ALL)
def test_every_field_outside_the_cut_is_what_it_was(fixture, tmp_path):
    row, path = fixture
    source = tmp_path / "in" / path.name
    shutil.copytree(path.parent, source.parent) if row else shutil.copy(path, tmp_path / path.name)
    code = check(source if row else tmp_path / path.name, tmp_path)
    if code:  # refused, or nothing to prune: as without the additions
        plain = subprocess.run([PARE, "compress", path, tmp_path / "p.onnx", *CUT], capture_output=True, text=True)
        assert code == plain.returncode in (3, 6) and (not row or row["set"] != "A"), plain.stderr


def test_so_it_is_in_sparse_initializers(tmp_path):
    path = example()[0].values[0][1]
    run("compress", path, tmp_path / "s.onnx", *CUT, "--granularity", "unstructured", "--sparsity", 0.9, "--sparse-format",
        "onnx")
    assert check(tmp_path / "s.onnx", tmp_path) == 0


def test_a_weight_that_is_an_output_stays_and_its_layer_reads_a_copy(tmp_path):
    model = tiny.encoder(onnx.TensorProto.FLOAT)
    names = ["attention.q.weight", "ffn.up.bias"]
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in names}
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, weights[name].shape))
    onnx.save(model, tmp_path / "in.onnx")
    run("compress", tmp_path / "in.onnx", tmp_path / "out.onnx", *CUT)
    out = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(out, full_check=True)
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in out.graph.output[1:]}
    assert shapes == {n: list(w.shape) for n, w in weights.items()}
    for name, value in zip(names, onnxruntime.InferenceSession(str(tmp_path / "out.onnx")).run(
            names, {"x": np.zeros((2, 5, tiny.STREAM), np.float32)})):
        assert np.array_equal(value, weights[name]), name
