#!/usr/bin/env python3
"""A zoo of small random models made by real model code, and pare judged on every one.

    zoo.py build DIR [NAME...]            export (needs torch, transformers, timm)
    zoo.py forms DIR                      rewritten copies (needs onnxruntime; onnxslim, onnxsim if there)
    zoo.py judge DIR [NAME...]            run pare on each (needs onnx, onnxruntime, numpy)

A model passes if every head and channel that its architecture has is found, half of them are cut with and without
tuning, and masked and cut file agree in ONNX Runtime at every level and at two sizes of the dynamic axes.
"""
import argparse
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from zoo_models import MODELS, export


def build(args):
    args.dir.mkdir(parents=True, exist_ok=True)
    for name in args.names or MODELS:
        try:
            export(name, args.dir)
        except Exception as e:
            print(f"{name}: not built: {type(e).__name__}: {str(e)[:150]}")
        sys.stdout.flush()


# --- other tools' versions of the same files ---

def slim(src, dst):
    import onnxslim
    onnxslim.slim(str(src), str(dst))


def sim(src, dst):
    import onnx
    import onnxsim
    model, ok = onnxsim.simplify(str(src))
    assert ok, "onnxsim's own check failed"
    onnx.save(model, str(dst))


def ort_basic(src, dst):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(dst)
    options.log_severity_level = 3
    ort.InferenceSession(str(src), options, providers=["CPUExecutionProvider"])


def forms(args):
    for src in sorted(args.dir.glob("*.op17.onnx")):
        for name, rewrite in (("slim", slim), ("sim", sim), ("ort", ort_basic)):
            dst = src.with_name(src.name.replace(".op17.", f".op17-{name}."))
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    rewrite(src, dst)
            except Exception as e:
                dst.unlink(missing_ok=True)
                print(f"{dst.name}: not written: {type(e).__name__}: {str(e)[:100]}")


# --- the judgement ---

SIZES = ({"batch": 2, "seq": 9, "target": 6, "past": 5, "total": 14},
         {"batch": 3, "seq": 14, "target": 9, "past": 4, "total": 18})
REL = 1e-4  # max|a-b| / max|a|, fp32


def feeds(model, size, seed=0):
    import onnx
    rng = np.random.default_rng(seed)
    out = {}
    for i in model.graph.input:
        t = i.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else size[d.dim_param] for d in t.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)
        if np.issubdtype(dtype, np.floating):
            x = rng.standard_normal(shape)
        elif "mask" in i.name:
            x = np.ones(shape)
            if t.shape.dim[1].dim_param != "total":
                x[:, max(1, shape[1] - 2):] = 0
        elif "type" in i.name:
            x = np.zeros(shape)
        else:
            x = rng.integers(1, 16, shape)
        out[i.name] = x.astype(dtype)
    return out


def interface(model):
    return [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in model.graph.input]


def session(path, level):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def accepted(path):
    import onnx
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return True
    except Exception:
        return False


def runs(path, model, level):
    """The sizes at which a file runs, with its results."""
    try:
        s = session(path, level)
    except Exception:
        return []
    out = []
    for size in SIZES:
        with contextlib.suppress(Exception):
            out.append((size, s.run(None, feeds(model, size))))
    return out


def differs(a, b):
    if a.shape != b.shape:
        return np.inf
    a, b = a.astype(np.float64), b.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    finite = np.isfinite(a)
    return np.abs(np.where(same, 0, a - b)).max() / max(np.abs(a[finite]).max(initial=0), 1e-30)


def compare(original, masked, compact):
    """What is wrong, or ''."""
    import onnx
    import onnxruntime as ort
    level = ort.GraphOptimizationLevel
    model = onnx.load(str(original))
    if interface(onnx.load(str(compact))) != interface(model):
        return "the interface has changed"
    if accepted(original) and not accepted(compact):
        return "the checker refuses it"
    for at in (level.ORT_DISABLE_ALL, level.ORT_ENABLE_BASIC, level.ORT_ENABLE_EXTENDED, level.ORT_ENABLE_ALL):
        whole, a, b = (runs(p, model, at) for p in (original, masked, compact))
        if not len(whole) == len(a) == len(b) or not whole:
            return f"{at.name}: runs at {len(whole)}, {len(a)}, {len(b)} sizes (original, masked, cut)"
        for (size, x), (_, y) in zip(a, b):
            worst = max((differs(p, q) for p, q in zip(x, y)), default=0)
            if worst > REL:
                return f"{at.name}: masked and cut differ by {worst:.1e} at batch {size['batch']}"
    return ""


