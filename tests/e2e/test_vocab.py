"""Fewer tokens, and the files that number them: what PyPI's `tokenizers` makes of the rewritten vocab.json, merges.txt and
tokenizer.json is what it made of the old ones, in new ids, and the cut model says of it what the whole one said."""
import functools
import json
import random
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from check_tokenizer import differences, reference, roberta
from conftest import FIXTURES, run
from test_compress import LEVELS, session
from tiny import CLASSES, STREAM, Builder, layers

WORDS = ("the quick brown fox jumps over a lazy dog while walking walked walks talking talked talks unhappiness happiness "
         "happily happier redoing undoing doing redo undo naïve café 你好 世界 aaaa aaaaaaa banana bananas 12 3.14 x2 😀").split()
SPARE = 3  # rows of the table that no token has


def sentences(n, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 9))) + rng.choice(["", ".", " ?"]) for _ in range(n)]


TEXTS = sentences(120, 1)


# --- tokenizers ---

def shortened(spec, new):
    """What should be written, in the same order: tokens, merges and added tokens that stay (new id not below 0), and every
    id in its place."""
    model = spec["model"]
    ids = ({piece: i for i, (piece, _) in enumerate(model["vocab"])} if model["type"] == "Unigram" else model["vocab"])
    stays = {t for t, i in ids.items() if new[i] >= 0}
    if model["type"] == "Unigram":
        model["vocab"] = [p for p in model["vocab"] if p[0] in stays]
        model["unk_id"] = int(new[model["unk_id"]])
    else:
        model["vocab"] = {t: int(new[i]) for t, i in ids.items() if t in stays}
    if "merges" in model:
        drop = len(model["continuing_subword_prefix"] or "")
        model["merges"] = [m for m in model["merges"] if {*m, m[0] + m[1][drop:]} <= stays]
    spec["added_tokens"] = [dict(a, id=int(new[a["id"]])) for a in spec["added_tokens"] if new[a["id"]] >= 0]
    if spec["padding"]:
        spec["padding"]["pad_id"] = int(new[spec["padding"]["pad_id"]])
    post = spec["post_processor"] or {}
    for p in post.get("processors", [post]):
        for side in {"sep", "cls"} & p.keys():
            p[side][1] = int(new[p[side][1]])
        for t in p.get("special_tokens", {}).values():
            t["ids"] = [int(new[i]) for i in t["ids"]]
    return spec


def special_last(t, n):
    """The first n tokens, which are special, get the last ids, so that they are others after a cut."""
    spec = json.loads(t.to_str())
    size = len(spec["model"]["vocab"])
    spec = shortened(spec, (np.arange(size) - n) % size)
    if spec["model"]["type"] == "Unigram":
        spec["model"]["vocab"] = spec["model"]["vocab"][n:] + spec["model"]["vocab"][:n]
    return Tokenizer.from_str(json.dumps(spec))


def template(t, cls, sep):
    return processors.TemplateProcessing(single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1",
                                         special_tokens=[(s, t.token_to_id(s)) for s in (cls, sep)])


def wordpiece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False))
    t.post_processor = template(t, "[CLS]", "[SEP]")
    t.enable_padding(pad_id=0, pad_token="[PAD]")
    return special_last(t, len(special))


def byte_bpe(**options):
    t = Tokenizer(models.BPE(**options))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True)])  # both behind the model's own vocabulary
    t.add_tokens(["zebra"])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    t.enable_truncation(500)
    return t


