"""A small transformer encoder made by hand, in whatever element types a test wants:
one layer of 4 heads of width 4 on a residual stream of 16, 32 FFN channels, 3 classes."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEADS, WIDTH, STREAM, FFN, CLASSES = 4, 4, 16, 32, 3


class Builder:
    """Nodes and initializers under construction; every method gives the name of a result."""

    def __init__(self, weights, products=None, seed=0):
        """`weights`: how parameters are stored; `products`: what matrices are multiplied in, the rest being f32."""
        self.nodes, self.initializers = [], []
        self.weights, self.products = weights, products or weights
        self.rest = TensorProto.FLOAT if products else weights
        self.rng = np.random.default_rng(seed)

    def node(self, op, *inputs, **attrs):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name

    def constant(self, name, values, elem):
        """The tensor `values`, rounded to `elem`."""
        t = numpy_helper.from_array(np.asarray(values, helper.tensor_dtype_to_np_dtype(elem)), name)
        self.initializers.append(t)
        return name

    def cast(self, x, have, want):
        return x if have == want else self.node("Cast", x, to=want)

    def weight(self, name, *shape, scale=None):
        """As stored, cast to what products are computed in."""
        w = self.rng.standard_normal(shape) * (scale or shape[0] ** -0.5)
        return self.cast(self.constant(name, w, self.weights), self.weights, self.products)

    def dense(self, x, name, n_in, n_out):
        x = self.node("MatMul", x, self.weight(f"{name}.weight", n_in, n_out))
        return self.node("Add", x, self.weight(f"{name}.bias", n_out, scale=0.1))

    def norm(self, x, name):
        gamma = self.constant(f"{name}.gamma", 1 + 0.1 * self.rng.standard_normal(STREAM), self.rest)
        beta = self.constant(f"{name}.beta", 0.1 * self.rng.standard_normal(STREAM), self.rest)
        return self.node("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-5)

    def ints(self, *values):
        return self.constant(f"ints_{len(self.initializers)}", values, TensorProto.INT64)


def attention(b, x):
    split = b.ints(0, 0, HEADS, WIDTH)
    q, k, v = (b.node("Reshape", b.dense(x, f"attention.{n}", STREAM, STREAM), split) for n in "qkv")
    q, v = (b.node("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
    k = b.node("Transpose", k, perm=[0, 2, 3, 1])
    scale = b.constant("scale", WIDTH ** -0.5, b.products)
    p = b.node("Softmax", b.node("Mul", b.node("MatMul", q, k), scale), axis=-1)
    y = b.node("Transpose", b.node("MatMul", p, v), perm=[0, 2, 1, 3])
    return b.dense(b.node("Reshape", y, b.ints(0, 0, HEADS * WIDTH)), "attention.out", STREAM, STREAM)


def layers(b, x):
    """One layer of attention and FFN on the residual stream."""
    for name, part in (("norm1", attention), ("norm2", feed_forward)):
        y = part(b, b.cast(b.norm(x, name), b.rest, b.products))
        x = b.node("Add", x, b.cast(y, b.products, b.rest))
    return x


def encoder(elem, products=None, interface=TensorProto.FLOAT, opset=17, seed=0):
    """x[batch, sequence, 16] of `interface` -> y[batch, 3] of `interface`."""
    b = Builder(elem, products, seed)
    x = b.cast(layers(b, b.cast("x", interface, b.rest)), b.rest, b.products)
    pooled = (b.node("ReduceMean", x, axes=[1], keepdims=0) if opset < 18
              else b.node("ReduceMean", x, b.ints(1), keepdims=0))
    y = b.cast(b.dense(pooled, "classifier", STREAM, CLASSES), b.products, interface)
    b.nodes.append(helper.make_node("Identity", [y], ["y"], name="last"))
    graph = helper.make_graph(b.nodes, "encoder",
                              [helper.make_tensor_value_info("x", interface, ["batch", "sequence", STREAM])],
                              [helper.make_tensor_value_info("y", interface, ["batch", CLASSES])], b.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10)
    onnx.checker.check_model(model, full_check=True)
    return model


def feed_forward(b, x):
    h = b.node("Relu", b.dense(x, "ffn.up", STREAM, FFN))
    return b.dense(h, "ffn.down", FFN, STREAM)


def hybrid(elem, opset=17, seed=0):
    """The same interface behind a stem of convolutions and pools over [sequence, 16], q, k and v out of one product."""
    b = Builder(elem, seed=seed)
    conv = lambda x, name, *w: b.node("Conv", x, b.weight(f"{name}.weight", *w, scale=w[1] ** -0.5 / w[2]),
                                      b.weight(f"{name}.bias", w[0], scale=0.1), pads=[w[2] // 2] * 4)
    window = {"kernel_shape": [3, 3], "pads": [1] * 4}
    c = b.node("Relu", conv(b.node("Unsqueeze", "x", b.ints(1)), "stem.first", 8, 1, 3, 3))
    c = b.node("MaxPool", c, **window)
    gate = b.node("Sigmoid", conv(b.node("GlobalAveragePool", c), "stem.gate", 8, 8, 1, 1))
    c = conv(b.node("Mul", c, gate), "stem.last", 1, 8, 1, 1)
    x = b.node("Add", "x", b.node("Squeeze", b.node("AveragePool", c, **window), b.ints(1)))
    parts = [f"part_{n}" for n in "qkv"]
    b.nodes.append(helper.make_node("Split", [b.dense(x, "attention.qkv", STREAM, 3 * STREAM), b.ints(*[STREAM] * 3)],
                                    parts, name="apart", axis=2))
    q, k, v = (b.node("Transpose", b.node("Reshape", t, b.ints(0, 0, HEADS, WIDTH)), perm=[0, 2, 1, 3]) for t in parts)
    p = b.node("Softmax", b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    y = b.node("Transpose", b.node("MatMul", p, v), perm=[0, 2, 1, 3])
    x = b.node("Add", x, b.dense(b.node("Reshape", y, b.ints(0, 0, STREAM)), "attention.out", STREAM, STREAM))
    x = b.node("Add", x, feed_forward(b, x))
    y = b.dense(b.node("ReduceMean", x, axes=[1], keepdims=0), "classifier", STREAM, CLASSES)
    b.nodes.append(helper.make_node("Identity", [y], ["y"], name="last"))
    graph = helper.make_graph(b.nodes, "hybrid",
                              [helper.make_tensor_value_info("x", elem, ["batch", "sequence", STREAM])],
                              [helper.make_tensor_value_info("y", elem, ["batch", CLASSES])], b.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def for_task(task, seed=0):
    """x[batch, sequence, 16] and attention_mask[batch, sequence], which only marks padding -> what the task asks for:
    "sentence" y[batch, 3], "number" y[batch, 1], "tokens" y[batch, sequence, 3], "spans" start_logits and
    end_logits [batch, sequence], "spans in one" y[batch, sequence, 2]."""
    b = Builder(TensorProto.FLOAT, seed=seed)
    x = layers(b, "x")
    wide = {"sentence": CLASSES, "number": 1, "tokens": CLASSES}.get(task, 2)
    shape = {"sentence": ["batch", CLASSES], "number": ["batch", 1], "tokens": ["batch", "sequence", CLASSES],
             "spans in one": ["batch", "sequence", 2]}.get(task, ["batch", "sequence"])
    if task in ("sentence", "number"):
        x = b.node("ReduceMean", x, axes=[1], keepdims=0)
    y = b.dense(x, "classifier", STREAM, wide)
    if task == "spans":
        names = ["start_logits", "end_logits"]
        b.nodes.append(helper.make_node("Split", [y], ["first", "second"], axis=2))
        for part, name in zip(("first", "second"), names):
            b.nodes.append(helper.make_node("Squeeze", [part, b.ints(2)], [name]))
    else:
        names = ["y"]
        b.nodes.append(helper.make_node("Identity", [y], ["y"]))
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "sequence"])
    b.nodes.append(helper.make_node("Identity", ["attention_mask"], ["mask_out"]))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(b.nodes, task, [info("x", TensorProto.FLOAT, ["batch", "sequence", STREAM]), mask],
                              [info("mask_out", TensorProto.INT64, ["batch", "sequence"])] +
                              [info(n, TensorProto.FLOAT, shape) for n in names], b.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
