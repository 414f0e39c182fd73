"""Checks of lesson 05's exercises."""

import torch

from utils.checks import compare, exercise


@exercise(1, "Give the number of parameters that A and B hold, over all layers.")
def count_parameters(answer):
    def summed(one):
        return lambda shapes, rank: sum(one(i, o, rank) for i, o in shapes)

    shapes = [(200, 192), (192, 64), (512, 128)]
    compare(
        answer,
        summed(lambda i, o, r: r * (i + o)),
        [(shapes, 8), (shapes, 16), ([(64, 48)], 3), ([(10, 20), (30, 7)], 1), ([], 4)],
        [
            ("You multiplied d_in by d_out. A and B are two thin matrices; their sizes add up.", summed(lambda i, o, r: r * i * o)),
            ("That is A alone. Which other matrix trains?", summed(lambda i, o, r: r * i)),
            ("That is B alone. Which other matrix trains?", summed(lambda i, o, r: r * o)),
            ("You took every layer for a square one with d_in on both sides. Which side has B?", summed(lambda i, o, r: 2 * r * i)),
            ("You took every layer for a square one with d_out on both sides. Which side has A?", summed(lambda i, o, r: 2 * r * o)),
            ("You counted the frozen weight as well. Only A and B train.", summed(lambda i, o, r: i * o + r * (i + o))),
            ("Those are the frozen weights. How many numbers do A and B hold?", summed(lambda i, o, r: i * o)),
            ("Where is the rank?", summed(lambda i, o, r: i + o)),
            ("Between A and B stands no third matrix: nothing of size rank times rank.", summed(lambda i, o, r: r * (i + o) + r * r)),
            ("A and B have no biases.", summed(lambda i, o, r: r * (i + o) + r + o), summed(lambda i, o, r: r * (i + o) + o)),
            ("You took the rank squared: A is [rank, d_in] and B is [d_out, rank].", summed(lambda i, o, r: r * r * (i + o))),
            ("The rank of 8 is written into your code: the count should grow with the rank.", summed(lambda i, o, r: 8 * (i + o))),
            ("That is the first layer only.", lambda shapes, rank: rank * sum(shapes[0])),
            ("That is the last layer only: your sum starts anew for each layer.", lambda shapes, rank: rank * sum(shapes[-1])),
            ("You took the average over the layers. All of them train.", lambda shapes, rank: rank * sum(map(sum, shapes)) / len(shapes)),
        ],
        form="one number of parameters",
        advice="Draw A and B for one layer and count their numbers.",
    )
    return "Grouped-query attention needs nothing special: its k and v simply have a smaller d_out."


def _adapter(seed, rank, d_in=5, d_out=6):
    """(W0, A, B) with random weights."""
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=rng) for shape in ((d_out, d_in), (rank, d_in), (d_out, rank)))


