"""Find and replace linear layers in a model, for methods written by hand."""

from torch import nn

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
ALL_LINEAR = ATTENTION + FEED_FORWARD


def linears(model, targets=ALL_LINEAR):
    """{full name: nn.Linear} of the layers whose last name is in `targets`."""
    found = {
        n: m
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear) and n.split(".")[-1] in targets
    }
    if not found:
        raise ValueError(f"No linear layer is called any of {', '.join(targets)} in this model.")
    return found


def replace(model, make, targets=ALL_LINEAR):
    """Put make(linear) in the place of every target layer, in place; returns the model."""
    for name, linear in linears(model, targets).items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, make(linear))
    return model


def freeze(model):
    """No parameter of the model trains any more; returns the model."""
    return model.requires_grad_(False)
