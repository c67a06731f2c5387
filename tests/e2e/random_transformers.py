#!/usr/bin/env python3
"""Random transformer graphs in random dialects, reproducible by seed, and the law that holds for all of them: the
heads and channels that were put in are found, and cut and masked file agree in ONNX Runtime.

    random_transformers.py [--pare build/pare] [--seeds 0:1000] [--save DIR]

Sizes are small and collide on purpose (a batch of 4 beside 4 heads). A dialect is one choice of every row of CHOICES;
what needs a newer opset says from which on. --save keeps the models that fail.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from tiny import Builder

LONGEST = 24  # rows of tables of positions
CHOICES = {
    "opset": [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21],
    "input": ["ids", "floats", "image"],
    "axes": ["dynamic", "fixed", "fixed length"],
    "linear": ["matmul", "turned", "gemm", "gemm transB", "convolution"],
    "bias": ["second", "first", "one for all", "none"],
    "store": ["initializer", "constant"],
    "qkv": ["separate", "split", "slices", "five", "five split", "interleaved"],
    "heads": ["zeros", "minus", "count minus", "computed", "divided"],
    "lead": ["gathers", "slice"],
    "merge": ["zeros", "minus", "computed", "multiplied"],
    "layout": ["batched", "batched", "batched", "folded", "grouped", "joint"],
    "weights": ["each its own", "each its own", "one layer"],
    "scores": ["matmul", "matmul", ("einsum", 12)],
    "key": ["at once", "in two"],
    "scale": ["divide", "multiply", "query", "both", "computed"],
    "mask": ["none", "input", "causal add", "causal where", "bias", "relative"],
    "query norm": ["no", "no", "yes"],
    "rotary": ["no", "no", "yes"],
    "norm": [("layer", 17), "subs", "one sub", "square", "reciprocal", "rms"],
    "gamma": ["second", "first"],
    "order": ["pre", "post", "parallel"],
    "residual": ["add", "sum"],
    "activation": ["relu", "erf", "erf half first", "tanh", ("gelu", 20), "quick"],
    "ffn": ["plain", "plain", "gated", "gated packed"],
    "noise": ["none", "identity", "dropout", "cast"],
    "pool": ["mean", "gather", "slice", "tokens"],
}
COPIES = ["expand", "tile", "concat", "stack", "gather", "whole tile", "whole concat", "whole gather", "packed"]


def choose(rng):
    d = {"opset": rng.choice(CHOICES["opset"])}
    for key, words in CHOICES.items():
        fit = [w if isinstance(w, str) else w[0] for w in words if isinstance(w, str) or
               isinstance(w, tuple) and w[1] <= d["opset"]]
        if fit:
            d[key] = rng.choice(fit)
    d["layers"] = rng.choice([1, 2, 2, 3])
    d["stream"] = 2 * rng.randint(2, 8)
    d["sizes"] = [(rng.randint(2, 6), 2 * rng.randint(1, 4), rng.randint(2, 20)) for _ in range(d["layers"])]
    if d["weights"] == "one layer":
        d["sizes"] = d["sizes"][:1] * d["layers"]
    d["repeat"] = rng.randint(2, 3)  # heads of q for one of k and v
    d["values"] = rng.choice([0, 0, 1])  # how much wider the heads of v are
    d["batch"], d["length"] = rng.randint(1, 4), rng.randint(2, 9)
    if d["input"] == "image":
        d["length"] = 4 + 1  # patches and a class token
    d["fused"] = rng.choice(["no", "no", "plain", "bias"])  # sums and norms in one op, layers of one size
    if d["fused"] != "no":
        d["sizes"] = d["sizes"][:1] * d["layers"]
    d["copies"] = rng.choice(COPIES)  # of k and v where heads of q share them; whole: all of them again
    return d


class Transformer(Builder):
    """One model of a dialect; values are [batch, length, width] unless a method says otherwise."""

    def __init__(self, dialect, seed):
        super().__init__(TensorProto.FLOAT, seed=seed)
        self.d, self.opset = dialect, dialect["opset"]
        self.inputs = []
        self.shared, self.place = {}, None  # weights by their place in a layer, and by their size
        self.normal = {}  # of a sum, where one op has made both
        self.batch = None if dialect["axes"] != "fixed" else dialect["batch"]
        self.length = None if dialect["axes"] == "dynamic" and dialect["input"] != "image" else dialect["length"]

    def is_(self, key, *words):
        return self.d[key] in words

    # --- ops whose form depends on the opset ---

    def floats(self, values):
        return self.constant(f"c{len(self.initializers)}", values, TensorProto.FLOAT)

    def with_axes(self, op, since, x, *axes, **attrs):
        if self.opset < since:
            return self.node(op, x, axes=list(axes), **attrs)
        return self.node(op, x, self.ints(*axes), **attrs)

    def unsqueeze(self, x, *axes):
        return self.with_axes("Unsqueeze", 13, x, *axes)

    def mean(self, x, axis, keep=1):
        return self.with_axes("ReduceMean", 18, x, axis, keepdims=keep)

    def slice(self, x, axis, start, end):
        if self.opset < 10:
            return self.node("Slice", x, axes=[axis], starts=[start], ends=[end])
        return self.node("Slice", x, self.ints(start), self.ints(end), self.ints(axis))

    def split(self, x, axis, *sizes):
        names = [f"Split_{len(self.nodes)}_{i}" for i in range(len(sizes))]
        inputs, attrs = ([x], {"split": list(sizes)}) if self.opset < 13 else ([x, self.ints(*sizes)], {})
        self.nodes.append(helper.make_node("Split", inputs, names, name=names[0], axis=axis, **attrs))
        return names

    def squeeze(self, x, axis):
        return self.with_axes("Squeeze", 13, x, axis)

    def noise(self, x):
        """Nodes that do nothing."""
        if self.is_("noise", "none") or self.rng.random() < 0.6:
            return x
        return {"identity": lambda: self.node("Identity", x), "dropout": lambda: self.node("Dropout", x),
                "cast": lambda: self.node("Cast", x, to=TensorProto.FLOAT)}[self.d["noise"]]()

    # --- shapes ---

    def dim(self, x, axis):
        """Size of an axis of x as [1]."""
        return self.unsqueeze(self.node("Gather", self.node("Shape", x), self.scalar(axis), axis=0), 0)

    def scalar(self, n):
        return self.constant(f"n{len(self.initializers)}", n, TensorProto.INT64)

    def shape(self, *parts):
        """A shape of numbers and of names of [1] tensors."""
        if all(isinstance(p, int) for p in parts):
            return self.ints(*parts)
        return self.node("Concat", *(self.ints(p) if isinstance(p, int) else p for p in parts), axis=0)

    def lead(self, x, kept=()):
        """Batch and length of x: 0s in a form of `kept`, numbers where they are fixed, else parts of its shape."""
        if self.d["heads"] in kept:
            return 0, 0
        if self.is_("lead", "slice") and not self.length:
            return (self.slice(self.node("Shape", x), 0, 0, 2),)
        return self.batch or self.dim(x, 0), self.length or self.dim(x, 1)

    # --- weights ---

    def parameter(self, *shape, scale=None):
        if self.place is not None and self.is_("weights", "one layer"):
            self.place += 1
            if self.place not in self.shared:
                self.shared[self.place] = self.new_parameter(*shape, scale=scale)
            return self.shared[self.place]
        return self.new_parameter(*shape, scale=scale)

    def bias(self, n):
        """Exporters merge equal weights, of different layers too."""
        if not self.is_("bias", "one for all"):
            return self.parameter(n, scale=0.3)
        if ("bias", n) not in self.shared:
            self.shared["bias", n] = self.new_parameter(n, scale=0.3)
        return self.shared["bias", n]

    def new_parameter(self, *shape, scale=None):
        name = self.weight(f"w{len(self.initializers)}.{len(self.nodes)}", *shape, scale=scale)
        if self.is_("store", "initializer"):
            return name
        t = self.initializers.pop()
        self.nodes.append(helper.make_node("Constant", [], [name], name="at_" + name, value=t))
        return name

    def linear(self, x, n_in, n_out, rank=3):
        form = self.d["linear"]
        if form.startswith("gemm"):
            return self.gemm(x, n_in, n_out, rank)
        if form == "convolution" and rank == 3:
            bias = [] if self.is_("bias", "none") else [self.bias(n_out)]
            y = self.node("Conv", self.node("Transpose", x, perm=[0, 2, 1]), self.parameter(n_out, n_in, 1), *bias)
            return self.node("Transpose", y, perm=[0, 2, 1])
        w = (self.parameter(n_in, n_out) if form != "turned" else
             self.node("Transpose", self.parameter(n_out, n_in), perm=[1, 0]))
        y = self.node("MatMul", x, w)
        if self.is_("bias", "none"):
            return y
        b = self.bias(n_out)
        return self.node("Add", *((b, y) if self.is_("bias", "first") else (y, b)))

    def gemm(self, x, n_in, n_out, rank):
        turned = self.is_("linear", "gemm transB")
        w = self.parameter(n_out, n_in) if turned else self.parameter(n_in, n_out)
        back = self.shape(self.dim(x, 0), self.dim(x, 1), n_out) if rank == 3 else None
        flat = self.node("Reshape", x, self.ints(-1, n_in)) if rank == 3 else x
        # without C from opset 11 on
        bias = [] if self.is_("bias", "none") and self.opset >= 11 else [self.bias(n_out)]
        y = self.node("Gemm", flat, w, *bias, transB=int(turned))
        return self.node("Reshape", y, back) if rank == 3 else y

    # --- attention ---

    def heads(self, x, h, d):
        """[B, S, h*d] -> [B, h, S, d]"""
        form = self.d["heads"]
        lead = self.lead(x, ("zeros", "minus", "count minus"))
        last = {"minus": (h, -1), "count minus": (-1, d)}.get(form, (h, d))
        if form == "divided":
            width = self.node("Gather", self.node("Shape", x), self.scalar(2), axis=0)
            last = (h, self.unsqueeze(self.node("Div", width, self.scalar(h)), 0))
        return self.node("Transpose", self.node("Reshape", x, self.shape(*lead, *last)), perm=[0, 2, 1, 3])

    def merged(self, y, h, d):
        """[B, h, S, d] -> [B, S, h*d]"""
        y, form = self.node("Transpose", y, perm=[0, 2, 1, 3]), self.d["merge"]
        lead = (0, 0) if form in ("zeros", "minus") else self.lead(y)
        last = -1 if form == "minus" else h * d
        if form == "multiplied":
            n = self.node("Shape", y)
            n = [self.node("Gather", n, self.scalar(i), axis=0) for i in (2, 3)]
            last = self.unsqueeze(self.node("Mul", *n), 0)
        return self.node("Reshape", y, self.shape(*lead, last))

    def qkv(self, x, h, d, v):
        """q, k [B, h, S, d] and v [B, h, S, v]"""
        n, form = self.d["stream"], self.d["qkv"]
        if form == "separate":
            return [self.heads(self.noise(self.linear(x, n, h * w)), h, w) for w in (d, d, v)]
        y = self.linear(x, n, h * (2 * d + v))
        if form == "split":
            return [self.heads(p, h, w) for p, w in zip(self.split(y, 2, h * d, h * d, h * v), (d, d, v))]
        if form == "slices":
            ends = np.cumsum([0, h * d, h * d, h * v]).tolist()
            return [self.heads(self.slice(y, 2, *at), h, w) for at, w in zip(zip(ends, ends[1:]), (d, d, v))]
        lead = self.lead(y, ("zeros", "minus", "count minus"))
        if form == "interleaved":  # q, k, v of a head side by side
            y = self.node("Reshape", y, self.shape(*lead, h, 2 * d + v))
            return self.split(self.node("Transpose", y, perm=[0, 2, 1, 3]), 3, d, d, v)
        y = self.node("Transpose", self.node("Reshape", y, self.shape(*lead, 3, h, d)), perm=[2, 0, 3, 1, 4])
        if form == "five":
            return [self.node("Gather", y, self.scalar(i), axis=0) for i in range(3)]
        return [self.squeeze(p, 0) for p in self.split(y, 0, 1, 1, 1)]

    def again(self, y, h):
        """k or v, [B, h, S, w], `repeat` times over: [B, h*repeat, S, w]."""
        form, rep = self.d["copies"], self.d["repeat"]
        tile = "Tile" if form.endswith("tile") else "Expand"
        if form.endswith("gather"):
            rows = np.tile(np.arange(h), rep) if form.startswith("whole") else np.repeat(np.arange(h), rep)
            return self.node("Gather", y, self.ints(*rows.tolist()), axis=1)
        if form == "whole tile":
            return self.node("Tile", y, self.ints(1, rep, 1, 1))
        if form == "whole concat":
            return self.node("Concat", *[y] * rep, axis=1)
        b, s, w = self.batch or self.dim(y, 0), self.length or self.dim(y, 2), self.dim(y, 3)
        if form == "stack":
            y = self.node("Concat", *(self.unsqueeze(y, 2) for _ in range(rep)), axis=2)
        elif form == "concat":
            y = self.node("Concat", *[self.unsqueeze(y, 2)] * rep, axis=2)
        else:
            y = self.node(tile, self.unsqueeze(y, 2), self.ints(1, 1, rep, 1, 1))
        return self.node("Reshape", y, self.shape(b, h * rep, s, w))

    def packed(self, x, h, d):
        """q, k and v of a group side by side, as Falcon has them."""
        rep = self.d["repeat"]
        y = self.linear(x, self.d["stream"], h * (rep + 2) * d)
        lead = self.lead(y)
        y = self.node("Reshape", y, self.shape(*lead, h, rep + 2, d))
        q = self.slice(y, 3, 0, -2)
        k, v = (self.node("Gather", y, self.ints(at), axis=3) for at in (-2, rep + 1))
        out = [q] + [self.node("Expand", t, self.node("Shape", q)) for t in (k, v)]
        return [self.node("Transpose", self.node("Reshape", t, self.shape(*lead, h * rep, d)), perm=[0, 2, 1, 3])
                for t in out]

    def grouped(self, x, h, d, v):
        """The same where `repeat` heads of q share one of k and v: [B, h*repeat, S, d]."""
        n, rep = self.d["stream"], self.d["repeat"]
        if self.is_("copies", "packed"):
            return self.packed(x, h, d)
        q = self.heads(self.linear(x, n, h * rep * d), h * rep, d)
        return [q] + [self.again(self.heads(self.linear(x, n, h * w), h, w), h) for w in (d, v)]

    def positions(self, values, axes, x, axis):
        """The rows of a constant table for the positions that x has along its `axis`, which may be dynamic."""
        if self.length:
            return self.floats(values[tuple(slice(self.length) if i in axes else slice(None)
                                            for i in range(values.ndim))])
        table, n = self.floats(values), self.dim(x, axis)
        if self.opset < 10:
            rows = self.node("Squeeze", self.node("NonZero", self.node("ConstantOfShape", n, value=helper.make_tensor(
                "v", TensorProto.INT64, [1], [1]))), axes=[0])
            for a in axes:
                table = self.node("Gather", table, rows, axis=a)
            return table
        for a in axes:
            table = self.node("Slice", table, self.ints(0), n, self.ints(a))
        return table

    def rotated(self, x, d):
        angle = np.outer(np.arange(LONGEST), 0.3 ** np.arange(d // 2))
        angle = np.concatenate([angle, angle], -1)[None, None]
        cos, sin = (self.positions(f(angle), (2,), x, 2) for f in (np.cos, np.sin))
        half = self.node("Concat", self.node("Neg", self.slice(x, 3, d // 2, d)), self.slice(x, 3, 0, d // 2), axis=3)
        return self.node("Add", self.node("Mul", x, cos), self.node("Mul", half, sin))

    def turned(self, k):
        """[B, h, S, d] -> [B, h, d, S]"""
        if self.is_("key", "at once"):
            return self.node("Transpose", k, perm=[0, 1, 3, 2])
        return self.node("Transpose", self.node("Transpose", k, perm=[0, 1, 2, 3]), perm=[0, 1, 3, 2])

    def root(self, q, d):
        """The square root of the width, which may be worked out from the shape."""
        if not self.is_("scale", "computed"):
            return self.floats(np.sqrt(d))
        width = self.node("Gather", self.node("Shape", q), self.scalar(-1 if self.opset >= 11 else 3), axis=0)
        return self.node("Sqrt", self.node("Cast", width, to=TensorProto.FLOAT))

    def scores(self, q, k, d):
        """[B, h, S, S]"""
        form = self.d["scale"]
        if form == "query":
            q = self.node("Mul", q, self.floats(d ** -0.5))
        if form == "both":
            q, k = (self.node("Mul", t, self.floats(d ** -0.25)) for t in (q, k))
        if self.is_("scores", "einsum"):
            s = self.node("Einsum", q, k, equation="bhid,bhjd->bhij")
        else:
            s = self.node("MatMul", q, self.turned(k))
        if form == "multiply":
            return self.node("Mul", s, self.floats(d ** -0.5))
        return self.node("Div", s, self.root(q, d)) if form in ("divide", "computed") else s

    def masked(self, s, h):
        """h: heads of q"""
        form = self.d["mask"]
        if form == "input":
            return self.node("Add", s, self.mask)
        if form == "bias" and self.length:
            return self.node("Add", s, self.parameter(1, h, self.length, self.length, scale=1))
        if form == "relative" and self.length:  # as Swin and BEiT have it
            at = np.subtract.outer(np.arange(self.length), np.arange(self.length)) + self.length - 1
            table = self.node("Gather", self.parameter(2 * self.length - 1, h, scale=1), self.constant(
                f"at{len(self.initializers)}", at, TensorProto.INT64), axis=0)
            return self.node("Add", s, self.unsqueeze(self.node("Transpose", table, perm=[2, 0, 1]), 0))
        if not form.startswith("causal"):
            return s
        keep = np.tril(np.ones((LONGEST, LONGEST)))[None, None]
        if form == "causal add":
            return self.node("Add", s, self.positions((1 - keep) * -1e4, (2, 3), s, 2))
        keep = self.node("Cast", self.positions(keep, (2, 3), s, 2), to=TensorProto.BOOL)
        return self.node("Where", keep, s, self.floats(-1e4))

    def attention(self, x, h, d):
        layout = self.d["layout"]
        if layout == "folded":
            return self.folded(x, h, d)
        v = d + (self.d["values"] if self.is_("qkv", "separate", "split", "slices", "interleaved") else 0)
        if layout == "grouped":
            v = d if self.is_("copies", "packed") else v
            return self.attended(*self.grouped(x, h, d, v), h * self.d["repeat"], d, v)
        return self.attended(*self.qkv(x, h, d, v), h, d, v)

    def attended(self, q, k, v, h, d, width):
        if self.is_("query norm", "yes"):
            q, k = self.norm(q, d), self.norm(k, d)
        if self.is_("rotary", "yes"):
            q, k = self.rotated(q, d), self.rotated(k, d)
        p = self.noise(self.node("Softmax", self.masked(self.scores(q, k, d), h), axis=3))
        y = (self.node("Einsum", p, v, equation="bhij,bhjd->bhid") if self.is_("scores", "einsum")
             else self.node("MatMul", p, v))
        return self.linear(self.merged(y, h, width), h * width, self.d["stream"])

    def folded(self, x, h, d):
        """As torch.nn.MultiheadAttention: [S, B, h*d] -> [B*h, S, d]."""
        n = self.d["stream"]
        x = self.node("Transpose", x, perm=[1, 0, 2])
        s, b = self.dim(x, 0), self.dim(x, 1)
        rows = self.shape(s, self.node("Mul", b, self.ints(h)), d)
        q, k, v = (self.node("Transpose", self.node("Reshape", self.linear(x, n, h * d), rows), perm=[1, 0, 2])
                   for _ in range(3))
        q = self.node("Mul", q, self.floats(d ** -0.5))
        p = self.node("Softmax", self.node("MatMul", q, self.node("Transpose", k, perm=[0, 2, 1])), axis=2)
        y = self.node("Transpose", self.node("MatMul", p, v), perm=[1, 0, 2])
        y = self.linear(self.node("Reshape", y, self.shape(s, b, h * d)), h * d, n)
        return self.node("Transpose", y, perm=[1, 0, 2])

    # --- the rest of a layer ---

    def skip_norm(self, x, y):
        """The sum of x and y, which come in either order; its norm is kept for who asks for it."""
        n, rms = self.d["stream"], self.is_("norm", "rms")
        if self.rng.random() < 0.5:
            x, y = y, x
        scales = [self.floats(1 + 0.1 * self.rng.standard_normal(n))]
        if not rms:
            scales.append(self.floats(0.1 * self.rng.standard_normal(n)))
        if self.is_("fused", "bias"):
            scales.append(self.new_parameter(n, scale=0.3))
        names = [f"Skip_{len(self.nodes)}_{i}" for i in range(2)]
        self.nodes.append(helper.make_node("SkipSimplifiedLayerNormalization" if rms else "SkipLayerNormalization",
                                           [x, y, *scales], [names[0], "", "", names[1]], name=names[0] + "_node",
                                           domain="com.microsoft", epsilon=1e-5))
        self.normal[names[1]] = names[0]
        return names[1]

    def norm(self, x, n):
        form = self.d["norm"]
        if x in self.normal:
            return self.normal[x]
        gamma = self.floats(1 + 0.1 * self.rng.standard_normal(n))
        beta = self.floats(0.1 * self.rng.standard_normal(n))
        if form == "layer":
            return self.node("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-5)
        if form == "rms":
            y = x
        elif form == "subs":  # one for the variance, one for the result
            y, other = (self.node("Sub", x, self.mean(x, -1)) for _ in range(2))
        else:
            y = self.node("Sub", x, self.mean(x, -1))
        to_square = other if form == "subs" else y
        square = (self.node("Mul", to_square, to_square) if form == "square"
                  else self.node("Pow", to_square, self.floats(2.0)))
        sd = self.node("Sqrt", self.node("Add", self.mean(square, -1), self.floats(1e-5)))
        y = (self.node("Mul", y, self.node("Reciprocal", sd)) if form == "reciprocal" else self.node("Div", y, sd))
        y = self.node("Mul", *((y, gamma) if self.is_("gamma", "second") else (gamma, y)))
        return y if form == "rms" else self.node("Add", y, beta)

    def activate(self, x):
        form = self.d["activation"]
        if form == "relu":
            return self.node("Relu", x)
        if form == "gelu":
            return self.node("Gelu", x)
        if form == "quick":
            return self.node("Mul", x, self.node("Sigmoid", self.node("Mul", x, self.floats(1.702))))
        half, one = self.floats(0.5), self.floats(1.0)
        if form == "tanh":
            cube = self.node("Mul", self.node("Pow", x, self.floats(3.0)), self.floats(0.044715))
            e = self.node("Tanh", self.node("Mul", self.node("Add", x, cube), self.floats((2 / np.pi) ** 0.5)))
        else:
            e = self.node("Erf", self.node("Div", x, self.floats(2 ** 0.5)))
        e = self.node("Add", e, one)
        if form == "erf half first":
            return self.node("Mul", self.node("Mul", x, half), e)
        return self.node("Mul", self.node("Mul", x, e), half)

    def feed_forward(self, x, f):
        n, form = self.d["stream"], self.d["ffn"]
        if form == "plain":
            y = self.activate(self.linear(x, n, f))
        else:
            gate, up = ([self.linear(x, n, f) for _ in range(2)] if form == "gated"
                        else self.split(self.linear(x, n, 2 * f), 2, f, f))
            y = self.node("Mul", self.activate(gate), up)
        return self.linear(self.noise(y), f, n)

    def add(self, *parts):
        if self.is_("fused", "no"):
            return self.add_up(*parts)
        *parts, last = parts
        return self.skip_norm(self.add_up(*parts), last)

    def add_up(self, *parts):
        if self.is_("residual", "sum") and len(parts) > 1:
            return self.node("Sum", *parts)
        y = parts[0]
        for p in parts[1:]:
            y = self.node("Add", y, p)
        return y

    def joint(self, x, h, d, f):
        """q, k, v and the FFN's channels by one matrix, as PaLM has it."""
        n = self.d["stream"]
        q, k, v, u = self.split(self.linear(x, n, 3 * h * d + f), 2, *[h * d] * 3, f)
        y = self.attended(*(self.heads(t, h, d) for t in (q, k, v)), h, d, d)
        return y, self.linear(self.activate(u), f, n)

    def layer(self, x, h, d, f):
        n, self.place = self.d["stream"], 0
        if self.is_("layout", "joint"):
            x = self.add(x, *self.joint(self.norm(x, n), h, d, f))
        elif self.is_("order", "parallel"):
            y = self.norm(x, n)
            x = self.add(x, self.attention(y, h, d), self.feed_forward(y, f))
        else:
            for part in (lambda y: self.attention(y, h, d), lambda y: self.feed_forward(y, f)):
                x = (self.add(x, self.noise(part(self.norm(x, n)))) if self.is_("order", "pre")
                     else self.norm(self.add(part(x), x), n))
        self.place = None
        return x

    # --- the ends ---

    def add_input(self, name, elem, *shape):
        self.inputs.append(helper.make_tensor_value_info(name, elem, shape))
        return name

    def embedded(self):
        n, b, s = self.d["stream"], self.batch or "batch", self.length or "length"
        if self.is_("input", "ids"):
            x = self.node("Gather", self.parameter(16, n, scale=1), self.add_input("ids", TensorProto.INT64, b, s))
        elif self.is_("input", "floats"):
            x = self.linear(self.add_input("x", TensorProto.FLOAT, b, s, 7), 7, n)
        else:
            x = self.add_input("pixels", TensorProto.FLOAT, b, 3, 8, 8)
            x = self.node("Conv", x, self.parameter(n, 3, 4, 4, scale=0.2), self.parameter(n, scale=0.1),
                          strides=[4, 4])
            x = self.node("Transpose", self.node("Reshape", x, self.ints(0, n, -1)), perm=[0, 2, 1])
            token = self.parameter(1, 1, n, scale=1)
            token = self.node("Expand", token, self.shape(self.batch or self.dim(x, 0), 1, n))
            x = self.node("Concat", token, x, axis=1)
        table = 0.5 * self.rng.standard_normal((1, LONGEST, n))
        return self.node("Add", x, self.positions(table, (1,), x, 1))

    def add_mask(self):
        m = self.add_input("attention_mask", TensorProto.INT64, self.batch or "batch", self.length or "length")
        m = self.node("Cast", self.unsqueeze(m, 1, 2), to=TensorProto.FLOAT)
        self.mask = self.node("Mul", self.node("Sub", self.floats(1.0), m), self.floats(-1e4))

    def head(self, x):
        n, form = self.d["stream"], self.d["pool"]
        if form == "tokens":
            return self.linear(x, n, 3)
        x = {"mean": lambda: self.mean(x, 1, 0), "gather": lambda: self.node("Gather", x, self.scalar(0), axis=1),
             "slice": lambda: self.squeeze(self.slice(x, 1, 0, 1), 1)}[form]()
        return self.linear(x, n, 3, rank=2)

    def model(self):
        x = self.embedded()
        if self.is_("mask", "input") and not self.is_("layout", "folded"):
            self.add_mask()
        for h, d, f in self.d["sizes"]:
            x = self.layer(x, h, d, f)
        self.nodes.append(helper.make_node("Identity", [self.head(x)], ["y"], name="last"))
        shape = [self.batch or "batch"] + ([self.length or "length"] if self.is_("pool", "tokens") else []) + [3]
        graph = helper.make_graph(self.nodes, "random", self.inputs,
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)] +
                                 ([] if self.is_("fused", "no") else [helper.make_opsetid("com.microsoft", 1)]),
                                 ir_version=4 if self.opset < 13 else 8 if self.opset < 21 else 10)


