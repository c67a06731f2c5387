"""Adapters in all their forms: what they add to a model is worked out by numpy from PEFT's files, which the safetensors
library reads and writes, and judged by ONNX Runtime."""
import json
import math
import os
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import tiny
from conftest import ROOT, run

MODULES = {"attention.q": (16, 16), "attention.k": (16, 16), "attention.v": (16, 16), "attention.out": (16, 16),
           "ffn.up": (16, 32), "ffn.down": (32, 16)}
ROUNDED = 2e-6  # a weight or a result computed in f32, beside the same in f64, of the largest


@pytest.fixture
def model(tmp_path):
    return save(tiny.encoder(TensorProto.FLOAT), tmp_path / "model.onnx")


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((64, 7, tiny.STREAM)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=(x[:, :, 0].mean(axis=1) > 0).astype(np.int64))
    return tmp_path / "data.npz"


def save(m, path):
    onnx.save(m, str(path))
    return path


def weights(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}


def outputs(path, x=None):
    x = np.random.default_rng(5).standard_normal((5, 9, tiny.STREAM)).astype(np.float32) if x is None else x
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})


def relative(a, b):
    return np.abs(np.asarray(a, np.float64) - b).max() / np.abs(a).max()


def deltas(folder):
    """Module -> what the adapter adds to a weight [K, N], by the format's definition."""
    config = json.load(open(folder / "adapter_config.json"))
    assert config["peft_type"] == "LORA" and config["bias"] == "none"
    out = {}
    with safe_open(str(folder / "adapter_model.safetensors"), "np") as f:
        names = list(f.keys())
        for name in names:
            if ".lora_A." not in name:
                continue
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            a, b = f.get_tensor(name).astype(float), f.get_tensor(name.replace("lora_A", "lora_B")).astype(float)
            r = config["rank_pattern"].get(module, config["r"])
            alpha = config["alpha_pattern"].get(module, config["lora_alpha"])
            assert a.shape[0] == b.shape[1] == r, f"{module}: {a.shape} and {b.shape}, not rank {r}"
            out[module] = (alpha / (math.sqrt(r) if config["use_rslora"] else r)) * (b @ a).T
    assert len(names) == 2 * len(out) and sorted(config["target_modules"]) == sorted(out)
    return out


def with_adapters(base, folder, path, layout=None):
    """The base with s·A·B added to its weights, in f64, rounded once."""
    m = onnx.load(str(base))
    added = deltas(folder)
    for t in m.graph.initializer:
        module = t.name.removesuffix(".weight")
        if module in added:
            w = numpy_helper.to_array(t)
            t.CopyFrom(numpy_helper.from_array((w + added[module]).astype(w.dtype), t.name))
    return save(m, path)


# --- out ---


@pytest.mark.parametrize("options", [[], ["--lora-scale", "rslora", "--alpha", 4], ["--adapter-init", "pissa", "--rank", 3],
                                     ["--rank", "auto"], ["--adapter-init", "pissa", "--lora-scale", "rslora", "--rank", 4],
                                     ["--adapter-init", "pissa", "--rank", "auto"]], ids=lambda o: "_".join(map(str, o)) or "plain")
def test_the_adapters_that_are_written_are_what_was_folded(model, data, tmp_path, options):
    out, folder = tmp_path / "out.onnx", tmp_path / "adapters"
    run("tune", model, out, "--train", data, "--steps", 30, "--lr", 3e-3, "--save-adapters", folder, "-q", *options)
    before, after = weights(model), weights(out)
    added = deltas(folder)
    assert set(added) == set(MODULES)
    for module, delta in added.items():
        w = f"{module}.weight"
        assert relative(before[w] + delta, after[w]) <= ROUNDED, module
        assert np.abs(after[w] - before[w]).max() > 1e-3, f"{module} was not tuned"
    for name in before:
        if name.removesuffix(".weight") not in added:
            assert np.array_equal(before[name], after[name]), name


def test_a_model_that_was_never_trained_has_its_own_bytes_whatever_the_adapters_began_with(data, tmp_path):
    for elem in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        path = save(tiny.encoder(elem, products=TensorProto.FLOAT), tmp_path / "model.onnx")
        run("tune", path, tmp_path / "out.onnx", "--train", data, "--steps", 0, "--adapter-init", "pissa", "-q")
        before = {t.name: t.SerializeToString() for t in onnx.load(str(path)).graph.initializer}
        after = {t.name: t.SerializeToString() for t in onnx.load(str(tmp_path / "out.onnx")).graph.initializer}
        assert before == after, helper.tensor_dtype_to_np_dtype(elem)


