"""Composite ops: each small model gives ONNX Runtime's numbers, and can be cut."""
import functools
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import feeds, run
from test_compress import LEVELS, check_equal, session, training_data

HIDDEN, HEADS, FFN = 16, 4, 24
REL = 1e-5  # sums of up to 24 products in fp32, normalised


class Build:
    """A graph in the making: x [batch, seq, 16] goes in, [batch, seq, 5] comes out."""

    def __init__(self, opset=17):
        self.nodes, self.weights, self.inputs, self.functions, self.opset = [], [], [], [], opset
        self.rng = np.random.default_rng(3)
        self.input("x", ["batch", "seq", HIDDEN])

    def input(self, name, shape, dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def weight(self, *shape, near=0.0):
        name = f"w{len(self.weights)}"
        value = (near + self.rng.standard_normal(shape) / 4).astype(np.float32)
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def const(self, value):
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind, *inputs, domain="", nout=1, **attrs):
        names = [f"{kind}{len(self.nodes)}_{i}" for i in range(nout)]
        name = f"n{len(self.nodes)}_{kind}"
        self.nodes.append(helper.make_node(kind, list(inputs), names, name, domain=domain, **attrs))
        return names[0] if nout == 1 else names

    def ms(self, kind, *inputs, **attrs):
        return self.op(kind, *inputs, domain="com.microsoft", **attrs)

    def linear(self, x, k, n):
        return self.op("MatMul", x, self.weight(k, n))

    def ffn(self, act):
        """x + W2·act(W1·x)"""
        h = act(self.linear("x", HIDDEN, FFN))
        return self.op("Add", "x", self.linear(h, FFN, HIDDEN))

    def save(self, y, path, extra=()):
        y = self.op("Identity", self.linear(y, HIDDEN, 5))
        outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["batch", "seq", 5])]
        outputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in extra]
        graph = helper.make_graph(self.nodes, "composite", self.inputs, outputs, self.weights)
        model = helper.make_model(graph, ir_version=10, functions=self.functions, opset_imports=[
            helper.make_opsetid(*i) for i in (("", self.opset), ("com.microsoft", 1), ("local", 1))])
        onnx.save(model, str(path))


def project(b, y):
    """The way back from the heads onto the stream."""
    return b.op("Add", "x", b.linear(y, HIDDEN, HIDDEN))


CASES = {}


def case(*kinds, frozen=None):
    """Registers a model; `kinds` is what inspect has to find in it, `frozen` a part of a reason."""
    def keep(build):
        CASES[build.__name__] = (build, kinds, frozen)
        return build
    return keep


# --- activations ---

@case("ffn")
def gelu(b):
    return b.ffn(lambda h: b.ms("Gelu", h))


@case("ffn")
def bias_gelu(b):
    return b.ffn(lambda h: b.ms("BiasGelu", h, b.weight(FFN)))


@case("ffn")
def two_layers_with_one_bias(b):
    """A shared initializer whose readers are cut differently: the nodes read copies."""
    bias = b.weight(FFN)
    y = b.ffn(lambda h: b.ms("BiasGelu", h, bias))
    h = b.ms("BiasGelu", b.linear(y, HIDDEN, FFN), bias)
    return b.op("Add", y, b.linear(h, FFN, HIDDEN))


@case("ffn")
def fast_gelu(b):
    return b.ffn(lambda h: b.ms("FastGelu", h))


@case("ffn")
def fast_gelu_with_bias(b):
    return b.ffn(lambda h: b.ms("FastGelu", h, b.weight(FFN)))


@case("ffn")
def quick_gelu(b):
    return b.ffn(lambda h: b.ms("QuickGelu", h, alpha=1.5))


def fused_gemm(b, activation, **attrs):
    flat = b.op("Reshape", "x", b.const(np.array([-1, HIDDEN])))
    h = b.ms("FusedGemm", flat, b.weight(FFN, HIDDEN), b.weight(FFN), transB=1, activation=activation, **attrs)
    back = b.op("Reshape", b.linear(h, FFN, HIDDEN), b.op("Shape", "x"))
    return b.op("Add", "x", back)


@case("ffn")
def fused_gemm_tanh(b):
    return fused_gemm(b, "Tanh")


@case("ffn")
def fused_gemm_relu(b):
    return fused_gemm(b, "Relu", alpha=0.5)


@case("ffn")
def fused_gemm_sigmoid(b):
    return fused_gemm(b, "Sigmoid")