def pare(args, *words):
    try:
        r = subprocess.run([args.pare, *map(str, words)], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "takes over two minutes", ""
    text = (r.stderr.strip().splitlines() or [""])
    if r.returncode:
        return f"exit {r.returncode}: " + next((t for t in text if "error" in t), text[0])[-230:], ""
    return "", r.stdout


def train_data(model, path):
    samples = [feeds(model, {**SIZES[0], "batch": 1}, seed) for seed in range(16)]
    fixed = [i.name for i in model.graph.input if i.type.tensor_type.shape.dim[0].dim_value > 1]
    if fixed:
        samples = [feeds(model, SIZES[0], seed) for seed in range(8)]
    np.savez(path, **{k: np.concatenate([s[k] for s in samples]) for k in samples[0]})


def found(args, path):
    why, text = pare(args, "inspect", "--groups", "--json", path)
    if why:
        return why, None
    return "", json.loads(text)


def sizes(groups, kind):
    return sorted(g["count"] for g in groups if g["kind"] == kind)


def as_text(sizes):
    """[4, 4, 80] -> '2x4 80'."""
    return " ".join(f"{sizes.count(n)}x{n}" if sizes.count(n) > 1 else f"{n}" for n in sorted(set(sizes))) or "none"


def lacks(have, want):
    """What is expected and not found; more than that may be found (convolutions' channels, mixing layers)."""
    have = list(have)
    return [n for n in want or [] if n not in have or have.remove(n)]


def count(have, want):
    return as_text(have) + (f", lacks {as_text(lacks(have, want))}" if lacks(have, want) else "")


def judge_one(args, path, tmp):
    import onnx
    import onnxruntime as ort
    name = path.name.split(".")[0]
    _, heads, ffn = MODELS[name]
    model = onnx.load(str(path))
    plain = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    row = {"name": path.name[:-5], "heads": "", "ffn": "", "before": 0, "after": 0, "verdict": ""}
    if not runs(path, model, plain):
        return {**row, "verdict": "skipped: ONNX Runtime does not run the export"}
    why, seen = found(args, path)
    if why:
        return {**row, "verdict": f"inspect: {why}"}
    have = [sizes(seen["groups"], k) for k in ("heads", "ffn")]
    row.update(heads=count(have[0], heads), ffn=count(have[1], ffn), before=seen["params"])
    train_data(model, tmp / "train.npz")
    tuning = ["--steps", 3, "--batch", 4, "--prune-every", 1, "--train", tmp / "train.npz"]
    for label, words in (("cut", ["--method", "magnitude", "--steps", 0]), ("tune", tuning)):
        masked, compact = tmp / "masked.onnx", tmp / "compact.onnx"
        for p in (masked, compact):
            p.unlink(missing_ok=True)
        why, _ = pare(args, "compress", path, compact, *words, "--save-masked", masked, "-q")
        why = why or compare(path, masked, compact)
        if why:
            return {**row, "verdict": f"{label}: {why}"}
        why, cut = found(args, compact)
        if why:
            return {**row, "verdict": f"{label}: inspecting the result: {why}"}
        row["after"] = cut["params"]
    missing = lacks(have[0], heads) or lacks(have[1], ffn)
    if missing and args.verbose:
        for f in seen["frozen"]:
            print("    ", f["name"], f["count"], f["reason"])
    return {**row, "verdict": "not all found" if missing else "ok"}


def judge(args):
    rows = []
    paths = [p for p in sorted(args.dir.glob("*.onnx"))
             if not args.names or any(p.name.startswith(n + ".") or p.name == n + ".onnx" for n in args.names)]
    with tempfile.TemporaryDirectory() as tmp:
        for p in paths:
            rows.append(judge_one(args, p, pathlib.Path(tmp)))
            r = rows[-1]
            print(f"{r['name']:34} heads {r['heads']:18} ffn {r['ffn']:24} {r['before']:>7} -> {r['after']:>7}  "
                  f"{r['verdict']}", flush=True)
    if args.table:
        with open(args.table, "w") as f:
            f.write("| model | heads found | FFN channels found | parameters | half of each gone | verdict |\n")
            f.write("|---|---|---|---|---|---|\n")
            for r in rows:
                f.write(f"| {r['name']} | {r['heads']} | {r['ffn']} | {r['before']} | {r['after'] or ''} | "
                        f"{r['verdict']} |\n")
    return any(r["verdict"] != "ok" and not r["verdict"].startswith("skipped") for r in rows)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["build", "forms", "judge"])
    p.add_argument("dir", type=pathlib.Path)
    p.add_argument("names", nargs="*", help="models, or single files without .onnx")
    p.add_argument("--pare", default=os.environ.get("PARE", "build/pare"))
    p.add_argument("--table", help="also write the results as a table")
    p.add_argument("--verbose", action="store_true", help="say what is frozen where groups are missing")
    args = p.parse_intermixed_args()
    return {"build": build, "forms": forms, "judge": judge}[args.what](args)


if __name__ == "__main__":
    sys.exit(main())
