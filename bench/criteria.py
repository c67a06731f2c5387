#!/usr/bin/env python3
"""criteria.py - how well a criterion's scores say what the removal of a group costs: Spearman's rank correlation with the
loss that is there without the group and not with it, over training.

    criteria.py --model M.onnx --train train.npz --name demo-vit [--pare build/pare] [--steps 0,100,400] [--samples 1000]
                [--channels 200] [--losses ce,kd] [--out bench/results] [-- options of pare compress]

The model is tuned for so many steps and nothing goes (--sparsity 0); then every group alone is taken out of it, by zeros in
the rows of the weight that reads it, and ONNX Runtime says what the loss is: cross-entropy with the labels, or, without
(kd), the divergence from the untouched model. The scores are those of --schedule tune-then-one-shot after the same steps.
The loss is that of HELD_OUT samples at the end of the training data, which are not tuned on; of channels a fixed draw is
taken. A figure over the whole model says what global ranking sees, the mean over layers what uniform ranking does."""
import argparse
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

HELD_OUT = 2000
JUDGED = 250  # of those, by pare: its report is read for the scores alone
METHODS = ("loraprune", "gate", "grad", "fisher", "wanda", "magnitude", "obs", "random")


def ranks(x):
    """Ranks from 0, ties at their mean."""
    x = np.asarray(x)
    order = np.argsort(x, kind="stable")
    r = np.empty(len(x))
    r[order] = np.arange(len(x))
    for v in np.unique(x):
        r[x == v] = r[x == v].mean()
    return r


def spearman(x, y):
    a, b = ranks(x) - (len(x) - 1) / 2, ranks(y) - (len(y) - 1) / 2
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm else 0.0


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


class Judge:
    """The loss of a model whose weights change: by labels, or by the outputs of the untouched one."""

    def __init__(self, data, labels, samples, teacher):
        self.feed = {k: v[-samples:] for k, v in data.items() if k != "labels"}
        self.labels = data["labels"][-samples:] if labels else None
        self.teacher = None if labels else log_softmax(self.logits(teacher.SerializeToString()))

    def logits(self, bytes_):
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1  # spinning threads fight for cores
        session = onnxruntime.InferenceSession(bytes_, options, providers=["CPUExecutionProvider"])
        names = {i.name for i in session.get_inputs()}
        n, out = len(next(iter(self.feed.values()))), []
        for at in range(0, n, 250):
            out.append(session.run(None, {k: v[at:at + 250] for k, v in self.feed.items() if k in names})[0])
        return np.concatenate(out).astype(np.float64)

    def loss(self, model):
        logp = log_softmax(self.logits(model.SerializeToString()))
        if self.labels is not None:
            return float(-logp[np.arange(len(logp)), self.labels].mean())
        return float((np.exp(self.teacher) * (self.teacher - logp)).sum(-1).mean())


def pare(args, *command):
    p = subprocess.run([args.pare, *command], capture_output=True, text=True)
    if p.returncode:
        sys.exit(f"pare {' '.join(command)}\n{p.stderr}")
    return p.stdout


def compress(args, out, steps, loss, *options):
    with tempfile.TemporaryDirectory() as report:
        pare(args, "compress", args.model, out, "--train", args.tune, "--eval", args.judged, "--steps", str(steps), "--loss", loss,
             "--report", report, "-q", *options, *args.options)
        return json.loads((pathlib.Path(report) / "report.json").read_text())


def readers(args, model):
    """{dimension: (kind, count, initializer whose rows read it)}"""
    weights = {w.name: w for w in model.graph.initializer}
    found = {}
    for g in json.loads(pare(args, "inspect", args.model, "--groups", "--json"))["groups"]:
        names = [m[:-2] for m in g["members"] if m.endswith(":0")]
        reads = [n for n in names if n in weights and len(weights[n].dims) == 2 and weights[n].dims[0] % g["count"] == 0]
        if g["kind"] in ("heads", "ffn"):
            if len(reads) != 1:
                sys.exit(f"{g['name']}: not one MatMul reads it: {g['members']}")
            found[g["name"]] = g["kind"], g["count"], weights[reads[0]]
    return found


