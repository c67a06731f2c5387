#!/usr/bin/env python3
"""Compares the tokens in an .npz that `pare data text` made with those of the
reference library (PyPI: tokenizers) for the same text and vocabulary.

    check_tokenizer.py OUT.npz TEXT.tsv VOCAB.txt [--max-length 128] [--cased] [--text COLUMN] [--pair COLUMN]

Exit status: 0 when every id, mask and type is equal, 1 otherwise (the first
samples that differ are printed), 77 when numpy or tokenizers is missing.
"""
import argparse
import sys

try:
    import numpy as np
    from tokenizers import BertWordPieceTokenizer
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


def read_columns(path, names):
    """The named columns of a .tsv with a header row, split as bytes: no quoting, no other line ends."""
    with open(path, "rb") as f:
        lines = f.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = [line.removesuffix(b"\r").decode().split("\t") for line in lines if line.strip(b" \t\r")]
    at = [rows[0].index(name) for name in names]
    return [[row[i] for i in at] for row in rows[1:]]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("npz")
    p.add_argument("text_file")
    p.add_argument("vocab")
    p.add_argument("--max-length", type=int, default=128)
    p.add_argument("--cased", action="store_true")
    p.add_argument("--text", default="sentence")
    p.add_argument("--pair")
    a = p.parse_args()

    reference = BertWordPieceTokenizer(a.vocab, lowercase=not a.cased)
    reference.enable_truncation(a.max_length)
    rows = read_columns(a.text_file, [a.text] + ([a.pair] if a.pair else []))
    want = reference.encode_batch([tuple(r) if a.pair else r[0] for r in rows])
    archive = np.load(a.npz)
    got = {name: archive[name] for name in archive.files}  # each access of the archive inflates anew

    bad = 0
    if len(got["input_ids"]) != len(want):
        sys.exit(f"{len(got['input_ids'])} samples, expected {len(want)}")
    for i, w in enumerate(want):
        n = len(w.ids)
        pairs = (("input_ids", w.ids), ("attention_mask", [1] * n), ("token_type_ids", w.type_ids))
        for name, ref in pairs:
            row = got[name][i]
            if row[:n].tolist() == ref and not row[n:].any():
                continue
            bad += 1
            if bad <= 5:
                print(f"sample {i}, {name}: {rows[i]!r}\n  pare      {row[:n + 4].tolist()}\n  reference {ref}")
    print(f"{len(want)} samples, {sum(len(w.ids) for w in want)} tokens, {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
