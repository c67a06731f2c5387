#!/usr/bin/env python3
"""gpu_torch.py - PyTorch's plain LoRA step on a GPU (no importance): bf16 autocast over frozen weights in bf16,
PyTorch's own attention, AdamW on the adapters in one launch. And the ceilings of the card.

    gpu_torch.py step NAME BATCH eager|compile [--device cuda] [--steps 20]    one line of JSON
    gpu_torch.py ceilings [--device cuda]                                      one line of JSON"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

import models


class Clock:
    """Seconds between marks, by the device's own events where there is one."""

    def __init__(self, device):
        self.cuda = device.startswith("cuda")
        self.marks = []

    def mark(self):
        if self.cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def seconds(self):
        pairs = list(zip(self.marks, self.marks[1:]))
        if not self.cuda:
            return [b - a for a, b in pairs]
        torch.cuda.synchronize()
        return [a.elapsed_time(b) / 1e3 for a, b in pairs]


def step(name, batch, mode, device, steps):
    models.Block.fused = hasattr(F, "scaled_dot_product_attention")
    model, x, y = models.build(name, lora=True, batch=batch)
    for p in model.parameters():
        if not p.requires_grad:
            p.data = p.data.bfloat16()
    model, x, y = model.to(device), x.to(device), y.to(device)
    if x.is_floating_point():
        x = x.bfloat16()
    at_once = {"fused": True} if device.startswith("cuda") else {}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, **at_once)
    if mode == "compile" and not hasattr(torch, "compile"):
        raise SystemExit(f"PyTorch {torch.__version__} does not compile: 2.0 is the first that does")
    forward = torch.compile(model, dynamic=False) if mode == "compile" else model

    def once():
        with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16):
            loss = F.cross_entropy(forward(x).float(), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(5):
        once()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    clock = Clock(device)
    clock.mark()
    for _ in range(steps):
        once()
        clock.mark()
    seconds = statistics.median(clock.seconds())
    peak = torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0
    return {"seconds": seconds, "samples_per_second": batch / seconds, "peak_memory_bytes": peak}


def rate(device, run, work):
    """work / the median of the seconds that a run takes."""
    for _ in range(3):
        run()
    clock = Clock(device)
    clock.mark()
    for _ in range(10):
        run()
        clock.mark()
    return work / statistics.median(clock.seconds())


def ceilings(device):
    """Products and copies at sizes that fill the card, on random data: zeros run faster."""
    cuda = device.startswith("cuda")
    n, count = (8192, 2 ** 30) if cuda else (512, 2 ** 20)
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
    x = torch.randn(count, device=device)
    y = torch.empty_like(x)
    return {"gemm_flops": rate(device, lambda: a @ b, 2 * n ** 3),
            "copy_bytes": rate(device, lambda: y.copy_(x), 8 * count),
            "device": torch.cuda.get_device_name(device) if cuda else "cpu", "torch": torch.__version__}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["step", "ceilings"])
    p.add_argument("model", nargs="*", help="NAME BATCH MODE")
    p.add_argument("--device", default="cuda")
    p.add_argument("--steps", type=int, default=20)
    a = p.parse_args()
    if a.what == "ceilings":
        print(json.dumps(ceilings(a.device)))
        return
    name, batch, mode = a.model
    print(json.dumps(step(name, int(batch), mode, a.device, a.steps)))


main()
