"""shapes.py - the models that are timed, as numbers: no library is needed to read them."""

# kind, layers, width, heads, FFN width, batch on a CPU
MODELS = {
    "minilm-l6": ("bert", 6, 384, 12, 1536, 16),
    "vit-ti16": ("vit", 12, 192, 3, 768, 16),
    "bert-base": ("bert", 12, 768, 12, 3072, 8),
    "bert-large": ("bert", 24, 1024, 16, 4096, 4),
    "vit-b16": ("vit", 12, 768, 12, 3072, 4),
    "tiny": ("bert", 2, 64, 2, 128, 2),  # tries a script where nothing is to be measured
}
VOCAB, LENGTH, PIXELS, PATCH, CLASSES, RANK, ALPHA = 2000, 128, 224, 16, 1000, 8, 16


def tokens(kind):
    """Positions that the encoder sees."""
    return LENGTH if kind == "bert" else (PIXELS // PATCH) ** 2 + 1


def step_flops(name, batch):
    """What one LoRA step needs: forward and the activations' gradient of every frozen product (no weight gradient),
    attention, three products for each adapter and side; the first layer's q, k and v pass no gradient on."""
    kind, layers, width, _, ffn, _ = MODELS[name]
    s = tokens(kind)
    rows, weights = batch * s, layers * (4 * width * width + 2 * width * ffn)
    lora = layers * RANK * (4 * 2 * width + 2 * (width + ffn))
    patches = 2 * 3 * PATCH * PATCH * width * (rows - batch) if kind == "vit" else 0
    attention = 12 * layers * batch * s * s * width
    return 4 * weights * rows - 6 * width * width * rows + attention + 6 * lora * rows + patches
