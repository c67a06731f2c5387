#!/usr/bin/env python3
"""tasks.py - two more tasks of single texts for bench/paper.py --task: train.tsv and test.tsv, columns sentence and label.

    tasks.py wordnet OUT                                 25 classes: the lexicographer's file of a noun's gloss
    tasks.py vader OUT --vader hutto_ICWSM_2014          a number: how people rated the sentiment of a text, -4 .. 4

wordnet reads what Debian's wordnet-base installs (WordNet 3.0's licence). vader reads the folder of that name in the
archive additional_resources/hutto_ICWSM_2014.tar.gz of vaderSentiment 3.3.2's source on PyPI (MIT): reviews of films and
goods, editorials and tweets (Hutto and Gilbert, ICWSM 2014). A text is in one of the two files only.

A model for them is MiniLM with another head, all of it tuned (examples/minilm-sst2 makes the model):

    names=$(cut -f2 OUT/train.tsv | tail -n +2 | sort -u | paste -sd,)                (wordnet: test.tsv lacks one)
    pare data text OUT/train.tsv --vocab vocab.txt --max-length 32 --label-names $names -o train.npz   (test.tsv likewise)
    pare data text OUT/train.tsv --vocab vocab.txt --max-length 48 -o train.npz                        (vader)
    pare tune minilm-sst2.onnx model.onnx --train train.npz --num-labels 25 --trainable all --lr 1e-4 --precision bf16
    (vader: --num-labels 1 --epochs 3)"""
import argparse
import html
import pathlib
import random

TEST, TRAIN = 4000, 60000  # texts
NOUNS = ("Tops act animal artifact attribute body cognition communication event feeling food group location motive object "
         "person phenomenon plant possession process quantity relation shape state substance time").split()
FIRST_NOUNS = 3  # the number of noun.Tops in lexnames(5WN)


def wordnet(args):
    """(gloss without its examples, file): of a line of data.noun (wndb(5WN)), the second field and what follows the bar."""
    for line in pathlib.Path("/usr/share/wordnet/data.noun").read_text().splitlines():
        if not line.startswith("  "):
            synset, gloss = line.split(" | ", 1)
            name = NOUNS[int(synset.split()[1]) - FIRST_NOUNS]
            if name != "Tops":
                yield gloss.split('; "')[0], name


def vader(args):
    for name in ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets"):
        path = pathlib.Path(args.vader) / f"{name}_GroundTruth.txt"
        for line in path.read_text(errors="replace").splitlines():
            _, mean, text = line.split("\t")[:3]
            yield html.unescape(text), f"{float(mean):.6f}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("task", choices=("wordnet", "vader"))
    p.add_argument("out")
    p.add_argument("--vader", help="the folder hutto_ICWSM_2014")
    args = p.parse_args()
    if args.task == "vader" and not args.vader:
        p.error("vader needs --vader")
    rows = [(" ".join(text.replace('"', "''").split()), label)
            for text, label in {"wordnet": wordnet, "vader": vader}[args.task](args)]
    random.Random(1).shuffle(rows)
    labels = {}
    for text, label in rows:
        labels.setdefault(text, label)
    rows = list(labels.items())
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, part in (("test", rows[:TEST]), ("train", rows[TEST:TEST + TRAIN])):
        (out / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(f"{t}\t{l}\n" for t, l in part))
        print(f"{out / name}.tsv: {len(part)} texts")


if __name__ == "__main__":
    main()
