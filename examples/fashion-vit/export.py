#!/usr/bin/env python3
"""Train a small vision transformer on Fashion-MNIST and export it to ONNX.

    python3 export.py [--out model.onnx] [--data DIR] [--checkpoints DIR]

Needs PyTorch 1.13 and numpy (Debian: python3-torch, python3-numpy,
dataset-fashion-mnist). Runs on the CPU. Debian's PyTorch takes whichever BLAS
is installed: install libopenblas0-openmp, since the reference BLAS makes its
matrix products more than 10 times slower.

The design is the usual pre-norm ViT: convolutional patch embedding, class
token, learned position embedding, blocks of [LayerNorm, attention with packed
qkv, LayerNorm, MLP with GELU], final LayerNorm, linear head on the class
token. The weights exported are the moving average after the last epoch; 5,000
images of the train set are held out to watch the training, and the test set is
not read here at all (see evaluate.py). A run that was interrupted goes on from
its last epoch.
"""
import argparse
import copy
import math
import os
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from evaluate import DATA, load

SEED = 20240
SIZE, PATCH, DIM, DEPTH, HEADS, MLP, CLASSES = 28, 4, 96, 4, 6, 384, 10
HELD_OUT = 5000
BATCH, WARMUP_EPOCHS = 128, 2
LR, LR_END, WEIGHT_DECAY, SMOOTHING, CLIP = 1.5e-3, 1e-5, 0.05, 0.1, 1.0
SHIFT, EMA = 2, 0.999
LESS_SHIFT = 14, 20  # from these epochs on the largest shift is one pixel less


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x):
        B, N, h, d = x.shape[0], x.shape[1], HEADS, DIM // HEADS
        qkv = self.qkv(x).reshape(B, N, 3, h, d).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        a = (q @ k.transpose(-2, -1)) * d ** -0.5
        x = a.softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(B, N, h * d))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(DIM, MLP)
        self.fc2 = nn.Linear(MLP, DIM)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM, eps=1e-6)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(DIM, eps=1e-6)
        self.mlp = Mlp()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        tokens = (SIZE // PATCH) ** 2 + 1
        self.patch_embed = nn.Conv2d(1, DIM, PATCH, stride=PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, DIM))
        self.blocks = nn.Sequential(*[Block() for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        self.head = nn.Linear(DIM, CLASSES)
        for p in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(p, std=0.02)
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = self.norm(self.blocks(x + self.pos_embed))
        return self.head(x[:, 0])


def augment(x, shift, rng):
    """Random shift by up to shift pixels and random horizontal flip."""
    n = len(x)
    # The border value is that of a black pixel: the images' background.
    x = F.pad(x, (shift,) * 4, value=x.min().item())
    rows = torch.arange(SIZE) + torch.randint(2 * shift + 1, (n, 1), generator=rng)
    cols = torch.arange(SIZE) + torch.randint(2 * shift + 1, (n, 1), generator=rng)
    flip = torch.rand(n, 1, generator=rng) < 0.5
    cols = torch.where(flip, cols.flip(1), cols)
    every = torch.arange(n)[:, None, None]
    return x[every, 0, rows[:, :, None], cols[:, None, :]][:, None]


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        right = sum(int((net(x[i:i + 500]).argmax(1) == y[i:i + 500]).sum())
                    for i in range(0, len(x), 500))
    return right / len(x)


def train(args):
    """Return the moving average of the weights after the last epoch."""
    x, y = (torch.from_numpy(a) for a in load(args.data, "train"))
    order = torch.from_numpy(np.random.RandomState(SEED).permutation(len(x)))
    held, kept = order[:HELD_OUT], order[HELD_OUT:]
    xv, yv, x, y = x[held], y[held], x[kept], y[kept]

    net = ViT()
    mean = copy.deepcopy(net).requires_grad_(False)
    decayed = [p for n, p in net.named_parameters() if n.endswith("weight") and p.dim() > 1]
    plain = [p for n, p in net.named_parameters() if not (n.endswith("weight") and p.dim() > 1)]
    opt = torch.optim.AdamW([{"params": decayed, "weight_decay": WEIGHT_DECAY},
                             {"params": plain, "weight_decay": 0.0}], lr=LR)
    per_epoch = len(x) // BATCH
    total, warmup = args.epochs * per_epoch, WARMUP_EPOCHS * per_epoch
    step = first = 0
    saved = os.path.join(args.checkpoints, "last.pt")
    if os.path.exists(saved):
        state = torch.load(saved)
        net.load_state_dict(state["net"])
        mean.load_state_dict(state["mean"])
        opt.load_state_dict(state["opt"])
        step, first = state["step"], state["epoch"]

    for epoch in range(first, args.epochs):
        start, loss_sum = time.time(), 0.0
        rng = torch.Generator().manual_seed(SEED + epoch)
        shift = SHIFT - sum(epoch >= e for e in LESS_SHIFT)
        net.train()
        for idx in torch.randperm(len(x), generator=rng).split(BATCH)[:per_epoch]:
            step += 1
            done = max(0.0, (step - warmup) / (total - warmup))
            lr = LR_END + (LR - LR_END) * 0.5 * (1 + math.cos(math.pi * done))
            for group in opt.param_groups:
                group["lr"] = lr * min(1.0, step / warmup)
            loss = F.cross_entropy(net(augment(x[idx], shift, rng)), y[idx],
                                   label_smoothing=SMOOTHING)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            opt.step()
            keep = min(EMA, (1 + step) / (10 + step))
            with torch.no_grad():
                for m, p in zip(mean.parameters(), net.parameters()):
                    m.lerp_(p, 1 - keep)
            loss_sum += loss.item()
        took = time.time() - start
        print("epoch %2d of %d: loss %.4f, held-out %.2f %%, averaged %.2f %%, %.0f s"
              % (epoch + 1, args.epochs, loss_sum / per_epoch,
                 100 * accuracy(net, xv, yv), 100 * accuracy(mean, xv, yv), took),
              flush=True)
        torch.save({"net": net.state_dict(), "mean": mean.state_dict(),
                    "opt": opt.state_dict(), "step": step, "epoch": epoch + 1},
                   saved + ".new")
        os.replace(saved + ".new", saved)
    return mean


def export(net, path):
    net.eval()
    torch.onnx.export(net, torch.zeros(2, 1, SIZE, SIZE), path, opset_version=17,
                      do_constant_folding=True, input_names=["pixel_values"],
                      output_names=["logits"],
                      dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}})


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--data", default=DATA, help="folder of the four IDX .gz files")
    ap.add_argument("--out", default=os.path.join(here, "model.onnx"))
    ap.add_argument("--checkpoints", default="fashion-vit-checkpoints")
    ap.add_argument("--epochs", type=int, default=26)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()

    os.makedirs(args.checkpoints, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    net = train(args)
    export(net, args.out)
    print("%s: %d parameters, %d bytes" % (args.out, sum(p.numel() for p in net.parameters()),
                                           os.path.getsize(args.out)))


if __name__ == "__main__":
    main()
