"""Budgets: kept sizes that are multiples, and a latency that a program measures. Truth: shapes in the written file, and
programs whose cost model is known, so that a prediction has to be exact."""
import json
import math
import os
import stat
import sys

import numpy as np
import onnx
import pytest

import tiny
from conftest import PARE, ROOT, run

VIT = ROOT / "examples" / "fashion-vit" / "model.onnx"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(tiny.encoder(onnx.TensorProto.FLOAT), str(path))
    return path


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "train.npz"
    np.savez(path, x=rng.standard_normal((40, 5, tiny.STREAM)).astype(np.float32), labels=rng.integers(0, 3, 40))
    return path


def parameters(path):
    return sum(math.prod(t.dims) for t in onnx.load(str(path)).graph.initializer
               if t.data_type == onnx.TensorProto.FLOAT)


def widths(path):
    """Channels of every feed-forward and attention layer, as the file's weights have them."""
    shape = {t.name: tuple(t.dims) for t in onnx.load(str(path)).graph.initializer}
    return [shape["ffn.up.weight"][1]], [shape["attention.q.weight"][1]]


def report(folder):
    return json.loads((folder / "report.json").read_text())


# --- multiples ---

BUDGETS = [["--sparsity", "0.4", "--ranking", r] for r in ("uniform", "global", "cost")] + \
          [["--target", f"{t}=0.7", "--ranking", r] for t in ("params", "macs", "bytes") for r in ("uniform", "global", "cost")]


@pytest.mark.parametrize("budget", BUDGETS, ids=" ".join)
@pytest.mark.parametrize("tuned", [False, True], ids=["at once", "gradual"])
def test_kept_channels_are_multiples_and_the_target_is_met(model, data, tmp_path, budget, tuned):
    out = tmp_path / "out.onnx"
    how = ["--steps", 12, "--batch", 8, "--prune-every", 2] if tuned else ["--steps", 0, "--method", "magnitude"]
    run("compress", model, out, "--train", data, *how, *budget, "--align", 8, "--report", tmp_path / "r", "-q")
    r = report(tmp_path / "r")
    for width in sum(widths(out), []):
        assert width % 8 == 0, f"{width} channels"
    assert r["alignment"] == {"multiple": 8, "not_aligned": []}
    if budget[0] == "--sparsity":
        assert r["target"]["reached"] >= 0.4
    else:
        assert r["target"]["reached"] <= 0.7


def test_heads_count_by_their_width(model, tmp_path):
    """Heads of 4 channels: two are 8, three are not."""
    out = tmp_path / "out.onnx"
    run("compress", model, out, "--prune", "heads", "--sparsity", 0.25, "--steps", 0, "--method", "magnitude",
        "--align", 8, "-q")
    assert widths(out)[1] == [8]


def test_heads_of_a_packed_projection_count_by_their_width_too(tmp_path):
    """Six heads of 16 channels, q, k and v in one weight: multiples of 32 channels are two heads."""
    out = tmp_path / "out.onnx"
    run("compress", VIT, out, "--prune", "heads", "--sparsity", 0.4, "--steps", 0, "--method", "magnitude", "--align", 32,
        "--threads", 1, "--report", tmp_path / "r", "-q")
    after = [g["after"] for g in report(tmp_path / "r")["groups"] if g["kind"] == "heads"]
    assert len(after) == 4 and all(n % 2 == 0 for n in after) and sum(after) <= 0.6 * 24
    rows = sorted({t.dims[0] for t in onnx.load(str(out)).graph.initializer if len(t.dims) == 2 and t.dims[1] == 96} |
                  {t.dims[1] for t in onnx.load(str(out)).graph.initializer if len(t.dims) == 2 and t.dims[0] == 96})
    assert {3 * 16 * n for n in after} <= set(rows), f"{rows} have no packed rows of {after} heads"


def test_what_cannot_be_aligned_is_named(model, tmp_path):
    """No multiple of 12 lies between 26 channels, the floor, and 32."""
    out = tmp_path / "out.onnx"
    r = run("compress", model, out, "--prune", "ffn", "--sparsity", 0.1, "--floor", 0.8, "--steps", 0, "--method",
            "magnitude", "--align", 12, "--report", tmp_path / "r")
    assert widths(out)[0] == [29]  # 32 - round(3.2)
    assert len(report(tmp_path / "r")["alignment"]["not_aligned"]) == 1
    assert "no multiple of 12" in r.stderr


