"""pare data text: tokens against PyPI's `tokenizers`, whose vocabularies are trained here; the files of known tasks;
and files that are broken."""
import functools
import json
import pathlib
import random
import subprocess
import tempfile
import unicodedata

import numpy as np
import pytest
import tokenizers
from tokenizers import pre_tokenizers, processors

from check_tokenizer import differences, reference, roberta
from conftest import PARE, run

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ("the quick brown fox isn't it's they'll we're I've I'm she'd 's 't 'LL don''t 12 3.14 1,000,000 x2 "
         "naïve café Ångström ﬁne ½ ² ٣٤ Ⅷ १२ 你好 世界 日本語 한국어 привет שלום مرحبا ไทย 😀 👩‍👩‍👧 🇩🇪 e\u0301 a\u0308 "
         "[MASK] [SEP] <mask> <s> </s> <pad> <unk> < s > <|endoftext|> -- ... ?! \"quoted\" 'single' $5 50% a_b http://x.y/z?q=1&r "
         "İstanbul ẞ ǅ Σίσυφος \u200b\u200d\ufeff \ufffd \u0000 \u0085 \u2028 supercalifragilistic").split(" ")
GAPS = [" ", "  ", "   ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2003 ", " \u00a0 ", "", "", "\x0b", "\x1c"]
POOLS = [(0x20, 0x7f), (0x20, 0x7f), (0xa0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0x980),
         (0x1100, 0x1120), (0x2000, 0x2070), (0x2150, 0x2190), (0x3000, 0x3100), (0x4e00, 0x4e40), (0xac00, 0xac40),
         (0xfb00, 0xfb10), (0xff00, 0xff40), (0x1d400, 0x1d420), (0x1f600, 0x1f620), (0x0, 0x20)]


def nasty(n, seed=0):
    """Lines of words, gaps and noise; characters that every Unicode since 8 knows and classes alike."""
    rng = random.Random(seed)
    lines = ["", " ", "  ", "a", " a", "a ", "\n", "'s", " 's", "<mask>", " <mask> ", "<s></s>", "''''", "a" * 3000,
             " " * 500, "\u3000" * 7 + "x", "x" + " \n" * 9 + "y", "1" * 300, "é" * 300, "'" * 200, "ab " * 700]
    while len(lines) < n:
        parts = []
        for _ in range(rng.randint(1, 12)):
            if rng.random() < 0.6:
                parts.append(rng.choice(WORDS))
            else:
                lo, hi = rng.choice(POOLS)
                parts.append("".join(chr(rng.randrange(lo, hi)) for _ in range(rng.randint(1, 6))))
            parts.append(rng.choice(GAPS))
        lines.append("".join(parts))
    return lines


def known(text):
    """The reference classes characters as Unicode 8 does, utf8proc as a later one: those that may differ are left out."""
    old = unicodedata.ucd_3_2_0
    return "".join(c for c in text if old.category(c) == unicodedata.category(c) or c in "ẞ" or "\U0001f300" <= c < "\U0001f650")


LINES = [known(line) for line in nasty(3000)]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def tokens(text, vocab, out, *options):
    run("data", "text", text, "--vocab", vocab, "-o", out, "-q", *options)
    archive = np.load(out)
    return {k: archive[k] for k in archive.files}


@functools.cache
def trained(kind):
    """The files of a vocabulary of 900 tokens, by name."""
    if kind == "bpe":
        t = tokenizers.ByteLevelBPETokenizer()
        t.train_from_iterator(LINES, vocab_size=900, special_tokens=SPECIAL, show_progress=False)
    else:
        t = tokenizers.BertWordPieceTokenizer(lowercase=kind == "lower")
        t.train_from_iterator(LINES, vocab_size=900, special_tokens=BERT, show_progress=False)
    with tempfile.TemporaryDirectory() as folder:
        return {pathlib.Path(f).name: pathlib.Path(f).read_bytes() for f in t.save_model(folder)}


