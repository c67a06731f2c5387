#!/usr/bin/env python3
"""paper.py - what bench/paper.sh runs: the comparison of the paper (arXiv 2305.18403), tables 1 to 5 in shape.

    paper.py --pare build/pare --image M.onnx train.npz test.npz [--text M.onnx train.npz test.npz] --work DIR
             [--task NAME M.onnx train.npz test.npz] [--quick] [--tables 1,2,3,4,5] [--methods gate,random] [--columns '50 % of groups'] [--steps N] [--seeds 3]
             [--jobs N] [--out bench/results] [--device cpu] [--date YYYY-MM-DD]

Every method has the same samples, steps and batch, and the same four learning rates to choose from, at half of heads and
channels, with seed 0, on training samples that are held out; the test samples decide nothing. A run's result is a line of
OUT/paper-DATE.jsonl as soon as it is there, and is not run again; a table is OUT/paper-DATE-tableN.md with a picture
beside it. A cell that has no meaning (a criterion of groups for single elements) or that pare refuses holds a dash, and pare's
reason is told below the table.
--jobs N runs are made at a time, cores / N threads each; what table 5 says of time is of runs by themselves. --task is
one more of texts, under a name of its own, and may be given again. Numbers are judged by Pearson's correlation."""
import argparse
import concurrent.futures
import datetime
import hashlib
import html
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import numpy as np

HELD_OUT, HELD_OUT_OF = 3000, 5  # samples, and of few the part that they are
FEW = 64
QUICK_TEST = 500  # samples: judging takes longer than so short a run
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
QUICK_RATES = {"adapters": 2e-3, "all": 3e-4}
BUDGET = {"image": ("--steps", "400", "--batch", "64"), "text": ("--steps", "300", "--batch", "32", "--precision", "bf16")}
QUICK_BUDGET = {"image": ("--steps", "40", "--batch", "64"), "text": ("--steps", "20", "--batch", "32", "--precision", "bf16")}

# What is compared: name, what a table calls it, options. "--trainable all" is full fine-tuning.
METHODS = {
    "dense": ("LoRA tuning, not pruned", ("--sparsity", "0")),
    "dense-full": ("full fine-tuning, not pruned", ("--sparsity", "0", "--trainable", "all")),
    "gate": ("gate, pare's default", ("--method", "gate")),
    "loraprune": ("LoRAPrune", ("--method", "loraprune")),
    "sequential": ("LoRAPrune, sequential adapters", ("--method", "loraprune", "--adapter", "sequential")),
    "grad": ("true gradient, adapters tuned", ("--method", "grad")),
    "grad-full": ("true gradient, full fine-tuning", ("--method", "grad", "--trainable", "all")),
    "movement": ("movement, full fine-tuning", ("--method", "movement", "--trainable", "all")),
    "fisher": ("Fisher of the masks", ("--method", "fisher")),
    "wanda": ("Wanda", ("--method", "wanda")),
    "magnitude": ("magnitude", ("--method", "magnitude")),
    "magnitude-full": ("magnitude, full fine-tuning", ("--method", "magnitude", "--trainable", "all")),
    "random": ("random", ("--method", "random")),
    "one-shot": ("LoRAPrune at once, then tuned", ("--method", "loraprune", "--schedule", "one-shot")),
    "late": ("tuned, LoRAPrune at once, tuned", ("--method", "loraprune", "--schedule", "tune-then-one-shot")),
    "obs": ("one-shot OBS, then tuned", ("--method", "obs", "--schedule", "one-shot")),
    "obs-late": ("tuned, one-shot OBS, tuned", ("--method", "obs", "--schedule", "tune-then-one-shot")),
}
STRUCTURED = {f"{s} % of groups": ("--sparsity", f"{s / 100:g}") for s in (25, 50, 75)}
ELEMENTS = {f"{s} % of elements": ("--granularity", "unstructured", "--sparsity", f"{s / 100:g}") for s in (30, 50, 70, 90)}
HALF = {"50 % of groups": STRUCTURED["50 % of groups"]}
HALVES = {**HALF, "50 % of elements": ELEMENTS["50 % of elements"]}

# Title, rows, columns; the quick table's columns.
TABLES = {
    1: ("All methods", ("dense", "dense-full", "gate", "loraprune", "grad-full", "movement", "fisher", "wanda", "magnitude",
                        "magnitude-full", "obs-late", "random"), {**ELEMENTS, **STRUCTURED}, HALVES),
    2: ("The adapters' gradient against the true one", ("loraprune", "grad", "grad-full"), {**HALVES, **STRUCTURED}, HALVES),
    3: ("Gradual against at once", ("loraprune", "one-shot", "late", "obs", "obs-late"), STRUCTURED, HALF),
    4: ("Parallel against sequential adapters", ("loraprune", "sequential"), STRUCTURED, HALF),
    5: ("What a run takes, at half of the groups", ("dense", "gate", "loraprune", "sequential", "grad", "grad-full",
                                                     "movement", "magnitude", "obs-late"), HALF, HALF),
}


