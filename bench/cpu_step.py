#!/usr/bin/env python3
"""cpu_step.py - a LoRAPrune step of pare (importance included) against PyTorch's
plain LoRA step, in alternation on the same shapes, medians and ratios.

    cpu_step.py --pare build/pare [--python /usr/bin/python3] [--models minilm-l6,...]
                [--rounds 3] [--steps 5] [--threads 2] [--out results/cpu-step]

--python runs torch_step.py: it needs PyTorch. On Debian take the openmp build of
OpenBLAS (--blas FOLDER puts it in LD_LIBRARY_PATH) and ATEN_CPU_CAPABILITY=avx512,
which is set here. Writes OUT.json and OUT.md. CPU seconds, of all threads, stand beside
the clock: on a machine that others use they say more."""
import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PAIRS = 21
BATCH = {"minilm-l6": 16, "vit-ti16": 16, "bert-base": 8, "vit-b16": 4}


def environment(args):
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), OPENBLAS_NUM_THREADS=str(args.threads),
               ATEN_CPU_CAPABILITY="avx512")
    if args.blas:
        env["LD_LIBRARY_PATH"] = args.blas
    return env


def torch_step(args, model, precision):
    command = [args.python, os.path.join(HERE, "torch_step.py"), model, precision, str(args.threads), str(args.steps)]
    out = subprocess.run(command, env=environment(args), capture_output=True, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def children():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def pare_run(args, path, model, precision, runs, *words):
    """`pare bench --train`: its JSON, CPU seconds of the process, its peak."""
    command = [args.pare, "bench", "--train", path, "--batch", str(BATCH[model]), "--threads", str(args.threads),
               "--runs", str(runs), "--precision", precision, "--json", *words]
    env = dict(environment(args), LD_LIBRARY_PATH=os.environ.get("LD_LIBRARY_PATH", ""))
    before = children()
    p = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return json.loads(out), children() - before, usage.ru_maxrss * 1024


def pare_step(args, path, model, precision):
    """CPU seconds a step are the difference of a long and a short run: loading and planning cancel."""
    _, short, _ = pare_run(args, path, model, precision, 1)
    result, long, peak = pare_run(args, path, model, precision, args.steps + 1)
    beside, _, _ = pare_run(args, path, model, precision, PAIRS, "--importance")
    return {"seconds": result["median_seconds"], "cpu_seconds": (long - short) / args.steps, "peak_bytes": peak,
            "importance_share": beside["importance_seconds"] / beside["median_seconds"], "ops": result["ops"]}


def measure(args, path, model, precision):
    rows = {"torch": [], "pare": []}
    for _ in range(args.rounds):
        rows["torch"].append(torch_step(args, model, precision))
        rows["pare"].append(pare_step(args, path, model, precision))
    torch_wall = [s for r in rows["torch"] for s in r["seconds"]]
    torch_cpu = [s for r in rows["torch"] for s in r["cpu_seconds"]]
    result = {"model": model, "precision": precision, "torch": rows["torch"], "pare": rows["pare"]}
    result["summary"] = {
        "torch_ms": 1e3 * statistics.median(torch_wall),
        "pare_ms": 1e3 * statistics.median(r["seconds"] for r in rows["pare"]),
        "torch_cpu_ms": 1e3 * statistics.median(torch_cpu),
        "pare_cpu_ms": 1e3 * statistics.median(r["cpu_seconds"] for r in rows["pare"]),
        "torch_mb": max(r["peak_bytes"] for r in rows["torch"]) / 1e6,
        "pare_mb": max(r["peak_bytes"] for r in rows["pare"]) / 1e6,
        "importance_share": statistics.median(r["importance_share"] for r in rows["pare"]),
    }
    s = result["summary"]
    s["ratio"] = s["pare_ms"] / s["torch_ms"]
    s["cpu_ratio"] = s["pare_cpu_ms"] / s["torch_cpu_ms"]
    s["memory_ratio"] = s["pare_mb"] / s["torch_mb"]
    return result


def cpu_name():
    with open("/proc/cpuinfo") as f:
        info = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    return {k.strip(): v.strip() for k, v in info.items()}.get("model name", platform.processor())


def table(report):
    lines = [f"# A training step on {report['cpu']}, {report['threads']} threads", "",
             "pare: a whole LoRAPrune step, importance included. PyTorch: a plain LoRA step. Medians of rounds in "
             "alternation; importance: by what share the same step without scores is faster, in alternation with it "
             f"({PAIRS} pairs a round). CPU time is that of all threads. Memory is the process's peak (resident).", "",
             f"`{report['command']}`, PyTorch {report['torch']}, {report['date']}, load {report['load']}", "",
             "| model | precision | PyTorch ms | pare ms | ratio | PyTorch CPU ms | pare CPU ms | ratio | PyTorch MB | "
             "pare MB | ratio | importance |", "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in report["results"]:
        s = r["summary"]
        lines.append(f"| {r['model']} | {r['precision']} | "
                     f"{s['torch_ms']:.0f} | {s['pare_ms']:.0f} | {s['ratio']:.2f} | "
                     f"{s['torch_cpu_ms']:.0f} | {s['pare_cpu_ms']:.0f} | {s['cpu_ratio']:.2f} | {s['torch_mb']:.0f} | "
                     f"{s['pare_mb']:.0f} | {s['memory_ratio']:.2f} | {100 * s['importance_share']:.1f} % |")
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pare", required=True)
    p.add_argument("--python", default="/usr/bin/python3")
    p.add_argument("--blas", default="")
    p.add_argument("--models", default="minilm-l6,vit-ti16,bert-base")
    p.add_argument("--precisions", default="fp32,bf16")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--out", default=os.path.join(HERE, "results", "cpu-step"))
    args = p.parse_args()
    shown = (f"bench/cpu_step.py --models {args.models} --rounds {args.rounds} --steps {args.steps} "
             f"--threads {args.threads}")
    report = {"cpu": cpu_name(), "threads": args.threads, "command": shown, "results": [],
              "date": subprocess.run(["date", "-u", "+%Y-%m-%d"], capture_output=True, text=True).stdout.strip(),
              "load": " ".join(f"{x:.1f}" for x in os.getloadavg())}
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models.split(","):
            path = os.path.join(folder, model + ".onnx")
            subprocess.run([args.python, os.path.join(HERE, "torch_step.py"), model, "export", path], check=True,
                           env=environment(args), stderr=subprocess.DEVNULL)
            for precision in args.precisions.split(","):
                report["results"].append(measure(args, path, model, precision))
                report["torch"] = report["results"][-1]["torch"][0]["torch"]
                print(table(report).splitlines()[-1], flush=True)
                with open(args.out + ".json", "w") as f:
                    json.dump(report, f, indent=1)
                with open(args.out + ".md", "w") as f:
                    f.write(table(report))


main()
