"""make_ops.py - writes docs/ops.md: which of ONNX's operators pare has, and for each of the others why not.
The rows come from ir/ops.def (and frontend/expand.def where there is one), ONNX's own list from its Python package.
Run it from the repository's root; --check compares instead of writing. An operator of a newer ONNX that has neither
a row nor a reason here is an error: somebody has to decide."""
import pathlib
import re
import sys

import onnx.defs

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "ops.md"

WHY = {
    "control flow": "If Loop Scan SequenceMap",
    "sequence or optional": """ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt
        SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SplitToSequence""",
    "text": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer LabelEncoder",
    "audio": "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT",
    "images": """AffineGrid CenterCropPad Col2Im DeformConv GridSample ImageDecoder LRN LpPool MaxRoiPool MaxUnpool
        NonMaxSuppression RoiAlign Upsample GlobalLpPool ConvTranspose""",
    "recurrent": "GRU LSTM RNN",
    "training": """Adagrad Adam Gradient Momentum NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss""",
    "quantised": """ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul
        QuantizeLinear""",
    "random": "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    "data-dependent shape": "Compress Unique",
    "classical model": """ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer
        Imputer LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler
        TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap""",
    "composite": """Attention CausalConvWithState FlexAttention GroupNormalization LinearAttention
        MeanVarianceNormalization RMSNormalization RotaryEmbedding SwiGLU TensorScatter""",
    "replaced": "Scatter",
    "bits": "BitCast",
    "linear algebra": "Det",
    "order": "ReverseSequence",
}
CONSTANT = "Constant"  # becomes a constant of the graph: no row


def reasons():
    return {op: why for why, ops in WHY.items() for op in ops.split()}


def rows():
    """(domain, name) -> gradient, cut and want rule of every row of ops.def that a file may have."""
    text = (ROOT / "ir" / "ops.def").read_text()
    out = {}
    for m in re.finditer(r'^OP\((.*)\)$', text, re.M):
        f = [x.strip() for x in m.group(1).split(",")]
        name, domain = f[1].strip('"'), f[2].strip('"')
        if domain != "pare":
            out[domain, name] = {"grad": f[8], "cut": f[10], "want": f[11]}
    return out


def expanded():
    """(domain, name) of the composite operators that become others at import."""
    path = ROOT / "frontend" / "expand.def"
    text = path.read_text() if path.exists() else ""
    return {(m.group(2), m.group(1)) for m in re.finditer(r'^EXPAND\(\w+,\s*"([^"]+)",\s*"([^"]*)"', text, re.M)}


def schemas():
    """(domain, name) -> versions at which its definition changed, oldest first."""
    out = {}
    for s in onnx.defs.get_all_schemas_with_history():
        out.setdefault((s.domain, s.name), set()).add(s.since_version)
    return {k: sorted(v) for k, v in out.items()}


def version():
    return "ONNX " + ".".join(onnx.__version__.split(".")[:2])


def table(title, head, lines):
    rule = "|".join(["---"] * len(head))
    return [f"\n## {title}\n", "| " + " | ".join(head) + " |", f"|{rule}|"] + ["| " + " | ".join(r) + " |" for r in lines]


def gradient(rule):
    return {"none": "no", "zero": "zero"}.get(rule, "yes")


def render():
    have, more, known, why = rows(), expanded(), schemas(), reasons()
    lacking = [k for k in known if k not in have and k not in more and k[1] not in why and k[1] != CONSTANT]
    if lacking:
        sys.exit(f"no row and no reason: {', '.join(sorted(n for _, n in lacking))}")
    stale = [n for n in why if ("", n) in have and ("", n) in known]
    for n in stale:
        why.pop(n)  # a row has come since
    std = sorted(k for k in known if k in have and k[0] == "")
    extra = sorted(k for k in have if k not in known)
    out = ["# Operators",
           f"\nMade by `tools/make_ops.py` from `ir/ops.def` and the list of {version()}; do not edit. *Changed* is the newest",
           "opset that defines the operator anew. *Gradient*: `zero` where nothing flows back, `no` where a model that",
           "needs it between its loss and an adapter is refused. *Cut*: the rule that says what goes with an index.",
           f"\n{len(std) + 1} of ONNX's {sum(k[0] == '' for k in known)} operators of the default domain have a row"
           + (f", {sum(k[0] == '' for k in more)} more are expanded at import." if more else ".")]
    lines = [[n, str(known["", n][-1]), gradient(have["", n]["grad"]), have["", n]["cut"]] for _, n in std]
    lines.append([CONSTANT, str(known["", CONSTANT][-1]), "zero", "a constant of the graph"])
    out += table("ai.onnx", ["operator", "changed", "gradient", "cut"], sorted(lines))
    if more:
        out += table("Expanded at import", ["operator", "domain"], sorted([n, d or "ai.onnx"] for d, n in more))
    if extra:
        out += table("Others", ["operator", "domain", "gradient", "cut"],
                     [[n, d or "ai.onnx", gradient(have[d, n]["grad"]), have[d, n]["cut"]] for d, n in extra])
    out += table("Not there", ["why", "operators"],
                 [[w, ", ".join(sorted(n for (_, n) in known if why.get(n) == w and ("", n) not in more))]
                  for w in sorted(WHY) if any(why.get(n) == w and ("", n) not in more for (_, n) in known)])
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    text = render()
    if "--check" not in sys.argv:
        OUT.write_text(text)
    elif f"the list of {version()};" not in OUT.read_text():
        print(f"skipped: docs/ops.md was written with another ONNX than {version()}")
    elif OUT.read_text() != text:
        sys.exit("docs/ops.md is not what tools/make_ops.py writes: run it")