def test_a_plan_is_followed_and_what_is_uneven_is_named(model, tmp_path):
    plan, even = tmp_path / "plan.json", tmp_path / "even.json"
    base = ["--steps", 0, "--method", "magnitude", "--sparsity", 0.3]
    run("compress", model, tmp_path / "a.onnx", *base, "--save-plan", plan, "-q")
    run("compress", model, tmp_path / "b.onnx", *base, "--save-plan", even, "--align", 8, "-q")
    r = run("compress", model, tmp_path / "c.onnx", "--steps", 0, "--plan", plan, "--align", 8)
    assert widths(tmp_path / "c.onnx") == widths(tmp_path / "a.onnx") and "no multiple of 8" in r.stderr
    r = run("compress", model, tmp_path / "d.onnx", "--steps", 0, "--plan", even, "--align", 8)
    assert widths(tmp_path / "d.onnx") == widths(tmp_path / "b.onnx") and "no multiple" not in r.stderr


# --- coarse groups ---

@pytest.mark.parametrize("ranking", ["uniform", "global", "cost"])
@pytest.mark.parametrize("tuned", [False, True], ids=["at once", "gradual"])
def test_few_coarse_groups_leave_as_much_as_was_asked_for(model, data, tmp_path, ranking, tuned):
    """A head is an eighth of what may go, a channel 33 numbers of about 2,400. What of it is reached by heads, and what
    by channels, is nobody's business but the scores'."""
    out, whole = tmp_path / "out.onnx", parameters(model)
    for share in (0.95, 0.9, 0.84, 0.77, 0.7, 0.65, 0.55):
        how = ["--steps", 12, "--batch", 8, "--prune-every", 2] if tuned else ["--steps", 0, "--method", "magnitude"]
        run("compress", model, out, "--train", data, *how, "--target", f"params={share}", "--ranking", ranking,
            "--threads", 1, "-q")
        left = parameters(out) / whole
        assert left <= share and share - left <= max(0.005 * share, 34 / whole), f"{left} of {share}"


@pytest.mark.parametrize("ranking", ["uniform", "global"])
@pytest.mark.parametrize("target", ["params", "macs", "bytes"])
def test_a_branch_goes_where_heads_and_channels_can_make_up_for_it_and_else_stays(tmp_path, target, ranking):
    """A branch is 8 or 16 % of the model. Of a file 512 bytes, and 256 a dimension, are kept free: emission may add them."""
    out, free = tmp_path / "out.onnx", (512 + 256 * 10) / VIT.stat().st_size if target == "bytes" else 0
    for share in (0.95, 0.9, 0.8, 0.7, 0.55, 0.4):
        run("compress", VIT, out, "--prune", "depth,heads,ffn", "--target", f"{target}={share}", "--ranking", ranking,
            "--steps", 0, "--method", "magnitude", "--report", tmp_path / "r", "--threads", 1, "-q")
        left = report(tmp_path / "r")["target"]["reached"]
        assert share - 0.005 * share - free <= left <= share, f"{left} of {share}"


def nodes_bytes(path):
    return sum(n.ByteSize() for n in onnx.load(str(path)).graph.node)


def test_of_a_file_the_nodes_that_go_with_branches_count_too(tmp_path):
    """Names as long as a path are half of this file."""
    m = onnx.load(str(VIT))
    for n in m.graph.node:
        n.name += "/" + 5000 * "x"
    onnx.save(m, str(tmp_path / "m.onnx"))
    free = (512 + 256 * 10) / (tmp_path / "m.onnx").stat().st_size
    assert nodes_bytes(tmp_path / "m.onnx") > 0.4 * (tmp_path / "m.onnx").stat().st_size
    for share in (0.8, 0.6):
        run("compress", tmp_path / "m.onnx", tmp_path / "out.onnx", "--prune", "depth,heads,ffn",
            "--target", f"bytes={share}", "--steps", 0, "--method", "magnitude", "--threads", 1, "-q")
        left = (tmp_path / "out.onnx").stat().st_size / (tmp_path / "m.onnx").stat().st_size
        assert share - 0.005 * share - free <= left <= share, f"{left} of {share}"
        assert nodes_bytes(tmp_path / "out.onnx") < nodes_bytes(tmp_path / "m.onnx")


# --- latency ---

