"""--device cuda: the binary and its plug-in, on the emulated GPU that the tests build (tests/cuda)."""
import json
import os
import pathlib
import re
import signal
import subprocess

import numpy as np
import onnx
import pytest

import tiny
from conftest import PARE, ROOT, feeds, tuning

PLUGIN = pathlib.Path(os.environ.get("PARE_EMULATED", "none"))
MODEL = ROOT / "examples" / "fashion-vit" / "model.onnx"
REL = 1e-4  # fp32, as everywhere: sums of another order

emulated = pytest.mark.skipif(not (PLUGIN / "libpare_cuda.so").exists(), reason="no emulated GPU was built (no C++?)")


def pare(*args, code=0, plugin=PLUGIN, **env):
    env = {**os.environ, "PARE_PLUGIN_DIR": str(plugin), "OMP_NUM_THREADS": "1", **env}
    r = subprocess.run([PARE, *map(str, args)], capture_output=True, text=True, timeout=800, env=env)
    assert r.returncode == code, f"exit {r.returncode}, not {code}: {r.stderr[-2000:]}"
    return r


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight samples, with labels and without."""
    d = tmp_path_factory.mktemp("data")
    model = onnx.load(str(MODEL))
    parts = [feeds(model, 1, 9, seed) for seed in range(8)]
    arrays = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    np.savez(d / "plain.npz", **arrays)
    np.savez(d / "labelled.npz", labels=np.arange(8) % 10, **arrays)
    return d


def train(data, out, name, device, *args, **env):
    r = pare("compress", MODEL, out / f"{name}.onnx", "--device", device, "--batch", 2, "--rank", 4, "--prune-every", 1,
             "--report", out / name, "--train", data, *args, **env)
    with open(out / name / "report.json") as f:
        return json.load(f), (out / f"{name}.onnx").read_bytes(), r.stderr


@emulated
@pytest.mark.parametrize("method", ["gate", "loraprune"])
def test_a_run_has_the_losses_of_the_cpu_step_by_step_and_the_same_bytes_in_any_order_of_threads(data, tmp_path, method):
    args = ("--steps", 4, "--precision", "fp32", "--method", method)
    cpu, _, _ = train(data / "labelled.npz", tmp_path, "cpu", "cpu", *args)
    gpu, out, log = train(data / "labelled.npz", tmp_path, "gpu", "cuda", *args)
    _, turned, _ = train(data / "labelled.npz", tmp_path, "turned", "cuda:0", *args, PARE_EMULATION_REVERSED="1")
    assert gpu["training"]["device"] == "cuda:0" and "device cuda:0: emulated GPU" in log
    assert gpu["training"]["peak_memory_bytes"] < cpu["training"]["peak_memory_bytes"]  # the device's, not the process's
    assert gpu["curves"]["loss"] == pytest.approx(cpu["curves"]["loss"], rel=REL)
    assert [g["kept"] for g in gpu["groups"]] == [g["kept"] for g in cpu["groups"]]
    assert gpu["curves"]["metric"] == cpu["curves"]["metric"] and gpu["curves"]["step"] == [1, 2, 3, 4]
    assert gpu["curves"]["sparsity"] == cpu["curves"]["sparsity"]
    assert out == turned


@emulated
@pytest.mark.parametrize("method", ["gate", "grad", "fisher", "movement", "wanda", "obs"])
@pytest.mark.parametrize("make", [tiny.encoder, tiny.hybrid], ids=["encoder", "hybrid"])
def test_every_criterion_and_a_stem_of_convolutions_and_pools_run_as_on_the_cpu(tmp_path, make, method):
    model, data, rng = tmp_path / "m.onnx", tmp_path / "d.npz", np.random.default_rng(3)
    onnx.save(make(onnx.TensorProto.FLOAT), str(model))
    np.savez(data, x=rng.standard_normal((16, 6, tiny.STREAM)).astype(np.float32), labels=rng.integers(0, 3, 16))
    more = {"movement": ("--trainable", "all"), "obs": ("--schedule", "one-shot")}.get(method, ())
    runs = []
    for device in ("cpu", "cuda"):
        pare("compress", model, tmp_path / f"{device}.onnx", "--train", data, "--device", device, "--method", method, *more,
             "--loss", "ce", "--steps", 3, "--prune-every", 1, "--batch", 4, "--precision", "fp32", "--report", tmp_path / device)
        with open(tmp_path / device / "report.json") as f:
            runs.append(json.load(f))
    cpu, gpu = runs
    assert gpu["training"]["device"] == "cuda:0"
    assert gpu["curves"]["loss"] == pytest.approx(cpu["curves"]["loss"], rel=REL)
    assert [g.get("kept") for g in gpu["groups"]] == [g.get("kept") for g in cpu["groups"]]  # none of what nothing scores


@emulated
@pytest.mark.parametrize("words", ["all", "lora,bias,norm,head"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_that_are_tuned_themselves_have_the_losses_of_the_cpu(data, tmp_path, words, precision):
    args = ("--steps", 2, "--precision", precision, "--trainable", words)
    own = args if "lora" not in words else (*args, "--rank", 4)
    loss = []
    for device in ("cpu", "cuda"):
        pare("compress", MODEL, tmp_path / "o.onnx", "--device", device, "--batch", 2, "--prune-every", 1, "--report",
             tmp_path / device, "--train", data / "labelled.npz", *own)
        with open(tmp_path / device / "report.json") as f:
            loss.append(json.load(f)["curves"]["loss"])
    assert loss[1] == pytest.approx(loss[0], rel=REL if precision == "fp32" else 2**-6)


@emulated
def test_a_loss_that_is_not_a_number_names_its_step_though_the_device_is_a_step_ahead(data, tmp_path):
    arrays = dict(np.load(data / "labelled.npz"))
    arrays[next(k for k in arrays if k != "labels")][5] = 1e38  # its square is not a number of fp32
    np.savez(tmp_path / "huge.npz", **arrays)
    args = ("--train", tmp_path / "huge.npz", "--batch", 2, "--steps", 6, "--precision", "fp32")
    cpu, gpu = (pare("compress", MODEL, tmp_path / "o.onnx", *args, "--device", d, code=1).stderr
                for d in ("cpu", "cuda"))
    named = re.search(r"not a number at step \d+", cpu)
    assert named and named[0] in gpu


@emulated
def test_auto_takes_bf16_and_stays_within_its_rounding(data, tmp_path):
    cpu, _, _ = train(data / "labelled.npz", tmp_path, "cpu", "cpu", "--steps", 1, "--precision", "bf16")
    gpu, _, _ = train(data / "labelled.npz", tmp_path, "gpu", "auto", "--steps", 1)
    assert gpu["training"]["precision"] == "bf16"
    assert gpu["curves"]["loss"] == pytest.approx(cpu["curves"]["loss"], rel=2**-6)


@emulated
def test_tf32_rounds_the_operands_of_products_and_is_refused_on_a_cpu(data, tmp_path):
    exact, _, _ = train(data / "labelled.npz", tmp_path, "exact", "cuda", "--steps", 1, "--precision", "fp32")
    fast, _, _ = train(data / "labelled.npz", tmp_path, "fast", "cuda", "--steps", 1, "--precision", "tf32")
    assert fast["training"]["precision"] == "tf32"
    assert fast["curves"]["loss"] != exact["curves"]["loss"]
    assert fast["curves"]["loss"] == pytest.approx(exact["curves"]["loss"], rel=2**-9)  # 2^-11 an operand
    args = ("compress", MODEL, tmp_path / "o.onnx", "--train", data / "plain.npz", "--precision", "tf32")
    assert "--precision tf32 is for GPUs" in pare(*args, "--device", "cpu", code=2).stderr


@emulated
def test_distillation_has_the_losses_of_the_cpu(data, tmp_path):
    args = ("--steps", 4, "--precision", "fp32")
    cpu, _, _ = train(data / "plain.npz", tmp_path, "cpu", "cpu", *args)
    gpu, _, _ = train(data / "plain.npz", tmp_path, "gpu", "cuda", *args)
    assert cpu["curves"]["loss"][-1] > 100 * REL  # with groups gone, the student has left its teacher
    assert gpu["curves"]["loss"] == pytest.approx(cpu["curves"]["loss"], abs=REL)


@emulated
def test_a_batch_that_does_not_fit_is_cut_before_the_first_step(data, tmp_path):
    whole, _, _ = train(data / "labelled.npz", tmp_path, "whole", "cuda", "--steps", 1, "--precision", "fp32",
                        "--batch", 4)
    parts, _, log = train(data / "labelled.npz", tmp_path, "parts", "cuda", "--steps", 1, "--precision", "fp32",
                          "--batch", 4, PARE_EMULATION_MIB="36")
    assert "no room for 4 samples at a time: a step is made of runs of 2" in log
    assert parts["curves"]["loss"] == pytest.approx(whole["curves"]["loss"], rel=REL)


@emulated
def test_a_small_batch_that_does_not_fit_has_results_made_again_with_the_same_bytes(data, tmp_path):
    args = ("--steps", 2, "--precision", "fp32", "--batch", 4)
    whole, kept, _ = train(data / "labelled.npz", tmp_path, "whole", "cuda", *args)
    again, made, log = train(data / "labelled.npz", tmp_path, "again", "cuda", *args, PARE_EMULATION_MIB="39")
    assert "no room for all that backward reads: it is made again there" in log and "runs of" not in log
    assert again["curves"]["loss"] == whole["curves"]["loss"] and kept == made


@emulated
def test_bench_tells_the_share_of_the_ceiling_and_the_memory_that_the_device_misses():
    r = json.loads(pare("bench", MODEL, "--train", "--batch", 1, "--runs", 1, "--device", "cuda", "--json").stdout)
    assert r["ceiling_share"] == pytest.approx(r["tflops"] / r["ceiling_tflops"]) and r["ceiling_tflops"] > 0
    assert r["memory_bytes"] == pytest.approx(r["device_bytes"], rel=0.02)
    assert {"LinearGrad", "Importance", "AdamW"} <= {o["op"] for o in r["ops"] if o["seconds"] > 0}


@emulated
def test_a_gpu_that_fails_exits_5_names_the_node_and_leaves_the_checkpoint(data, tmp_path):
    state = tmp_path / "state" / "state.pare"
    args = (MODEL, tmp_path / "o.onnx", "--train", data / "labelled.npz", "--batch", 2, "--steps", 100000,
            "--loss", "ce", "--precision", "fp32", "--checkpoint", tmp_path / "state")
    p = tuning(*args, "--device", "cpu")
    p.send_signal(signal.SIGINT)
    step = re.search(r"interrupted at step (\d+)", p.communicate()[1].decode())[1]
    before = state.read_bytes()
    text = pare("compress", *args, "--device", "cuda", "--resume", code=5, PARE_EMULATION_FAIL="20").stderr  # in a step
    assert "node '" in text and f"the checkpoint of step {step} is whole: go on with --resume" in text
    assert state.read_bytes() == before and not (tmp_path / "o.onnx").exists()


@emulated
def test_a_gpu_that_is_not_there_exits_5_with_a_sentence(tmp_path):
    text = pare("compress", MODEL, tmp_path / "o.onnx", "--steps", 0, "--device", "cuda:7", code=5).stderr
    assert "there is no GPU 7" in text and "--device cpu" in text


def test_without_a_plug_in_cuda_exits_5_and_auto_is_the_cpu(tmp_path):
    if (pathlib.Path(PARE).parent / "libpare_cuda.so").exists():
        pytest.skip("this build has the plug-in beside the binary")
    args = ("compress", MODEL, tmp_path / "o.onnx", "--steps", 0, "--method", "magnitude")
    text = pare(*args, "--device", "cuda", code=5, plugin=tmp_path).stderr
    assert "libpare_cuda.so" in text and text.count("\n") == 1
    assert "device cpu" in pare(*args, "-v", plugin=tmp_path).stderr