def test_pissa_begins_with_the_largest_singular_triples_and_ends_where_it_began_without_steps(model, data, tmp_path):
    rank, alpha = 4, 10.0
    run("tune", model, tmp_path / "out.onnx", "--train", data, "--steps", 0, "--adapter-init", "pissa", "--rank", rank,
        "--alpha", alpha, "--save-adapters", tmp_path / "a", "-q")
    tensors = load_file(str(tmp_path / "a" / "adapter_model.safetensors"))
    for module in MODULES:
        a, b = (tensors[f"base_model.model.{module}.lora_{x}.weight"].astype(float) for x in "AB")
        assert a.shape[0] == 2 * rank, "the adapters of the untouched weight have what they began with behind them"
        assert np.array_equal(a[:rank], -a[rank:]) and np.array_equal(b[:, :rank], b[:, rank:]), module
        w = weights(model)[f"{module}.weight"].astype(float)
        u, s, v = np.linalg.svd(w, full_matrices=False)
        ours = alpha / rank * (b[:, :rank] @ a[:rank]).T
        best = np.linalg.norm(w - (u[:, :rank] * s[:rank]) @ v[:rank])
        assert np.linalg.norm(w - ours) <= best * (1 + 1e-3), f"{module}: {np.linalg.norm(w - ours)}, best {best}"
        sizes = np.linalg.norm(a[:rank], axis=1) / np.linalg.norm(b[:, :rank], axis=0)
        assert np.allclose(sizes, 1, atol=1e-4), f"{module}: A and B have sizes apart by {sizes}"


def test_adapters_of_a_cut_model_go_with_the_cut_base(model, data, tmp_path):
    for init in ("lora", "pissa"):
        out, base, folder = tmp_path / "out.onnx", tmp_path / "base.onnx", tmp_path / "a"
        run("compress", model, out, "--train", data, "--steps", 40, "--rank", 3, "--adapter-init", init,
            "--save-adapters", folder, "--save-base", base, "-q")
        assert weights(base)["ffn.up.weight"].shape == (16, 16)
        whole = with_adapters(base, folder, tmp_path / "whole.onnx")
        assert relative(outputs(out)[0], outputs(whole)[0]) <= 10 * ROUNDED
        assert relative(outputs(out)[0], outputs(base)[0]) > 1e-3, "the base has the adapters in it"
        run("tune", base, tmp_path / "again.onnx", "--adapters", folder, "--steps", 0, "-q")
        assert relative(outputs(out)[0], outputs(tmp_path / "again.onnx")[0]) <= 10 * ROUNDED


HF_PEFT = pathlib.Path(os.environ.get("PARE_PEFT_PYTHON", ROOT / "build" / "peft" / "bin" / "python"))
needs_hf_peft = pytest.mark.skipif(not HF_PEFT.exists(), reason="no HF PEFT: `make peft` installs it")


def hf_peft(what, model, folder, tmp_path, **config):
    """What HF PEFT makes of a folder, or makes and puts there: by module the merged weight, rows, and what becomes of them."""
    base, out = tmp_path / "base.npz", tmp_path / "peft.npz"
    np.savez(base, **{name: weights(model)[f"{name}.weight"] for name in MODULES})
    r = subprocess.run([HF_PEFT, ROOT / "tests" / "e2e" / "hf_peft.py", what, base, folder, out, json.dumps(config)],
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-2000:]
    return dict(np.load(out))


def check_same(theirs, ours):
    for name in MODULES:
        w = weights(ours)[f"{name}.weight"]
        print(name, relative(theirs[name], w))
        assert relative(theirs[name], w) <= ROUNDED, name
        assert relative(theirs[f"y/{name}"], theirs[f"x/{name}"].astype(float) @ w) <= 10 * ROUNDED, name


@needs_hf_peft
@pytest.mark.parametrize("options", [["--rank", "auto"], ["--lora-scale", "rslora"], ["--adapter-init", "pissa", "--rank", 3]],
                         ids=lambda o: o[1])
def test_hf_peft_itself_takes_what_is_written(model, data, tmp_path, options):
    out, folder = tmp_path / "out.onnx", tmp_path / "adapters"
    run("tune", model, out, "--train", data, "--steps", 20, "--save-adapters", folder, "-q", *options)
    check_same(hf_peft("read", model, folder, tmp_path), out)


