"""Checks of lesson 04's exercises."""

import torch
from torch import nn

from utils.checks import Hint, call, compare, exercise


def _count(adapter=lambda d, m: 2 * m * d + d + m, norms=lambda d, blocks: (2 * blocks + 1) * d, each=None):
    def total(d, m, blocks, number):
        return blocks * (each or number) * adapter(d, m) + norms(d, blocks)

    return total


@exercise(1, "Give the number of all parameters that train: the adapters' and the norms'.")
def count_parameters(answer):
    compare(
        answer,
        _count(),
        [(192, 16, 4, 2), (192, 16, 4, 1), (64, 8, 2, 2), (10, 3, 1, 1), (12, 5, 3, 2)],
        [
            ("The norms are missing: two in every block and one at the end, d numbers each.", _count(norms=lambda d, b: 0)),
            ("One norm is missing: the last one, after all blocks.", _count(norms=lambda d, b: 2 * b * d)),
            ("A block has two norms, one before attention and one before the feed-forward.", _count(norms=lambda d, b: (b + 1) * d), _count(norms=lambda d, b: b * d)),
            ("That is one norm alone. There are two in every block and one at the end.", _count(norms=lambda d, b: d), _count(norms=lambda d, b: 2 * d), _count(norms=lambda d, b: 3 * d)),
            ("The biases of the adapters are missing: m numbers going down, d numbers going up.", _count(lambda d, m: 2 * m * d)),
            ("Both ways have a bias: m numbers going down, d numbers going up.", _count(lambda d, m: 2 * m * d + d), _count(lambda d, m: 2 * m * d + m), _count(lambda d, m: 2 * m * d + 2 * d), _count(lambda d, m: 2 * m * d + 2 * m)),
            ("That is the way down only. The way up has as many weights, and d biases.", _count(lambda d, m: m * d + m), _count(lambda d, m: m * d)),
            ("That is the way up only. The way down has as many weights, and m biases.", _count(lambda d, m: m * d + d)),
            ("You counted one adapter a block; there are `each` of them.", _count(each=1)),
            ("You counted two adapters a block, always; there are `each` of them.", _count(each=2)),
            ("That is one block's adapters. Every block has its own.", lambda d, m, b, e: e * (2 * m * d + d + m) + (2 * b + 1) * d),
            ("An RMSNorm has d numbers. You gave it a bias as well, as a LayerNorm has.", _count(norms=lambda d, b: 2 * (2 * b + 1) * d)),
            ("The layer that the adapter follows is frozen; it does not count.", _count(lambda d, m: 2 * m * d + d + m + d * d)),
            ("Those are the norms alone. The adapters train, too.", lambda d, m, b, e: (2 * b + 1) * d),
        ],
        form="one number of parameters",
        advice="An adapter has 2md + d + m; the norms come on top.",
    )
    return "On Mistral-7B the same formula gives 34.1 million for m = 64: about half a per cent of the base."


def _block(seed):
    """(x, norm, sublayer, adapter) with random weights."""
    torch.manual_seed(seed)
    x, norm, sublayer = torch.randn(2, 5, 6), nn.RMSNorm(6), nn.Linear(6, 6)
    inner = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 6))
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    return x, norm.requires_grad_(False), sublayer.requires_grad_(False), lambda h: h + inner(h).detach()


