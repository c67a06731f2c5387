#!/usr/bin/env python3
"""gpu.py - pare beside PyTorch on a GPU: a LoRAPrune step (importance and masks included) against a plain LoRA step,
and one whole compression on the GPU and on the CPU with the same recipe. bench/gpu.sh builds pare and calls it.

    gpu.py --pare build/cuda/pare [--device cuda] [--models bert-base,vit-b16] [--batches 256,64] [--budget 400]
           [--out bench/results]

What the budget has no time for is left out and said. Writes OUT/gpu-DATE.json and prints a table."""
import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import onnx_models
from shapes import LENGTH, MODELS, VOCAB, step_flops

HERE = pathlib.Path(__file__).resolve().parent
COMPILE_SECONDS, EAGER_SECONDS, COMPRESS_SECONDS = 60, 25, 25  # what a part may take: it begins if that much is left
EXAMPLE = HERE.parent / "examples" / "fashion-vit" / "model.onnx"


class Run:
    def __init__(self, args):
        self.args, self.end, self.left_out, self.errors = args, time.time() + args.budget, [], []

    def has(self, seconds, what):
        if self.end - time.time() >= seconds:
            return True
        self.left_out.append(what)
        print(f"left out: {what}", file=sys.stderr)
        return False

    def json_of(self, command, what):
        """The last JSON that a command prints, None where it fails."""
        try:
            r = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                               timeout=max(30, self.end - time.time()))
        except subprocess.TimeoutExpired:
            self.left_out.append(what)
            return None
        if r.returncode == 0:
            return json.loads(r.stdout[r.stdout.index("{"):])
        lines = r.stderr.strip().splitlines()
        self.errors.append(f"{what}: {lines[-1] if lines else f'exit {r.returncode}'}")
        print(self.errors[-1], file=sys.stderr)
        return None

    def torch(self, *words, what):
        return self.json_of([sys.executable, HERE / "gpu_torch.py", *words, "--device", self.args.device], what)

    def pare(self, path, batch, method, what):
        return self.json_of([self.args.pare, "bench", "--train", path, "--batch", batch, "--precision", "bf16", "--device",
                             self.args.device, "--method", method, "--runs", self.args.runs, "--json"], what)


def measure(run, path, name, batch, ceiling):
    row = {"model": name, "batch": batch}
    tag = f"{name} at {batch}"
    pare, gate = (run.pare(path, batch, method, f"pare {method}, {tag}") if run.has(EAGER_SECONDS, f"pare {method}, {tag}")
                  else None for method in ("loraprune", "gate"))
    if gate:  # the default of compress
        row |= {"gate_samples_per_second": gate["samples_per_second"], "gate_peak_memory_bytes": gate["memory_bytes"],
                "gate_ops": gate["ops"]}
    if pare:
        seconds = batch / pare["samples_per_second"]
        row |= {"pare_samples_per_second": pare["samples_per_second"], "pare_peak_memory_bytes": pare["memory_bytes"],
                "pare_tflops": step_flops(name, batch) / seconds / 1e12, "pare_ops": pare["ops"]}
        if ceiling:
            row["ceiling_share"] = 1e12 * row["pare_tflops"] / ceiling
    for mode, needs in (("eager", EAGER_SECONDS), ("compile", COMPILE_SECONDS)):
        what = f"PyTorch {mode}, {tag}"
        peer = run.torch("step", name, batch, mode, what=what) if run.has(needs, what) else None
        if peer:
            row[f"torch_{mode}_samples_per_second"] = peer["samples_per_second"]
            row["torch_peak_memory_bytes"] = peer["peak_memory_bytes"]  # of the faster one: it comes last
    if "torch_compile_samples_per_second" in row and pare:
        row["ratio_to_torch_compile"] = row["pare_samples_per_second"] / row["torch_compile_samples_per_second"]
    return row


def compress(run, device, folder):
    """The committed model on random pictures: the speed of a whole run, its first steps and its last."""
    data = folder / "train.npz"
    if not data.exists():
        rng = np.random.default_rng(0)
        np.savez(data, pixel_values=rng.standard_normal((2048, 1, 28, 28)).astype(np.float32))
    report = folder / f"report-{device.replace(':', '-')}"
    command = [run.args.pare, "compress", EXAMPLE, folder / "out.onnx", "--train", data, "--steps", 100, "--batch", 64,
               "--device", device, "--report", report, "-q"]
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=max(30, run.end - time.time()))
    if r.returncode:
        run.errors.append(f"compress on {device}: {r.stderr.strip().splitlines()[-1]}")
        return {"device": device, "exit": r.returncode}
    got = json.loads((report / "report.json").read_text())
    return {"device": device, "training": got["training"], "metrics": got["metrics"], "validation": got["validation"]}


