"""Checks of lesson 05's exercises."""
import torch

from utils.checks import Hint, call, exercise


@exercise(1, "Give the sum over the layers of what A and B hold.")
def count_parameters(answer):
    shapes, rank = [(192, 192), (192, 64), (512, 192)], 8
    got, right = call(answer, shapes, rank), sum(rank * (i + o) for i, o in shapes)
    if got == right:
        if call(answer, shapes, 2 * rank) != 2 * right:
            raise Hint("Right for rank 8, wrong for rank 16: the count should grow with the rank.")
        return "Grouped-query attention needs nothing special: its k and v simply have a smaller d_out."
    if got == sum(rank * i * o for i, o in shapes):
        raise Hint("You multiplied d_in by d_out. A and B are two thin matrices; their sizes add up.")
    if got in (sum(rank * i for i, _ in shapes), sum(rank * o for _, o in shapes)):
        raise Hint("That is only one of the two matrices. A is [rank, d_in] and B is [d_out, rank].")
    if got == sum(2 * rank * i for i, _ in shapes):
        raise Hint("You took every layer for a square one. B has d_out rows, not d_in.")
    if got == sum(i * o + rank * (i + o) for i, o in shapes):
        raise Hint("You counted the frozen weight as well. Only A and B train.")
    raise Hint(f"For three layers and rank 8 you gave {got}; add rank * d_in for A and d_out * rank for B.")


@exercise(2, "Give W0 plus the scaled product of B and A.")
def merge_weight(answer):
    rng = torch.Generator().manual_seed(0)
    W0, A, B = (torch.randn(*shape, generator=rng) for shape in ((6, 5), (2, 5), (6, 2)))
    alpha, rank, kept = 8, 2, W0.clone()
    got = call(answer, W0, A, B, alpha, rank)
    if not torch.equal(W0, kept):
        raise Hint("W0 was changed in place. Keep the base intact: return a new tensor.")
    if got.shape != W0.shape:
        raise Hint(f"The result has shape {list(got.shape)}, the weight has {list(W0.shape)}. Which product gives [d_out, d_in]?")
    for scale, hint in ((1, "The factor alpha / rank is missing."), (alpha, "You scaled by alpha alone; divide by the rank."),
                        (rank / alpha, "The factor is upside down: it is alpha / rank."),
                        (alpha / rank**0.5, "That is the factor of rsLoRA, alpha / sqrt(rank). LoRA divides by the rank itself.")):
        if torch.allclose(got, W0 + scale * B @ A, atol=1e-5):
            raise Hint(hint)
    if torch.allclose(got, alpha / rank * B @ A, atol=1e-5):
        raise Hint("That is the change alone. The merged weight has W0 in it.")
    if not torch.allclose(got, W0 + alpha / rank * B @ A, atol=1e-5):
        raise Hint("The shape is right and the values are not. Write down W0 + (alpha / rank) B A and compare.")
    return "One matrix, the same function."


@exercise(3, "Take the first adapter's change out and put the second one's in.")
def switch_adapter(answer):
    rng = torch.Generator().manual_seed(1)
    W0 = torch.randn(6, 5, generator=rng)
    one, two = ((torch.randn(2, 5, generator=rng), torch.randn(6, 2, generator=rng), 2.0),
                (torch.randn(3, 5, generator=rng), torch.randn(6, 3, generator=rng), 0.5))
    change = [scale * B @ A for A, B, scale in (one, two)]
    got = call(answer, W0 + change[0], one, two)
    for value, hint in ((W0 + change[0] + change[1], "Both adapters are in the weight now. The first one's change has to come out."),
                        (W0 - change[1], "The signs are the wrong way round: subtract the old change, add the new one."),
                        (W0 + 2 * change[0] - change[1], "The signs are the wrong way round: subtract the old change, add the new one."),
                        (W0, "That is the base. Now add the second adapter."),
                        (W0 + change[0] - one[1] @ one[0] + two[1] @ two[0], "The scales are missing: each adapter has its own.")):
        if torch.allclose(got, value, atol=1e-5):
            raise Hint(hint)
    if not torch.allclose(got, W0 + change[1], atol=1e-5):
        raise Hint("Not W0 + scale2 * B2 A2. What must be subtracted from W_one to get W0 back?")
    return "In exact arithmetic nothing is lost; in 16 bits a little is, at every switch."