class Bench:
    """The runs that there are, by what they were run with."""

    def __init__(self, args):
        self.args, self.runs, self.refusals, self.lock = args, {}, {}, threading.Lock()
        self.path = pathlib.Path(args.out) / f"paper-{args.date}{'-quick' if args.quick else ''}.jsonl"
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                row = json.loads(line)
                self.runs[row["key"]] = row

    def run(self, task, options, kind="test"):
        """What became of a run, its reason in "refused" where pare refused it. kind: "test", judged by the test samples;
        "held-out", by training samples; "timed", by the test samples and with no other run beside it."""
        key = " ".join((task["name"], task["digest"], kind, *task["budget"], *options))
        if key in self.runs:
            return self.runs[key]
        row = {"key": key, **self.compressed(task, options, kind)}
        with self.lock:
            self.runs[key] = row
            with self.path.open("a") as f:
                f.write(json.dumps(row) + "\n")
            print(f"{key}: {row.get('refused') or round(row['value'], 2)}", file=sys.stderr, flush=True)
        return row

    def compressed(self, task, options, kind):
        """pare judges the untouched model with every run: a few samples, then, and the compact one by all of them."""
        model, tune, few, held, test = task["files"]
        threads = 0 if kind == "timed" else max(1, os.cpu_count() // self.args.jobs)
        common = ("--device", self.args.device, "--threads", str(threads))
        with tempfile.TemporaryDirectory() as work:
            out = str(pathlib.Path(work) / "out.onnx")
            command = [self.args.pare, "compress", model, out, "--train", tune, "--eval", few, *task["budget"], *options,
                       *common, "--report", work, "-q"]
            p = subprocess.run(command, stderr=subprocess.PIPE, text=True)
            if p.returncode in (2, 3):
                return {"refused": p.stderr.strip().splitlines()[-1]}
            if p.returncode:
                sys.exit(f"{' '.join(command)}\nended with {p.returncode}: {p.stderr}")
            training = json.loads((pathlib.Path(work) / "report.json").read_text())["training"]
            return {**self.judged(out, held if kind == "held-out" else test, threads), "training": training}

    def judged(self, model, data, threads):
        metric = "pearson" if np.load(data)["labels"].dtype.kind == "f" else "auto"
        r = json.loads(subprocess.run([self.args.pare, "eval", model, "--data", data, "--device", self.args.device, "--metric",
                                       metric, "--threads", str(threads), "--json", "-q"], stdout=subprocess.PIPE, check=True).stdout)
        return {"metric": r["metric"], "value": r["points"] * r["value"]}

    def rate(self, task, method):
        """The learning rate that did best on what is held out."""
        options = METHODS[method][1]
        if self.args.quick:
            return QUICK_RATES["all" if "all" in options else "adapters"]
        tried = [(self.run(task, (*with_sparsity(method, HALF["50 % of groups"]), "--lr", f"{r:g}", "--seed", "0"), "held-out"), r)
                 for r in RATES]
        good = [(row["value"], -r) for row, r in tried if "value" in row]
        return -max(good)[1] if good else RATES[0]

    def cell(self, task, method, sparsity, kind="test"):
        """The runs of all seeds, or of the first alone where they are timed; none where pare refuses it."""
        rate = f"{self.rate(task, method):g}"
        rows, self.refusals[task["name"], method, sparsity] = [], None
        for seed in range(1 if kind == "timed" else self.args.seeds):
            row = self.run(task, (*with_sparsity(method, sparsity), "--lr", rate, "--seed", str(seed)), kind)
            if "refused" in row:
                self.refusals[task["name"], method, sparsity] = row["refused"]
                return []
            rows.append(row)
        return rows


def with_sparsity(method, sparsity):
    """A method's options come last: the dense models keep their own sparsity, and all of their elements."""
    options = METHODS[method][1]
    return options if method.startswith("dense") else (*sparsity, *options)


def mean_sd(xs):
    mean = sum(xs) / len(xs)
    return mean, math.sqrt(sum((x - mean) ** 2 for x in xs) / (len(xs) - 1)) if len(xs) > 1 else 0.0


def score(rows):
    return mean_sd([r["value"] for r in rows])


def shown(rows):
    if not rows:
        return "–"
    mean, sd = score(rows)
    return f"{mean:.2f}" if len(rows) == 1 else f"{mean:.2f} ± {sd:.2f}"


def cost(rows):
    """Share of the parameters that is trained, peak memory, time: of a run of the first seed, by itself."""
    if not rows:
        return ["–"] * 4
    t = rows[0]["training"]
    return [f"{100 * t['trained_share']:.2f} %", f"{t['peak_memory_bytes'] / 1e6:.0f} MB", f"{t['seconds']:.1f} s", f"{t['samples_per_second']:.0f}"]


def picture(title, columns, cells):
    """Bars of means with whiskers of a standard deviation: a panel a column, as SVG. cells: {label: [(mean, sd) or None]}"""
    row, panel, left, top = 18, 190, 220, 44
    height = top + row * len(cells) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + panel * len(columns)}" height="{height}" '
           'font-family="sans-serif" font-size="11">', f'<text x="8" y="16" font-size="13">{html.escape(title)}</text>']
    for i, label in enumerate(cells):
        out.append(f'<text x="{left - 8}" y="{top + row * i + 12}" text-anchor="end">{html.escape(label)}</text>')
    for c, name in enumerate(columns):
        x0, values = left + panel * c, [v[c] for v in cells.values() if v[c]]
        low = min((m - s for m, s in values), default=0) - 1
        scale = (panel - 60) / max(max((m + s for m, s in values), default=1) - low, 1e-9)
        out.append(f'<text x="{x0}" y="34">{html.escape(name)}</text>')
        for i, v in enumerate(cells.values()):
            if v[c]:
                (m, s), y = v[c], top + row * i
                end, sd = x0 + (m - low) * scale, s * scale
                out.append(f'<rect x="{x0}" y="{y + 2}" width="{end - x0:.1f}" height="12" fill="#7aa6c2"/>'
                           f'<path d="M{end - sd:.1f} {y + 8}H{end + sd:.1f}" stroke="#234"/>'
                           f'<text x="{end + sd + 4:.1f}" y="{y + 12}">{m:.2f}</text>')
    return "\n".join(out) + "\n</svg>\n"