@exercise(2, "Give the one weight that does what W0 and the adapter do together.")
def merge_weight(answer):
    def scaled(factor):
        return lambda W0, A, B, alpha, rank: W0 + factor(alpha, rank) * (B @ A)

    compare(
        answer,
        scaled(lambda alpha, rank: alpha / rank),
        {
            f"alpha = {alpha} and rank = {rank}": (*_adapter(n, rank, d, d), alpha, rank) if d else (*_adapter(n, rank), alpha, rank)
            for n, (alpha, rank, d) in enumerate(((3, 2, 0), (8, 3, 0), (2, 4, 0), (3, 4, 4)))
        },
        [
            ("The factor alpha / rank is missing.", scaled(lambda a, r: 1)),
            ("You scaled by alpha alone; divide by the rank.", scaled(lambda a, r: a)),
            ("You divided by the rank alone; alpha is missing.", scaled(lambda a, r: 1 / r)),
            ("You multiplied by the rank. The factor is alpha / rank.", scaled(lambda a, r: a * r)),
            ("You took the course's usual scale of 2. Here alpha and rank are given.", scaled(lambda a, r: 2)),
            ("That is whole-number division. alpha / rank need not be whole.", scaled(lambda a, r: a // r)),
            ("The factor is upside down: it is alpha / rank.", scaled(lambda a, r: r / a)),
            ("That is the factor of rsLoRA, alpha / sqrt(rank). LoRA divides by the rank itself.", scaled(lambda a, r: a / r**0.5)),
            ("That is the change alone. The merged weight has W0 in it.", lambda W0, A, B, a, r: a / r * B @ A),
            ("You scaled W0 as well. The factor belongs to B A alone.", lambda W0, A, B, a, r: a / r * (W0 + B @ A)),
            ("You took the change off. It has to be added.", scaled(lambda a, r: -a / r)),
            ("That is the unmerged weight, without the adapter.", scaled(lambda a, r: 0)),
            ("The result is transposed: W0 is [d_out, d_in], and so is the merged weight.", lambda W0, A, B, a, r: (W0 + a / r * B @ A).T),
        ],
        form="a tensor of the shape of W0",
        advice="Apply your weight and the unmerged layer to the same x and compare.",
    )
    return "One matrix, the same function."


def _tasks(seed, scale1, scale2, rank1=2, rank2=3):
    """(W_one, one, two)."""
    (W0, A1, B1), (_, A2, B2) = _adapter(seed, rank1), _adapter(seed + 10, rank2)
    return W0 + scale1 * B1 @ A1, (A1, B1, scale1), (A2, B2, scale2)


def _change(adapter, scale=None):
    A, B, own = adapter
    return (own if scale is None else scale) * (B @ A)


@exercise(
    3,
    "Give the weight that task two needs, from the merged weight of task one and the two adapters.",
)
def switch_adapter(answer):
    compare(
        answer,
        lambda W, one, two: W - _change(one) + _change(two),
        {
            "scales of 2 and 0.5": _tasks(1, 2.0, 0.5),
            "scales of 1 and 3": _tasks(2, 1.0, 3.0),
            "adapters of equal rank": _tasks(3, 0.5, 1.5, 2, 2),
        },
        [
            ("That is still the weight of task one.", lambda W, one, two: W),
            ("Both adapters are in the weight now. The first one's change has to come out.", lambda W, one, two: W + _change(two)),
            ("You took both changes off. The first comes out, right; the second has to go in.", lambda W, one, two: W - _change(one) - _change(two)),
            ("The signs are the wrong way round: the first comes out, the second goes in.", lambda W, one, two: W + _change(one) - _change(two)),
            ("You took the second one off, which is not in there. The first comes out, the second goes in.", lambda W, one, two: W - _change(two)),
            ("Now the first change is in there twice, and the second as well. The first has to come out.", lambda W, one, two: W + _change(one) + _change(two)),
            ("That is the base. What does task two add to it?", lambda W, one, two: W - _change(one)),
            ("The scales are swapped: each adapter has its own.", lambda W, one, two: W - _change(one, two[2]) + _change(two, one[2])),
            ("The scales are missing: each adapter has its own.", lambda W, one, two: W - _change(one, 1) + _change(two, 1)),
            ("The first adapter's scale is missing.", lambda W, one, two: W - _change(one, 1) + _change(two)),
            ("The second adapter's scale is missing.", lambda W, one, two: W - _change(one) + _change(two, 1)),
            ("You used the first adapter's scale for both.", lambda W, one, two: W - _change(one) + _change(two, one[2])),
            ("You used the second adapter's scale for both.", lambda W, one, two: W - _change(one, two[2]) + _change(two)),
            ("That is the change between the tasks alone. The weight itself is missing.", lambda W, one, two: _change(two) - _change(one)),
            ("You divided by the scale. It multiplies B A.", lambda W, one, two: W - _change(one, 1 / one[2]) + _change(two, 1 / two[2])),
        ],
        form="a tensor of the shape of W_one",
        advice="What must happen to W_one to get W0 back?",
    )
    return "No base was loaded, and the adapters are still whole."
