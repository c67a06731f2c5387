#!/usr/bin/env python3
"""accuracy.py - what a criterion is worth: every method at one sparsity, some seeds,
and the dense model tuned with the same budget. Writes a JSON file and a table.

    bench/accuracy.py --model M.onnx --train train.npz --eval test.npz --name demo-vit \
        --sparsity 0.5 --seeds 3 -- --steps 600 --batch 64 --lr 2e-3

A method is a name, or a name and a ranking: gate:global. What follows -- goes to
every `pare compress`. The test data decide nothing: all runs have the same
options. Comparisons are paired by seed. A run that was broken off goes on with
what it has not done yet.
"""
import argparse
import datetime
import json
import math
import pathlib
import subprocess
import sys
import tempfile

METHODS = ["loraprune", "loraprune:global", "gate", "gate:global", "magnitude", "random"]
ROOT = pathlib.Path(__file__).resolve().parents[1]


def compress(a, out, method, sparsity, seed):
    name, _, ranking = method.partition(":")
    with tempfile.TemporaryDirectory() as report:
        cmd = [a.pare, "compress", a.model, out, "--train", a.train, "--eval", a.eval, "--method", name,
               "--ranking", ranking or "uniform", "--sparsity", str(sparsity), "--seed", str(seed), "--report", report, "-q", *a.options]
        subprocess.run(cmd, check=True)
        r = json.load(open(pathlib.Path(report) / "report.json"))
    return {"method": method if sparsity else "dense", "seed": seed, "metric": r["metrics"]["name"],
            "points": r["metrics"].get("points", 100),
            "before": r["metrics"]["dense"], "value": r["metrics"]["compact"], "seconds": r["training"]["seconds"],
            "params": r["output"]["params"], "macs": r["output"]["macs"]}


def save(path, a, rows):
    path.write_text(json.dumps({"options": a.options, "sparsity": a.sparsity, "rows": rows}, indent=1) + "\n")


def earlier(path, a):
    """The rows of a run with the same options that was broken off."""
    if not path.exists():
        return []
    was = json.loads(path.read_text())
    if was["options"] != a.options or was["sparsity"] != a.sparsity:
        sys.exit(f"{path} holds runs with other options: remove it, or give another --name")
    return was["rows"]


def mean_sd(xs):
    m = sum(xs) / len(xs)
    sd = math.sqrt(sum((x - m) ** 2 for x in xs) / (len(xs) - 1)) if len(xs) > 1 else 0.0
    return m, sd


def table(rows, a):
    by = {}
    for r in rows:
        by.setdefault(r["method"], {})[r["seed"]] = r.get("points", 100) * r["value"]
    points = rows[0].get("points", 100)
    lines = [f"{rows[0]['metric']}{' in %' if points == 100 else ''}, {a.sparsity:g} of heads and FFN channels gone, "
             f"untouched model {points * rows[0]['before']:.2f}", "",
             "| method | seeds | mean ± s.d. | to the tuned dense model | to random (paired, ± standard error) |",
             "|---|---|---|---|---|"]
    for m, v in by.items():
        mean, gap, paired = (mean_sd([v[s] - base for s, base in zip(v, bases)]) for bases in (
            [0] * len(v), [by["dense"][s] for s in v], [by["random"][s] for s in v]))
        one = len(v) == 1
        lines.append(f"| {m} | {len(v)} | {mean[0]:.2f}{'' if one else f' ± {mean[1]:.2f}'} | {gap[0]:+.2f} | "
                     f"{paired[0]:+.2f}{'' if one else f' ± {paired[1] / math.sqrt(len(v)):.2f}'} |")
    return "\n".join(lines) + "\n"


def main():
    argv = sys.argv[1:]
    at = argv.index("--") if "--" in argv else len(argv)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pare", default=str(ROOT / "build" / "pare"))
    for name in ("model", "train", "eval", "name"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--sparsity", type=float, default=0.5)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--methods", default=",".join(METHODS))
    p.add_argument("--out", default=str(ROOT / "bench" / "results"))
    p.add_argument("--date", default=str(datetime.date.today()), help="of the files' names: to go on with an earlier run")
    a = p.parse_args(argv[:at])
    a.options = argv[at + 1:]
    stem = pathlib.Path(a.out) / f"accuracy-{a.name}-{a.date}"
    rows = earlier(stem.with_suffix(".json"), a)
    done = {(r["method"], r["seed"]) for r in rows}
    with tempfile.TemporaryDirectory() as tmp:
        for seed in range(a.seeds):
            for method, sparsity in [("magnitude", 0)] + [(m, a.sparsity) for m in a.methods.split(",")]:
                if (method if sparsity else "dense", seed) in done:
                    continue
                rows.append(compress(a, str(pathlib.Path(tmp) / "out.onnx"), method, sparsity, seed))
                print(f"seed {seed} {rows[-1]['method']:16s} {rows[-1]['points'] * rows[-1]['value']:.2f}", file=sys.stderr, flush=True)
                save(stem.with_suffix(".json"), a, rows)
    text = f"# {a.name}\n\n`--sparsity {a.sparsity:g} {' '.join(a.options)}`\n\n" + table(rows, a)
    stem.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