def chosen(names, wanted):
    """Those that are wanted, in their order; all of them where nothing is said."""
    return [n for n in names if not wanted or n in wanted]


def listed(p, option, text, known):
    """A list of the command line; the program ends where it names what is not there."""
    names = text.split(",") if text else []
    for n in names:
        if n not in known:
            p.error(f"--{option}: '{n}' is none of {', '.join(known)}")
    return names


def wanted(args, number):
    """Rows and columns of a table that are asked for."""
    _, methods, columns, quick = TABLES[number]
    columns = quick if args.quick else columns
    return chosen(methods, args.methods), {c: columns[c] for c in chosen(columns, args.columns)}


def fill(bench, numbers, tasks):
    """All runs of these tables but the timed ones, several at a time: a method of a task after the other."""
    rows = {}
    for number in numbers:
        methods, columns = wanted(bench.args, number)
        for m in methods:
            rows.setdefault(m, {}).update(columns)
    with concurrent.futures.ThreadPoolExecutor(bench.args.jobs) as pool:
        jobs = [pool.submit(lambda t, m, cs: [bench.cell(t, m, c) for c in cs], t, m, columns.values())
                for m, columns in rows.items() for t in tasks]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def table(bench, number, tasks):
    title = TABLES[number][0]
    methods, columns = wanted(bench.args, number)
    if not methods or not columns:
        return
    stem = bench.path.with_name(f"{bench.path.stem}-table{number}")
    seeds = "one seed" if bench.args.seeds == 1 else f"{bench.args.seeds} seeds, mean ± s.d."
    lines, pictures = [f"# Table {number}. {title}", ""], []
    for task in tasks:
        cells = {m: [bench.cell(task, m, s) for s in columns.values()] for m in methods}
        one = task["untouched"]
        extra = ["trained", "memory", "time", "samples/s"] if number == 5 else []
        lines += [f"## {task['name']}: {one['metric']}, {seeds}; untouched model {one['value']:.2f}", "",
                  f"`{' '.join(task['budget'])}`", "", "| | " + " | ".join([*columns, *extra]) + " |",
                  "|---" * (1 + len(columns) + len(extra)) + "|"]
        for m, row in cells.items():
            lines.append("| " + " | ".join([METHODS[m][0], *map(shown, row), *(cost(bench.cell(task, m, HALF["50 % of groups"], "timed")) if extra else [])]) + " |")
        svg = stem.with_name(f"{stem.name}-{task['name']}.svg")
        svg.write_text(picture(f"{title}: {task['name']}, {one['metric']}", columns,
                               {METHODS[m][0]: [score(r) if r else None for r in row] for m, row in cells.items()}))
        reasons = {}
        for m in methods:
            for column, s in columns.items():
                why = bench.refusals[task["name"], m, s]
                if why:
                    reasons.setdefault((METHODS[m][0], why.split(": ", 1)[-1]), []).append(column)
        lines += [""] + [f"{name}, {', '.join(cs)}: refused, \"{why}\"." for (name, why), cs in reasons.items()]
        lines += ["", f"![{title}]({svg.name})", ""]
    stem.with_suffix(".md").write_text("\n".join(lines))
    print("\n".join(lines))


