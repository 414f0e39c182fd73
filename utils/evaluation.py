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


def _scored_batches(model, tokenizer, pairs, batch_size):
    """Yield (logits over the label positions, labels), both shifted by one, [batch, length - 1, ...], longest rows last."""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]))
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        batch = collate([pairs[i] for i in index], tokenizer.pad_token_id, model.device)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        # Prompt methods put virtual tokens in front: only the last positions belong to the text.
        yield index, logits[:, -batch["labels"].shape[1] :][:, :-1].float(), batch["labels"][:, 1:]


def correct_rows(model, tokenizer, rows, batch_size=100, eos=True):
    """[bool] per row (dicts with `prompt` and `answer`): does greedy decoding give exactly the answer, and then stop?"""
    pairs = [encode_pair(tokenizer, r["prompt"], r["answer"], eos) for r in rows]
    hits = [False] * len(rows)
    with evaluating(model):
        for index, logits, labels in _scored_batches(model, tokenizer, pairs, batch_size):
            right = ((logits.argmax(-1) == labels) | (labels == IGNORE)).all(-1)
            for i, hit in zip(index, right.tolist()):
                hits[i] = hit
    return hits


def exact_match(model, tokenizer, rows, batch_size=100):
    """Share of rows (0 to 1) whose greedy answer equals `answer`, end of text included."""
    return sum(correct_rows(model, tokenizer, rows, batch_size)) / len(rows)


def answer_loss(model, tokenizer, rows, batch_size=100):
    """Mean cross-entropy of the answer tokens (EOS included), in nats a token."""
    return _mean_loss(
        model,
        tokenizer,
        [encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows],
        batch_size,
    )


def _mean_loss(model, tokenizer, pairs, batch_size):
    total, count = 0.0, 0
    with evaluating(model):
        for _, logits, labels in _scored_batches(model, tokenizer, pairs, batch_size):
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"
            ).item()
            count += (labels != IGNORE).sum().item()
    return total / count


def perplexity(model, tokenizer, texts, batch_size=50):
    """exp(mean cross-entropy a token) over whole texts, each scored from BOS to EOS."""
    return math.exp(
        _mean_loss(model, tokenizer, [encode_pair(tokenizer, "", t) for t in texts], batch_size)
    )


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
