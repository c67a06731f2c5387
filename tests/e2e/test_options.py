"""Options of compress that say nothing to a run, or more than it can do: told, or refused."""
import re

import numpy as np
import pytest

from conftest import ROOT, run


@pytest.mark.parametrize("options, says", [
    (["--method", "magnitude", "--steps", 0, "--eta", 0.5, "--lr", 1, "--temperature", 3, "--curve", "linear", "--importance", "abs"],
     ["eta", "curve", "temperature", "lr"]),
    (["--method", "movement", "--steps", 2, "--train", "d.npz", "--ema", 0.9, "--hidden-weight", 2, "--importance", "abs", "--lr", 0.1],
     ["importance", "ema", "hidden-weight"]),
    (["--method", "loraprune", "--steps", 2, "--train", "d.npz", "--eta", 0.5, "--ema", 0.9, "--temperature", 3, "--prune-every", 1,
      "--lr-decay", "cosine"], []),
    (["--method", "gate", "--schedule", "one-shot", "--steps", 2, "--train", "d.npz", "--ema", 0.9, "--prune-cooldown", 0.2], ["ema", "prune-cooldown"]),
    (["--method", "wanda", "--steps", 0, "--train", "d.npz", "--importance", "abs"], ["importance"]),
    (["--sparsity", 0, "--steps", 0, "--ema", 0.9, "--floor", 0.2], ["ema", "floor"])],
    ids=["untuned", "movement", "loraprune", "one-shot", "wanda", "nothing goes"])
def test_options_that_change_nothing_are_told_and_no_others(options, says, tmp_path):
    """They are no errors: scripts that try several methods give the same options to all."""
    x = np.random.default_rng(0).standard_normal((32, 1, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "d.npz", pixel_values=x)
    said = run("compress", ROOT / "examples" / "fashion-vit" / "model.onnx", tmp_path / "o.onnx",
               *(tmp_path / o if o == "d.npz" else o for o in options)).stderr
    assert re.findall(r"--([a-z-]+) changes nothing: ", said) == says, said


def test_a_rank_that_says_no_more_than_a_smaller_one_is_told(tmp_path):
    np.savez(tmp_path / "d.npz", pixel_values=np.zeros((8, 1, 28, 28), np.float32))
    args = [ROOT / "examples" / "fashion-vit" / "model.onnx", tmp_path / "o.onnx", "--train", tmp_path / "d.npz", "--steps", 1, "--batch", 2,
            "--overwrite"]
    assert "--rank 97 is more than any" in run("compress", *args, "--rank", 97).stderr  # the smallest side of the widest is 96
    assert "is more than any" not in run("compress", *args, "--rank", 96).stderr


def test_floors_that_let_less_go_than_is_asked_for_are_told_and_those_that_let_nothing_go_refused(tmp_path):
    args = [ROOT / "examples" / "fashion-vit" / "model.onnx", tmp_path / "o.onnx", "--method", "magnitude", "--steps", 0]
    said = run("compress", *args, "--floor", 1, code=6).stderr
    assert "nothing can go: one group of a layer stays, and what --floor 1 " in said and not (tmp_path / "o.onnx").exists()
    said = run("compress", *args, "--floor", 0.9).stderr
    assert "of 24 groups of class heads 50 % shall go, and 0 can" in said, said
    assert "of 1536 groups of class ffn 50 % shall go, and 152 can" in said, said
    assert " can: one of a layer" not in run("compress", *args, "--floor", 0.5, "--overwrite").stderr
    said = run("compress", *args, "--sparsity", 0.9, "--overwrite").stderr
    assert "of 24 groups of class heads 90 % shall go, and 20 can" in said and "class ffn" not in said, said