def split(train, work, name):
    """Training samples without labels' order in them: what is tuned on, HELD_OUT that choose the learning rate (a fifth of
    few), and FEW of these."""
    paths = [work / f"{name}-{part}.npz" for part in ("tune", "few", "held")]
    if not all(p.exists() for p in paths):
        data = dict(np.load(train))
        order = np.random.default_rng(0).permutation(len(data["labels"]))
        held = min(HELD_OUT, max(1, len(order) // HELD_OUT_OF))
        for path, rows in zip(paths, (order[held:], order[:min(FEW, held)], order[:held])):
            np.savez(path, **{k: v[rows] for k, v in data.items()})
    return map(str, paths)


def digest(*paths):
    """What tells models and data apart that have the same name."""
    h = hashlib.sha256()
    for path in paths:
        h.update(pathlib.Path(path).read_bytes())
    return h.hexdigest()[:12]


def draw(test, path):
    """QUICK_TEST of the test samples."""
    if not path.exists():
        data = dict(np.load(test))
        rows = np.random.default_rng(0).permutation(len(data["labels"]))[:QUICK_TEST]
        np.savez(path, **{k: v[rows] for k, v in data.items()})
    return str(path)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pare", required=True)
    p.add_argument("--work", required=True, help="for what is made of the data")
    p.add_argument("--image", nargs=3, metavar=("MODEL", "TRAIN", "TEST"))
    p.add_argument("--text", nargs=3, metavar=("MODEL", "TRAIN", "TEST"))
    p.add_argument("--task", nargs=4, metavar=("NAME", "MODEL", "TRAIN", "TEST"), action="append", default=[])
    p.add_argument("--quick", action="store_true",
                   help="one seed, few steps, few samples, no choice of rates: that it runs, not who wins")
    p.add_argument("--tables", default="1,2,3,4,5")
    p.add_argument("--methods", help=f"these rows alone, of {', '.join(METHODS)}")
    p.add_argument("--columns", help="these columns alone, by their titles")
    p.add_argument("--steps", type=int, default=0, help="of every run, instead of the usual")
    p.add_argument("--seeds", type=int, default=0, help="3, or 1 if quick")
    p.add_argument("--jobs", type=int, default=0, help="runs at a time; 1, or 2 if quick")
    p.add_argument("--device", default="auto")
    p.add_argument("--out", default=str(pathlib.Path(__file__).resolve().parent / "results"))
    p.add_argument("--date", default=str(datetime.date.today()), help="of the files' names: to go on with an earlier run")
    args = p.parse_args()
    args.methods = listed(p, "methods", args.methods, METHODS)
    args.columns = listed(p, "columns", args.columns, {**ELEMENTS, **STRUCTURED})
    args.seeds = args.seeds or (1 if args.quick else 3)
    args.jobs = args.jobs or (2 if args.quick else 1)
    work = pathlib.Path(args.work)
    bench, tasks = Bench(args), []
    given = [(kind, kind, *getattr(args, kind)) for kind in BUDGET if getattr(args, kind)] + [("text", *t) for t in args.task]
    for kind, name, model, train, test in given:
        budget = (QUICK_BUDGET if args.quick else BUDGET)[kind]
        budget = ("--steps", str(args.steps or budget[1]), *budget[2:])
        which = digest(model, train, test)
        judged = draw(test, work / f"{name}-{which}-quick.npz") if args.quick else test
        tasks.append({"name": name, "digest": which, "budget": budget, "untouched": bench.judged(model, judged, 0),
                      "files": (model, *split(train, work, f"{name}-{which}"), judged)})
    if not tasks:
        p.error("give --image, --text or --task")
    numbers = list(map(int, args.tables.split(",")))
    fill(bench, numbers, tasks)
    for number in numbers:
        table(bench, number, tasks)


if __name__ == "__main__":
    main()
