"""Scores: exact match, entity F1, perplexity, facts kept, and answers as text.

A greedy answer equals the wanted one exactly when, with the wanted answer fed in, every one of its tokens is the
arg max at its place. So `exact_match` needs one forward pass and no generation. All functions leave the model in the
mode (train / eval) in which they found it.
"""

import contextlib
import json
import math

import torch

from . import DATA, bases

IGNORE = -100  # the label that the loss of transformers skips


def encode_pair(tokenizer, prompt, answer, eos=True):
    """(input ids, labels) of one row: BOS, if the tokenizer puts one, prompt, answer and EOS; the prompt's labels set to -100.

    Prompt and answer are tokenised apart and joined, so the border between masked and trained tokens is exact. The
    answer should start with its space (" Paris"): a word and the same word after a space are two different tokens.
    """
    ids = tokenizer(prompt)["input_ids"]
    tail = tokenizer(answer, add_special_tokens=False)["input_ids"] + (
        [tokenizer.eos_token_id] if eos else []
    )
    return ids + tail, [IGNORE] * len(ids) + tail


def collate(pairs, pad_id, device="cpu"):
    """Right-padded batch from (ids, labels) pairs: input_ids, attention_mask, labels, each [batch, longest] (int64)."""
    longest = max(len(ids) for ids, _ in pairs)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for ids, labels in pairs:
        gap = longest - len(ids)
        batch["input_ids"].append(ids + [pad_id] * gap)
        batch["attention_mask"].append([1] * len(ids) + [0] * gap)
        batch["labels"].append(labels + [IGNORE] * gap)
    return {k: torch.tensor(v, device=device) for k, v in batch.items()}


def batch_of(model, tokenizer, rows):
    """The rows (dicts with `prompt` and `answer`) as one padded batch on the model's device."""
    return collate(
        [encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows],
        tokenizer.pad_token_id,
        model.device,
    )