@needs_hf_peft
@pytest.mark.parametrize("config", [{"r": 3, "lora_alpha": 6}, {"r": 4, "use_rslora": True},
                                    {"r": 2, "rank_pattern": {"ffn.up": 7}, "alpha_pattern": {"ffn.up": 21}}],
                         ids=lambda c: "_".join(c))
def test_what_hf_peft_itself_writes_is_folded(model, tmp_path, config):
    folder = tmp_path / "adapters"
    theirs = hf_peft("write", model, folder, tmp_path, **config)
    out = folded(model, folder, tmp_path)
    assert all(relative(theirs[m], weights(model)[f"{m}.weight"]) > 1e-3 for m in MODULES), "adapters that add nothing"
    check_same(theirs, out)


# --- in ---


def peft_folder(path, modules, rank=3, prefix="", seed=3, **config):
    """Random adapters, as PEFT writes them."""
    rng = np.random.default_rng(seed)
    path.mkdir(exist_ok=True)
    tensors = {}
    for module, (k, n) in modules.items():
        r = config.get("rank_pattern", {}).get(module, rank)
        tensors[f"base_model.model.{prefix}{module}.lora_A.weight"] = rng.standard_normal((r, k)).astype(np.float32)
        tensors[f"base_model.model.{prefix}{module}.lora_B.weight"] = rng.standard_normal((n, r)).astype(np.float32) / 9
    save_file(tensors, str(path / "adapter_model.safetensors"), {"format": "pt"})
    whole = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "bias": "none", "use_rslora": False, "rank_pattern": {},
             "alpha_pattern": {}, "target_modules": list(modules), "fan_in_fan_out": False, **config}
    json.dump(whole, open(path / "adapter_config.json", "w"))
    return path


def folded(model, folder, tmp_path):
    out = tmp_path / "folded.onnx"
    run("compress", model, out, "--adapters", folder, "--steps", 0, "--sparsity", 0, "-q")
    return out


@pytest.mark.parametrize("config", [{}, {"use_rslora": True}, {"fan_in_fan_out": True}, {"lora_alpha": 0.5},
                                    {"rank_pattern": {"ffn.up": 7}, "alpha_pattern": {"ffn.up": 21}},
                                    {"init_lora_weights": "gaussian"}], ids=lambda c: "_".join(c) or "plain")
def test_a_folder_of_peft_without_steps_is_a_fold(model, tmp_path, config):
    folder = peft_folder(tmp_path / "a", MODULES, **config)
    whole = with_adapters(model, folder, tmp_path / "whole.onnx")
    out = folded(model, folder, tmp_path)
    for name, w in weights(whole).items():
        assert relative(w, weights(out)[name]) <= ROUNDED, name
    assert relative(outputs(whole)[0], outputs(out)[0]) <= 10 * ROUNDED


def renamed(m, names):
    """Initializers get other names; `names` maps old to new."""
    for t in m.graph.initializer:
        t.name = names.get(t.name, t.name)
    for n in m.graph.node:
        for i, x in enumerate(n.input):
            n.input[i] = names.get(x, x)
    return m


def exported(m, keep):
    """Named as PyTorch's exporter does, which folds the transposition of weights into onnx::MatMul_N: modules are told
    by the names of biases, of nodes, or not at all."""
    m = renamed(m, {f"{name}.weight": f"onnx::MatMul_{100 + i}" for i, name in enumerate(MODULES)})
    if keep != "bias":
        m = renamed(m, {f"{name}.bias": f"b{i}" for i, name in enumerate(MODULES)})
    for n in m.graph.node:
        if n.op_type == "MatMul" and n.input[1].startswith("onnx::") and keep == "node":
            part = list(MODULES)[int(n.input[1].split("_")[1]) - 100].split(".")
            n.name = f"/layers/layers.0/{part[0]}/{part[1]}/MatMul"
    return m


@pytest.mark.parametrize("keep,prefix", [("bias", ""), ("bias", "bert.layers.0."), ("node", "layers.0."), ("node", "")])
def test_modules_are_found_by_biases_and_nodes_where_weights_have_no_names(model, tmp_path, keep, prefix):
    plain = peft_folder(tmp_path / "a", MODULES)
    want = outputs(with_adapters(model, plain, tmp_path / "whole.onnx"))[0]
    path = save(exported(onnx.load(str(model)), keep), tmp_path / "exported.onnx")
    out = folded(path, peft_folder(tmp_path / "b", MODULES, prefix=prefix), tmp_path)
    assert relative(want, outputs(out)[0]) <= 10 * ROUNDED