def expected(d):
    """Heads and channels of every dimension: layers that share every weight have one each; heads of q that share k and
    v go with them, and one of every group by itself."""
    sizes = d["sizes"][:1] if d["weights"] == "one layer" else d["sizes"]
    queries = [d["repeat"]] * len(sizes) if d["layout"] == "grouped" else []
    return {"heads": sorted(h for h, _, _ in sizes), "ffn": sorted(f for _, _, f in sizes), "queries": queries}


def make(seed):
    """A model, and its dialect."""
    dialect = choose(random.Random(seed))
    return Transformer(dialect, seed).model(), dialect


# --- the law ---

REL = 1e-4  # max|a-b| / max|a|, fp32: what the project promises


def feeds(model, batch, length, seed=0):
    rng = np.random.default_rng(seed)
    size, out = {"batch": batch, "length": length}, {}
    for i in model.graph.input:
        t = i.type.tensor_type
        shape = [d.dim_value or size[d.dim_param] for d in t.shape.dim]
        out[i.name] = (rng.standard_normal(shape).astype(np.float32) if t.elem_type == TensorProto.FLOAT
                       else rng.integers(1, 16, shape))
        if i.name == "attention_mask":
            out[i.name] = np.ones(shape, np.int64)
            out[i.name][:, max(1, shape[1] - 1):] = 0
    return out