def script(tmp_path, body, name="clock.py"):
    """A program that is given a model file; it notes each call in NAME.log."""
    path = tmp_path / name
    path.write_text(f"#!{sys.executable} -S\nimport json, math, subprocess, sys\n"
                    f"open({str(path) + '.log'!r}, 'a').write(sys.argv[1] + '\\n')\n"
                    f"m = json.loads(subprocess.run([{PARE!r}, 'inspect', sys.argv[1], '--json'], stdout=subprocess.PIPE)"
                    f".stdout)\ncount = [(g['kind'], g['count']) for g in m['groups']]\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def bytes_clock(tmp_path):
    """The same by the shell alone, which is quick: a file takes as many milliseconds as it has bytes."""
    path = tmp_path / "bytes.sh"
    path.write_text(f"#!/bin/sh\necho \"$1\" >> '{path}.log'\nwc -c < \"$1\"\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def calls(path):
    log = path.with_name(path.name + ".log")
    return len(log.read_text().splitlines()) if log.exists() else 0


def timed(model, out, tmp_path, clock, *more, code=0, share=0.5):
    return run("compress", model, out, "--steps", 0, "--method", "magnitude", "--target", f"latency={share}",
               "--threads", 1, "--latency-cmd", clock, "--report", tmp_path / "r", *more, code=code)


@pytest.mark.parametrize("ranking", [[], ["--ranking", "uniform"], ["--ranking", "global"], ["--ranking", "cost"]],
                         ids=lambda r: r[-1] if r else "default")
def test_a_time_that_is_parameters_is_predicted_and_met_exactly(model, tmp_path, ranking):
    out, clock = tmp_path / "out.onnx", script(tmp_path, "print('took', m['params'] / 100, 'ms')")
    timed(model, out, tmp_path, clock, *ranking, share=0.6)
    latency = report(tmp_path / "r")["latency"]
    dense, compact = parameters(model) / 100, parameters(out) / 100
    assert latency["measured"]["dense_ms"] == pytest.approx(dense, rel=1e-5)
    assert latency["measured"]["compact_ms"] == pytest.approx(compact, rel=1e-5)
    assert latency["dense_ms"] == pytest.approx(dense, rel=1e-5)
    assert latency["predicted_ms"] == pytest.approx(compact, rel=1e-4), "times are linear in the sizes"
    assert compact <= 0.6 * dense
    largest = (3 * (tiny.STREAM * tiny.WIDTH + tiny.WIDTH) + tiny.WIDTH * tiny.STREAM) / 100  # a head
    share = 2 if "uniform" in ranking or "global" in ranking else 1  # there both classes go on together
    assert compact > 0.6 * dense - share * largest, "more went than had to"


def test_sizes_end_where_a_time_that_falls_in_steps_does(model, tmp_path):
    out = tmp_path / "out.onnx"
    clock = script(tmp_path, "print(5 + sum(2 * math.ceil(n / 8) if k == 'ffn' else 0.001 * n for k, n in count))")
    timed(model, out, tmp_path, clock, "--align", 8, share=0.7)
    latency = report(tmp_path / "r")["latency"]
    assert widths(out)[0] == [16]  # 13.004 -> 9.1 wants 9.0x
    assert latency["predicted_ms"] == pytest.approx(latency["measured"]["compact_ms"], rel=1e-5)


def test_what_saves_no_time_stays(model, tmp_path):
    """Heads cost nothing here: only channels go."""
    out = tmp_path / "out.onnx"
    timed(model, out, tmp_path, script(tmp_path, "print(1 + sum(n for k, n in count if k == 'ffn'))"))
    assert widths(out) == ([15], [tiny.HEADS * tiny.WIDTH])  # 33 -> 16.5 leaves 15 channels


def test_a_latency_that_cannot_be_had_exits_6_and_says_what_can(model, tmp_path):
    out = tmp_path / "out.onnx"
    r = timed(model, out, tmp_path, script(tmp_path, "print(10 + sum(n for k, n in count if k == 'ffn'))"), share=0.2, code=6)
    assert "at least 10 would be left, 8.4 are asked for" in r.stderr and not out.exists()


@pytest.mark.parametrize("body, code, says", [
    ("sys.exit('no such adb device')", 5, "no such adb device"),
    ("import time; print('waiting', flush=True); time.sleep(600)", 5, "longer than 1 s"),
    ("print('done')", 4, "printed 'done'"),
    ("print(-1)", 4, "no time"),
], ids=["fails", "hangs", "says nothing", "negative"])
def test_a_command_that_is_no_clock_ends_in_one_sentence(model, tmp_path, body, code, says):
    out, clock = tmp_path / "out.onnx", script(tmp_path, body)
    r = timed(model, out, tmp_path, clock, "--latency-timeout", 1, "-q", code=code)
    assert says in r.stderr and "clock.py" in r.stderr and len(r.stderr.splitlines()) == 1
    assert not out.exists() and not [p for p in tmp_path.iterdir() if "tmp-" in p.name]


def test_a_command_that_fails_on_a_cut_model_leaves_nothing_behind(model, tmp_path):
    out = tmp_path / "out.onnx"
    clock = script(tmp_path, "sys.exit('cannot load') if m['params'] < 2000 else print(m['params'])")
    r = timed(model, out, tmp_path, clock, "-q", code=5)
    assert "cannot load" in r.stderr
    assert not out.exists() and not [p for p in tmp_path.iterdir() if "tmp-" in p.name]


def test_a_table_is_read_completed_or_made_anew(model, tmp_path):
    clock, table = bytes_clock(tmp_path), tmp_path / "table.json"
    def again(*more, cmd=clock):
        before = calls(clock)
        out = tmp_path / "out.onnx"
        r = timed(model, out, tmp_path, cmd, "--latency-table", table, *more)
        return calls(clock) - before, out.read_bytes(), r.stderr
    first, bytes_, _ = again()
    sizes = sum(len(c["sizes"]) for c in json.loads(table.read_text())["classes"])
    assert first == 3 * (1 + 2 * sizes + 2)  # the dense model; each size and the end beside it; the runs agree
    second, same, _ = again()
    assert second == 3 * 2 and same == bytes_
    t = json.loads(table.read_text())
    del t["classes"][0]["sizes"][1], t["whole"]["dense"]
    table.write_text(json.dumps(t))
    third, same, _ = again()
    assert third == 3 * (1 + 2 + 2) and same == bytes_
    fourth, same, stderr = again(cmd=f"{clock} {{}}")
    assert fourth == first and "is measured anew" in stderr and "command" in stderr
    fifth, _, stderr = again("--threads", 7, cmd=f"{clock} {{}}")
    assert fifth == first and "threads" in stderr


def test_a_file_that_is_no_table_is_not_overwritten(model, data, tmp_path):
    before = data.read_bytes()
    r = timed(model, tmp_path / "out.onnx", tmp_path, "echo 1", "--latency-table", data, "-q", code=4)
    assert "no latency table" in r.stderr and data.read_bytes() == before


def test_a_dry_run_makes_the_table_and_no_model(model, tmp_path):
    table = tmp_path / "table.json"
    timed(model, tmp_path / "out.onnx", tmp_path, script(tmp_path, "print(m['params'])"), "--latency-table", table, "--dry-run")
    assert json.loads(table.read_text())["whole"]["dense"]["ms"] == parameters(model)
    assert not (tmp_path / "out.onnx").exists()


def test_gradual_tuning_reaches_a_latency_and_a_resumed_run_keeps_its_table(model, data, tmp_path):
    clock, out = script(tmp_path, "print(m['params'])"), tmp_path / "out.onnx"
    args = ["--train", data, "--batch", 8, "--prune-every", 2, "--steps", 12, "--target", "latency=0.6", "--latency-cmd",
            clock, "--align", 4, "--threads", 1, "--checkpoint", tmp_path / "state", "-q"]
    run("compress", model, out, *args)
    assert parameters(out) <= 0.6 * parameters(model)
    assert all(w % 4 == 0 for w in sum(widths(out), []))
    before, bytes_ = calls(clock), out.read_bytes()
    run("compress", model, out, *args, "--resume")
    assert calls(clock) - before == 3 * 2 and out.read_bytes() == bytes_


def test_this_runtime_is_the_clock_where_no_other_is_given(tmp_path):
    """Measured times are noisy, so what is asserted is what any clock must give: fewer milliseconds, and the report's own
    arithmetic."""
    out = tmp_path / "out.onnx"
    r = run("compress", VIT, out, "--steps", 0, "--method", "magnitude", "--target", "latency=0.8", "--threads", 1,
            "--prune", "heads", "--report", tmp_path / "r")
    x = report(tmp_path / "r")
    latency, now = x["latency"], x["latency"]["measured"]
    assert latency["command"] == "pare bench" and latency["predicted_ms"] <= 0.8 * latency["dense_ms"]
    assert 0 < now["compact_ms"] < now["dense_ms"]
    assert 0 < x["target"]["reached"] < 1
    assert [(c["kind"], c["groups"], len(c["layers"])) for c in latency["table"]] == [("heads", 6, 4)]
    assert all(s["ms"] > 0 for c in latency["table"] for s in c["sizes"])
    assert "latency" in r.stdout and os.path.exists(out)