@case("ffn")
def fused_gemm_leaky_relu(b):
    return fused_gemm(b, "LeakyRelu", activation_alpha=0.2)


def fused_conv(b, plus=False, **attrs):
    """Over the sequence, as ONNX Runtime saves hybrids."""
    x = b.op("Unsqueeze", b.op("Transpose", "x", perm=[0, 2, 1]), b.const(np.array([3])))
    more = [b.op("Conv", x, b.weight(FFN, HIDDEN, 1, 1))] if plus else []
    h = b.ms("FusedConv", x, b.weight(FFN, HIDDEN, 3, 1), b.weight(FFN), *more, pads=[1, 0, 1, 0], **attrs)
    h = b.op("Squeeze", b.op("Conv", h, b.weight(HIDDEN, FFN, 1, 1)), b.const(np.array([3])))
    return b.op("Add", "x", b.op("Transpose", h, perm=[0, 2, 1]))


@case("ffn")
def fused_conv_relu(b):
    return fused_conv(b, activation="Relu")


@case("ffn")
def fused_conv_leaky_relu(b):
    return fused_conv(b, activation="LeakyRelu", activation_params=[0.2])


@case("ffn")
def fused_conv_clip(b):
    return fused_conv(b, activation="Clip", activation_params=[-0.1, 0.3])


@case("ffn")
def fused_conv_hard_sigmoid(b):
    return fused_conv(b, activation="HardSigmoid", activation_params=[0.3, 0.4])


@case("ffn")
def fused_conv_of_a_sum(b):
    return fused_conv(b, plus=True, activation="Relu")


# --- normalisation ---

def skip(b, kind, *more, **attrs):
    h = b.linear(b.op("Relu", b.linear("x", HIDDEN, FFN)), FFN, HIDDEN)
    return b.ms(kind, h, "x", b.weight(HIDDEN, near=1), *more, **attrs)


@case("ffn")
def skip_layer_norm(b):
    return skip(b, "SkipLayerNormalization", b.weight(HIDDEN), epsilon=1e-5)


@case("ffn")
def skip_layer_norm_without_beta(b):
    return skip(b, "SkipLayerNormalization", epsilon=1e-3)


@case("ffn")
def skip_layer_norm_with_bias_and_sum(b):
    y = skip(b, "SkipLayerNormalization", b.weight(HIDDEN), b.weight(HIDDEN), nout=4)
    b.nodes[-1].output[1] = b.nodes[-1].output[2] = ""
    return b.op("Add", y[0], y[3])


@case("ffn")
def skip_rms_norm_with_bias_and_sum(b):
    y = skip(b, "SkipSimplifiedLayerNormalization", b.weight(HIDDEN), nout=4, epsilon=1e-5)
    b.nodes[-1].output[1] = b.nodes[-1].output[2] = ""
    return b.op("Add", y[0], y[3])


@case("ffn")
def rms_norm(b):
    y = b.ffn(lambda h: b.op("Relu", h))
    return b.op("SimplifiedLayerNormalization", y, b.weight(HIDDEN, near=1), axis=-1, epsilon=1e-5, stash_type=1)


# --- embeddings ---

def embed(b, segments, mask, positions):
    b.inputs.clear()
    shape = ["batch", "seq"]
    ids = b.input("input_ids", shape, TensorProto.INT32)
    seg = b.input("token_type_ids", shape, TensorProto.INT32) if segments else ""
    tables = [b.weight(20, HIDDEN), b.weight(20, HIDDEN), b.weight(2, HIDDEN) if segments else ""]
    norm = [b.weight(HIDDEN, near=1), b.weight(HIDDEN)]
    last = [b.input("mask", shape, TensorProto.INT32) if mask else "",
            b.input("position_ids", shape, TensorProto.INT32) if positions else ""]
    out = b.ms("EmbedLayerNormalization", ids, seg, *tables, *norm, *last, nout=2, epsilon=1e-6)
    b.nodes.insert(0, b.nodes.pop())
    return out


@case("heads")
def embed_layer_norm_with_a_mask(b):
    x, index = embed(b, True, True, False)
    return b.op("Add", x, b.linear(attention(b, x, mask=index), HIDDEN, HIDDEN))


@case("heads")
def embed_layer_norm_with_positions(b):
    x, index = embed(b, False, False, True)
    return b.op("Add", x, b.linear(attention(b, x), HIDDEN, HIDDEN))


