"""torch_step.py - times PyTorch's plain LoRA step (no importance): forward, cross-
entropy, backward, AdamW on the adapters. Or exports the dense model to ONNX.

    torch_step.py NAME fp32|bf16 THREADS STEPS    one line of JSON
    torch_step.py NAME export FILE"""
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

import models


def step(model, optimizer, x, y, bf16):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = model(x)
    F.cross_entropy(out.float(), y).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main():
    name, what = sys.argv[1:3]
    if what == "export":
        model, x, _ = models.build(name, lora=False)
        torch.onnx.export(model.eval(), x, sys.argv[3], opset_version=14, input_names=["x"], output_names=["logits"],
                          dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}})
        return
    torch.set_num_threads(int(sys.argv[3]))
    model, x, y = models.build(name, lora=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    wall, cpu = [], []
    for i in range(int(sys.argv[4]) + 1):
        w, c = time.perf_counter(), time.process_time()
        step(model, optimizer, x, y, what == "bf16")
        if i:  # the first one warms up
            wall.append(time.perf_counter() - w)
            cpu.append(time.process_time() - c)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": wall, "cpu_seconds": cpu, "peak_bytes": peak, "torch": torch.__version__}))


main()