def results(path, model):
    """Outputs at two levels of optimisation and two sizes."""
    out = []
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        out += [session.run(None, feeds(model, b, s))[0] for b, s in ((2, 5), (3, 8))]
    return out


def violation(pare, seed, folder):
    """What is wrong with the model of a seed, or ''. Its files stay in `folder`."""
    model, dialect = make(seed)
    path, masked, compact = (folder / f"{n}.onnx" for n in ("model", "masked", "compact"))
    for p in (path, masked, compact):
        p.unlink(missing_ok=True)
    onnx.save(model, str(path))
    onnx.checker.check_model(model, full_check=True)
    whole = results(path, model)
    r = subprocess.run([pare, "inspect", path, "--groups", "--json"], capture_output=True, text=True)
    if r.returncode:
        return f"inspect: exit {r.returncode}: {r.stderr.strip()}"
    groups = json.loads(r.stdout)["groups"]
    for kind, want in expected(dialect).items():
        have = sorted(g["count"] for g in groups if g["kind"] == kind)
        if have != want:
            return f"{kind}: {have} found, {want} put in"
    sparsity = random.Random(seed + 1).choice(["0.25", "0.5", "0.75"])
    prune = "heads,ffn,depth" if dialect["fused"] != "no" else "heads,ffn"
    prune += ",queries" if dialect["layout"] == "grouped" and seed % 2 else ""
    r = subprocess.run([pare, "compress", path, compact, "--method", "random", "--ranking", "global", "--sparsity",
                        sparsity, "--seed", str(seed), "--steps", "0", "--threads", "1", "--save-masked", masked, "-q",
                        "--prune", prune], capture_output=True, text=True)
    if r.returncode:
        return f"compress: exit {r.returncode}: {r.stderr.strip()}"
    onnx.checker.check_model(str(compact), full_check=True)
    a, b = results(masked, model), results(compact, model)
    worst = max(float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-30)) for x, y in zip(a, b))
    if not worst <= REL:
        return f"masked and cut file differ by {worst:.1e}, more than {REL:.0e}"
    cut = max(float(np.abs(x - y).max()) for x, y in zip(whole, b))
    return "" if cut > 0 else "nothing was cut"


def violations(pare, seeds, folder, save=None):
    """[(seed, what is wrong)]"""
    found = []
    for seed in seeds:
        try:
            why = violation(pare, seed, folder)
        except Exception as e:
            why = f"{type(e).__name__}: {str(e)[:300]}"
        if why:
            found.append((seed, why))
            print(f"seed {seed}: {why}\n    {make(seed)[1]}", flush=True)
            if save:
                onnx.save(make(seed)[0], str(save / f"{seed}.onnx"))
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pare", default=os.environ.get("PARE", "build/pare"))
    p.add_argument("--seeds", default="0:1000", help="first:end")
    p.add_argument("--save", type=pathlib.Path)
    args = p.parse_args()
    first, end = map(int, args.seeds.split(":"))
    if args.save:
        args.save.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = violations(args.pare, range(first, end), pathlib.Path(folder), args.save)
    print(f"{end - first - len(found)} of {end - first} models hold")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