# --- Attention ---

def attention(b, x="x", mask="", past="", bias="", nout=1, sizes=None, **attrs):
    q, k, v = sizes or (HIDDEN,) * 3
    if sizes:
        attrs["qkv_hidden_sizes"] = list(sizes)
    inputs = [x, b.weight(HIDDEN, q + k + v), b.weight(q + k + v), mask, past, bias]
    return b.ms("Attention", *inputs, num_heads=HEADS, nout=nout, **attrs)


@case("heads", "head-dim")
def attention_alone(b):
    return project(b, attention(b))


@case("heads")
def attention_with_lengths(b):
    return project(b, attention(b, mask=b.input("lengths", ["batch"], TensorProto.INT32)))


@case("heads")
def attention_with_a_mask_of_columns(b):
    mask = b.input("mask", ["batch", "seq"], TensorProto.INT32)
    return project(b, attention(b, mask=mask, mask_filter_value=-5000.0))


@case("heads")
def attention_with_a_mask_of_rows(b):
    return project(b, attention(b, mask=b.input("mask", ["batch", "seq", "seq"], TensorProto.INT32), scale=0.3))


@case("heads")
def attention_unidirectional(b):
    mask = b.input("mask", ["batch", "seq"], TensorProto.INT32)
    return project(b, attention(b, mask=mask, unidirectional=1))


@case("heads")
def attention_with_a_bias_for_each_head(b):
    bias = b.op("Expand", b.weight(1, HEADS, 1, 1), b.op("Concat", *(
        b.op("Gather", b.op("Shape", "x"), b.const(np.array([0]))), b.const(np.array([HEADS])),
        *(b.op("Gather", b.op("Shape", "x"), b.const(np.array([1]))) for _ in range(2))), axis=0))
    return project(b, attention(b, bias=bias))


@case("heads")
def attention_of_uneven_sizes(b):
    y = attention(b, sizes=(24, 24, 32))
    return b.op("Add", "x", b.linear(y, 32, HIDDEN))


@case(frozen="past")
def attention_with_a_past(b):
    past = b.op("Transpose", b.input("past", ["batch", 2, HEADS, "before", 4]), perm=[1, 0, 2, 3, 4])
    y, present = attention(b, past=past, nout=2, unidirectional=1)
    return project(b, y)


# --- QAttention ---

def quantised(b, per_channel=False, mask="", nout=1, dynamic=False, symmetric=True, past="", **attrs):
    width = 3 * HIDDEN
    w = b.const(b.rng.integers(-127, 128, (HIDDEN, width)).astype(np.int8))
    scale = b.const((0.002 + 0.001 * b.rng.random(width if per_channel else ())).astype(np.float32))
    zero = "" if symmetric else b.const(np.full(width, 3, np.int8) if per_channel else np.int8(3))
    if dynamic:
        q, s, z = b.op("DynamicQuantizeLinear", "x", nout=3)
    else:
        s, z = b.const(np.float32(0.03)), b.const(np.uint8(121))
        q = b.op("QuantizeLinear", "x", s, z)
    return b.ms("QAttention", q, w, b.weight(width), s, scale, mask, z, zero, past, num_heads=HEADS, nout=nout, **attrs)


@case("heads", frozen="a product of two activations")  # the op has no place for a v of another width
def qattention(b):
    return project(b, quantised(b))


@case("heads")
def qattention_by_column_with_a_mask(b):
    mask = b.input("mask", ["batch", "seq"], TensorProto.INT32)
    return project(b, quantised(b, per_channel=True, mask=mask, mask_filter_value=-5000.0))


@case("heads")
def qattention_with_zero_points_unidirectional(b):
    return project(b, quantised(b, per_channel=True, symmetric=False, unidirectional=1))


@case("heads")
def qattention_of_what_is_measured(b):
    return project(b, quantised(b, dynamic=True, mask=b.input("lengths", ["batch"], TensorProto.INT32)))


@case(frozen="past")
def qattention_with_a_past(b):
    past = b.op("Transpose", b.input("past", ["batch", 2, HEADS, "before", 4]), perm=[1, 0, 2, 3, 4])
    y, _ = quantised(b, past=past, nout=2, unidirectional=1)
    return project(b, y)


# --- MultiHeadAttention ---

def qkv(b, x="x", width=HIDDEN):
    return [b.linear(x, HIDDEN, HIDDEN), b.linear(x, HIDDEN, HIDDEN), b.linear(x, HIDDEN, width)]