def files_of(kind, folder):
    for name, data in trained(kind).items():
        (folder / name).write_bytes(data)
    return folder / ("vocab.json" if kind == "bpe" else "vocab.txt")


def bpe(folder):
    return files_of("bpe", folder)


def wordpiece(folder, lower):
    return files_of("lower" if lower else "cased", folder)


def compare(tmp_path, vocab, tokenizer, pad, pairs, length, *options):
    rows = ([{"sentence1": a, "sentence2": b} for a, b in zip(LINES, reversed(LINES))] if pairs
            else [{"sentence": a} for a in LINES])
    got = tokens(jsonl(tmp_path / "t.jsonl", rows), vocab, tmp_path / "t.npz", "--max-length", length, *options)
    tokenizer.enable_truncation(length)
    want = tokenizer.encode_batch([tuple(r.values()) if pairs else r["sentence"] for r in rows])
    bad = list(differences(got, want, pad))
    shown = [(rows[i], name, row, ref) for i, name, row, ref in bad[:3]]
    assert not bad, f"{len(bad)} differences in {sum(len(w.ids) for w in want)} tokens: {shown}"


@pytest.mark.parametrize("pairs, length", [(False, 4000), (False, 16), (True, 24)])
@pytest.mark.parametrize("lower", [True, False])
def test_wordpiece_of_nasty_lines_is_that_of_the_reference(lower, pairs, length, tmp_path):
    vocab = wordpiece(tmp_path, lower)
    compare(tmp_path, vocab, *reference(vocab, cased=not lower), pairs, length, *([] if lower else ["--keep-case"]))


@pytest.mark.parametrize("pairs, length", [(False, 4000), (False, 16), (True, 24)])
def test_byte_level_bpe_of_nasty_lines_is_that_of_the_reference(pairs, length, tmp_path):
    vocab = bpe(tmp_path)
    compare(tmp_path, vocab, *reference(vocab), pairs, length)


def test_a_vocabulary_of_gpt2_has_no_tokens_around_the_text(tmp_path):
    t = tokenizers.ByteLevelBPETokenizer()
    t.train_from_iterator(LINES, vocab_size=800, special_tokens=["<|endoftext|>"], show_progress=False)
    t.save_model(str(tmp_path))
    t.add_special_tokens(["<|endoftext|>"])
    compare(tmp_path, tmp_path / "vocab.json", t, t.token_to_id("<|endoftext|>"), False, 4000)


def json_of(kind, tmp_path):
    """A tokenizer.json as the library saves it."""
    if kind.startswith("wordpiece"):
        lower = kind == "wordpiece"
        t = tokenizers.BertWordPieceTokenizer(str(wordpiece(tmp_path, lower)), lowercase=lower)._tokenizer
    else:
        vocab = bpe(tmp_path)
        t = roberta(vocab)._tokenizer
        if kind == "bpe with a prefix space":
            t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        if kind == "bpe with a template":
            cls, sep = t.token_to_id("<s>"), t.token_to_id("</s>")
            t.post_processor = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
                single="<s> $A </s>", pair="<s>:1 $B:1 </s>:1 $A:0 </s>:0", special_tokens=[("<s>", cls), ("</s>", sep)])])
    t.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kind", ["wordpiece", "wordpiece cased", "bpe", "bpe with a prefix space", "bpe with a template"])
def test_a_tokenizer_json_gives_what_the_library_gives(kind, pairs, tmp_path):
    vocab = json_of(kind, tmp_path)
    compare(tmp_path, vocab, *reference(vocab), pairs, 64)