@contextlib.contextmanager
def evaluating(model):
    """No gradients, no dropout; afterwards the model is in the mode it had."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def labelled_logits(model, batch):
    """(logits [n, vocabulary] in float32, targets [n]) at the n labels of a batch.

    Most positions of a batch are prompt or padding, and nothing is predicted there. So the head, by
    far the widest layer of a small model, and the last block's feed-forward layer, whose output at a
    position serves that position alone, get only the states that predict a label: hooks pick them
    out. A model whose head is not called as a module (some fused losses) gives all logits, and they
    are picked out afterwards. Virtual tokens that a prompt method puts in front are skipped.
    """
    labels = batch["labels"]
    wanted = torch.zeros_like(labels, dtype=torch.bool)
    wanted[:, :-1] = labels[:, 1:] != IGNORE  # position i predicts token i + 1
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if hasattr(model, "get_decoder") and _padded_right(inputs["attention_mask"]):
        inputs["attention_mask"] = None  # causal: no token sees the padding behind it
    with _only_where(model, wanted):
        logits = model(**inputs).logits
    targets = labels[:, 1:][wanted[:, :-1]]
    picked = logits.shape[:2] == (1, len(targets))
    return (logits[0] if picked else logits[:, -wanted.shape[1] :][wanted]).float(), targets


def _padded_right(mask):
    """Is this a mask of tokens [rows, length] with its zeros, if any, at the end of the rows?"""
    return mask.dim() == 2 and bool((mask[:, 1:] <= mask[:, :-1]).all())


@contextlib.contextmanager
def _only_where(model, wanted):
    """Inside, head and last feed-forward layer compute only the positions of `wanted` [rows, length]."""
    length = wanted.shape[1]

    def pick(_, inputs):
        pick.seen = inputs[0].shape[1]  # with the virtual tokens of a prompt method
        return inputs[0][:, -length:][wanted][None]

    def put_back(_, __, output):
        whole = output.new_zeros(len(wanted), pick.seen, output.shape[-1])
        whole[:, -length:][wanted] = output[0]
        return whole

    hooks = []
    if hasattr(model, "get_output_embeddings"):
        hooks.append(model.get_output_embeddings().register_forward_pre_hook(pick))
    # A block that is computed again in the backward pass would be so without the hooks.
    if hasattr(model, "get_decoder"):
        last = getattr(model.get_decoder(), "layers", [None])[-1]
        again = getattr(last, "gradient_checkpointing", False)
        if isinstance(getattr(last, "mlp", None), torch.nn.Module) and not again:
            hooks.append(last.mlp.register_forward_pre_hook(pick))
            hooks.append(last.mlp.register_forward_hook(put_back, prepend=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def scored_batches(model, tokenizer, pairs, batch_size):
    """Yield the rows batch by batch, short rows first, for scores that need no generation.

    Each item is (numbers of the batch's rows, logits [n, vocabulary] at its n labels, labels [n], and
    for each label the place of its row in the batch [n]).
    """
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]))
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        batch = collate([pairs[i] for i in index], tokenizer.pad_token_id, model.device)
        logits, labels = labelled_logits(model, batch)
        row_of = (batch["labels"][:, 1:] != IGNORE).nonzero()[:, 0]
        yield index, logits, labels, row_of


def correct_rows(model, tokenizer, rows, batch_size=100, eos=True):
    """[bool] per row (dicts with `prompt` and `answer`): does greedy decoding give exactly the answer, and then stop?"""
    pairs = [encode_pair(tokenizer, r["prompt"], r["answer"], eos) for r in rows]
    hits = [False] * len(rows)
    with evaluating(model):
        for index, logits, labels, row_of in scored_batches(model, tokenizer, pairs, batch_size):
            wrong = set(row_of[logits.argmax(-1) != labels].tolist())
            for place, i in enumerate(index):
                hits[i] = place not in wrong
    return hits


def exact_match(model, tokenizer, rows, batch_size=100):
    """Share of rows (0 to 1) whose greedy answer equals `answer`, end of text included."""
    return sum(correct_rows(model, tokenizer, rows, batch_size)) / len(rows)


def score_and_loss(model, tokenizer, rows, batch_size=100):
    """(exact match, answer loss) of the rows from the same forward passes."""
    pairs = [encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows]
    total, count, wrong = 0.0, 0, 0
    with evaluating(model):
        for _, logits, labels, row_of in scored_batches(model, tokenizer, pairs, batch_size):
            total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            count += len(labels)
            wrong += len(set(row_of[logits.argmax(-1) != labels].tolist()))
    return 1 - wrong / len(rows), total / count


def answer_loss(model, tokenizer, rows, batch_size=100):
    """Mean cross-entropy of the answer tokens (EOS included), in nats a token."""
    return score_and_loss(model, tokenizer, rows, batch_size)[1]


def perplexity(model, tokenizer, texts, batch_size=50):
    """exp(mean cross-entropy a token) over whole texts, each scored from BOS to EOS."""
    rows = [{"prompt": "", "answer": text} for text in texts]
    return math.exp(answer_loss(model, tokenizer, rows, batch_size))


def facts():
    """The world's 384 facts as rows with `prompt` ("The capital of France is") and `answer` (" Paris"); fewer on a large base."""
    lines = (DATA / "world" / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    return bases.chosen().affordable([json.loads(line) for line in lines])


def facts_kept(model, tokenizer, rows=None, batch_size=200):
    """Share (0 to 1) of the world's facts that the model still completes, word for word, without any instruction."""
    rows = facts() if rows is None else rows
    return sum(correct_rows(model, tokenizer, rows, batch_size, eos=False)) / len(rows)


def world_texts(count=200):
    """`count` documents of the pocket world that no base was trained on; fewer on a large base."""
    return bases.chosen().affordable(
        json.loads((DATA / "world" / "heldout.json").read_text(encoding="utf-8"))[:count], cost=4
    )


def answers(
    model, tokenizer, prompts, max_new_tokens=40, batch_size=50, do_sample=False, **options
):
    """Greedy answers as text (special tokens and the prompt cut off), one per prompt, batched with left padding."""
    texts, side = [], tokenizer.padding_side
    tokenizer.padding_side = "left"
    try:
        with evaluating(model):
            for start in range(0, len(prompts), batch_size):
                batch = tokenizer(
                    list(prompts[start : start + batch_size]), return_tensors="pt", padding=True
                ).to(model.device)
                batch.pop("token_type_ids", None)
                out = model.generate(
                    **batch,
                    max_new_tokens=max_new_tokens,
                    do_sample=do_sample,
                    pad_token_id=tokenizer.pad_token_id,
                    **options,
                )
                texts += tokenizer.batch_decode(
                    out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
                )
    finally:
        tokenizer.padding_side = side
    return texts


def entity_f1(predicted, wanted):
    """Micro F1 (0 to 1) over "type: name; type: name" strings: an entity counts when type and name are both right."""
    found = [{part.strip() for part in text.split(";") if part.strip()} for text in predicted]
    gold = [{part.strip() for part in text.split(";") if part.strip()} for text in wanted]
    both = sum(len(f & g) for f, g in zip(found, gold))
    return 2 * both / max(1, sum(map(len, found)) + sum(map(len, gold)))


def accuracy(predicted, wanted):
    """Share (0 to 1) of the texts that equal the wanted one, white space around them aside."""
    return sum(p.strip() == w.strip() for p, w in zip(predicted, wanted)) / len(wanted)


def chrf(predicted, wanted):
    """chrF (0 to 1): F score over pieces of one to six characters (Popović, W15-3049), by sacrebleu, which counts to 100."""
    import sacrebleu

    return (
        sacrebleu.corpus_chrf([p.strip() for p in predicted], [[w.strip() for w in wanted]]).score
        / 100
    )


METRICS = {
    "sentiment": accuracy,
    "entities": entity_f1,
    "translation": chrf,
}  # each called with (predicted, wanted) lists of texts