def heads_of(b, *inputs, **attrs):
    return b.ms("MultiHeadAttention", *inputs, num_heads=HEADS, **attrs)


@case("heads")
def multi_head(b):
    return project(b, heads_of(b, *qkv(b)))


@case("heads")
def multi_head_with_bias_and_mask(b):
    mask = b.input("mask", ["batch", "seq"], TensorProto.INT32)
    return project(b, heads_of(b, *qkv(b), b.weight(3 * HIDDEN), mask, scale=0.4))


@case("heads")
def multi_head_with_a_wider_v(b):
    y = heads_of(b, *qkv(b, width=32), b.weight(2 * HIDDEN + 32), b.input("lengths", ["batch"], TensorProto.INT32))
    return b.op("Add", "x", b.linear(y, 32, HIDDEN))


@case("heads")
def multi_head_unidirectional_with_attention_bias(b):
    bias = b.input("attention_bias", ["batch", 1, "seq", "seq"])
    return project(b, heads_of(b, *qkv(b), "", "", bias, unidirectional=1))


@case("heads")
def cross_attention(b):
    memory = b.input("memory", ["batch", "seq", HIDDEN])
    k, v = b.linear(memory, HIDDEN, HIDDEN), b.linear(memory, HIDDEN, HIDDEN)
    return project(b, heads_of(b, b.linear("x", HIDDEN, HIDDEN), k, v))