def test_a_layer_that_carries_no_adapter_otherwise_and_reads_its_weight_transposed_is_folded_too(model, tmp_path):
    m = onnx.load(str(model))
    w = next(t for t in m.graph.initializer if t.name == "classifier.weight")
    matmul = next(n for n in m.graph.node if "classifier.weight" in n.input)
    add = next(n for n in m.graph.node if matmul.output[0] in n.input)
    gemm = helper.make_node("Gemm", [matmul.input[0], "classifier.weight", "classifier.bias"], list(add.output),
                            name="/classifier/Gemm", transB=1)
    whole, array = m.graph, numpy_helper.to_array(w)
    w.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array.T), w.name))
    nodes = [gemm if n is add else n for n in whole.node if n is not matmul]
    del whole.node[:]
    whole.node.extend(nodes)
    path = save(m, tmp_path / "gemm.onnx")
    assert relative(outputs(model)[0], outputs(path)[0]) <= ROUNDED
    folder = peft_folder(tmp_path / "a", {"classifier": (16, 3), "attention.q": (16, 16)})
    out = folded(path, folder, tmp_path)
    assert relative(array + deltas(folder)["classifier"], weights(out)["classifier.weight"].T) <= ROUNDED


@pytest.mark.parametrize("wrapper", ["", ".modules_to_save", ".modules_to_save.default"])
def test_whole_layers_take_the_place_of_the_models_own(model, data, tmp_path, wrapper):
    folder = peft_folder(tmp_path / "a", {"attention.q": (16, 16)})
    file, rng = str(folder / "adapter_model.safetensors"), np.random.default_rng(2)
    w, b = rng.standard_normal((3, 16)).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    save_file({**load_file(file), f"base_model.model.classifier{wrapper}.weight": w,
               f"base_model.model.classifier{wrapper}.bias": b}, file)
    got = weights(folded(model, folder, tmp_path))
    assert relative(w.T, got["classifier.weight"]) <= ROUNDED and relative(b, got["classifier.bias"]) <= ROUNDED
    args = ["tune", model, tmp_path / "out.onnx", "--train", data, "--steps", 20, "--adapters", folder]
    run(*args, "-q")
    tuned = weights(tmp_path / "out.onnx")
    assert 0 < relative(got["classifier.weight"], tuned["classifier.weight"]) < 0.2
    assert np.array_equal(got["classifier.bias"], tuned["classifier.bias"])
    assert "classifier" in run(*args, "--save-adapters", tmp_path / "b", code=2).stderr


def test_tuning_goes_on_from_the_adapters_that_are_given(model, data, tmp_path):
    folder = peft_folder(tmp_path / "a", {"attention.q": (16, 16), "ffn.up": (16, 32)})
    run("tune", model, tmp_path / "out.onnx", "--train", data, "--steps", 20, "--adapters", folder, "--save-adapters",
        tmp_path / "b", "--lr", 1e-4, "-q")
    start, end = deltas(folder), deltas(tmp_path / "b")
    moved = {m: np.abs(end[m] - start.get(m, 0)).max() for m in end}
    assert set(end) == set(MODULES) and all(0 < d < 0.2 for d in moved.values()), moved
    assert np.abs(start["ffn.up"]).max() > 0.5


def test_what_is_cut_followed_and_judged_is_the_model_with_its_adapters(model, data, tmp_path):
    folder = peft_folder(tmp_path / "a", MODULES)
    whole, out = with_adapters(model, folder, tmp_path / "whole.onnx"), tmp_path / "out.onnx"
    x, y = np.load(data)["x"], outputs(whole, np.load(data)["x"])[0].argmax(axis=1)
    np.savez(tmp_path / "own.npz", x=x, labels=y)  # what the whole model says
    assert (outputs(model, x)[0].argmax(axis=1) == y).mean() < 0.9
    run("compress", model, out, "--train", tmp_path / "own.npz", "--eval", tmp_path / "own.npz", "--adapters", folder,
        "--steps", 100, "--loss", "kd", "--lr", 1e-2, "--report", tmp_path / "r", "-q")
    metrics = json.load(open(tmp_path / "r" / "report.json"))["metrics"]
    agreement = (outputs(out, x)[0].argmax(axis=1) == y).mean()
    assert metrics["dense"] == 1 and metrics["compact"] == pytest.approx(agreement, abs=1e-6), metrics
    assert agreement >= 0.9 and weights(out)["ffn.up.weight"].shape == (16, 16), agreement