def test_what_a_tokenizer_json_asks_for_that_is_not_there_is_named(tmp_path):
    text = jsonl(tmp_path / "t.jsonl", [{"text": "hello"}])
    plain = json.loads(json_of("bpe", tmp_path).read_text())
    words = json.loads(json_of("wordpiece", tmp_path).read_text())
    cases = [(plain, ["model", "type"], "Unigram", "'Unigram'"), (plain, ["model", "byte_fallback"], True, "byte_fallback"),
             (plain, ["normalizer"], {"type": "NFC"}, "normalizer"), (plain, ["pre_tokenizer"], {"type": "Metaspace"}, "Metaspace"),
             (plain, ["post_processor"], {"type": "Strange"}, "Strange"), (words, ["normalizer"], None, "normalizer"),
             (words, ["normalizer", "clean_text"], False, "clean_text"), (words, ["pre_tokenizer"], {"type": "Whitespace"}, "Whitespace"),
             (plain, ["model", "merges"], [["a", "\u0120nope"]], "not in the vocabulary"), (plain, ["model", "vocab"], [], "vocabulary"),
             (plain, ["model", "merges"], ["abc"], "merge"), (plain, ["model", "merges"], 5, "merges"),
             (plain, ["model", "vocab"], {"a": -1}, "'a'"), (plain, ["model", "vocab"], {"a": "b"}, "'a'")]
    for good, path, value, says in cases:
        bad = json.loads(json.dumps(good))
        at = bad
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        (tmp_path / "bad.json").write_text(json.dumps(bad))
        said = run("data", "text", text, "--vocab", tmp_path / "bad.json", "-o", tmp_path / "o.npz", "-q", code=4).stderr
        assert says in said and "bad.json" in said and said.count("\n") == 1, said


# --- known tasks ---

GLUE = {  # the header of the training file, a row, the text, the pair, its label; of the test file the header
    "cola": (None, "gj04\t1\t\tOur friends won't buy it.", ("Our friends won't buy it.",), 1, "index\tsentence"),
    "sst-2": ("sentence\tlabel", "hide new secretions \t0", ("hide new secretions ",), 0, "index\tsentence"),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t7\t8\tHe said, \"No.\tHe \"said\" \"\"no", ("He said, \"No.", "He \"said\" \"\"no"), 1,
             "index\t#1 ID\t#2 ID\t#1 String\t#2 String"),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t2\t3\tWhy?\tWhy not?\t1", ("Why?", "Why not?"), 1,
            "id\tquestion1\tquestion2"),
    "sts-b": ("index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
              "0\tg\tf\t2012\t1\tn\tn\tA plane.\tAn air plane.\t5", ("A plane.", "An air plane."), 5.0,
              "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"),
    "mnli": ("index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
             "0\t1\t1n\tg\t( A )\t( B )\t(R A)\t(R B)\tA cat.\tNo cat.\tneutral\tcontradiction", ("A cat.", "No cat."), 2,
             "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2"),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\tWhen?\tIn 1912.\tentailment", ("When?", "In 1912."), 0, "index\tquestion\tsentence"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\tA.\tB.\tnot_entailment", ("A.", "B."), 1, "index\tsentence1\tsentence2"),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\tI stuck.\tThe pin.\t1", ("I stuck.", "The pin."), 1, "index\tsentence1\tsentence2"),
}


@pytest.mark.parametrize("task", GLUE)
def test_files_of_glue_are_read_by_the_name_of_the_task(task, tmp_path):
    header, row, texts, label, test_header = GLUE[task]
    vocab = wordpiece(tmp_path, True)
    tokenizer, pad = reference(vocab)
    want = [tokenizer.encode(*texts)] * 2
    (tmp_path / "train.tsv").write_text("".join(f"{line}\n" for line in ([header] if header else []) + [row, row]))
    got = tokens(tmp_path / "train.tsv", vocab, tmp_path / "o.npz", "--task", task.upper().replace("-", ""))
    assert not list(differences(got, want, pad))
    assert got["labels"].tolist() == [label] * 2
    assert got["labels"].dtype == (np.float32 if task == "sts-b" else np.int64)
    at = dict(zip((header or "source\tlabel\tstar\tsentence").removeprefix("\ufeff").split("\t"), row.split("\t")))
    bare = "\t".join(at.get(name, "0") for name in test_header.split("\t"))
    (tmp_path / "test.tsv").write_text(f"{test_header}\n{bare}\n{bare}\n")
    got = tokens(tmp_path / "test.tsv", vocab, tmp_path / "o.npz", "--task", task)
    assert not list(differences(got, want, pad)) and "labels" not in got


