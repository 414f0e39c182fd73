"""Checks of lesson 05's exercises."""

import torch

from utils.checks import Hint, call, exercise


@exercise(1, "Give the number of parameters that A and B hold, over all layers.")
def count_parameters(answer):
    shapes, rank = [(192, 192), (192, 64), (512, 128)], 8
    got, right = call(answer, shapes, rank), sum(rank * (i + o) for i, o in shapes)
    if got == right:
        if call(answer, shapes, 2 * rank) != 2 * right:
            raise Hint("Right for rank 8, wrong for rank 16: the count should grow with the rank.")
        return "Grouped-query attention needs nothing special: its k and v simply have a smaller d_out."
    known = {
        sum(
            rank * i * o for i, o in shapes
        ): "You multiplied d_in by d_out. A and B are two thin matrices; their sizes add up.",
        sum(
            rank * i for i, _ in shapes
        ): "That is only one of the two matrices. Which other one trains?",
        sum(
            rank * o for _, o in shapes
        ): "That is only one of the two matrices. Which other one trains?",
        sum(
            2 * rank * i for i, _ in shapes
        ): "You took every layer for a square one. Which side has B?",
        sum(
            2 * rank * o for _, o in shapes
        ): "You took every layer for a square one. Which side has A?",
        sum(
            i * o + rank * (i + o) for i, o in shapes
        ): "You counted the frozen weight as well. Only A and B train.",
        rank * sum(shapes[0]): "That is the first layer only.",
        sum(i + o for i, o in shapes): "Where is the rank?",
    }
    raise Hint(
        known.get(
            got,
            f"For three layers and rank 8 you gave {got}. Draw A and B for one layer and count their numbers.",
        )
    )


@exercise(2, "Give the one weight that does what W0 and the adapter do together.")
def merge_weight(answer):
    rng = torch.Generator().manual_seed(0)
    for rank, alpha in ((2, 3), (3, 8)):
        W0, A, B = (torch.randn(*shape, generator=rng) for shape in ((6, 5), (rank, 5), (6, rank)))
        given = [t.clone() for t in (W0, A, B)]
        got = call(answer, W0, A, B, alpha, rank)
        for name, now, before in zip(("W0", "A", "B"), (W0, A, B), given):
            if not torch.equal(now, before):
                raise Hint(
                    f"{name} was changed in place. Leave what you were given as it is and return a new tensor."
                )
        if got.shape != W0.shape:
            raise Hint(
                f"The result has shape {list(got.shape)}, the weight has {list(W0.shape)}. Which product gives [d_out, d_in]?"
            )
        for scale, hint in (
            (1, "The factor alpha / rank is missing."),
            (alpha, "You scaled by alpha alone; divide by the rank."),
            (2, "You took the course's usual scale of 2. Here alpha and rank are given."),
            (alpha // rank, "That is whole-number division. alpha / rank need not be whole."),
            (rank / alpha, "The factor is upside down: it is alpha / rank."),
            (
                alpha / rank**0.5,
                "That is the factor of rsLoRA, alpha / sqrt(rank). LoRA divides by the rank itself.",
            ),
        ):
            if torch.allclose(got, W0 + scale * B @ A, atol=1e-5):
                raise Hint(hint)
        if torch.allclose(got, alpha / rank * B @ A, atol=1e-5):
            raise Hint("That is the change alone. The merged weight has W0 in it.")
        if not torch.allclose(got, W0 + alpha / rank * B @ A, atol=1e-5):
            raise Hint(
                "The shape is right and the values are not. Apply your weight and the unmerged layer to the same x and compare."
            )
    return "One matrix, the same function."


@exercise(
    3,
    "Give the weight that task two needs, from the merged weight of task one and the two adapters.",
)
def switch_adapter(answer):
    rng = torch.Generator().manual_seed(1)
    W0 = torch.randn(6, 5, generator=rng)
    one, two = (
        (torch.randn(2, 5, generator=rng), torch.randn(6, 2, generator=rng), 2.0),
        (torch.randn(3, 5, generator=rng), torch.randn(6, 3, generator=rng), 0.5),
    )
    (A1, B1, s1), (A2, B2, s2) = one, two
    change, W_one = [s1 * B1 @ A1, s2 * B2 @ A2], W0 + s1 * B1 @ A1
    given = [t.clone() for t in (W_one, A1, B1, A2, B2)]
    got = call(answer, W_one, one, two)
    if not all(torch.equal(now, before) for now, before in zip((W_one, A1, B1, A2, B2), given)):
        raise Hint(
            "You changed the weight or an adapter in place. The next switch will need them: return a new tensor."
        )
    for value, hint in (
        (W_one, "That is still the weight of task one."),
        (
            W_one + change[1],
            "Both adapters are in the weight now. The first one's change has to come out.",
        ),
        (W0 - change[1], "The first one comes out, right. The second has to go in."),
        (W_one + change[0] - change[1], "The signs are the wrong way round."),
        (W0, "That is the base. What does task two add to it?"),
        (W_one - s2 * B1 @ A1 + s1 * B2 @ A2, "The scales are swapped: each adapter has its own."),
        (W_one - B1 @ A1 + B2 @ A2, "The scales are missing: each adapter has its own."),
    ):
        if torch.allclose(got, value, atol=1e-5):
            raise Hint(hint)
    if not torch.allclose(got, W0 + change[1], atol=1e-5):
        raise Hint("That is not the weight of task two. What must happen to W_one to get W0 back?")
    return "No base was loaded, and the adapters are still whole."
