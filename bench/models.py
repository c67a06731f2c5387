"""models.py - BERT and ViT in plain PyTorch, dense or with LoRA on every layer
of the encoder: what bench/cpu_step.py exports to ONNX and runs as the peer."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from shapes import ALPHA, CLASSES, LENGTH, MODELS, PATCH, PIXELS, RANK, VOCAB, tokens


class Linear(nn.Module):
    def __init__(self, k, n, lora):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, k) * 0.02, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(n), requires_grad=False)
        self.lora = lora
        if lora:
            self.a = nn.Parameter(torch.randn(RANK, k) * 0.02)
            self.b = nn.Parameter(torch.randn(n, RANK) * 0.02)

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)
        return y + F.linear(F.linear(x, self.a), self.b) * (ALPHA / RANK) if self.lora else y


class Block(nn.Module):
    fused = False  # PyTorch's own attention in one call: 2.0 and newer

    def __init__(self, width, heads, ffn, pre, lora):
        super().__init__()
        self.heads, self.pre = heads, pre
        self.q, self.k, self.v, self.o = (Linear(width, width, lora) for _ in range(4))
        self.fc1, self.fc2 = Linear(width, ffn, lora), Linear(ffn, width, lora)
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def attention(self, x):
        b, t, d = x.shape
        head = d // self.heads
        q, k, v = (f(x).view(b, t, self.heads, head).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.softmax(q @ k.transpose(-1, -2) * (1 / math.sqrt(head)), -1) @ v
        return self.o(y.transpose(1, 2).reshape(b, t, d))

    def forward(self, x):
        if self.pre:
            x = x + self.attention(self.n1(x))
            return x + self.fc2(F.gelu(self.fc1(self.n2(x))))
        x = self.n1(x + self.attention(x))
        return self.n2(x + self.fc2(F.gelu(self.fc1(x))))


class Bert(nn.Module):
    def __init__(self, layers, width, heads, ffn, lora):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCAB, width), nn.Embedding(LENGTH, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, ffn, False, lora) for _ in range(layers))
        self.pool, self.head = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x):
        x = self.norm(self.tokens(x) + self.places.weight[: x.shape[1]])
        for b in self.blocks:
            x = b(x)
        return self.head(torch.tanh(self.pool(x[:, 0])))


class ViT(nn.Module):
    def __init__(self, layers, width, heads, ffn, lora):
        super().__init__()
        self.patch = nn.Conv2d(3, width, PATCH, PATCH)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, tokens("vit"), width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, ffn, True, lora) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.places
        for b in self.blocks:
            x = b(x)
        return self.head(self.norm(x)[:, 0])


def build(name, lora, batch=None):
    """The model, with nothing but the adapters trained, and a batch of inputs and labels."""
    kind, layers, width, heads, ffn, usual = MODELS[name]
    batch = batch or usual
    torch.manual_seed(0)
    model = (Bert if kind == "bert" else ViT)(layers, width, heads, ffn, lora)
    for key, p in model.named_parameters():
        p.requires_grad = key.endswith((".a", ".b"))
    x = torch.randint(0, VOCAB, (batch, LENGTH)) if kind == "bert" else torch.randn(batch, 3, PIXELS, PIXELS)
    return model, x, torch.randint(0, 2 if kind == "bert" else CLASSES, (batch,))
