"""Dynamic axes as exporters declare them (a name, nothing, -1, "?") of models that do not take every size. Truth: ONNX
Runtime, which runs masked and cut file at sizes that the model takes."""
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import run

REL = 1e-4  # of a convolution's sums in f32, masked against cut
CHANNELS = 12


def image(height, width, batch="batch"):
    """An image input whose sizes are numbers (-1 says that there is none) or names."""
    v = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 1, 1])
    for dim, size in zip(v.type.tensor_type.shape.dim, (batch, 3, height, width)):
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    return v


def network(height, width, batch="batch", pools=0, side=0):
    """Two convolutions with CHANNELS between them, `pools` poolings by 2, then the mean over all places or, where side
    is given, a layer that reads them all: it takes that side alone."""
    rng = np.random.default_rng(3)
    nodes = [helper.make_node("Conv", ["image", "conv1"], ["c1"], name="first", kernel_shape=[3, 3], pads=[1] * 4),
             helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
             helper.make_node("Conv", ["r1", "conv2"], ["p0"], name="second", kernel_shape=[3, 3], pads=[1] * 4)]
    for i in range(pools):
        nodes.append(helper.make_node("MaxPool", [f"p{i}"], [f"p{i + 1}"], name=f"pool{i}", kernel_shape=[2, 2],
                                      strides=[2, 2]))
    if side:
        features = 4 * (side // 2 ** pools) ** 2
    else:
        features = 4
        nodes.append(helper.make_node("GlobalAveragePool", [f"p{pools}"], ["mean"], name="mean"))
    nodes += [helper.make_node("Flatten", ["mean" if not side else f"p{pools}"], ["flat"], name="flatten"),
              helper.make_node("Gemm", ["flat", "head"], ["scores"], name="head")]
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
               for n, s in (("conv1", (CHANNELS, 3, 3, 3)), ("conv2", (4, CHANNELS, 3, 3)), ("head", (features, 5)))]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5])
    graph = helper.make_graph(nodes, "sizes", [image(height, width, batch)], [scores], weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


def cut(model, tmp_path, sizes, *options):
    """Half of the channels go; both files agree at these sizes, and the interface is what it was."""
    path, masked, compact = (tmp_path / n for n in ("model.onnx", "masked.onnx", "compact.onnx"))
    onnx.save(model, str(path))
    run("compress", path, compact, "--save-masked", masked, "--method", "magnitude", "--steps", 0,
        "--prune", "other", "--ranking", "uniform", *options)
    after = onnx.load(str(compact))
    assert after.graph.input == model.graph.input and after.graph.output == model.graph.output
    assert numpy_helper.to_array(after.graph.initializer[0]).shape == (CHANNELS // 2, 3, 3, 3)
    a, b = (ort.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in (masked, compact))
    for size in sizes:
        x = np.random.default_rng(1).standard_normal(size).astype(np.float32)
        want, got = a.run(None, {"image": x})[0], b.run(None, {"image": x})[0]
        assert np.abs(got - want).max() <= REL * np.abs(want).max(), f"{size}: {got} {want}"


@pytest.mark.parametrize("free", [-1, "?", ""], ids=["minus one", "question mark", "no name"])
def test_axes_without_a_name_are_dynamic_and_apart(free, tmp_path):
    cut(network(free, free, batch=free), tmp_path, [(1, 3, 9, 14), (2, 3, 20, 6)])
    run("inspect", tmp_path / "model.onnx", "--shape", "image:1x3x9x14")


def test_costs_are_counted_at_a_size_that_the_model_takes(tmp_path):
    model = network("height", "width", pools=3)
    onnx.save(model, str(tmp_path / "model.onnx"))
    assert "axes at 8: --shape sets them" in run("inspect", tmp_path / "model.onnx").stdout
    cut(model, tmp_path, [(1, 3, 16, 24), (2, 3, 8, 8)])


def test_a_model_may_join_what_it_has_halved_with_what_it_doubles(tmp_path):
    model = network("height", "width", pools=2)
    pool = next(n for n in model.graph.node if n.name == "pool1")
    mean = next(n for n in model.graph.node if n.op_type == "GlobalAveragePool")
    again = [helper.make_node("Resize", ["p2", "", "twice"], ["up"], name="up", mode="nearest",
                              coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
             helper.make_node("Add", ["up", "p1"], ["joined"], name="join")]
    mean.input[0] = "joined"
    nodes = list(model.graph.node)
    at = nodes.index(pool) + 1
    del model.graph.node[:]
    model.graph.node.extend(nodes[:at] + again + nodes[at:])
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    cut(model, tmp_path, [(1, 3, 16, 24), (2, 3, 8, 4)])


def test_a_model_that_takes_one_size_is_told_it(tmp_path):
    model = network("height", "width", pools=1, side=20)
    cut(model, tmp_path, [(1, 3, 20, 20), (2, 3, 20, 20)], "--shape", "image:1x3x20x20")
    told = run("inspect", tmp_path / "model.onnx", "--groups", "--shape", "image:1x3x20x20").stdout
    assert "at image:1x3x20x20" in told and "2 other" in told, told
    for command in (["inspect", tmp_path / "model.onnx"],
                    ["compress", tmp_path / "model.onnx", tmp_path / "new.onnx", "--steps", 0]):
        refused = run(*command, code=4)
        assert "--shape tells them" in refused.stderr, refused.stderr
    assert not (tmp_path / "new.onnx").exists()


def test_a_broken_model_without_dynamic_axes_is_not_said_to_want_sizes(tmp_path):
    model = network(20, 20, batch=1, side=24)
    onnx.save(model, str(tmp_path / "model.onnx"))
    refused = run("inspect", tmp_path / "model.onnx", code=4).stderr
    assert "head" in refused and "--shape" not in refused and refused.count("\n") == 1, refused