def costs(args, model, judge, found, drawn):
    """{dimension: {group: loss without it, less the loss}}"""
    whole, out = judge.loss(model), {}
    for name, (_, count, weight) in found.items():
        values, out[name] = numpy_helper.to_array(weight), {}
        for k in drawn[name]:
            less = values.copy()
            less.reshape(count, -1)[k] = 0
            weight.CopyFrom(numpy_helper.from_array(less, weight.name))
            out[name][k] = judge.loss(model) - whole
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return out


def correlations(found, cost, report):
    """{kind: (over the whole model, mean of the layers)}"""
    score, out = {g["name"]: g.get("scores") for g in report["groups"]}, {}
    for kind in ("heads", "ffn"):
        names = [n for n in cost if found[n][0] == kind]
        pairs = {n: ([score[n][k] for k in cost[n]], list(cost[n].values())) for n in names}
        flat = [sum((list(p[i]) for p in pairs.values()), []) for i in (0, 1)]
        out[kind] = spearman(*flat), float(np.mean([spearman(*p) for p in pairs.values()]))
    return out


def main():
    argv = sys.argv[1:]
    at = argv.index("--") if "--" in argv else len(argv)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[1]
    for name in ("model", "train", "name"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--pare", default=str(root / "build" / "pare"))
    p.add_argument("--steps", default="0,100,400")
    p.add_argument("--samples", type=int, default=1000)
    p.add_argument("--channels", type=int, default=200, help="of all layers together")
    p.add_argument("--losses", default="ce,kd")
    p.add_argument("--methods", default=",".join(METHODS))
    p.add_argument("--out", default=str(root / "bench" / "results"))
    args = p.parse_args(argv[:at])
    args.options = argv[at + 1:]
    args.work = tempfile.mkdtemp()
    data = dict(np.load(args.train))
    args.tune = f"{args.work}/tune.npz"
    args.judged = f"{args.work}/judged.npz"
    np.savez(args.tune, **{k: v[:-HELD_OUT] for k, v in data.items()})
    np.savez(args.judged, **{k: v[-JUDGED:] for k, v in data.items()})
    untouched, rng = onnx.load(args.model), np.random.default_rng(0)
    found = readers(args, untouched)
    layers = sum(kind == "ffn" for kind, _, _ in found.values())
    drawn = {n: range(c) if kind == "heads" else sorted(rng.choice(c, min(c, args.channels // layers), replace=False).tolist())
             for n, (kind, c, _) in found.items()}
    lines = [f"# Rank correlation of scores with the loss that a group's removal adds: {args.name}", "",
             f"`bench/criteria.py --steps {args.steps} --samples {args.samples} --channels {args.channels}"
             f"{' -- ' if args.options else ''}{' '.join(args.options)}`. Spearman over the whole model / mean of the layers.", "",
             "| loss | steps | method | heads | ffn channels |", "|---|---|---|---|---|"]
    for loss in args.losses.split(","):
        judge = Judge(data, loss == "ce", args.samples, untouched)
        for steps in map(int, args.steps.split(",")):
            tuned = f"{args.work}/tuned.onnx"
            compress(args, tuned, steps, loss, "--sparsity", "0", "--overwrite")
            model = onnx.load(tuned)
            cost = costs(args, model, judge, readers(args, model), drawn)
            for method in args.methods.split(","):
                report = compress(args, f"{args.work}/out.onnx", steps, loss, "--method", method, "--reconstruct", "off",
                                  "--schedule", "tune-then-one-shot", "--prune-cooldown", "0")
                c = correlations(found, cost, report)
                lines.append(f"| {loss} | {steps} | {method} | " + " | ".join(f"{c[k][0]:.2f} / {c[k][1]:.2f}" for k in c) + " |")
                print(lines[-1], file=sys.stderr, flush=True)
    text = "\n".join(lines) + "\n"
    pathlib.Path(args.out, f"criteria-{args.name}-{datetime.date.today()}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
