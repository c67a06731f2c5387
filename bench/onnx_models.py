#!/usr/bin/env python3
"""onnx_models.py - the models of shapes.py with random weights as ONNX files, made by hand: no PyTorch is needed.

    onnx_models.py NAME FILE"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shapes import CLASSES, LENGTH, MODELS, PATCH, PIXELS, VOCAB, tokens


class Graph:
    """Nodes and weights under construction; methods give the name of a result."""

    def __init__(self):
        self.nodes, self.weights, self.rng = [], [], np.random.default_rng(0)

    def node(self, op, *inputs, **attrs):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name

    def constant(self, values, dtype=np.float32):
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def normal(self, *shape):
        return self.constant(0.02 * self.rng.standard_normal(shape, np.float32))

    def ints(self, *values):
        return self.constant(values, np.int64)

    def linear(self, x, k, n):
        return self.node("Add", self.node("MatMul", x, self.normal(k, n)), self.constant(np.zeros(n)))

    def norm(self, x, n):
        return self.node("LayerNormalization", x, self.constant(np.ones(n)), self.constant(np.zeros(n)), axis=-1)

    def attention(self, x, n, heads):
        d = n // heads
        q, k, v = (self.node("Reshape", self.linear(x, n, n), self.ints(0, 0, heads, d)) for _ in range(3))
        q, v = (self.node("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
        k = self.node("Transpose", k, perm=[0, 2, 3, 1])
        s = self.node("Mul", self.node("MatMul", q, k), self.constant(d ** -0.5))
        y = self.node("MatMul", self.node("Softmax", s, axis=-1), v)
        y = self.node("Reshape", self.node("Transpose", y, perm=[0, 2, 1, 3]), self.ints(0, 0, n))
        return self.linear(y, n, n)

    def gelu(self, x):
        e = self.node("Erf", self.node("Div", x, self.constant(2 ** 0.5)))
        return self.node("Mul", self.node("Mul", x, self.node("Add", e, self.constant(1.0))), self.constant(0.5))

    def block(self, x, n, heads, ffn, pre):
        for part in (lambda y: self.attention(y, n, heads),
                     lambda y: self.linear(self.gelu(self.linear(y, n, ffn)), ffn, n)):
            x = (self.node("Add", x, part(self.norm(x, n))) if pre
                 else self.norm(self.node("Add", x, part(x)), n))
        return x

    def first(self, x):
        return self.node("Gather", x, self.constant(0, np.int64), axis=1)


def bert(g, layers, n, heads, ffn):
    x = g.node("Add", g.node("Gather", g.normal(VOCAB, n), "x"), g.normal(1, LENGTH, n))
    x = g.norm(x, n)
    for _ in range(layers):
        x = g.block(x, n, heads, ffn, pre=False)
    return g.linear(g.node("Tanh", g.linear(g.first(x), n, n)), n, 2)


def vit(g, layers, n, heads, ffn):
    x = g.node("Conv", "x", g.normal(n, 3, PATCH, PATCH), g.constant(np.zeros(n)), strides=[PATCH, PATCH])
    x = g.node("Transpose", g.node("Reshape", x, g.ints(0, n, -1)), perm=[0, 2, 1])
    batch = g.node("Slice", g.node("Shape", x), g.ints(0), g.ints(1))
    token = g.node("Expand", g.normal(1, 1, n), g.node("Concat", batch, g.ints(1, n), axis=0))
    x = g.node("Add", g.node("Concat", token, x, axis=1), g.normal(1, tokens("vit"), n))
    for _ in range(layers):
        x = g.block(x, n, heads, ffn, pre=True)
    return g.linear(g.first(g.norm(x, n)), n, CLASSES)


def write(name, path):
    kind, layers, n, heads, ffn, _ = MODELS[name]
    g = Graph()
    y = (bert if kind == "bert" else vit)(g, layers, n, heads, ffn)
    g.nodes.append(helper.make_node("Identity", [y], ["logits"], name="last"))
    elem, dims = (TensorProto.INT64, [LENGTH]) if kind == "bert" else (TensorProto.FLOAT, [3, PIXELS, PIXELS])
    graph = helper.make_graph(
        g.nodes, name, [helper.make_tensor_value_info("x", elem, ["batch", *dims])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2 if kind == "bert" else CLASSES])],
        g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


if __name__ == "__main__":
    write(*sys.argv[1:3])