@pytest.mark.parametrize("break_it,code,why", [
    (lambda t, c: t.update({k.replace("ffn.up", "ffn.gate"): t.pop(k) for k in list(t) if "ffn.up" in k}), 4, "ffn.gate"),
    (lambda t, c: t.update({k.replace("ffn.up", "up"): t.pop(k) for k in list(t) if "ffn.up" in k}), 0, ""),
    (lambda t, c: t.update({k.replace("attention.q", "weight"): t.pop(k) for k in list(t) if "attention.q" in k}), 4, "weight"),
    (lambda t, c: c.update(r=5), 4, "rank 3"),
    (lambda t, c: t.update({"base_model.model.ffn.up.lora_A.weight": np.ones((3, 32), np.float32),
                            "base_model.model.ffn.up.lora_B.weight": np.ones((16, 3), np.float32)}), 4, "from 32 to 16"),
    (lambda t, c: t.pop("base_model.model.ffn.up.lora_B.weight"), 4, "beside it"),
    (lambda t, c: t.pop("base_model.model.ffn.up.lora_A.weight"), 4, "beside it"),
    (lambda t, c: t.update({"base_model.model.ffn.up.lora_A.weight": np.ones((3, 16, 1), np.float32)}), 4, "no two matrices"),
    (lambda t, c: t.update({"base_model.model.ffn.up.lora_A.weight": np.ones((3, 16), np.int64)}), 4, "no two matrices"),
    (lambda t, c: t.update({"base_model.model.ffn.up.lora_A.weight": np.full((3, 16), np.nan, np.float32)}), 4, "finite"),
    (lambda t, c: t.update({"base_model.model.classifier.weight": np.ones((16, 3), np.float32)}), 4, "from 3 to 16"),
    (lambda t, c: t.update({"base_model.model.classifier.weight": np.ones(16, np.float32)}), 3, "classifier.weight"),
    (lambda t, c: t.update({"base_model.model.norm1.bias": np.ones(16, np.float32)}), 4, "norm1"),
    (lambda t, c: t.update({"base_model.model.x.lora_embedding_A": np.ones((3, 16), np.float32)}), 3, "lora_embedding_A"),
    (lambda t, c: t.update({"base_model.model.ffn.up.bias": np.ones(31, np.float32)}), 4, "different sizes"),
    (lambda t, c: t.clear(), 4, "no adapters"),
    (lambda t, c: c.update(peft_type="IA3"), 3, "IA3"),
    (lambda t, c: c.update(bias="all"), 3, "bias"),
    (lambda t, c: c.update(use_dora=True), 3, "dora"),
    (lambda t, c: c.update(init_lora_weights="pissa"), 3, "pissa"),
    (lambda t, c: c.pop("lora_alpha"), 4, "lora_alpha"),
    (lambda t, c: c.update(lora_alpha="16"), 4, "lora_alpha"),
    (lambda t, c: c.update(alpha_pattern={"ffn.up": "x" * 5000}), 4, "ffn.up"),
    (lambda t, c: c.update(rank_pattern={"((a{1,255}){1,255}){1,255}": 3}), 3, "expression"),
    (lambda t, c: c.update(rank_pattern={"^ffn.up": 5}), 4, "rank 3"),
    (lambda t, c: c.update(rank_pattern={"^up": 5, "fn.up": 7, r"ffn\.down": 3, "": 9}), 0, ""),
    (lambda t, c: c.update(rank_pattern=[]), 0, ""),
])
def test_a_folder_that_does_not_fit_is_refused_by_name(model, tmp_path, break_it, code, why):
    folder = peft_folder(tmp_path / "a", MODULES)
    tensors = load_file(str(folder / "adapter_model.safetensors"))
    config = json.load(open(folder / "adapter_config.json"))
    break_it(tensors, config)
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    json.dump(config, open(folder / "adapter_config.json", "w"))
    r = run("tune", model, tmp_path / "out.onnx", "--adapters", folder, "--steps", 0, "-q", code=code)
    assert why in r.stderr and (tmp_path / "out.onnx").exists() == (code == 0), r.stderr


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_files_that_are_cut_or_changed_anywhere_do_no_harm(model, tmp_path, file):
    folder = peft_folder(tmp_path / "a", {"attention.q": (16, 16)})
    whole = (folder / file).read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little") if file.endswith("safetensors") else len(whole)
    rng = np.random.default_rng(0)
    for at in [0, 1, 7, 8, 9, head - 1, *rng.integers(0, head, 25)]:
        for damaged in (whole[:at], whole[:at] + bytes([rng.integers(256)]) + whole[at + 1:]):
            (folder / file).write_bytes(damaged)
            p = run("tune", model, tmp_path / "out.onnx", "--adapters", folder, "--steps", 0, "-q", code=None)
            assert p.returncode in (0, 3, 4), f"byte {at}: exit {p.returncode}: {p.stderr}"
            assert p.returncode == 0 or p.stderr.startswith("pare: "), p.stderr
    (folder / file).unlink()
    assert file in run("tune", model, tmp_path / "out.onnx", "--adapters", folder, "--steps", 0, "-q", code=4).stderr


