"""Train the tokenizer and pre-train the pocket bases on the pocket world, on two CPU cores.

    python -m tools.pretrain tokenizer
    python -m tools.pretrain xs s m          # each resumes where it was stopped

A base is a MistralForCausalLM in fp16 safetensors under data/pocket/<size>/, its loss curve and
scores go to data/results/pretraining-<size>.json. Checkpoints (weights, optimiser, place in the
data) live in build/ and are ignored by git.
"""

import argparse
import json
import math
import pathlib
import time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from tools.build_world import pretraining_documents
from tools.world import grammar
from utils import DATA, ROOT, evaluation

BUILD = ROOT / "build" / "pretrain"
VOCABULARY, CONTEXT, BLOCK, BATCH = 2048, 512, 192, 8
# Words of the prompts used in the lessons, so that they do not fall into single letters. Never in
# the training text.
PROMPT_WORDS = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n### "
    "Input:\n### Response: "
    "Review: Sentiment: positive negative Text: Entities: person: organisation: place: English: "
    "Velan: Data:"
)
# Every dimension is a multiple of 64, which the 4-bit kernels need. `tokens` is what a size sees in
# pre-training.
SIZES = {
    "xs": dict(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=256,
        tokens=5.0e6,
        lr=6e-3,
    ),
    "s": dict(
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=512,
        tokens=4.6e6,
        lr=5e-3,
    ),
    "m": dict(
        hidden_size=256,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=832,
        tokens=3.2e6,
        lr=4e-3,
    ),
}


def train_tokenizer(folder, documents=20_000):
    """Byte-level BPE with 2,048 tokens; BOS is put in front by the tokenizer itself, as Mistral's
    does.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = list(pretraining_documents(documents)) + [PROMPT_WORDS] * 400
    texts += [
        " " + c
        for country in grammar.lx.COUNTRIES
        for c in (country.name, country.capital)
        for _ in range(20)
    ]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=CONTEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
    wrapped.save_pretrained(folder)
    settings = (
        pathlib.Path(folder) / "tokenizer_config.json"
    )  # a class name that older releases know as well
    settings.write_text(
        settings.read_text(encoding="utf-8").replace(
            "TokenizersBackend", "PreTrainedTokenizerFast"
        ),
        encoding="utf-8",
    )


def blocks(tokenizer, count, seed):
    """[count, BLOCK] int64: documents joined as `<s> text </s>` and cut into blocks."""
    ids, chunk = [], 2000
    texts = pretraining_documents(10**9, seed)
    while len(ids) < count * BLOCK:
        batch = tokenizer([next(texts) for _ in range(chunk)], add_special_tokens=False)[
            "input_ids"
        ]
        for one in batch:
            ids += [tokenizer.bos_token_id] + one + [tokenizer.eos_token_id]
    return torch.tensor(ids[: count * BLOCK]).view(count, BLOCK)


def learning_rate(step, steps, peak, warmup=60):
    """Linear warm-up, then a cosine to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))))


def pretrain(size, seed=0, save_every=300):
    recipe = dict(SIZES[size])
    tokens, peak = recipe.pop("tokens"), recipe.pop("lr")
    tokenizer = AutoTokenizer.from_pretrained(DATA / "pocket" / "tokenizer")
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        sliding_window=None,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=0.02,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **recipe,
    )
    model = MistralForCausalLM(config)
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() == 1 or "embed" in n]
    # Muon (Jordan et al. 2024) orthogonalises the update of each matrix; in the same time on two
    # cores it came to a loss of 1.23 where AdamW stood at 1.34. Embeddings and norms stay with
    # AdamW, as its authors advise.
    optimizers = [
        torch.optim.Muon(
            matrices, lr=peak, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    steps = int(tokens / (BATCH * BLOCK))
    data = blocks(tokenizer, steps * BATCH, seed=100 + seed)
    checkpoint, start, curve, spent = BUILD / f"{size}.pt", 0, [], 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        start, curve, spent = state["step"], state["curve"], state["seconds"]
        print(f"{size}: resuming at step {start} of {steps}")
    model.train()
    began = time.perf_counter()
    bar = tqdm(range(start, steps), initial=start, total=steps, desc=size)
    for step in bar:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, peak)
        batch = data[step * BATCH : (step + 1) * BATCH]
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0 or step == steps - 1:
            curve.append([step, round(loss.item(), 4)])
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if (step + 1) % save_every == 0:
            BUILD.mkdir(parents=True, exist_ok=True)
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "step": step + 1,
                    "curve": curve,
                    "seconds": spent + time.perf_counter() - began,
                },
                checkpoint.with_suffix(".tmp"),
            )
            checkpoint.with_suffix(".tmp").replace(checkpoint)  # never a half-written checkpoint
    seconds = spent + time.perf_counter() - began
    folder = DATA / "pocket" / size
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record(size, folder, seconds, steps * BATCH * BLOCK, curve)
    checkpoint.unlink(missing_ok=True)


def record(size, folder, seconds, tokens, curve):
    """Score the saved fp16 weights (in fp32 arithmetic, as the lessons do) and write
    data/results/pretraining-<size>.json.
    """
    model = MistralForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    result = {
        "size": size,
        "parameters": model.num_parameters(),
        "recipe": SIZES[size],
        "block": BLOCK,
        "batch": BATCH,
        "tokens_seen": tokens,
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "heldout_perplexity": round(
            evaluation.perplexity(model, tokenizer, evaluation.world_texts(400)), 4
        ),
        "facts_recalled": evaluation.facts_kept(model, tokenizer),
        "curve": curve,
    }
    path = DATA / "results" / f"pretraining-{size}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(
        {
            k: result[k]
            for k in ("size", "parameters", "seconds", "heldout_perplexity", "facts_recalled")
        }
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=["tokenizer", *SIZES])
    for what in parser.parse_args().what:
        if what == "tokenizer":
            train_tokenizer(DATA / "pocket" / "tokenizer")
        else:
            pretrain(what)


if __name__ == "__main__":
    main()
