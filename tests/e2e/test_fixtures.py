"""The law on every fixture that ONNX Runtime runs: cut by a quarter, by half, by three quarters, and unevenly at random,
masked and cut file agree; and what ONNX Runtime fuses it fuses as before."""
import collections

import onnx
import onnxruntime as ort
import pytest

from conftest import COMPOSITE, example, feeds, models, run
from test_compress import check_equal, session

CUTS = {"quarter": ["--sparsity", "0.25", "--method", "magnitude", "--ranking", "uniform"],
        "half": ["--sparsity", "0.5", "--method", "magnitude", "--ranking", "uniform"],
        "three quarters": ["--sparsity", "0.75", "--method", "magnitude", "--ranking", "uniform"],
        "uneven": ["--sparsity", "0.5", "--method", "random", "--ranking", "global", "--seed", "7"]}
FLOATS = example() + models("A") + models(COMPOSITE)
WHOLE = example() + models("A") + models([n for n in COMPOSITE if not n.startswith("ortfrag")])  # with an FFN
NORMS = ("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization", "SimplifiedLayerNormalization",
         "SkipSimplifiedLayerNormalization")
GELUS = ("Gelu", "BiasGelu", "FastGelu", "QuickGelu")


@pytest.mark.parametrize("cut", ["quarter", "three quarters", "uneven"])
@pytest.mark.parametrize("fixture", FLOATS)
def test_masked_and_cut_file_agree_whatever_share_goes(fixture, cut, tmp_path):
    row, path = fixture
    compact, masked = tmp_path / "compact.onnx", tmp_path / "masked.onnx"
    run("compress", path, compact, *CUTS[cut], "--steps", 0, "--save-masked", masked, "-q")
    check_equal(path, masked, compact)


def fused(path, out):
    """How often ONNX Runtime makes what of a file, at the level that fuses."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    count = collections.Counter(n.op_type for n in onnx.load(str(out), load_external_data=False).graph.node)
    return {"norms": sum(count[k] for k in NORMS), "GELUs": sum(count[k] for k in GELUS), "attentions": count["Attention"]}


@pytest.mark.parametrize("classes", ["heads,ffn", "ffn"])
@pytest.mark.parametrize("fixture", WHOLE)
def test_onnx_runtime_fuses_what_it_fused_before(fixture, classes, tmp_path):
    """Its attention fusion wants square matrices: it is asked for where all heads remain."""
    row, path = fixture
    compact = tmp_path / "compact.onnx"
    run("compress", path, compact, *CUTS["half"], "--prune", classes, "--steps", 0, "-q")
    before, after = fused(path, tmp_path / "before.onnx"), fused(compact, tmp_path / "after.onnx")
    if classes != "ffn":
        before.pop("attentions"), after.pop("attentions")
    assert after == before