# --- the options beside each other ---


@pytest.mark.parametrize("options,why", [
    (["--adapter-init", "pissa", "--adapter", "sequential"], "parallel"),
    (["--adapter-init", "pissa", "--rank", 17], "singular values"),
    (["--adapter-init", "pissa", "--alpha", 0], "--alpha"),
    (["--rank", "some"], "auto"),
    (["--rank", 0], "between 1 and 4096"),
    (["--save-adapters", "a", "--granularity", "unstructured"], "structured"),
    (["--save-adapters", "a"], "--save-base"),
    (["--save-base", "b.onnx"], "--save-adapters"),
    (["--save-adapters", "a", "--save-base", "out.onnx"], "OUT"),
    (["--adapters", "a", "--rank", "auto"], "rank auto"),
    (["--adapters", "a", "--adapter-init", "pissa"], "pissa"),
    (["--teacher", "t.onnx", "--distill", "none"], "--teacher"),
    (["--teacher", "t.onnx", "--num-labels", 3], "--num-labels"),
    (["--save-adapters", "a", "--save-base", "b.onnx", "--trainable", "lora,bias"], "--trainable"),
    (["--trainable", "all", "--adapter-init", "pissa"], "--trainable"),
])
def test_options_that_contradict_each_other_are_refused(model, data, tmp_path, options, why, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert why in run("compress", model, "out.onnx", "--train", data, "--steps", 2, *options, code=2).stderr


# --- rank auto ---


def ranks(report):
    return {a["weight"]: a["rank"] for a in json.load(open(report / "report.json"))["adapters"]}


def test_ranks_share_out_the_numbers_of_rank_8_and_leave_one_where_no_gradient_arrives(data, tmp_path):
    m = tiny.encoder(TensorProto.FLOAT)
    for t in m.graph.initializer:
        if t.name == "attention.out.weight":  # nothing passes: q, k and v have no gradient
            t.CopyFrom(numpy_helper.from_array(np.zeros((16, 16), np.float32), t.name))
    path = save(m, tmp_path / "model.onnx")
    run("tune", path, tmp_path / "out.onnx", "--train", data, "--steps", 4, "--rank", "auto", "--report", tmp_path / "r", "-q")
    got = ranks(tmp_path / "r")
    cost = {f"{name}.weight": k + n for name, (k, n) in MODULES.items()}
    budget, spent = 8 * sum(cost.values()), sum(got[w] * cost[w] for w in cost)
    assert [got[f"attention.{n}.weight"] for n in "qkv"] == [1, 1, 1], got
    assert budget - max(cost.values()) < spent <= budget, f"{spent} of {budget}: {got}"


def test_a_run_of_ranks_that_is_resumed_ends_with_the_same_bytes(model, data, tmp_path):
    for init in ("lora", "pissa"):
        args = ["--train", data, "--steps", 30, "--rank", "auto", "--adapter-init", init, "--seed", 3, "-q"]
        run("compress", model, tmp_path / "a.onnx", *args)
        run("compress", model, tmp_path / "b.onnx", *args, "--checkpoint", tmp_path / init)
        run("compress", model, tmp_path / "c.onnx", *args, "--checkpoint", tmp_path / init, "--resume")
        whole = (tmp_path / "a.onnx").read_bytes()
        assert whole == (tmp_path / "b.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes(), init
        other = ["--adapter-init", "pissa" if init == "lora" else "lora"]
        run("compress", model, tmp_path / "d.onnx", *args, "--checkpoint", tmp_path / init, "--resume", *other, code=2)


# --- tune ---


def test_two_tasks_are_tuned_on_one_base_that_was_cut(model, data, tmp_path):
    base = tmp_path / "base.onnx"
    run("compress", model, base, "--train", data, "--steps", 0, "-q")
    x = np.load(data)["x"]
    for task in range(2):
        y = (x[:, :, task + 1].mean(axis=1) > 0).astype(np.int64)
        np.savez(tmp_path / "task.npz", x=x, labels=y)
        out = tmp_path / f"task{task}.onnx"
        run("tune", base, out, "--train", tmp_path / "task.npz", "--eval", tmp_path / "task.npz", "--epochs", 150,
            "--lr", 1e-2, "--save-adapters", tmp_path / f"task{task}", "-q")
        before, after = weights(base), weights(out)
        assert {n: w.shape for n, w in before.items()} == {n: w.shape for n, w in after.items()}
        right = [(outputs(p, x)[0].argmax(axis=1) == y).mean() for p in (base, out)]
        assert right[1] >= 0.9 and right[1] > right[0] + 0.1, f"task {task}: {right}"
        whole = with_adapters(base, tmp_path / f"task{task}", tmp_path / "whole.onnx")
        assert relative(outputs(out)[0], outputs(whole)[0]) <= 10 * ROUNDED


def test_adapters_alone_are_written_where_no_model_is_asked_for(model, data, tmp_path):
    args = ["tune", model, "--train", data, "--steps", 5, "-q", "--save-adapters"]
    here = {p.name for p in tmp_path.iterdir()}
    run(*args, tmp_path / "a")
    assert {p.name for p in tmp_path.iterdir()} == here | {"a"}
    run("tune", model, tmp_path / "out.onnx", *args[2:], tmp_path / "b")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert "--save-adapters" in run("tune", model, "--train", data, "--steps", 5, code=2).stderr
    assert "OUT" in run("compress", model, "--train", data, code=2).stderr


@pytest.mark.parametrize("option", ["--sparsity=0.5", "--plan=p", "--method=gate", "--save-masked=m", "--prune=ffn", "--regrow"])
def test_tune_takes_no_option_about_what_is_cut(model, data, tmp_path, option):
    r = run("tune", model, tmp_path / "out.onnx", "--train", data, option, code=2)
    assert option.split("=")[0] in r.stderr and "cuts nothing" in r.stderr
    assert option.split("=")[0] not in run("tune", "--help").stdout


# --- a teacher ---


def kl(teacher, student, x):
    p, q = (v - np.log(np.exp(v).sum(axis=1, keepdims=True)) for v in (outputs(f, x)[0] for f in (teacher, student)))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def test_a_student_comes_nearer_to_another_model(model, data, tmp_path):
    teacher = save(tiny.encoder(TensorProto.FLOAT, seed=7), tmp_path / "teacher.onnx")
    out, x = tmp_path / "out.onnx", np.load(data)["x"]
    before = kl(teacher, model, x)
    for distill in ("auto", "both"):
        run("tune", model, out, "--train", data, "--loss", "kd", "--teacher", teacher, "--steps", 200, "--lr", 1e-2,
            "--distill", distill, "-q")
        after = kl(teacher, out, x)
        assert after < 0.2 * before, f"{distill}: {after}, {before} before"


def two_outputs(names, wide=tiny.CLASSES, seed=7, x="x", factor=2):
    """An encoder that gives its logits and twice its logits, in this order."""
    m = tiny.encoder(TensorProto.FLOAT, seed=seed)
    g = m.graph
    last = g.node[-1]
    two = numpy_helper.from_array(np.array(factor, np.float32), "two")
    g.initializer.append(two)
    last.output[0] = names[0]
    g.node.append(helper.make_node("Mul", [last.input[0], "two"], [names[1]], name="double"))
    del g.output[:]
    g.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", wide]) for n in names)
    return m


def swapped(m):
    outs = list(m.graph.output)
    del m.graph.output[:]
    m.graph.output.extend(reversed(outs))
    return m


def test_outputs_are_matched_by_name_before_their_order(data, tmp_path):
    """A teacher that is the student, its outputs the other way round, has nothing to teach."""
    student = save(two_outputs(("once", "twice")), tmp_path / "student.onnx")
    same = save(swapped(two_outputs(("once", "twice"))), tmp_path / "same.onnx")
    other = save(two_outputs(("twice", "once")), tmp_path / "other.onnx")  # by name: the wrong one
    unnamed = save(two_outputs(("a", "b")), tmp_path / "unnamed.onnx")
    loss = {}
    for teacher in (same, other, unnamed):
        run("tune", student, tmp_path / "out.onnx", "--train", data, "--loss", "kd", "--teacher", teacher, "--steps", 1,
            "--report", tmp_path / "r", "-q")
        loss[teacher.stem] = json.load(open(tmp_path / "r" / "report.json"))["training"]["final_loss"]
    assert loss["same"] < 1e-6 and loss["unnamed"] < 1e-6 and loss["other"] > 1e-3, loss


def test_a_teachers_share_of_the_loss_is_told_by_the_output_that_labels_speak_of(data, tmp_path):
    """Whatever the order of its outputs, and whatever else it has; a half at least and 0.95 at most, being asked for."""
    x = dict(np.load(data))
    make = lambda: two_outputs(("once", "sharp"), factor=4)
    student = save(swapped(make()), tmp_path / "student.onnx")
    teachers = {"same": swapped(make()), "swapped": make()}
    y = outputs(student, x["x"])[0]
    rng, mu = np.random.default_rng(0), {}
    for share in (1, 0.01, 0):
        said = np.where(rng.random(len(y)) < share, rng.integers(0, y.shape[1], len(y)), y.argmax(-1))
        np.savez(tmp_path / "labelled.npz", **{**x, "labels": said})
        for name, m in teachers.items():
            run("tune", student, tmp_path / "out.onnx", "--train", tmp_path / "labelled.npz", "--teacher",
                save(m, tmp_path / f"{name}.onnx"), "--steps", 20, "--report", tmp_path / "r", "--overwrite", "-q")
            mu[name, share] = json.load(open(tmp_path / "r" / "report.json"))["training"]["mu"]
        assert mu["same", share] == mu["swapped", share], mu
    assert mu["same", 1] == 0.5 and all(0.5 <= v <= 0.95 for v in mu.values()) and len(set(mu.values())) == 3, mu


def test_a_teacher_that_does_not_fit_is_refused_by_name(model, data, tmp_path):
    def renamed_input(m):
        m = renamed(m, {"x": "pixels"})
        m.graph.input[0].name = "pixels"
        return m

    def wider(m):
        m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 12
        return m

    def fewer(m):
        for t in m.graph.initializer:
            if t.name.startswith("classifier"):
                t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t)[..., :2].copy(), t.name))
        m.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
        return m

    student = save(two_outputs(("once", "twice")), tmp_path / "two.onnx")
    for change, who, why in ((renamed_input, model, "pixels"), (wider, model, "'x'"), (fewer, model, "'y'"),
                             (lambda m: m, student, "twice")):
        teacher = save(change(tiny.encoder(TensorProto.FLOAT, seed=7)), tmp_path / "teacher.onnx")
        r = run("tune", who, tmp_path / "out.onnx", "--train", data, "--teacher", teacher, "--steps", 2, code=4)
        assert why in r.stderr and "teacher.onnx" in r.stderr, r.stderr


def test_states_of_another_width_are_not_followed_and_the_log_says_so(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "STREAM", 24)
    monkeypatch.setattr(tiny, "HEADS", 6)
    wide = tiny.encoder(TensorProto.FLOAT, seed=7)
    monkeypatch.undo()
    narrow = numpy_helper.from_array(np.eye(16, 24, dtype=np.float32), "widen")
    wide.graph.initializer.append(narrow)
    for n in wide.graph.node:
        for i, x in enumerate(n.input):
            n.input[i] = "x24" if x == "x" else x
    wide.graph.node.insert(0, helper.make_node("MatMul", ["x", "widen"], ["x24"], name="widen"))
    wide.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 16
    teacher = save(wide, tmp_path / "wide.onnx")
    r = run("tune", model, tmp_path / "out.onnx", "--train", data, "--loss", "kd", "--distill", "both", "--teacher", teacher,
            "--steps", 2)
    assert "hidden states are not distilled" in r.stderr, r.stderr