def test_the_broken_rows_of_qqp_are_passed_over_and_told(tmp_path):
    vocab = wordpiece(tmp_path, True)
    header, row = GLUE["qqp"][:2]
    (tmp_path / "t.tsv").write_text(f"{header}\n{row}\n1\t2\t3\tWhy\n{row}\n")
    said = run("data", "text", tmp_path / "t.tsv", "--vocab", vocab, "--task", "qqp", "-o", tmp_path / "o.npz").stderr
    assert "1 lines" in said and len(np.load(tmp_path / "o.npz")["labels"]) == 2


CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
Müller-Lüdenscheid's NN B-NP B-PER
\u200b NN B-NP O
call NN I-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_conll_labels_stand_at_the_first_token_of_a_word(kind, tmp_path):
    vocab = wordpiece(tmp_path, False) if kind == "wordpiece" else bpe(tmp_path)
    tokenizer, pad = reference(vocab, cased=True)
    if kind == "bpe":
        tokenizer._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    (tmp_path / "t.txt").write_text(CONLL)
    got = tokens(tmp_path / "t.txt", vocab, tmp_path / "o.npz", "--task", "ner", "--keep-case")
    names = ["O", "B-ORG", "B-PER", "I-PER"]  # "O", then sorted
    sentences = [[line.split() for line in s.splitlines()] for s in CONLL.split("\n\n")[1:]]
    want = [tokenizer.encode([w[0] for w in s], is_pretokenized=True) for s in sentences]
    assert not list(differences(got, want, pad))
    for row, enc, s in zip(got["labels"], want, sentences):
        first, seen = [], set()
        for word in enc.word_ids:
            first.append(names.index(s[word][3]) if word is not None and word not in seen else -100)
            seen.add(word)
        assert row.tolist() == first + [-100] * (len(row) - len(first))
    chosen = "I-PER,B-PER,B-ORG,O"
    got = tokens(tmp_path / "t.txt", vocab, tmp_path / "o.npz", "--task", "ner", "--keep-case", "--label-names", chosen)
    assert got["labels"].max() == 3 and got["labels"][1].max() == 1


def squad(rows):
    return {"data": [{"title": "t", "paragraphs": [{"context": c, "qas": [{"id": "1", "question": q, "answers": a}]}]}
                     for c, q, a in rows]}


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_squad_answers_are_the_tokens_that_the_library_places_there(kind, tmp_path):
    vocab = wordpiece(tmp_path, True) if kind == "wordpiece" else bpe(tmp_path)
    tokenizer, pad = reference(vocab)
    rng, rows, length = random.Random(1), [], 48
    for _ in range(400):
        words = [w for w in rng.choices(WORDS, k=rng.randint(3, 30)) if w.strip() and w.isprintable()
                 and not w.startswith(("<", "["))] + ["end"]
        context = " ".join(words)
        k = rng.randrange(len(words))
        text = words[k].strip(".?!'\"") if rng.random() < 0.5 and words[k].strip(".?!'\"") else words[k]
        start = len(" ".join(words[:k])) + (k > 0) + words[k].index(text)
        rows.append((context, "who is it?", [{"text": text, "answer_start": start}]))
    rows.append(("nothing here", "why?", []))
    (tmp_path / "s.json").write_text(json.dumps(squad(rows)))
    got = tokens(tmp_path / "s.json", vocab, tmp_path / "o.npz", "--task", "squad", "--max-length", length)
    tokenizer.enable_truncation(length, strategy="only_second")
    want = [tokenizer.encode(q, c) for c, q, _ in rows]
    assert not list(differences(got, want, pad))
    cut = 0
    for (context, _, answers), enc, label in zip(rows, want, got["labels"].tolist()):
        if not answers:
            assert label == [0, 0]
            continue
        a, b = answers[0]["answer_start"], answers[0]["answer_start"] + len(answers[0]["text"])
        held = [i for i, ((f, t), s) in enumerate(zip(enc.offsets, enc.sequence_ids)) if s == 1 and t > a and f < b]
        end = max((t for (f, t), s in zip(enc.offsets, enc.sequence_ids) if s == 1), default=0)
        if label == [-100, -100]:
            cut += 1
            assert end < b or not held, (context, answers, label)  # cut off, or of characters that vanish
        else:
            assert label == [held[0], held[-1]], (context, answers, enc.tokens, label)
    assert 0 < cut < 300


