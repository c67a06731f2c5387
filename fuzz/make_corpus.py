"""make_corpus.py - writes the seeds of fuzz/corpus/model: small models, one for each part of the format that
the frontend reads. Run it from the repository's root with Python's onnx installed."""
import os

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

OUT = "fuzz/corpus/model"


def init(name, *shape, dtype=np.float32):
    n = int(np.prod(shape))
    return nh.from_array((np.arange(n) % 7 - 3).astype(dtype).reshape(shape), name)


def save(name, nodes, inits, out=("y", (None, 4)), opset=17, inputs=(("x", ("batch", 4)),), **more):
    graph = h.make_graph(nodes, "g", [h.make_tensor_value_info(n, T.FLOAT, s) for n, s in inputs],
                         [h.make_tensor_value_info(*[out[0], T.FLOAT, out[1]])], inits, **more)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)])
    model.ir_version = 8
    data = model.SerializeToString()
    assert len(data) < 2048, (name, len(data))
    with open(os.path.join(OUT, name + ".onnx"), "wb") as f:
        f.write(data)


def main():
    os.makedirs(OUT, exist_ok=True)
    n = h.make_node
    save("ffn", [n("MatMul", ["x", "w1"], ["a"], "l/up"), n("Add", ["a", "b1"], ["b"]), n("Gelu", ["b"], ["c"]),
                 n("Gemm", ["c", "w2"], ["d"], "l/down"), n("Add", ["x", "d"], ["y"])],
         [init("w1", 4, 6), init("b1", 6), init("w2", 6, 4)], opset=20)
    save("attention",
         [n("MatMul", ["x", "w"], ["p"]), n("Split", ["p"], ["q", "k", "v"], axis=2),
          n("Reshape", ["q", "s4"], ["q4"]), n("Reshape", ["k", "s4"], ["k4"]), n("Reshape", ["v", "s4"], ["v4"]),
          n("Transpose", ["q4"], ["qt"], perm=[0, 2, 1, 3]), n("Transpose", ["k4"], ["kt"], perm=[0, 2, 3, 1]),
          n("Transpose", ["v4"], ["vt"], perm=[0, 2, 1, 3]), n("MatMul", ["qt", "kt"], ["s"]),
          n("Softmax", ["s"], ["m"], axis=-1), n("MatMul", ["m", "vt"], ["o"]),
          n("Transpose", ["o"], ["ot"], perm=[0, 2, 1, 3]), n("Reshape", ["ot", "s3"], ["om"]),
          n("MatMul", ["om", "wo"], ["y"])],
         [init("w", 4, 12), init("wo", 4, 4), nh.from_array(np.array([0, 0, 2, 2]), "s4"),
          nh.from_array(np.array([0, 0, 4]), "s3")], out=("y", (None, None, 4)), inputs=(("x", ("b", "n", 4)),))
    save("quantised",
         [n("QuantizeLinear", ["x", "s", "z"], ["q"]), n("DequantizeLinear", ["q", "s", "z"], ["d"]),
          n("DequantizeLinear", ["w1", "s6", "z6"], ["v1"], axis=1), n("MatMul", ["d", "v1"], ["a"]),
          n("Relu", ["a"], ["r"]), n("DequantizeLinear", ["w2", "s"], ["v2"]), n("MatMul", ["r", "v2"], ["y"])],
         [nh.from_array(np.array(0.5, np.float32), "s"), nh.from_array(np.array(3, np.int8), "z"),
          nh.from_array(np.arange(1, 7, dtype=np.float32), "s6"), nh.from_array(np.arange(6, dtype=np.uint8), "z6"),
          nh.from_array(np.arange(24, dtype=np.uint8).reshape(4, 6), "w1"),
          nh.from_array(np.arange(24, dtype=np.int8).reshape(6, 4), "w2")])
    save("half", [n("Cast", ["x"], ["h"], to=T.FLOAT16), n("Sqrt", ["two"], ["r"]), n("Mul", ["h", "r"], ["a"]),
                  n("MatMul", ["a", "w"], ["b"]), n("Cast", ["b"], ["y"], to=T.FLOAT)],
         [nh.from_array(np.array(2, np.float16), "two"), nh.from_array(np.ones((4, 4), np.float16), "w")])
    typed = [h.make_tensor(name, t, [2], [1, 0]) for name, t in
             [("f", T.FLOAT), ("d", T.DOUBLE), ("h", T.FLOAT16), ("i8", T.INT8), ("u8", T.UINT8), ("i16", T.INT16),
              ("u16", T.UINT16), ("i32", T.INT32), ("u32", T.UINT32), ("i64", T.INT64), ("u64", T.UINT64),
              ("bo", T.BOOL)]]
    save("typed", [n("Relu", ["x"], ["y"])], typed)
    save("shape", [n("Shape", ["x"], ["s"]), n("Gather", ["s", "zero"], ["b"], axis=0),
                   n("Unsqueeze", ["b", "ax"], ["b1"]), n("Concat", ["b1", "m1"], ["t"], axis=0),
                   n("Reshape", ["x", "t"], ["y"])],
         [nh.from_array(np.array(0), "zero"), nh.from_array(np.array([0]), "ax"), nh.from_array(np.array([-1]), "m1")])
    save("old", [n("Unsqueeze", ["x"], ["a"], axes=[0]), n("Slice", ["a"], ["b"], axes=[2], starts=[1], ends=[3]),
                 n("Squeeze", ["b"], ["c"], axes=[0]), n("Split", ["c"], ["d", "e"], axis=1, split=[1, 1]),
                 n("ReduceMean", ["d"], ["f"], axes=[1], keepdims=1),
                 n("ConstantOfShape", ["sh"], ["g"], value=h.make_tensor("", T.FLOAT, [1], [2.0])),
                 n("Add", ["f", "g"], ["y"])], [nh.from_array(np.array([4]), "sh")], opset=9)
    save("constants", [n("Constant", [], ["a"], value=init("", 4)), n("Constant", [], ["b"], value_float=2.0),
                       n("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0]),
                       n("Constant", [], ["d"], value_ints=[-1, 4]), n("Constant", [], ["e"], value_int=0),
                       n("Add", ["x", "a"], ["f"]), n("Mul", ["f", "b"], ["g"]), n("Sub", ["g", "c"], ["i"]),
                       n("Reshape", ["i", "d"], ["y"])], [])
    external = onnx.TensorProto(name="w", data_type=T.FLOAT, dims=[4], data_location=T.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "16")):
        external.external_data.add(key=key, value=value)
    save("external", [n("Add", ["x", "w"], ["y"])], [external])
    body = h.make_graph([n("Relu", ["x"], ["z"])], "then", [], [h.make_tensor_value_info("z", T.FLOAT, None)],
                        [init("inner", 2, 2)])
    save("nested", [n("If", ["c"], ["y"], then_branch=body, else_branch=body)],
         [nh.from_array(np.array(True), "c")])
    def sparse(name, shape, indices, at):
        return h.make_sparse_tensor(h.make_tensor(name, T.FLOAT, [len(at)], [1.0 + i for i in range(len(at))]),
                                    h.make_tensor("", T.INT64, indices, np.ravel(at).tolist()), shape)
    save("sparse", [n("MatMul", ["x", "up"], ["a"]), n("Relu", ["a"], ["b"]), n("MatMul", ["b", "down"], ["y"])], [],
         sparse_initializer=[sparse("up", [4, 6], [3], [2, 7, 23]), sparse("down", [6, 4], [2, 2], [[0, 3], [5, 1]])])


if __name__ == "__main__":
    main()
