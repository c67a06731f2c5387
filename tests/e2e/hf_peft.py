"""HF PEFT itself, asked by test_adapters.py in a Python that has it (`make peft`).
usage: hf_peft.py read|write BASE.npz FOLDER OUT.npz [CONFIG]
BASE has a weight [K, N] for each module, by its dotted name. `read` loads the adapters of FOLDER, `write` makes random ones
by CONFIG (arguments of LoraConfig, JSON) and saves them there. OUT gets, by module, the merged weight [K, N], "x/" + module,
some rows, and "y/" + module, what the adapted module makes of them without merging."""
import json
import sys

import numpy as np
import peft
import torch


def net(base):
    root = torch.nn.Module()
    for name, w in base.items():
        *path, last = name.split(".")
        at = root
        for part in path:
            if part not in at._modules:
                at.add_module(part, torch.nn.Module())
            at = at._modules[part]
        layer = torch.nn.Linear(*w.shape, bias=False)
        layer.weight.data = torch.tensor(w.T.copy())
        at.add_module(last, layer)
    return root


def write(base, folder, config):
    torch.manual_seed(0)
    model = peft.get_peft_model(net(base), peft.LoraConfig(target_modules=list(base), **config))
    for name, p in model.named_parameters():
        if "lora_B" in name:  # which begin with zeros
            p.data = torch.randn_like(p) / 9
    model.save_pretrained(folder)


def main(what, base, folder, out, config="{}"):
    base = dict(np.load(base))
    if what == "write":
        write(base, folder, json.loads(config))
    model, found = peft.PeftModel.from_pretrained(net(base), folder), {}
    modules = dict(model.base_model.model.named_modules())
    for i, (name, w) in enumerate(base.items()):
        x = np.random.default_rng(i).standard_normal((9, len(w))).astype(np.float32)
        with torch.no_grad():
            found |= {f"x/{name}": x, f"y/{name}": modules[name](torch.tensor(x)).numpy()}
    merged = dict(model.merge_and_unload().named_modules())
    np.savez(out, **found, **{name: merged[name].weight.detach().numpy().T for name in base})


main(*sys.argv[1:])
