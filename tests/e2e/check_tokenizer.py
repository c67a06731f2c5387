#!/usr/bin/env python3
"""Compares the tokens in an .npz that `pare data text` made with those of the
reference library (PyPI: tokenizers) for the same text and vocabulary.

    check_tokenizer.py OUT.npz TEXT VOCAB [--merges FILE] [--max-length 128] [--cased] [--text COLUMN] [--pair COLUMN]

TEXT is a .tsv with a header row or a .jsonl; VOCAB a WordPiece vocab.txt, the vocab.json of a
RoBERTa (with merges.txt beside it) or a tokenizer.json.
Exit status: 0 when every id, mask and type is equal, 1 otherwise (the first
samples that differ are printed), 77 when numpy or tokenizers is missing.
"""
import argparse
import json
import pathlib
import sys

try:
    import numpy as np
    import tokenizers
    from tokenizers.implementations import BertWordPieceTokenizer, ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


def read_columns(path, names):
    """The named columns of a .tsv with a header row, split as bytes: no quoting, no other line ends; or keys of a .jsonl."""
    with open(path, "rb") as f:
        lines = f.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    lines = [line.removesuffix(b"\r") for line in lines if line.strip(b" \t\r")]
    if str(path).endswith(".jsonl"):
        return [[json.loads(line)[name] for name in names] for line in lines]
    rows = [line.decode().split("\t") for line in lines]
    at = [rows[0].index(name) for name in names]
    return [[row[i] for i in at] for row in rows[1:]]


def roberta(vocab, merges=None):
    """As transformers' RobertaTokenizerFast makes it of vocab.json and merges.txt."""
    merges = merges or pathlib.Path(vocab).with_name("merges.txt")
    t = ByteLevelBPETokenizer(str(vocab), str(merges))
    special = [s for s in ("<s>", "</s>", "<pad>", "<unk>") if t.token_to_id(s) is not None]
    t.add_special_tokens(special + [tokenizers.AddedToken("<mask>", lstrip=True)])
    t._tokenizer.post_processor = RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")),
                                                    trim_offsets=True, add_prefix_space=False)
    return t


def reference(vocab, merges=None, cased=False):
    """The tokenizer, and the id that pads."""
    if str(vocab).endswith(".txt"):
        t = BertWordPieceTokenizer(str(vocab), lowercase=not cased)
    elif "model" in json.loads(pathlib.Path(vocab).read_text()):
        t = tokenizers.Tokenizer.from_file(str(vocab))
        t.no_padding()
    else:
        t = roberta(vocab, merges)
    return t, next(i for s in ("[PAD]", "<pad>", "<|endoftext|>") if (i := t.token_to_id(s)) is not None)


def differences(got, want, pad):
    """Samples whose ids, masks or types are not those of the encodings, and the array that differs."""
    assert len(got["input_ids"]) == len(want), f"{len(got['input_ids'])} samples, expected {len(want)}"
    for i, w in enumerate(want):
        n = len(w.ids)
        for name, ref, rest in (("input_ids", w.ids, pad), ("attention_mask", [1] * n, 0), ("token_type_ids", w.type_ids, 0)):
            row = got[name][i]
            if row[:n].tolist() != ref or (row[n:] != rest).any():
                yield i, name, row[:n + 4].tolist(), ref


def main():
    p = argparse.ArgumentParser()
    p.add_argument("npz")
    p.add_argument("text_file")
    p.add_argument("vocab")
    p.add_argument("--merges")
    p.add_argument("--max-length", type=int, default=128)
    p.add_argument("--cased", action="store_true")
    p.add_argument("--text", default="sentence")
    p.add_argument("--pair")
    a = p.parse_args()

    tokenizer, pad = reference(a.vocab, a.merges, a.cased)
    tokenizer.enable_truncation(a.max_length)
    rows = read_columns(a.text_file, [a.text] + ([a.pair] if a.pair else []))
    want = tokenizer.encode_batch([tuple(r) if a.pair else r[0] for r in rows])
    archive = np.load(a.npz)
    bad = list(differences({name: archive[name] for name in archive.files}, want, pad))
    for i, name, row, ref in bad[:5]:
        print(f"sample {i}, {name}: {rows[i]!r}\n  pare      {row}\n  reference {ref}")
    print(f"{len(want)} samples, {sum(len(w.ids) for w in want)} tokens, {len(bad)} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