@case("heads")
def cross_attention_with_heads_apart(b):
    def apart(v):
        v = b.op("Reshape", v, b.const(np.array([0, 0, HEADS, HIDDEN // HEADS])))
        return b.op("Transpose", v, perm=[0, 2, 1, 3])
    q, k, v = qkv(b)
    return project(b, heads_of(b, q, apart(k), apart(v)))


@case(frozen="past_")
def multi_head_with_a_past(b):
    past = [b.input(n, ["batch", HEADS, "before", 4]) for n in ("past_k", "past_v")]
    y = heads_of(b, *qkv(b), "", "", "", *past, nout=3)
    return project(b, y[0])


# --- functions of the standard ---

@case("ffn")
def rms_normalization(b):
    b.opset = 23
    y = b.ffn(lambda h: b.op("Relu", h))
    return b.op("RMSNormalization", y, b.weight(HIDDEN, near=1), epsilon=1e-6)


@case("ffn")
def group_normalization(b):
    b.opset = 21
    y = b.op("Transpose", b.ffn(lambda h: b.op("Relu", h)), perm=[0, 2, 1])
    y = b.op("GroupNormalization", y, b.weight(HIDDEN, near=1), b.weight(HIDDEN), num_groups=4)
    return b.op("Transpose", y, perm=[0, 2, 1])


@case("ffn")
def mean_variance_normalization(b):
    y = b.ffn(lambda h: b.op("Relu", h))
    return b.op("MeanVarianceNormalization", y, axes=[2])


def standard(b, q, k, v, *more, heads=HEADS, shared=HEADS, nout=1, **attrs):
    b.opset = 23
    return b.op("Attention", q, k, v, *more, q_num_heads=heads, kv_num_heads=shared, nout=nout, **attrs)


@case("heads")
def attention_23(b):
    return project(b, standard(b, *qkv(b)))


@case("heads")
def attention_23_causal_with_a_mask(b):
    mask = b.op("Cast", b.input("mask", ["batch", "seq", "seq"], TensorProto.INT64), to=TensorProto.BOOL)
    mask = b.op("Unsqueeze", mask, b.const(np.array([1])))
    return project(b, standard(b, *qkv(b), mask, is_causal=1, scale=0.4))


@case("heads")
def attention_23_with_numbers_as_mask(b):
    bias = b.input("bias", ["batch", 1, "seq", "seq"])
    return project(b, standard(b, *qkv(b), bias, softcap=2.0))


def shared_heads(b, x="x", heads=8, shared=2, width=4):
    return [b.linear(x, HIDDEN, n * width) for n in (heads, shared, shared)]


@case("heads")
def attention_23_with_shared_heads(b):
    y = standard(b, *shared_heads(b), heads=8, shared=2)
    return b.op("Add", "x", b.linear(y, 32, HIDDEN))


@case("heads")
def attention_23_with_one_head_of_k_and_v(b):
    y = standard(b, *shared_heads(b, shared=1), heads=8, shared=1)
    return b.op("Add", "x", b.linear(y, 32, HIDDEN))


def apart(b, v, heads):
    return b.op("Transpose", b.op("Reshape", v, b.const(np.array([0, 0, heads, -1]))), perm=[0, 2, 1, 3])


@case("heads")
def attention_23_with_heads_apart(b):
    b.opset = 23
    q, k, v = shared_heads(b)
    y = b.op("Attention", apart(b, q, 8), apart(b, k, 2), apart(b, v, 2), is_causal=1)
    y = b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3]), b.const(np.array([0, 0, -1])))
    return b.op("Add", "x", b.linear(y, 32, HIDDEN))


@case(frozen="past_")
def attention_23_with_a_past(b):
    past = [b.input(n, ["batch", HEADS, "before", 4]) for n in ("past_k", "past_v")]
    return project(b, standard(b, *qkv(b), "", *past, nout=3, is_causal=1)[0])


# --- rotary positions ---

def angles(rows, half):
    a = np.outer(np.arange(rows), 0.3 ** np.arange(half))
    return np.cos(a).astype(np.float32), np.sin(a).astype(np.float32)


def tables(b, half):
    return [b.const(t) for t in angles(32, half)]


def counted(b, like="x"):
    """0, 1, ... for each sample, i64[batch, seq]"""
    shape = b.op("Shape", like)
    n = b.op("Gather", shape, b.const(np.array(1)))
    return b.op("Expand", b.op("Range", b.const(np.array(0)), n, b.const(np.array(1))),
                b.op("Slice", shape, b.const(np.array([0])), b.const(np.array([2]))))


@case("heads")
def rotary_embedding(b):
    q, k, v = qkv(b)
    cos, sin = tables(b, 2)
    at = counted(b)
    turn = lambda t: b.op("RotaryEmbedding", t, cos, sin, at, num_heads=HEADS)
    return project(b, standard(b, turn(q), turn(k), v))


@case("heads")
def rotary_embedding_of_a_part_interleaved(b):
    q, k, v = qkv(b)
    cos, sin = tables(b, 1)
    at = counted(b)
    turn = lambda t: b.op("RotaryEmbedding", t, cos, sin, at, num_heads=HEADS, interleaved=1, rotary_embedding_dim=2)
    return project(b, standard(b, turn(q), turn(k), v))


@case("heads")
def ms_rotary_embedding(b):
    q, k, v = qkv(b)
    cos, sin = tables(b, 2)
    turn = lambda t: b.ms("RotaryEmbedding", t, counted(b), cos, sin)
    return project(b, heads_of(b, turn(q), turn(k), v))


@case("heads")
def ms_rotary_embedding_from_a_position_on(b):
    q, k, v = qkv(b)
    cos, sin = tables(b, 2)
    turn = lambda t: b.ms("RotaryEmbedding", t, b.const(np.array([5])), cos, sin, num_heads=HEADS, interleaved=1)
    return project(b, heads_of(b, turn(q), turn(k), v))


# --- GroupQueryAttention ---

def group_query(b, q, k, v, past=("", ""), more=(), heads=8, shared=2, lengths=None, **attrs):
    i32 = lambda t: b.op("Cast", t, to=TensorProto.INT32)
    shape = b.op("Shape", "x")
    total = b.op("Gather", shape, b.const(np.array([1])))
    if past[0]:
        total = b.op("Add", total, b.op("Gather", b.op("Shape", past[0]), b.const(np.array([2]))))
    last = b.op("Expand", b.op("Sub", total, b.const(np.array([1]))), b.op("Gather", shape, b.const(np.array([0]))))
    if lengths:
        last = b.op("Min", last, lengths)
    return b.ms("GroupQueryAttention", q, k, v, *past, i32(last), i32(b.op("Squeeze", total)), *more, nout=3,
                num_heads=heads, kv_num_heads=shared, **attrs)[0]


@case("heads")
def group_query_attention(b):
    return b.op("Add", "x", b.linear(group_query(b, *shared_heads(b, width=8)), 64, HIDDEN))


@case("heads")
def group_query_attention_with_rotary_positions(b):
    y = group_query(b, *shared_heads(b, width=16), more=tables(b, 8), do_rotary=1, softcap=3.0)
    return b.op("Add", "x", b.linear(y, 128, HIDDEN))


@case("heads")
def group_query_attention_in_a_window(b):
    y = group_query(b, *shared_heads(b, width=8, shared=8), shared=8, local_window_size=3, scale=0.5)
    return b.op("Add", "x", b.linear(y, 64, HIDDEN))


def by_gemm(b, n, transposed=0):
    """x·W + bias as two-dimensional rows."""
    rows = b.op("Reshape", "x", b.const(np.array([-1, HIDDEN])))
    w = b.weight(*((n, HIDDEN) if transposed else (HIDDEN, n)))
    y = b.op("Gemm", rows, w, b.weight(n), transB=transposed)
    shape = b.op("Concat", b.op("Slice", b.op("Shape", "x"), *(b.const(np.array([i])) for i in (0, 2))),
                 b.const(np.array([n])), axis=0)
    return b.op("Reshape", y, shape)


def by_turned_weight(b, n):
    return b.op("MatMul", "x", b.op("Transpose", b.weight(n, HIDDEN), perm=[1, 0]))


MAKERS = {"matmul": lambda b, n: b.linear("x", HIDDEN, n), "gemm": by_gemm,
          "transposed_gemm": functools.partial(by_gemm, transposed=1), "turned_weight": by_turned_weight,
          "scaled": lambda b, n: b.op("Mul", b.op("Cast", b.linear("x", HIDDEN, n), to=1), b.const(np.float32(0.5))),
          "bias_first": lambda b, n: b.op("Add", b.weight(n), b.op("Relu", b.linear("x", HIDDEN, n)))}


def packed_by(maker):
    def build(b):
        return b.op("Add", "x", b.linear(group_query(b, MAKERS[maker](b, 12 * 8), "", ""), 64, HIDDEN))
    build.__name__ = f"group_query_attention_packed_by_{maker}"
    return build


for maker in MAKERS:
    case("heads")(packed_by(maker))


@case("heads")
def group_query_attention_packed_of_three(b):
    """q, k and v side by side, which are other numbers of heads."""
    y = b.op("Concat", *(b.linear("x", HIDDEN, n * 8) for n in (8, 2, 2)), axis=-1)
    return b.op("Add", "x", b.linear(group_query(b, y, "", ""), 64, HIDDEN))


def packed_heads(b, heads=8, shared=2, width=8, bias=False):
    y = b.linear("x", HIDDEN, (heads + 2 * shared) * width)
    return b.op("Add", y, b.weight((heads + 2 * shared) * width)) if bias else y


@case("heads")
def group_query_attention_packed(b):
    return b.op("Add", "x", b.linear(group_query(b, packed_heads(b), "", ""), 64, HIDDEN))


@case("heads")
def group_query_attention_packed_with_rotary_positions(b):
    y = group_query(b, packed_heads(b, width=16, bias=True), "", "", more=tables(b, 8), do_rotary=1)
    return b.op("Add", "x", b.linear(y, 128, HIDDEN))


@case("heads", frozen="past_")
def group_query_attention_packed_with_a_past(b):
    """As generative models are: the heads of k and v are the caller's."""
    b.inputs[0] = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, HIDDEN])
    past = [b.input(n, ["batch", 2, "before", 16]) for n in ("past_k", "past_v")]
    y = group_query(b, packed_heads(b, width=16), "", "", past=past, more=tables(b, 8), do_rotary=1)
    return b.op("Add", "x", b.linear(y, 128, HIDDEN))


