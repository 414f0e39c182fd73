"""One training loop: fixed order from a seed, progress bar, history, checkpoints and resume.

It is the plain PyTorch loop (batch, loss, backward, clip, step) and costs no more than that; the lessons that teach a
library's trainer (13 and 14) use TRL's instead.
"""

import math
import os
import pathlib
import random
import time
from dataclasses import dataclass, field

import torch
from tqdm.auto import tqdm

from . import bases, evaluation


@dataclass
class History:
    """What a run left behind: `loss` per step (nats a token), `scores` as (step, value), `seconds` for the loop."""

    loss: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    start: int = 0  # the step from which this call went on, 0 for a fresh run

    @property
    def final_loss(self):
        """Mean loss of the last ten steps."""
        tail = self.loss[-10:]
        return sum(tail) / len(tail)


def trainable(model):
    """[(name, parameter)] of what trains."""
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def count(model):
    """(trainable, all) numbers of parameters; 4-bit weights count as the numbers that they stand for."""
    sizes = [
        (
            p.numel()
            * (2 if p.__class__.__name__ == "Params4bit" and p.dtype == torch.uint8 else 1),
            p.requires_grad,
        )
        for p in model.parameters()
    ]
    return sum(n for n, t in sizes if t), sum(n for n, _ in sizes)


def quiet():
    """True while a notebook is executed for its stored outputs, in which progress bars have no place."""
    return os.environ.get("PEFT_COURSE_QUIET") == "1"


def batches(count_rows, batch_size, steps, seed):
    """Yield `steps` lists of row numbers: shuffled passes over the rows, the same for the same seed."""
    rng, order = random.Random(seed), []
    for _ in range(steps):
        while len(order) < batch_size:
            order += rng.sample(range(count_rows), count_rows)
        yield order[:batch_size]
        order = order[batch_size:]


def schedule(step, steps, warmup):
    """Factor on the learning rate: linear up over `warmup` steps, then a cosine down to zero at the end."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    model,
    tokenizer,
    rows,
    steps=80,
    lr=3e-3,
    batch_size=16,
    seed=0,
    warmup=8,
    weight_decay=0.0,
    parameters=None,
    evaluate=None,
    evaluate_every=20,
    checkpoint=None,
    checkpoint_every=20,
    progress=None,
    collate=evaluation.collate,
):
    """Train what requires a gradient on rows with `prompt` and `answer`; the loss is on the answer and EOS only.

    rows         dicts with `prompt` and `answer`, or ready pairs (ids, labels)
    parameters   optimiser groups, if not simply everything that requires a gradient; a method may bring its own as
                 `model.optimizer_groups`, a function of the learning rate (LoRA+ does)
    evaluate     called as evaluate(model) every `evaluate_every` steps and at the end; its value goes to `scores`
    checkpoint   a folder: state is saved there every `checkpoint_every` steps, and a later call goes on from it
    collate      called as collate(pairs, pad_id, device); makes the batch
    Steps, rows a step and rate are those of the pocket base; another chosen base turns them into its own (`bases.Base.budget`).
    Returns a `History`. ValueError if nothing is trainable, rows are empty, or a row is longer than the base's context.
    """
    learnable = [p for _, p in trainable(model)]
    if not learnable:
        raise ValueError(
            "Nothing to train: no parameter requires a gradient. After PeftModel.from_pretrained pass is_trainable=True."
        )
    pairs = encode(model, tokenizer, rows)
    steps, batch_size, lr, warmup = bases.chosen().budget(steps, batch_size, lr, warmup)
    groups = parameters or getattr(model, "optimizer_groups", lambda lr: learnable)(lr)
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    history = History()
    if checkpoint is not None:
        history = resume(checkpoint, model, optimizer)
    torch.manual_seed(seed)
    model.train()
    order = list(batches(len(pairs), batch_size, steps, seed))
    began = time.perf_counter()
    bar = tqdm(
        range(history.start, steps),
        initial=history.start,
        total=steps,
        leave=False,
        disable=quiet() if progress is None else not progress,
    )
    for step in bar:
        for group, peak in zip(optimizer.param_groups, peaks):
            group["lr"] = peak * schedule(step, steps, warmup)
        batch = collate([pairs[i] for i in order[step]], tokenizer.pad_token_id, model.device)
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        history.loss.append(loss.item())
        bar.set_postfix(loss=f"{history.loss[-1]:.3f}")
        if evaluate and ((step + 1) % evaluate_every == 0 or step + 1 == steps):
            history.scores.append((step + 1, evaluate(model)))
        if checkpoint is not None and ((step + 1) % checkpoint_every == 0 or step + 1 == steps):
            save_checkpoint(checkpoint, model, optimizer, history, step + 1)
    history.seconds += time.perf_counter() - began
    model.eval()
    return history


def loss_of(model, batch):
    """Mean cross-entropy over the labels of a batch, in nats a token."""
    logits, targets = evaluation.labelled_logits(model, batch)
    return torch.nn.functional.cross_entropy(logits, targets)


def encode(model, tokenizer, rows):
    """[(ids, labels)] of the rows, ready pairs as they are; ValueError names an empty set, an empty answer or a row longer than the context."""
    if not rows:
        raise ValueError("No rows to train on.")
    context = model.config.max_position_embeddings
    pairs = []
    for number, row in enumerate(rows, 1):
        ready = isinstance(row, tuple)
        if not ready and not row["answer"].strip():
            raise ValueError(
                f"Row {number}: the answer is empty, so there is nothing to learn from it. Remove the row."
            )
        pair = row if ready else evaluation.encode_pair(tokenizer, row["prompt"], row["answer"])
        if len(pair[0]) > context:
            raise ValueError(
                f"Row {number} has {len(pair[0])} tokens, more than the context of {context}. Shorten it: cut off, it would "
                "lose the end of its answer."
            )
        pairs.append(pair)
    return pairs


def save_checkpoint(folder, model, optimizer, history, step):
    """Trainable weights, optimiser state and history; written beside and renamed, so that a kill leaves the old one."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "step": step,
        "weights": dict(trainable(model)),
        "optimizer": optimizer.state_dict(),
        "loss": history.loss,
        "scores": history.scores,
    }
    torch.save(state, folder / "state.tmp")
    (folder / "state.tmp").replace(folder / "state.pt")


def resume(folder, model, optimizer):
    """Load the last checkpoint into model and optimiser; returns its History (fresh if there is none)."""
    path = pathlib.Path(folder) / "state.pt"
    if not path.exists():
        return History()
    try:
        state = torch.load(path, weights_only=True, map_location=model.device)
    except Exception as error:
        raise OSError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}); delete the folder to start again."
        ) from error
    parameters = dict(trainable(model))
    if {n: p.shape for n, p in parameters.items()} != {
        n: w.shape for n, w in state["weights"].items()
    }:
        raise ValueError(
            f"The checkpoint {path} belongs to another model or adapter; delete it or choose another folder."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    return History(
        loss=state["loss"], scores=[tuple(s) for s in state["scores"]], start=state["step"]
    )