# --- what is broken ---


def test_broken_files_end_in_one_sentence_with_file_and_line(tmp_path):
    vocab = wordpiece(tmp_path, True)
    cases = [("a.tsv", b"sentence\tlabel\nx\t2\n", ["--task", "sst-2"], "line 2: the label '2' is none of 0, 1"),
             ("a.tsv", b"a\tb\n1\t2\n", ["--task", "rte"], "line 1: there is no text column 'sentence1'"),
             ("a.tsv", GLUE["sts-b"][0].encode() + b"\n" + b"x\t" * 9 + b"high\n", ["--task", "sts-b"], "'high' is not a number"),
             ("a.tsv", b"sentence\tlabel\nx\tma\0ybe\n", [], "line 2: the label holds a zero byte"),
             ("a.tsv", b"sentence\tlabel\nx\xff\t1\n", [], "line 2: not UTF-8"),
             ("a.tsv", b"sentence\tlabel\nx\ty\n", ["--label-names", "a,b"], "line 2: the label 'y' is none of a, b"),
             ("a.txt", b"one O\ntwo\n", ["--task", "ner"], "line 2: 1 column"),
             ("a.txt", b"one O\ntwo B\n", ["--task", "ner", "--label-names", "O,I"], "line 2: the tag 'B'"),
             ("a.txt", b"one O\xc3\n\xff O\n", ["--task", "ner"], "line 2: not UTF-8"),
             ("a.txt", b"\n\n", ["--task", "ner"], "no samples"),
             ("a.json", b"{\"data\": [", ["--task", "squad"], "line 1: not JSON"),
             ("a.json", b"{}", ["--task", "squad"], "no list 'data'"),
             ("a.json", b"{\"data\": [{}]}", ["--task", "squad"], "data[0]"),
             ("a.json", json.dumps(squad([("a b", "q", [{"text": "b", "answer_start": 1}])])).encode(), ["--task", "squad"], "qas[0]: the answer"),
             ("a.json", json.dumps(squad([("a b", "q", [{"text": "b", "answer_start": -3}])])).encode(), ["--task", "squad"], "qas[0]: the answer"),
             ("a.json", json.dumps(squad([("a b", "q", [{"text": "b"}])])).encode(), ["--task", "squad"], "answer_start")]
    for name, data, options, says in cases:
        (tmp_path / name).write_bytes(data)
        said = run("data", "text", tmp_path / name, "--vocab", vocab, "-o", tmp_path / "o.npz", "-q", *options, code=4).stderr
        assert says in said and name in said and said.count("\n") == 1, (data, said)
    assert "'moon' is not known" in run("data", "text", tmp_path / "a.tsv", "--vocab", vocab, "-o", tmp_path / "o.npz",
                                        "--task", "moon", code=2).stderr