def group_query_after(b, lengths=None, **attrs):
    """ONNX Runtime wants one row where there is a past."""
    b.inputs[0] = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, HIDDEN])
    past = [b.input(n, ["batch", 2, "before", 16]) for n in ("past_k", "past_v")]
    y = group_query(b, *shared_heads(b, width=16), past=past, lengths=lengths, more=tables(b, 8), do_rotary=1, **attrs)
    return b.op("Add", "x", b.linear(y, 128, HIDDEN))


@case("heads", frozen="past_")
def group_query_attention_with_a_past(b):
    """The heads of k and v are frozen; of those of q, as many as share one can go."""
    return group_query_after(b, local_window_size=5)


@case("heads", frozen="past_")
def group_query_attention_with_pasts_of_other_lengths(b):
    return group_query_after(b, b.input("lengths", ["batch"], TensorProto.INT64))


# --- functions of the model ---

def function(b, name, inputs, outputs, nodes, attrs=(), defaults=()):
    """Lines of a body in ONNX's text form: "y = Add(x, b)"."""
    body = onnx.parser.parse_graph("f (float x) => (float y) {" + nodes + "}").node
    b.functions.append(helper.make_function(
        "local", name, inputs, outputs, body, [helper.make_opsetid("", b.opset), helper.make_opsetid("local", 1)],
        attributes=list(attrs), attribute_protos=list(defaults)))


