"""Bottleneck adapters of Houlsby (arXiv 1902.00751) and Pfeiffer (2005.00247), which peft does not have: insert, save, load.

Lesson 04 builds both by hand and its tests prove them equal to these.
"""

import json
import pathlib

import torch
from torch import nn

from . import modules, training

PLACEMENTS = ("houlsby", "pfeiffer")
ENDS = ("o_proj", "down_proj")  # the last layer of attention, of the feed-forward
WEIGHTS, CONFIG = "adapter.safetensors", "adapter_config.json"


class Bottleneck(nn.Module):
    """W_u relu(W_d h + b_d) + b_u, without the skip; it computes in float32."""

    def __init__(self, width, bottleneck, std=1e-2, device=None):
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(layer.bias)
            layer.to(device)

    def change(self, h):
        return self.up(torch.relu(self.down(h.float()))).to(h.dtype)


class Adapter(Bottleneck):
    """Houlsby's: the frozen linear layer's output h becomes h + W_u relu(W_d h + b_d) + b_u."""

    def __init__(self, linear, bottleneck, std=1e-2):
        super().__init__(linear.out_features, bottleneck, std, linear.weight.device)
        self.linear = linear

    def forward(self, x):
        h = self.linear(x)
        return h + self.change(h)


class SumAdapter(Bottleneck):
    """Pfeiffer's: a block's output y, after its residual sum, becomes y + W_u relu(W_d norm(y) + b_d) + b_u.

    `norm` is the next one that y meets. It belongs to the model, so the adapter only refers to it.
    """

    def __init__(self, norm, bottleneck, std=1e-2):
        super().__init__(len(norm.weight), bottleneck, std, norm.weight.device)
        self.next = (norm,)  # in a tuple, so that it is not registered here as well

    def forward(self, y):
        return y + self.change(self.next[0](y))


def behind(block, _, y):
    """Forward hook of a block: its output goes through its adapter."""
    return block.adapter(y)


def stages(model):
    """[(block, the norm that reads what the block gives)]: the next block's first one, at the end the last norm."""
    inner = model.get_decoder()
    return list(zip(inner.layers, [*(b.input_layernorm for b in inner.layers[1:]), inner.norm]))


def norms(model):
    """{name: module} of the model's normalisation layers."""
    return {n: m for n, m in model.named_modules() if "norm" in type(m).__name__.lower()}


def insert(model, bottleneck=16, placement="houlsby", std=1e-2, train_norms=True):
    """Put adapters into a frozen model, in place, and let its norms train too; returns the model.

    placement   "houlsby": after attention and after the feed-forward, each before its residual sum;
                "pfeiffer": one a block, after the feed-forward's residual sum and the norm that follows it
    std         of the truncated normal initial weights; biases start at zero
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"There is no placement {placement!r}; there are {', '.join(PLACEMENTS)}.")
    if bottleneck < 1:
        raise ValueError(f"The bottleneck must be 1 or more, not {bottleneck}.")
    if placement == "houlsby":
        modules.replace(model, lambda linear: Adapter(linear, bottleneck, std), ENDS)
    else:
        for block, norm in stages(model):
            block.adapter = SumAdapter(norm, bottleneck, std)
            block.register_forward_hook(behind)
    for norm in norms(model).values() if train_norms else ():
        if (
            norm.weight.dtype != torch.float32
        ):  # train in float32, answer in the model's own precision
            norm.weight.data = norm.weight.data.float()
            norm.register_forward_hook(lambda module, inputs, output: output.to(inputs[0].dtype))
        norm.requires_grad_(True)
    model.adapter_config = {
        "bottleneck": bottleneck,
        "placement": placement,
        "train_norms": train_norms,
    }
    return model


def save(model, folder):
    """Write everything that trains (adapters and norms) and the settings into a folder; returns the weights' path."""
    from safetensors.torch import save_file

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(model.adapter_config) + "\n", encoding="utf-8")
    save_file(
        {n: p.detach().cpu().contiguous() for n, p in training.trainable(model)}, folder / WEIGHTS
    )
    return folder / WEIGHTS


def load(model, folder):
    """Insert a saved adapter into a fresh base, in place, ready to train on; ValueError names what is missing or too much."""
    from safetensors.torch import load_file

    folder = pathlib.Path(folder)
    insert(modules.freeze(model), **json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    saved, wanted = load_file(folder / WEIGHTS), dict(training.trainable(model))
    if wrong := sorted(
        n
        for n in {*saved, *wanted}
        if n not in saved or n not in wanted or saved[n].shape != wanted[n].shape
    ):
        raise ValueError(
            f"{folder.name}/{WEIGHTS} does not fit this base: {len(wrong)} tensors are missing, too much or of another shape, "
            f"the first is {wrong[0]}."
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(saved[name])
    return model