def test_broken_vocabularies_end_in_one_sentence_with_file_and_line(tmp_path):
    vocab = bpe(tmp_path)
    text = jsonl(tmp_path / "t.jsonl", [{"text": "hello"}])
    good, merges = json.loads(vocab.read_text()), (tmp_path / "merges.txt").read_text()
    broken = tmp_path / "b"
    broken.mkdir()
    cases = [("vocab.json", b"{\"a\": 1", "line 1: not JSON"), ("vocab.json", b"[1]", "not a JSON object"),
             ("vocab.json", b"", "not JSON"), ("vocab.json", b"{\"\xff\": 1}", "not JSON"),
             ("vocab.json", b"{\"a\": 1}", "not a vocabulary of RoBERTa"), ("vocab.json", b"{\"a\": 1.5}", "the id of the token 'a'"),
             ("vocab.json", json.dumps({k: v for k, v in good.items() if k != "<pad>"}).encode(), "<pad>"),
             ("merges.txt", b"#version: 0.2\na b c\n", "line 2: a merge is two tokens"),
             ("merges.txt", b"#version: 0.2\n\na b\n", "line 2: a merge is two tokens"),
             ("merges.txt", b"#version: 0.2\nh\n", "line 2: a merge is two tokens"),
             ("merges.txt", b"#version: 0.2\nh \0e\n", "line 2: a merge is two tokens"),
             ("merges.txt", b"#version: 0.2\nnope nope\n", "line 2: merge 1 makes or reads the token 'nope'")]
    for name, data, says in cases:
        (broken / "vocab.json").write_text(json.dumps(good))
        (broken / "merges.txt").write_text(merges)
        (broken / name).write_bytes(data)
        said = run("data", "text", text, "--vocab", broken / "vocab.json", "-o", tmp_path / "o.npz", "-q", code=4).stderr
        assert says in said and name in said and said.count("\n") == 1, (data, said)
    (broken / "merges.txt").unlink()
    assert "merges.txt" in run("data", "text", text, "--vocab", broken / "vocab.json", "-o", tmp_path / "o.npz", code=4).stderr


def test_nasty_bytes_are_read_or_refused_and_nothing_else(tmp_path):
    """Every reader on its own good file with bytes changed, dropped, doubled: exit 0, or 4 with one sentence."""
    words, roberta_vocab = wordpiece(tmp_path, True), bpe(tmp_path)
    library = json_of("bpe", tmp_path).read_bytes()
    rng = random.Random(7)
    small = json.loads(library)
    small["model"]["vocab"] = dict(list(sorted(small["model"]["vocab"].items(), key=lambda x: x[1]))[:270])
    small["model"]["merges"] = [m for m in small["model"]["merges"] if "".join(m) in small["model"]["vocab"]]
    good = {("t.tsv", "words"): b"sentence\tlabel\nhello there\t1\n\xc3\xa9\xe2\x80\x8b x\t0\n",
            ("t.jsonl", "bpe"): b'{"sentence1": "a\\u0000 \\ud83d\\ude00", "sentence2": "b", "label": 1.5}\n',
            ("t.txt", "ner"): CONLL.encode(),
            ("s.json", "squad"): json.dumps(squad([("a b c", "q", [{"text": "b", "answer_start": 2}])])).encode(),
            ("tokenizer.json", "library"): json.dumps(small).encode()}
    codes = []
    for (name, kind), data in good.items():
        for _ in range(60):
            b = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(b) + 1)
                action = rng.randrange(4)
                if action == 0 and at < len(b):
                    b[at] = rng.choice([0, 9, 10, 13, 32, 34, 123, 125, 0x80, 0xff, rng.randrange(256)])
                elif action == 1:
                    del b[at:at + rng.randint(1, 9)]
                elif action == 2:
                    b[at:at] = b[max(0, at - 20):at] * rng.randint(1, 3)
                else:
                    b[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 5)))
            (tmp_path / name).write_bytes(b)
            source, vocab = tmp_path / name, {"words": words, "bpe": roberta_vocab}.get(kind, words)
            if kind == "library":
                source, vocab = jsonl(tmp_path / "x.jsonl", [{"text": "hello <mask> there"}]), tmp_path / name
            options = ["--task", kind] if kind in ("ner", "squad") else []
            r = subprocess.run([PARE, "data", "text", str(source), "--vocab", str(vocab), "-o", str(tmp_path / "o.npz"), "-q",
                                *options], capture_output=True, timeout=60)
            assert r.returncode == 0 or (r.returncode == 4 and r.stderr.count(b"\n") == 1), (name, bytes(b), r)
            codes.append(r.returncode)
    assert 0 in codes and 4 in codes