def halve(run, path, folder, batch, steps=60):
    """A run that ends with half of the heads and channels: the speed of its last steps beside that of its first."""
    data, report = folder / "tokens.npz", folder / "report-half"
    rng = np.random.default_rng(0)
    np.savez(data, x=rng.integers(0, VOCAB, (4 * batch, LENGTH)), labels=rng.integers(0, 2, 4 * batch))
    command = [run.args.pare, "compress", path, folder / "half.onnx", "--train", data, "--steps", steps, "--batch", batch,
               "--sparsity", 0.5, "--prune-warmup", 0.25, "--prune-cooldown", 0.25, "--method", "loraprune", "--ranking",
               "uniform", "--reconstruct", "off", "--device", run.args.device, "--report", report, "-q"]
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=max(30, run.end - time.time()))
    if r.returncode:
        run.errors.append(f"half of {path.stem}: {r.stderr.strip().splitlines()[-1]}")
        return {}
    got = json.loads((report / "report.json").read_text())
    at = got["curves"]["seconds"]
    each = np.diff(at)
    n = max(1, steps // 6)
    first, last = float(np.median(each[1:n])), float(np.median(each[-n:]))
    return {"model": path.stem, "batch": batch, "steps": steps, "seconds_of_a_step_at_first": first,
            "seconds_of_a_step_at_last": last, "times_as_fast": first / last, "training": got["training"]}


def driver():
    try:
        r = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                           capture_output=True, text=True)
        return r.stdout.strip()
    except OSError:
        return ""


def save(run, report):
    """After each part: what is measured is not lost when the rest is."""
    report["left_out"], report["errors"] = run.left_out, run.errors
    run.args.out.mkdir(parents=True, exist_ok=True)
    path = run.args.out / f"gpu-{report['date']}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path


def table(report):
    names = [("pare_samples_per_second", "pare/s"), ("gate_samples_per_second", "gate/s"),
             ("torch_eager_samples_per_second", "eager/s"), ("torch_compile_samples_per_second", "compile/s"),
             ("ratio_to_torch_compile", "ratio"), ("ceiling_share", "ceiling"), ("pare_peak_memory_bytes", "pare GB"),
             ("torch_peak_memory_bytes", "torch GB")]
    lines = [" ".join([f"{'model':12s} {'batch':>5s}"] + [f"{n:>10s}" for _, n in names])]
    for r in report["rows"]:
        cells = [f"{r[k] / (1e9 if k.endswith('bytes') else 1):10.2f}" if k in r else f"{'-':>10s}" for k, _ in names]
        lines.append(" ".join([f"{r['model']:12s} {r['batch']:5d}"] + cells))
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pare", required=True)
    p.add_argument("--device", default="cuda")
    p.add_argument("--models", default="bert-base,vit-b16")
    p.add_argument("--batches", default="256,64")
    p.add_argument("--runs", type=int, default=10)
    p.add_argument("--budget", type=float, default=400, help="seconds")
    p.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    args = p.parse_args()
    run = Run(args)
    top = run.torch("ceilings", what="ceilings") or {}
    report = {"date": str(datetime.date.today()), "device": top.get("device", ""), "driver": driver(),
              "torch": top.get("torch", ""), "ceilings": top, "rows": [], "compress": []}
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for name in args.models.split(","):
            onnx_models.write(name, str(tmp / f"{name}.onnx"))
        batches = [int(b) for b in args.batches.split(",")]
        for batch in batches[:1]:
            for name in args.models.split(","):
                report["rows"].append(measure(run, tmp / f"{name}.onnx", name, batch, top.get("gemm_flops")))
                save(run, report)
        bert = next((n for n in args.models.split(",") if MODELS[n][0] == "bert"), None)
        if bert and run.has(COMPRESS_SECONDS, f"half of {bert}"):
            report["half"] = halve(run, tmp / f"{bert}.onnx", tmp, batches[0])
        for device in (args.device, "cpu"):
            if run.has(COMPRESS_SECONDS, f"compress on {device}"):
                report["compress"].append(compress(run, device, tmp))
        for batch in batches[1:]:
            for name in args.models.split(","):
                report["rows"].append(measure(run, tmp / f"{name}.onnx", name, batch, top.get("gemm_flops")))
                save(run, report)
    path = save(run, report)
    print(f"{report['device']} (driver {report['driver'] or 'unknown'}), PyTorch {report['torch']}: products "
          f"{top.get('gemm_flops', 0) / 1e12:.1f} TFLOP/s, copies {top.get('copy_bytes', 0) / 1e12:.2f} TB/s")
    for c in report["compress"]:
        if "training" in c:
            print(f"compress on {c['device']}: {c['training']['samples_per_second']:.0f} samples/s, "
                  f"{c['metrics']['name']} {c['metrics']['compact']:.4f}")
    if report.get("half"):
        h = report["half"]
        print(f"half of {h['model']} at {h['batch']}: a step takes {1e3 * h['seconds_of_a_step_at_first']:.1f} ms at first, "
              f"{1e3 * h['seconds_of_a_step_at_last']:.1f} at last: {h['times_as_fast']:.2f} times as fast")
    print(table(report))
    print(f"written: {os.path.relpath(path)}")
    return bool(run.errors)


if __name__ == "__main__":
    sys.exit(main())