def word_bpe(**options):
    """Of characters, which are unknown where they are not tokens; options: how symbols inside and at the end look."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, **options))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.decoder = decoders.BPEDecoder(options.get("end_of_word_suffix", "</w>"))
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=170, special_tokens=["<s>", "<unk>", "</s>"],
                                                     show_progress=False, **options))
    t.post_processor = processors.Sequence([processors.ByteLevel(), template(t, "<s>", "</s>")])
    return special_last(t, 3)


def clip_bpe():
    """Bytes as characters, and a word's end written at its last one."""
    t = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    t.normalizer, t.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, special_tokens=["<|startoftext|>", "<|endoftext|>"],
                                                     show_progress=False, end_of_word_suffix="</w>",
                                                     initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    spec = json.loads(t.to_str())
    for c in sorted(pre_tokenizers.ByteLevel.alphabet()):
        spec["model"]["vocab"].setdefault(c + "</w>", len(spec["model"]["vocab"]))
    return Tokenizer.from_str(json.dumps(spec))


def falling_bpe():
    """Characters that are no tokens fall into bytes."""
    spec = json.loads(word_bpe().to_str())
    spec["model"]["vocab"] |= {f"<0x{i:02X}>": len(spec["model"]["vocab"]) + i for i in range(256)}
    spec["model"]["byte_fallback"] = True
    spec["decoder"] = {"type": "ByteFallback"}
    return Tokenizer.from_str(json.dumps(spec))