def call(b, name, *inputs, **attrs):
    return b.op(name, *inputs, domain="local", **attrs)


@case("ffn")
def function_with_weights_as_inputs(b):
    """One inside the other, the outer called twice; an attribute and a default that the calls pass on."""
    function(b, "act", ["h"], ["a"], "s = Sigmoid(h) a = Mul(h, s)")
    function(b, "linear", ["x", "w", "c"], ["y"], "m = MatMul(x, w) y = Add(m, c)")
    function(b, "layer", ["x", "w1", "c1", "w2", "c2"], ["y", "h"],
             "h = local.linear(x, w1, c1) a = local.act(h) m = local.linear(a, w2, c2) n = Add(x, m)"
             "y = Softmax<axis: int = @axis>(n)",
             defaults=[helper.make_attribute("axis", 2)])
    weights = lambda: [b.weight(HIDDEN, FFN), b.weight(FFN), b.weight(FFN, HIDDEN), b.weight(HIDDEN)]
    y, _ = call(b, "layer", "x", *weights(), nout=2)
    y, _ = call(b, "layer", y, *weights(), nout=2, axis=-1)
    return y


@case("heads")
def function_with_the_heads_as_attribute(b):
    b.opset = 23
    function(b, "attend", ["q", "k", "v"], ["y"],
             "a = Attention<q_num_heads: int = @heads, kv_num_heads: int = @heads>(q, k, v) y = Identity(a)",
             attrs=["heads"])
    return project(b, call(b, "attend", *qkv(b), heads=HEADS))


@case("heads")
def function_with_numbers_inside(b):
    """How many heads there are stands in a body, one call inside the other."""
    function(b, "apart", ["x", "s"], ["y"], "r = Reshape(x, s) y = Transpose<perm: ints = [0, 2, 1, 3]>(r)")
    function(b, "heads", ["x"], ["y"],
             "a = Constant<value_ints: ints = [0, 0]>() n = Constant<value_ints: ints = [4, 4]>()"
             "s = Concat<axis: int = 0>(a, n) y = local.apart(x, s)")
    function(b, "mixed", ["q", "k", "v"], ["y"],
             "i = local.heads(q) j = local.heads(k) u = local.heads(v) t = Transpose<perm: ints = [0, 1, 3, 2]>(j)"
             "l = MatMul(i, t) p = Softmax<axis: int = -1>(l) m = MatMul(p, u)"
             "w = Transpose<perm: ints = [0, 2, 1, 3]>(m) s = Constant<value_ints: ints = [0, 0, 16]>()"
             "y = Reshape(w, s)")
    y = project(b, call(b, "mixed", *qkv(b)))
    return b.op("Add", y, b.linear(call(b, "mixed", *qkv(b, y)), HIDDEN, HIDDEN))


# --- the judges ---

@pytest.fixture(params=CASES)
def small(request, tmp_path):
    build, kinds, frozen = CASES[request.param]
    b = Build()
    path = tmp_path / "model.onnx"
    b.save(build(b), path)
    return path, kinds, frozen


def test_the_outputs_are_those_of_onnx_runtime(small, tmp_path):
    path, _, _ = small
    f = feeds(onnx.load(str(path)), 3, 7)
    want = session(path, LEVELS[0]).run(None, f)[0]
    np.savez(tmp_path / "data.npz", labels=want, **f)
    got = json.loads(run("eval", path, "--data", tmp_path / "data.npz", "--json").stdout)
    assert got["metric"] == "mse"
    assert np.sqrt(got["value"]) <= REL * np.abs(want).max(), f"{got['value']} against {np.abs(want).max()}"


def test_inspect_finds_what_can_be_cut_and_says_what_cannot(small):
    path, kinds, frozen = small
    i = json.loads(run("inspect", path, "--json").stdout)
    assert set(kinds) <= {g["kind"] for g in i["groups"]}, i["groups"]
    if not kinds:
        assert "heads" not in {g["kind"] for g in i["groups"]}
    if frozen:
        assert any(frozen in x["reason"] for x in i["frozen"]), i["frozen"]


