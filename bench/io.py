#!/usr/bin/env python3
"""io.py - reading, cutting and writing a model of 1.2 GB (BERT-large) against `cp`, in alternation. Needs numpy and onnx.

    bench/io.py --pare build/pare [--dir /var/tmp] [--rounds 5]

Reading and writing are timed by `pare bench --io`: nothing cut, without the proof and the hash of a compression. `cp` and
writing are timed alone, and with the wait for the disk. `compress` is the whole command, without tuning: its time, what
its report says that importing, tracing and emitting took of it, the processor's time, and the most private memory
(RssAnon) that a look every 2 ms has seen.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

from onnx_models import write


def timed(*command):
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def private(pid):
    """Bytes of anonymous memory; 0 once the process has ended."""
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon")), 0)
    except OSError:
        return 0


def watched(*command):
    """(seconds, processor's seconds, most bytes of private memory)"""
    start, most = time.perf_counter(), 0
    p = subprocess.Popen(command)
    while True:
        pid, status, use = os.wait4(p.pid, os.WNOHANG)
        if pid:
            break
        most = max(most, private(p.pid))
        time.sleep(0.002)
    p.returncode = os.waitstatus_to_exitcode(status)
    assert p.returncode == 0, f"exit {p.returncode}: {command}"
    return time.perf_counter() - start, use.ru_utime + use.ru_stime, most


def one_round(pare, d, model, copy):
    out = subprocess.run([pare, "bench", "--io", "--json", model], env=dict(os.environ, TMPDIR=d), check=True,
                         capture_output=True, text=True).stdout
    r = json.loads(out)
    row = {"read": r["load_seconds"], "private": r["memory_bytes"], "write": r["write_seconds"],
           "write and sync": r["write_seconds"] + r["sync_seconds"]}
    row["cp"] = timed("cp", model, copy)
    os.remove(copy)
    row["cp and sync"] = timed("sh", "-c", 'cp "$0" "$1" && sync "$1"', model, copy)
    os.remove(copy)
    report = os.path.join(d, "report")
    row["compress"], row["busy"], row["most"] = watched(pare, "compress", model, copy, "--method", "magnitude", "--steps",
                                                        "0", "-q", "--report", report)
    os.remove(copy)
    with open(os.path.join(report, "report.json")) as f:
        row.update(json.load(f)["seconds"])
    row["edit"] = row["import"] + row["trace"] + row["emit"]
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pare", default=str(pathlib.Path(__file__).resolve().parents[1] / "build" / "pare"))
    p.add_argument("--dir")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--model", default="bert-large", help="of shapes.py")
    a = p.parse_args()
    with tempfile.TemporaryDirectory(dir=a.dir) as d:
        model, copy = (os.path.join(d, n) for n in ("model.onnx", "copy.onnx"))
        write(a.model, model)
        rows = [one_round(a.pare, d, model, copy) for _ in range(a.rounds)]
        size = os.path.getsize(model)
    m = {k: statistics.median(r[k] for r in rows) for k in rows[0]}
    print(f"{size / 1e9:.2f} GB, medians of {a.rounds} rounds: read {1e3 * m['read']:.2f} ms, {m['private'] / 1e3:.0f} kB "
          f"private; write {m['write']:.2f} s, synced {m['write and sync']:.2f} s; cp {m['cp']:.2f} s, synced "
          f"{m['cp and sync']:.2f} s: {m['write'] / m['cp']:.2f} x and {m['write and sync'] / m['cp and sync']:.2f} x")
    spans = ", ".join(f"{p} {m[p]:.2f}" for p in ("import", "trace", "tune", "emit", "prove", "judge", "sync"))
    print(f"compress {m['compress']:.2f} s ({spans}): import, trace and emit {m['edit'] / m['cp']:.2f} x cp; "
          f"{m['busy']:.2f} s of a core; "
          f"{m['most'] / 1e6:.1f} MB private at the most, {100 * m['most'] / size:.1f} % of the file")


if __name__ == "__main__":
    main()