def unigram():
    t = Tokenizer(models.Unigram())
    t.pre_tokenizer, t.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    t.train_from_iterator(TEXTS, trainers.UnigramTrainer(
        vocab_size=130, special_tokens=["<pad>", "<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False))
    t.post_processor = processors.BertProcessing(("</s>", 3), ("<s>", 2))
    return special_last(t, 4)


def falling_unigram():
    """Characters that are no pieces fall into bytes."""
    spec = json.loads(unigram().to_str())
    spec["model"]["vocab"] += [[f"<0x{i:02X}>", -20.0] for i in range(256)]
    spec["model"]["byte_fallback"] = True
    spec["decoder"] = {"type": "ByteFallback"}
    return Tokenizer.from_str(json.dumps(spec))


def word_level():
    t = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"], show_progress=False))
    return t


KINDS = {"wordpiece": wordpiece, "byte-bpe": byte_bpe, "byte-bpe-whole-words": lambda: byte_bpe(ignore_merges=True),
         "clip-bpe": clip_bpe,
         "word-bpe": word_bpe, "word-bpe-bytes": falling_bpe, "word-bpe-suffix": lambda: word_bpe(end_of_word_suffix="</w>"),
         "word-bpe-prefix": lambda: word_bpe(continuing_subword_prefix="##"), "unigram": unigram,
         "unigram-bytes": falling_unigram, "word-level": word_level}


@functools.cache
def spec_of(kind):
    return KINDS[kind]().to_str(pretty=True)


def tokenizer_file(path, kind):
    path.write_text(spec_of(kind))
    return Tokenizer.from_file(str(path))


# --- models, runs ---

def text_model(path, rows):
    """ids[batch, sequence] -> y[batch, 3]"""
    b = Builder(TensorProto.FLOAT, seed=1)
    table = b.constant("embedding", b.rng.standard_normal((rows, STREAM)), TensorProto.FLOAT)
    x = layers(b, b.node("Gather", table, "ids", axis=0))
    y = b.dense(b.node("ReduceMean", x, axes=[1], keepdims=0), "classifier", STREAM, CLASSES)
    b.nodes.append(helper.make_node("Identity", [y], ["y"], name="last"))
    graph = helper.make_graph(b.nodes, "text", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])], b.initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def cut(folder, vocab, rows, keep, *options):
    """Runs pare; the report, and from old ids to new ones, -1 of those that went."""
    model = folder / "m.onnx"
    if not model.exists():
        text_model(model, rows)
    (folder / "keep.txt").write_text("".join(f"{k}\n" for k in keep))
    r = run("compress", model, folder / "c.onnx", "--prune", "vocab", "--vocab-keep", folder / "keep.txt", "--vocab", vocab,
            "--steps", 0, "--threads", 1, "--report", folder / "r", *options)
    report = json.loads((folder / "r" / "report.json").read_text())
    kept = next(g["kept"] for g in report["groups"] if g["kind"] == "vocab")
    new = np.full(rows, -1)
    new[kept] = np.arange(len(kept))
    told = report["vocabulary"]
    assert told["left"] == len(kept) and told["tokens"] == rows and 1 <= len(told["files"]) <= 2
    assert all(f"<code>{f}</code>" in (folder / "r" / "report.html").read_text() for f in told["files"])
    return report, new, r.stderr


def check_law(old, after, new, folder, texts=TEXTS):
    """A text whose tokens all stay is cut into the same ones, and the model says the same of them. The number of these."""
    whole, small = session(folder / "m.onnx", LEVELS[-1]), session(folder / "c.onnx", LEVELS[-1])
    same = 0
    for text in texts:
        want, got = old.encode(text), after.encode(text)
        assert all(0 <= i < (new >= 0).sum() for i in got.ids), (text, got.ids)
        if (new[want.ids] < 0).any():
            continue
        same += 1
        assert got.ids == new[want.ids].tolist(), (text, want.tokens, got.tokens)
        assert got.tokens == want.tokens and got.type_ids == want.type_ids
        assert after.decode(got.ids) == old.decode(want.ids)
        y, z = (s.run(None, {"ids": np.array([ids])})[0] for s, ids in ((whole, want.ids), (small, got.ids)))
        assert np.array_equal(y, z), (text, y, z)
    return same


def count(stderr, what):
    """The number before a word of what is told."""
    found = re.search(rf"([0-9]+) {what}", stderr)
    return int(found[1]) if found else 0


# --- tokenizer.json ---

@pytest.mark.parametrize("kind", KINDS)
def test_texts_whose_tokens_stay_are_the_same_to_tokenizer_and_model(kind, tmp_path):
    old = tokenizer_file(tmp_path / "tokenizer.json", kind)
    rows = old.get_vocab_size() + SPARE
    for seed in range(3):
        chosen = random.Random(seed).sample(TEXTS, 2 + 5 * seed)
        ids = {i for e in old.encode_batch(chosen) for i in e.ids}
        ids |= set(random.Random(seed).sample(range(old.get_vocab_size()), 20))
        keep = ids if seed % 2 else {old.id_to_token(i) for i in ids}
        report, new, _ = cut(tmp_path, tmp_path / "tokenizer.json", rows, sorted(keep))
        assert report["vocabulary"]["files"] == [str(tmp_path / "c.onnx.tokenizer.json")]
        text = (tmp_path / "c.onnx.tokenizer.json").read_text()
        assert json.dumps(json.loads(text)) == json.dumps(shortened(json.loads(spec_of(kind)), new))
        after = Tokenizer.from_str(text)
        assert after.get_vocab() == {t: new[i] for t, i in old.get_vocab().items() if new[i] >= 0}
        assert check_law(old, after, new, tmp_path) >= len(chosen)
        if kind in ("byte-bpe", "unigram-bytes", "word-bpe-bytes"):  # what was lost is spelled
            assert all(after.decode(after.encode(t).ids) == old.decode(old.encode(t).ids) for t in TEXTS)
        if kind == "clip-bpe":
            unknown = after.token_to_id("<|endoftext|>")
            assert not any(unknown in after.encode(t).ids for t in TEXTS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_which_all_tokens_stay_is_written_byte_for_byte(kind, tmp_path):
    old = tokenizer_file(tmp_path / "tokenizer.json", kind)
    spec = json.loads(spec_of(kind)) | {"of a later version": [{"id": 7}]}
    if kind == "byte-bpe":
        spec["model"]["merges"] = [" ".join(m) for m in spec["model"]["merges"]]  # as older files have them
    text = json.dumps(spec, indent=1).replace('"version"', ' "\\u0076ersion" ') + " \n"
    (tmp_path / "tokenizer.json").write_text(text)
    rows = old.get_vocab_size()
    cut(tmp_path, tmp_path / "tokenizer.json", rows, range(rows))
    assert (tmp_path / "c.onnx.tokenizer.json").read_text() == text


def test_merges_as_text_go_as_pairs_do_and_the_log_counts_what_went(tmp_path):
    old = tokenizer_file(tmp_path / "tokenizer.json", "byte-bpe")
    spec = json.loads(spec_of("byte-bpe"))
    spec["model"]["merges"] = [" ".join(m) for m in spec["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    word = max((t for t in old.get_vocab() if t.startswith("\u0120")), key=len)
    report, new, said = cut(tmp_path, tmp_path / "tokenizer.json", old.get_vocab_size() + SPARE, [word])
    after = json.loads((tmp_path / "c.onnx.tokenizer.json").read_text())
    assert json.dumps(after["model"]["merges"]) == json.dumps([" ".join(m) for m in shortened(
        json.loads(spec_of("byte-bpe")), new)["model"]["merges"]])
    t = Tokenizer.from_str(json.dumps(after))
    assert t.encode(word.replace("\u0120", " ")).tokens == ["<s>", word, "</s>"]
    # five special tokens; all bytes; the word; what is made on the way to a word of n letters and a space, itself aside
    told = {"special": count(said, "special"), "bytes": count(said, "bytes"), "parts": count(said, "parts"), "lowest": 0}
    assert told == report["vocabulary"]["added"] and told["special"] == 5 and told["bytes"] == 256
    assert t.get_vocab_size() == 5 + 256 + 1 + told["parts"] and 0 < told["parts"] <= len(word) - 2
    assert f"{len(after['model']['merges'])} of {len(spec['model']['merges'])} merges stay" in said
    assert "zebra" not in t.get_vocab()  # an added token is special where the file says so


def test_a_merge_goes_that_makes_a_token_that_stays_of_one_that_went(tmp_path):
    """abc is ab and c here, never a and bc, which the list has as well."""
    vocab = {t: i for i, t in enumerate(["bc", "c", "a", "b", "ab", "abc", "d"])}
    old = Tokenizer(models.BPE(vocab, [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]))
    old.save(str(tmp_path / "tokenizer.json"))
    report, _, _ = cut(tmp_path, tmp_path / "tokenizer.json", len(vocab), ["abc"])
    after = Tokenizer.from_file(str(tmp_path / "c.onnx.tokenizer.json"))
    assert after.encode("abc").tokens == old.encode("abc").tokens == ["abc"] and after.encode("bcab").tokens == ["b", "c", "ab"]
    assert after.get_vocab() == {"c": 0, "a": 1, "b": 2, "ab": 3, "abc": 4} and report["vocabulary"]["merges_left"] == 2


def test_an_added_token_that_is_named_stays(tmp_path):
    old = tokenizer_file(tmp_path / "tokenizer.json", "byte-bpe")
    cut(tmp_path, tmp_path / "tokenizer.json", old.get_vocab_size(), ["zebra"])
    after = Tokenizer.from_file(str(tmp_path / "c.onnx.tokenizer.json"))
    assert after.encode("zebra", add_special_tokens=False).ids == [after.get_vocab_size() - 1]


def test_what_unigram_does_not_know_costs_what_it_did(tmp_path):
    """Were the cheapest piece gone, "x" as an unknown character would be cheaper than the pieces that stand there now."""
    pieces = [("<unk>", 0.0), ("xy", -20.0), ("z", -20.0), ("yz", -1.0), ("x", -45.0), ("y", -20.0), ("q", -50.0)]
    old = Tokenizer(models.Unigram(pieces, unk_id=0))
    old.save(str(tmp_path / "tokenizer.json"))
    cut(tmp_path, tmp_path / "tokenizer.json", len(pieces), ["xy", "z", "yz"])
    after = Tokenizer.from_file(str(tmp_path / "c.onnx.tokenizer.json"))
    assert after.encode("xyz").tokens == old.encode("xyz").tokens == ["xy", "z"]
    assert set(after.get_vocab()) == {"<unk>", "xy", "z", "yz", "q"}


def test_a_tokenizer_without_a_token_for_unknown_text_is_told_of(tmp_path):
    spec = json.loads(spec_of("word-level"))
    spec["model"]["unk_token"] = "<none>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    said = cut(tmp_path, tmp_path / "tokenizer.json", len(spec["model"]["vocab"]), ["the"])[2]
    assert "no token for unknown text" in said


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe"])
def test_pare_reads_what_it_wrote(kind, tmp_path):
    old = tokenizer_file(tmp_path / "tokenizer.json", kind)
    words = [old.id_to_token(i) for i in old.encode(TEXTS[0] + TEXTS[1]).ids]
    cut(tmp_path, tmp_path / "tokenizer.json", old.get_vocab_size() + SPARE, words)
    check_data(tmp_path, tmp_path / "c.onnx.tokenizer.json")


def check_data(folder, vocab):
    (folder / "t.jsonl").write_text("".join(json.dumps({"sentence": t}) + "\n" for t in TEXTS))
    run("data", "text", folder / "t.jsonl", "--vocab", vocab, "-o", folder / "t.npz", "-q")
    t, pad = reference(vocab, pare_merges(vocab))
    assert not list(differences(np.load(folder / "t.npz"), t.encode_batch(TEXTS), pad))


def pare_merges(vocab):
    return vocab.with_name(vocab.name.replace("vocab.json", "merges.txt"))


@pytest.mark.skipif(not FIXTURES.exists(), reason="no fixtures beside the project")
def test_the_tokenizer_of_a_real_model_is_cut_with_it(tmp_path):
    model = FIXTURES / "tinybert-sst2-ts-op17" / "model.onnx"
    vocab = FIXTURES / "vocab-bert-base-uncased" / "tokenizer.json"
    old = Tokenizer.from_file(str(vocab))
    words = {t for e in old.encode_batch(TEXTS[:20], add_special_tokens=False) for t in e.tokens}
    (tmp_path / "keep.txt").write_text("".join(f"{w}\n" for w in sorted(words)))
    run("compress", model, tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep", tmp_path / "keep.txt", "--vocab", vocab,
        "--steps", 0)
    after = Tokenizer.from_file(str(tmp_path / "c.onnx.tokenizer.json"))
    assert after.get_vocab().keys() == words | {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    for t in (old, after):
        t.no_truncation()
        t.enable_padding(pad_id=t.token_to_id("[PAD]"), pad_token="[PAD]")
    for level in LEVELS:
        got = []
        for path, t in ((model, old), (tmp_path / "c.onnx", after)):
            e = t.encode_batch(TEXTS[:20])
            feed = {"input_ids": [x.ids for x in e], "attention_mask": [x.attention_mask for x in e],
                    "token_type_ids": [x.type_ids for x in e]}
            s = session(path, level)
            got.append(s.run(None, {i.name: np.array(feed[i.name]) for i in s.get_inputs()})[0])
        assert np.array_equal(*got), got
    check_data(tmp_path, tmp_path / "c.onnx.tokenizer.json")


# --- vocab.json and merges.txt ---

@functools.cache
def byte_files():
    spec = json.loads(spec_of("byte-bpe"))["model"]
    vocab = spec["vocab"] | {"<mask>": len(spec["vocab"])}
    return json.dumps(vocab), "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in spec["merges"])


def write_byte_files(folder, prefix=""):
    for name, text in zip(("vocab.json", "merges.txt"), byte_files()):
        (folder / (prefix + name)).write_text(text)
    return folder / (prefix + "vocab.json")


@pytest.mark.parametrize("prefix", ["", "roberta-"])
def test_vocab_json_and_merges_txt_are_written_anew_together(prefix, tmp_path):
    vocab = write_byte_files(tmp_path, prefix)
    old, rows = roberta(vocab, pare_merges(vocab))._tokenizer, len(json.loads(byte_files()[0])) + SPARE
    for seed in range(3):
        chosen = random.Random(seed).sample(TEXTS, 3)
        keep = {t for e in old.encode_batch(chosen, add_special_tokens=False) for t in e.tokens}
        report, new, said = cut(tmp_path, vocab, rows, sorted(keep))
        files = [tmp_path / "c.onnx.vocab.json", tmp_path / "c.onnx.merges.txt"]
        assert report["vocabulary"]["files"] == list(map(str, files))
        got = json.loads(files[0].read_text())
        want = {t: int(new[i]) for t, i in json.loads(byte_files()[0]).items() if new[i] >= 0}
        assert list(got.items()) == list(want.items())
        merges = [m for m in byte_files()[1].splitlines()[1:] if {*m.split(), m.replace(" ", "")} <= want.keys()]
        assert files[1].read_text() == "\n".join(["#version: 0.2"] + merges) + "\n"
        assert report["vocabulary"]["merges_left"] == len(merges) == count(said, "of [0-9]+ merges stay")
        assert check_law(old, roberta(*files)._tokenizer, new, tmp_path) >= len(chosen)
        check_data(tmp_path, files[0])


def test_merges_of_the_same_name_come_before_merges_txt(tmp_path):
    """The shortened ones lie beside the old ones more often than not."""
    vocab = write_byte_files(tmp_path)
    cut(tmp_path, vocab, len(json.loads(byte_files()[0])), ["\u0120the"])
    (tmp_path / "merges.txt").write_text("no merge\n")
    check_data(tmp_path, tmp_path / "c.onnx.vocab.json")


def test_the_vocab_json_of_clip_ends_its_words_as_its_merges_do(tmp_path):
    spec = json.loads(spec_of("clip-bpe"))["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(spec["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in spec["merges"]))
    old = Tokenizer.from_str(spec_of("clip-bpe"))
    report, new, _ = cut(tmp_path, tmp_path / "vocab.json", old.get_vocab_size(), sorted(set(old.encode(TEXTS[3]).tokens)))
    after = Tokenizer(models.BPE.from_file(str(tmp_path / "c.onnx.vocab.json"), str(tmp_path / "c.onnx.merges.txt"),
                                           end_of_word_suffix="</w>"))
    after.normalizer, after.pre_tokenizer = old.normalizer, old.pre_tokenizer
    assert report["vocabulary"]["added"]["bytes"] > 256 and check_law(old, after, new, tmp_path) > 0


# --- plans, samples, places ---

def test_a_plan_of_such_a_cut_is_replayed_and_another_is_refused_by_name(tmp_path):
    tokenizer_file(tmp_path / "tokenizer.json", "byte-bpe")
    rows = Tokenizer.from_str(spec_of("byte-bpe")).get_vocab_size()
    cut(tmp_path, tmp_path / "tokenizer.json", rows, ["\u0120jumps"], "--save-plan", tmp_path / "plan.json")
    first = (tmp_path / "c.onnx.tokenizer.json").read_bytes()
    again = ["compress", tmp_path / "m.onnx", tmp_path / "d.onnx", "--prune", "vocab", "--plan", tmp_path / "plan.json",
             "--vocab", tmp_path / "tokenizer.json", "--steps", 0]
    run(*again)
    assert (tmp_path / "d.onnx.tokenizer.json").read_bytes() == first
    plan = json.loads((tmp_path / "plan.json").read_text())
    kept = Tokenizer.from_file(str(tmp_path / "c.onnx.tokenizer.json")).get_vocab()
    part = next(t for t in kept if 1 < len(t) < len("\u0120jumps") and t in "\u0120jumps")
    for token, why in (("<mask>", "special"), ("a", "bytes"), (part, "parts of merges")):
        less = json.loads(json.dumps(plan))
        gone = Tokenizer.from_str(spec_of("byte-bpe")).token_to_id(token)
        for d in less["dimensions"]:
            d["keep"] = [i for i in d["keep"] if i != gone]
        (tmp_path / "plan.json").write_text(json.dumps(less))
        (tmp_path / "d.onnx").unlink(missing_ok=True)
        said = run(*again, code=6).stderr
        assert f"'{token}'" in said and why in said and not (tmp_path / "d.onnx").exists()


def test_samples_with_tokens_that_went_read_the_token_for_unknown_text(tmp_path):
    old = tokenizer_file(tmp_path / "tokenizer.json", "unigram")
    ids = np.array([old.encode(t).ids[:3] for t in TEXTS])
    np.savez(tmp_path / "t.npz", ids=ids, labels=np.arange(len(ids)) % CLASSES)
    said = cut(tmp_path, tmp_path / "tokenizer.json", old.get_vocab_size(), [old.id_to_token(i) for i in ids[0]], "--train",
               tmp_path / "t.npz")[2]
    assert "0 of 120 samples are left out, the rest read <unk> there" in said


def test_nothing_is_written_where_a_run_fails_or_would_write_over_what_it_reads(tmp_path):
    old = tokenizer_file(tmp_path / "tokenizer.json", "unigram")
    rows = old.get_vocab_size()
    model = text_model(tmp_path / "m.onnx", rows)
    ids = np.array([old.encode(t).ids[:3] for t in TEXTS])
    labels = session(model, LEVELS[-1]).run(None, {"ids": ids})[0].argmax(1)
    np.savez(tmp_path / "t.npz", ids=ids, labels=labels)
    (tmp_path / "keep.txt").write_text("a\n")
    args = ["compress", model, tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep", tmp_path / "keep.txt", "--steps", 0]
    run(*args, "--vocab", tmp_path / "tokenizer.json", "--train", tmp_path / "t.npz", "--eval", tmp_path / "t.npz",
        "--max-drop", 0, code=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keep.txt", "m.onnx", "t.npz", "tokenizer.json"]
    (tmp_path / "tokenizer.json").rename(tmp_path / "c.onnx.tokenizer.json")
    before = (tmp_path / "c.onnx.tokenizer.json").read_bytes()
    assert "would overwrite the vocabulary" in run(*args, "--vocab", tmp_path / "c.onnx.tokenizer.json", code=2).stderr
    assert (tmp_path / "c.onnx.tokenizer.json").read_bytes() == before
    run(*args, "--vocab", tmp_path / "c.onnx.tokenizer.json", "--overwrite")
    assert len((tmp_path / "c.onnx.tokenizer.json").read_bytes()) < len(before)


# --- what is refused ---

def broken(kind, path, value):
    """The file's text with a value, or text, somewhere else in it."""
    spec = json.loads(spec_of(kind))
    at = spec
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(spec)


BAD = {
    "no-json": ("tokenizer.json", lambda: spec_of("unigram")[:-9], "not JSON"),
    "no-object": ("tokenizer.json", lambda: "[1]", "not a JSON object"),
    "empty": ("tokenizer.json", lambda: "", "not JSON"),
    "twice": ("vocab.json", lambda: '{"the": 0, "the": 1}', "duplicate"),
    "model": ("tokenizer.json", lambda: broken("unigram", ["model", "type"], "Psychic"), "'Psychic'"),
    "no-vocabulary": ("tokenizer.json", lambda: broken("wordpiece", ["model", "vocab"], 3), "no vocabulary"),
    "piece": ("tokenizer.json", lambda: broken("unigram", ["model", "vocab", 5], ["x"]), "piece 5"),
    "id-of-text": ("tokenizer.json", lambda: broken("wordpiece", ["model", "vocab", "fox"], "7"), "'fox' is not a whole number"),
    "id-too-large": ("tokenizer.json", lambda: broken("wordpiece", ["model", "vocab", "fox"], 4000),
                     "'fox' has the id 4000, but the model's table has 450 rows"),
    "id-below": ("tokenizer.json", lambda: broken("wordpiece", ["model", "vocab", "fox"], -1), "'fox' has the id -1"),
    "unk-id": ("tokenizer.json", lambda: broken("unigram", ["model", "unk_id"], 1000), "'unk' has the id 1000"),
    "added": ("tokenizer.json", lambda: broken("unigram", ["added_tokens", 0, "id"], 9), "'<pad>' has the id 9, and "),
    "added-what": ("tokenizer.json", lambda: broken("unigram", ["added_tokens", 0], {"id": 0}), "added token 1 has no content"),
    "added-object": ("tokenizer.json", lambda: broken("unigram", ["added_tokens"], {"a": {"id": -5}}), "are no list"),
    "merges-object": ("tokenizer.json", lambda: broken("word-bpe", ["model", "merges"], {"a": "b"}), "are no list"),
    "merge": ("tokenizer.json", lambda: broken("word-bpe", ["model", "merges", 2], ["a", "nope"]), "merge 3 makes or reads the token"),
    "merge-of-one": ("tokenizer.json", lambda: broken("word-bpe", ["model", "merges", 2], "ab"), "merge 3 is not two tokens"),
    "merge-of-three": ("tokenizer.json", lambda: broken("word-bpe", ["model", "merges", 2], ["a", "b", "c"]), "merge 3 is not two"),
    "post": ("tokenizer.json", lambda: broken("unigram", ["post_processor", "type"], "Stamp"), "'Stamp' is not known"),
    "post-id": ("tokenizer.json", lambda: broken("unigram", ["post_processor", "cls", 1], "2"), "'<s>' is not a whole number"),
    "template-id": ("tokenizer.json", lambda: broken("wordpiece", ["post_processor", "special_tokens", "[CLS]", "ids"], [999]),
                    "'[CLS]' has the id 999"),
    "pad-id": ("tokenizer.json", lambda: broken("wordpiece", ["padding", "pad_id"], 999), "'[PAD]' has the id 999"),
    "plain-id": ("vocab.json", lambda: '{"the": 0.5}', "'the' is not a whole number"),
    "plain-large": ("vocab.json", lambda: '{"the": 450}', "table has 450 rows"),
    "no-merges": ("vocab.json", lambda: '{"the": 0}', "merges.txt: cannot open"),
    "no-such-token": ("tokenizer.json", lambda: spec_of("unigram").replace('"the"', '"teh"').replace('"\u2581the"', '"teh"'),
                      "'the' is no token of"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_tokenizer_ends_in_one_sentence(name, tmp_path):
    file, text, says = BAD[name]
    (tmp_path / file).write_text(text())
    (tmp_path / "keep.txt").write_text("the\n")
    r = run("compress", text_model(tmp_path / "m.onnx", 450), tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep",
            tmp_path / "keep.txt", "--vocab", tmp_path / file, "--steps", 0, code=4)
    assert says in r.stderr and r.stderr.count("\n") == 1, r.stderr
    assert not list(tmp_path.glob("c.onnx*"))


def test_rows_that_an_added_token_would_not_be_found_behind_are_refused(tmp_path):
    """The library gives added tokens the ids behind its vocabulary, whatever the file says."""
    spec = json.loads(spec_of("word-level"))
    n = len(spec["model"]["vocab"])
    spec["added_tokens"].append(dict(spec["added_tokens"][0], id=n + 2, content="<x>"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    (tmp_path / "keep.txt").write_text(f"{n}\n")
    args = ["compress", text_model(tmp_path / "m.onnx", n + 3), tmp_path / "c.onnx", "--prune", "vocab", "--vocab-keep",
            tmp_path / "keep.txt", "--vocab", tmp_path / "tokenizer.json", "--steps", 0]
    assert "'<x>' would be read with the id 2, not 3" in run(*args, code=4).stderr
    (tmp_path / "keep.txt").write_text("the\n")
    run(*args)
    after = Tokenizer.from_file(str(tmp_path / "c.onnx.tokenizer.json"))
    assert after.token_to_id("<x>") == 3 == json.loads((tmp_path / "c.onnx.tokenizer.json").read_text())["added_tokens"][-1]["id"]