def test_half_of_it_can_go(small, tmp_path):
    path, kinds, _ = small
    if not kinds:
        pytest.skip("nothing in it can be cut")
    training_data(onnx.load(str(path)), tmp_path / "train.npz")
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, "--steps", 4, "--batch", 4, "--prune-every", 2, "--save-masked", masked,
        "--train", tmp_path / "train.npz", "-q")
    check_equal(path, masked, compact)
    params = [sum(int(np.prod(t.dims)) for t in onnx.load(str(p)).graph.initializer) for p in (path, compact)]
    assert params[1] < params[0], params


@pytest.mark.parametrize("maker", [*MAKERS, "no_weight_tells"])
def test_group_query_attention_takes_heads_of_one_width(maker, tmp_path):
    """So the width of v's stays, wherever it comes from."""
    b = Build()
    path, compact, masked = (tmp_path / f"{n}.onnx" for n in ("model", "compact", "masked"))
    q, k, v = b.linear("x", HIDDEN, 64), b.linear("x", HIDDEN, 16), MAKERS.get(maker, MAKERS["matmul"])(b, 16)
    if maker == "no_weight_tells":
        v = b.op("Reshape", b.op("Reshape", v, b.const(np.array([0, 0, 2, -1]))), b.const(np.array([0, 0, -1])))
    b.save(b.op("Add", "x", b.linear(group_query(b, q, k, v), 64, HIDDEN)), path)
    seen = json.loads(run("inspect", path, "--json").stdout)
    assert sorted(g["kind"] for g in seen["groups"]) == ["heads", "queries"], seen["groups"]
    assert any(f["count"] == 8 and "is summed over in a product" in f["reason"] for f in seen["frozen"]), seen["frozen"]
    run("compress", path, compact, "--prune", "heads,head-dim", "--method", "magnitude", "--steps", 0, "--save-masked",
        masked, "-q")
    check_equal(path, masked, compact)


def test_a_call_says_what_the_default_of_its_function_was_once_it_has_to_change(tmp_path):
    """One call inside another: the default is that of the inner function."""
    b = Build(23)
    function(b, "attend", ["q", "k", "v"], ["y"],
             "y = Attention<q_num_heads: int = @heads, kv_num_heads: int = @heads>(q, k, v)",
             defaults=[helper.make_attribute("heads", HEADS)])
    function(b, "outer", ["q", "k", "v"], ["y"], "y = local.attend(q, k, v)")
    path, compact, masked = (tmp_path / f"{n}.onnx" for n in ("model", "compact", "masked"))
    y = project(b, call(b, "attend", *qkv(b)))
    b.save(b.op("Add", y, b.linear(call(b, "outer", *qkv(b, y)), HIDDEN, HIDDEN)), path)
    training_data(onnx.load(str(path)), tmp_path / "train.npz")
    run("compress", path, compact, "--method", "magnitude", "--steps", 0, "--train", tmp_path / "train.npz",
        "--save-masked", masked, "-q")
    check_equal(path, masked, compact)
    before, after = onnx.load(str(path)), onnx.load(str(compact))
    used = [f for f in after.functions if f.name in {n.op_type for n in after.graph.node}]
    calls = [n for body in (after.graph, *used) for n in body.node if n.op_type == "attend"]
    said = [(a.name, a.type, a.i) for n in calls for a in n.attribute]
    assert said == [("heads", onnx.AttributeProto.INT, HEADS // 2)] * 2, said
    assert after.functions[:len(before.functions)] == before.functions
    assert not [n for n in onnx.load(str(masked)).graph.node if n.op_type == "attend"][0].attribute


def test_functions_are_cloned_for_the_calls_that_are_cut(tmp_path):
    b = Build()
    path = tmp_path / "model.onnx"
    b.save(function_with_numbers_inside(b), path)
    training_data(onnx.load(str(path)), tmp_path / "train.npz")
    run("compress", path, tmp_path / "c.onnx", "--method", "magnitude", "--steps", 0, "--train", tmp_path / "train.npz",
        "-q")
    before, after = onnx.load(str(path)), onnx.load(str(tmp_path / "c.onnx"))
    old, new = {f.name for f in before.functions}, {f.name: f for f in after.functions}
    assert after.functions[:len(before.functions)] == before.functions
    called = [n.op_type for n in after.graph.node if n.domain == "local"]
    assert called and all(n in new and n not in old for n in called), called
    inner = {n.op_type for n in new[called[0]].node if n.domain == "local"}
    assert inner and all(n in new and n not in old for n in inner), inner