@exercise(2, "Return the block's output with the adapter in its place.")
def place_adapter(answer):
    compare(
        answer,
        lambda x, norm, sublayer, adapter: x + adapter(sublayer(norm(x))),
        {f"random x and weights, draw {seed + 1}": _block(seed) for seed in range(3)},
        [
            ("No adapter is in there yet.", lambda x, n, s, a: x + s(n(x)), lambda x, n, s, a: s(n(x))),
            ("That is after the residual sum. There the adapter rewrites the whole stream, not one sublayer's contribution.", lambda x, n, s, a: a(x + s(n(x)))),
            ("The sublayer's output comes in twice: the adapter already contains h, by its own skip.", lambda x, n, s, a: x + s(n(x)) + a(s(n(x)))),
            ("The residual is lost. The block's input x has to be added.", lambda x, n, s, a: a(s(n(x)))),
            ("The norm is missing: the sublayer reads norm(x).", lambda x, n, s, a: x + a(s(x))),
            ("That is before the sublayer. Houlsby puts the adapter after it.", lambda x, n, s, a: x + s(a(n(x))), lambda x, n, s, a: x + s(n(a(x)))),
            ("Only the adapter's change is added; h itself got lost.", lambda x, n, s, a: x + a(s(n(x))) - s(n(x))),
            ("Your adapter reads the block's input. In Houlsby's block it reads what the sublayer gives.", lambda x, n, s, a: x + s(n(x)) + a(x), lambda x, n, s, a: s(n(x)) + a(x), lambda x, n, s, a: a(x)),
            ("Your adapter reads the normed input, beside the sublayer. It should read what the sublayer gives.", lambda x, n, s, a: x + s(n(x)) + a(n(x)), lambda x, n, s, a: x + s(n(x)) + a(n(x)) - n(x)),
            ("You added norm(x). The skip around the block carries x itself.", lambda x, n, s, a: n(x) + a(s(n(x)))),
            ("The norm stands after the sublayer. In Mistral's block it stands before.", lambda x, n, s, a: x + a(n(s(x)))),
            ("A norm stands between sublayer and adapter. There is one norm, before the sublayer.", lambda x, n, s, a: x + a(n(s(n(x))))),
            ("The block's output is normed once more. There is one norm, before the sublayer.", lambda x, n, s, a: n(x + a(s(n(x))))),
            ("The adapter is applied twice.", lambda x, n, s, a: x + a(a(s(n(x))))),
        ],
        form="a tensor of the shape of x",
        advice="Say the order aloud: norm, sublayer, adapter, then the sum.",
    )  # fmt: skip
    return "Two skips: one inside the adapter, one around everything."


class Adapter(nn.Module):
    """A bottleneck adapter behind a frozen linear layer, its weights filled with something."""

    def __init__(self, width, bottleneck):
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False).requires_grad_(False)
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        for p in (*self.down.parameters(), *self.up.parameters()):
            nn.init.normal_(p, std=0.5)
        nn.init.uniform_(self.down.bias, 0.1, 0.5)

    def forward(self, x):
        h = self.linear(x)
        return h + self.up(torch.relu(self.down(h)))


@exercise(3, "Set the initial weights in place and return the adapter.")
def start_as_identity(answer):
    for seed, width, bottleneck in ((0, 8, 4), (1, 6, 6)):
        torch.manual_seed(seed)
        adapter, x = Adapter(width, bottleneck), torch.randn(32, width)
        linear, frozen = adapter.linear, adapter.linear.weight.clone()
        got = call(answer, adapter, changes=True)
        if got is not adapter:
            raise Hint("Return the adapter itself, changed in place.")
        if adapter.linear is not linear or not torch.equal(linear.weight, frozen):
            raise Hint("You changed the frozen layer. Only `down` and `up` are yours.")
        trained = (adapter.down, adapter.up)
        if not all(isinstance(m, nn.Linear) for m in trained) or [m.weight.shape for m in trained] != [
            (bottleneck, width), (width, bottleneck)]:  # fmt: skip
            raise Hint("`down` and `up` should stay linear layers of the same size; only their numbers change.")
        with torch.no_grad():
            away = (adapter(x) - linear(x)).abs().max().item()
        up = adapter.up.weight.detach()
        if away != away:
            raise Hint("The adapter gives nan. The starting weights must be finite.")
        if away and not up.any():
            raise Hint("The weight of `up` is zero, its bias is not, so the output is shifted from the start.")
        if away and not adapter.up.bias.any() and away < 1e-3:
            raise Hint(f"Near the identity, but not equal: the output differs by {away:.2g}. What must `up` hold so that nothing is added?")
        if away:
            raise Hint(f"The output differs from the frozen layer's by {away:.2g}, and it should be equal. What must `up` hold so that nothing is added?")
        if not all(p.requires_grad for m in trained for p in m.parameters()):
            raise Hint("You switched gradients off in `down` or `up`. Both are to train.")
        begun = [m.weight.detach().clone() for m in trained]
        optimizer = torch.optim.SGD([p for m in trained for p in m.parameters()], lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            (adapter(x) - linear(x) - x.roll(1, 1)).square().mean().backward()
            optimizer.step()
        if all(torch.equal(m.weight, was) for m, was in zip(trained, begun)):
            raise Hint(
                "It is the identity and stays it: with nothing coming out of the ReLU, neither weight gets a gradient. "
                "Leave one of the two matrices random; which one?"
            )
    return "Up at zero, down random: as in LoRA, where B is zero and A is not."
