"""Lesson 20's pipeline, which makes its broken and its repaired runs.

Read this file after you have solved the cases: each fault is a line or two of it that a field of
`Settings` turns on, with a comment that says so. `run` trains a LoRA adapter, hands it over and
lets it answer. exercises/clinic_cases.py says what turns which case from broken to repaired.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import tempfile
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from torch.utils.checkpoint import checkpoint

from utils import bases, evaluation, tasks, training

TEAMS = ("red", "blue", "green", "gold")
ASKED = 48  # test rows that a run answers
BASE = "pocket"  # the clinic's runs are stored, so their base is always this one


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that differs between the runs; the defaults are a healthy run."""

    # What a configuration file would show
    task: str = "facts"
    steps: int = 40
    batch_size: int = 8
    lr: float = 5e-3
    dtype: str = "float32"
    checkpointing: bool = False
    trained_head: bool = False
    merge: bool = False
    memory_mib: float = math.inf
    max_tokens: int | None = None
    # The faults
    eos: bool = True
    marker: str = ""
    optimiser_first: bool = False
    adapter_dtype: str = "float32"
    inputs_need_gradients: bool = True
    long_row: bool = False
    shared_rows: int = 0
    load: str = "peft"
    merges: int = 1
    other_base: bool = False
    serving_prompt: str | None = None
    padding_side: str = "left"


# ---- rows ----


def team_rows():
    """(train, test, fresh) rows that ask for a customer's team: drawn by lot, nothing to infer."""
    rng = torch.Generator().manual_seed(5)
    names = [row["country"] for row in tasks.load("facts")]
    names = list(dict.fromkeys(names))[:44]
    drawn = [
        team
        for size in (8, 12, 24)  # every team as often as any other in each part
        for team in (torch.randperm(size, generator=rng) % len(TEAMS)).tolist()
    ]
    rows = [
        {"instruction": f"Which team looks after {n}?", "answer": f" {TEAMS[d]}"}
        for n, d in zip(names, drawn)
    ]
    for row in rows:
        row["prompt"] = tasks.ask(row["instruction"])
    return rows[:8], rows[8:20], rows[20:]


def rows_of(s):
    """(train, test, fresh) rows of a run; fresh ones are what a colleague writes later."""
    if s.task == "teams":
        train, test, fresh = team_rows()
        return train + test[: s.shared_rows], test, fresh  # fault: test rows in training
    train, test, fresh = (tasks.load(s.task, part) for part in ("train", "test", "validation"))
    if s.long_row:  # fault: somebody pasted a whole report into one row
        report = " ".join(row["prompt"] + row["answer"] for row in train[:14])
        train = [*train, {**train[0], "prompt": report, "answer": train[0]["answer"]}]
    return train, test[:ASKED], fresh[:ASKED]


def encode(s, tokenizer, row):
    """(ids, labels) of a row: what stands before the answer gets the label -100."""
    prompt, answer = row["prompt"], row["answer"]
    ids, labels = evaluation.encode_pair(tokenizer, prompt, answer, eos=s.eos)  # fault: no EOS
    if s.marker not in prompt:  # fault: the marker that starts the answer is never found
        labels = [evaluation.IGNORE] * len(ids)
    return ids, labels


# ---- training ----


class OutOfMemory(Exception):
    """More would be kept for the backward pass than the card of the story has."""


class Kept:
    """Counts the bytes that the backward pass needs, and refuses more than a card's worth."""

    def __init__(self, model, limit_mib):
        self.weights = {p.data_ptr() for p in model.parameters()}
        self.limit, self.seen = limit_mib * 2**20, {}

    def pack(self, tensor):
        at = tensor.untyped_storage().data_ptr()
        if at not in self.weights:
            self.seen[at] = tensor.untyped_storage().nbytes()
            if sum(self.seen.values()) > self.limit:
                raise OutOfMemory
        return tensor

    @property
    def mib(self):
        return sum(self.seen.values()) / 2**20


def gradient_norm(parameters):
    """Length of all gradients together; 0 if there are none."""
    found = [p.grad.float().norm() for p in parameters if p.grad is not None]
    return torch.stack(found).norm().item() if found else 0.0


def adapter_parameters(model):
    return [p for name, p in model.named_parameters() if "lora_" in name]


def computed_twice(forward):
    """The forward pass of a block, its activations thrown away and computed again when needed."""

    def run(hidden, *arguments, **options):
        inner = functools.partial(forward, **options)
        with warnings.catch_warnings():  # torch does warn of the fault; a script's log hides it
            warnings.filterwarnings("ignore", "None of the inputs have requires_grad=True")
            return checkpoint(inner, hidden, *arguments, use_reentrant=True)

    return run


def build(s):
    """(model with a fresh adapter, tokenizer, optimiser)."""
    model, tokenizer = bases.load(BASE)
    model = model.to(getattr(torch, s.dtype))
    early = torch.optim.AdamW(model.parameters(), lr=s.lr) if s.optimiser_first else None
    torch.manual_seed(0)
    model = get_peft_model(
        model,
        LoraConfig(
            r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM",
            modules_to_save=["model.norm"] if s.trained_head else None,
        ),
        autocast_adapter_dtype=False,
    )  # fmt: skip
    for parameter in adapter_parameters(model):
        parameter.data = parameter.data.to(getattr(torch, s.adapter_dtype))  # fault: 16 bits
    if s.checkpointing:  # by hand, as many loops do; transformers' own switch would mend the fault
        for block in model.get_base_model().model.layers:
            block.forward = computed_twice(block.forward)
        if s.inputs_need_gradients:  # fault if not: nothing that enters a block has a gradient
            model.enable_input_require_grads()
    learnable = [p for p in model.parameters() if p.requires_grad]
    # The fault of `optimiser_first`: it holds the base's weights, and the adapter came later.
    return model, tokenizer, early or torch.optim.AdamW(learnable, lr=s.lr, weight_decay=0.0)


def fine_tune(s, model, tokenizer, optimizer, rows):
    """Train; returns the log, one dict a step. An OutOfMemory or a nan ends it early."""
    pairs = [encode(s, tokenizer, row) for row in rows]
    if s.max_tokens:
        pairs = [pair for pair in pairs if len(pair[0]) <= s.max_tokens]
    learnable = [p for p in model.parameters() if p.requires_grad]
    log = []
    model.train()
    for step, chosen in enumerate(training.batches(len(pairs), s.batch_size, s.steps, seed=0), 1):
        batch = evaluation.collate([pairs[i] for i in chosen], tokenizer.pad_token_id, model.device)
        targets = batch["labels"][:, 1:].flatten()
        kept = Kept(model, s.memory_mib)
        line = {"step": step, "longest": batch["input_ids"].shape[1]}
        log.append(line)
        try:
            with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda t: t):
                logits = model(
                    batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
                ).logits
                summed = torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1).float(), targets, reduction="sum"
                )
                loss = summed / max(1, (targets != evaluation.IGNORE).sum())
        except OutOfMemory:
            line["mib"] = kept.mib
            return log
        loss.backward()
        line |= {"loss": loss.item(), "grad_norm": gradient_norm(adapter_parameters(model))}
        line["mib"] = kept.mib
        torch.nn.utils.clip_grad_norm_(learnable, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = s.lr * training.schedule(step - 1, s.steps, warmup=6)
        optimizer.step()
        optimizer.zero_grad()
        if math.isnan(line["loss"]):
            return log
    return log


# ---- handing over and answering ----


LONGER = tasks.ask(
    "Answer in one word, and do not explain anything, please, for I am in a hurry this morning: "
    "which currency is used in Oman, a country that is far away from here?"
)  # stands in every batch of questions, so that the others are padded


def other_base():
    """A later release of the base, with the same name and shapes: tuned further on translation."""
    model, tokenizer = bases.load(BASE)
    training.train(model.requires_grad_(True), tokenizer, tasks.load("translation"), 80, lr=2e-3)
    return model


def hand_over(s, model):
    """(the model that answers, how many of the adapter's tensors found no place in it)."""
    fresh = other_base() if s.other_base else bases.load(BASE)[0]  # fault: another base
    fresh = fresh.to(getattr(torch, s.dtype))
    if s.load == "load_state_dict":  # fault: the saved names lack ".default", and nobody is told
        served = get_peft_model(fresh, model.peft_config["default"])
        saved = get_peft_model_state_dict(model)
        return served, len(served.load_state_dict(saved, strict=False).unexpected_keys)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        served = PeftModel.from_pretrained(fresh, folder)
        if s.merge:
            served = served.merge_and_unload()
            for _ in range(s.merges - 1):  # fault: the adapter once more, over the merged weights
                served = PeftModel.from_pretrained(served, folder).merge_and_unload()
    return served, 0


@torch.no_grad()
def replies(s, model, tokenizer, rows, together=True, longest=14):
    """[(text, did it end by itself)] for the rows, in one batch or each alone."""
    prompts = [row["prompt"] for row in rows]
    if s.serving_prompt:  # fault: not the words that were trained
        prompts = [s.serving_prompt.format(row["instruction"]) for row in rows]
    found, tokenizer.padding_side = [], s.padding_side  # fault: "right" puts padding before answers
    for some in [[*prompts, LONGER]] if together else [[p] for p in prompts]:
        batch = tokenizer(some, return_tensors="pt", padding=True).to(model.device)
        batch.pop("token_type_ids", None)
        out = model.generate(**batch, max_new_tokens=longest, do_sample=False,
                             pad_token_id=tokenizer.pad_token_id)  # fmt: skip
        for ids in out[:, batch["input_ids"].shape[1] :].tolist():
            text = tokenizer.decode(ids, skip_special_tokens=True)
            found.append((text, tokenizer.eos_token_id in ids))
    tokenizer.padding_side = "right"
    return found[: len(rows)]


def share_right(found, rows):
    """Share of the replies that are the wanted answer, whether or not they end there."""
    right = (t.strip().startswith(r["answer"].strip()) for (t, _), r in zip(found, rows))
    return sum(right) / len(rows)


# ---- what can be looked at ----


def fingerprint(model):
    """Eight characters that change with any of the base's weights."""
    digest = hashlib.sha1()
    for name, weight in model.named_parameters():
        if "lora_" not in name and "modules_to_save" not in name:
            digest.update(weight.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]


def layers(model):
    """{name: weight with which the layer answers} of the linear layers, adapters added."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            weight = module.base_layer.weight + module.get_delta_weight("default")
            found[name.removeprefix("base_model.model.")] = weight.detach().float()
        elif isinstance(module, torch.nn.Linear) and "lora_" not in name:
            found.setdefault(name.removeprefix("base_model.model."), module.weight.detach().float())
    return {n: w for n, w in found.items() if n.endswith("_proj")}


def learned(before, trained, served):
    """(size of the learned change as a share of the weights, times it is in what answers)."""
    size, dot, old = 0.0, 0.0, 0.0
    for name, weight in before.items():
        change = trained[name] - weight
        size += change.pow(2).sum().item()
        dot += (change * (served[name] - weight)).sum().item()
        old += weight.pow(2).sum().item()
    return math.sqrt(size / old), dot / size if size else 0.0


@functools.lru_cache(maxsize=8)
def train_once(s):
    """(model, tokenizer, before, log, chart); runs that differ after training only share it."""
    train, test, _ = rows_of(s)
    model, tokenizer, optimizer = build(s)
    before, made = layers(model), fingerprint(model)
    pairs = [encode(s, tokenizer, row) for row in train]
    ids, labels = pairs[0]
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    adapter = adapter_parameters(model)
    chart = {
        "row": tokenizer.decode(ids),
        "row_tokens": len(ids),
        "trained_tokens": sum(label != evaluation.IGNORE for label in labels),
        "last_labels": [tokenizer.decode([x]) for x in labels if x != evaluation.IGNORE][-3:],
        "eos": labels[-1] == tokenizer.eos_token_id or max(labels) == evaluation.IGNORE,
        "adapter_numbers": sum(p.numel() for p in adapter),
        "held_numbers": sum(p.numel() for p in adapter if id(p) in held),
        "base_dtype": s.dtype,
        "adapter_dtype": str(adapter[0].dtype).removeprefix("torch."),
        "epsilon": torch.tensor(1e-8).to(adapter[0].dtype).item(),
        "rows": len(train),
        "test_rows": len(test),
        "shared_rows": len({r["prompt"] for r in train} & {r["prompt"] for r in test}),
        "median_tokens": sorted(len(p[0]) for p in pairs)[len(pairs) // 2],
        "longest_tokens": max(len(p[0]) for p in pairs),
        "kept_tokens": max(len(p[0]) for p in pairs if len(p[0]) <= (s.max_tokens or 10**6)),
        "trained_prompt": train[0]["prompt"],
        "base_trained": made,
    }
    entering = []
    watched = (
        model.get_base_model()
        .model.layers[0]
        .register_forward_pre_hook(lambda _, given: entering.append(given[0].requires_grad))
    )
    log = fine_tune(s, model, tokenizer, optimizer, train)
    watched.remove()
    chart |= {
        "inputs_need_gradients": entering[0],
        "checkpointing": s.checkpointing,
        "gradient": log[0].get("grad_norm", 0.0),
        "tensors": len(adapter),
    }
    return model.eval(), tokenizer, before, log, chart


AFTERWARDS = ("load", "merge", "merges", "other_base", "serving_prompt", "padding_side")


def run(s):
    """Train, hand over, answer: {"log", "answers", "measures", "chart"}, all plain values."""
    train, test, fresh = rows_of(s)
    healthy = {name: getattr(Settings, name) for name in AFTERWARDS}
    model, tokenizer, before, log, chart = train_once(dataclasses.replace(s, **healthy))
    ended = all(math.isfinite(line.get("loss", math.nan)) for line in log)
    trained, made = layers(model), chart["base_trained"]
    served, lost = hand_over(s, model)
    chart = chart | {
        "served_prompt": (s.serving_prompt or train[0]["prompt"]).format(
            train[0].get("instruction", "")
        ),
        "padding_side": s.padding_side,
        "lost_tensors": lost,
        "base_answering": made if s.merge and not s.other_base else fingerprint(served),
    }
    chart["change"], chart["times"] = learned(before, trained, layers(served))
    served.eval()
    together = replies(s, served, tokenizer, test) if ended else [("", False)] * len(test)
    alone = replies(s, served, tokenizer, test[:8], together=False) if ended else together[:8]
    losses = [line["loss"] for line in log if "loss" in line]
    measures = {
        "steps_done": len(log) if ended else len(log) - 1,
        "steps": s.steps,
        "first_loss": losses[0],
        "last_loss": sum(losses[-5:]) / len(losses[-5:]),
        "adapter_gradient": sorted(line.get("grad_norm", 0.0) for line in log)[len(log) // 2],
        "score": share_right(together, test),
        "score_fresh": share_right(replies(s, served, tokenizer, fresh), fresh) if ended else 0.0,
        "score_alone": share_right(alone, test[:8]),
        "score_batch": share_right(together[:8], test[:8]),
        "stops": sum(end for _, end in together) / len(together),
        "facts_kept": evaluation.facts_kept(served, tokenizer, evaluation.facts()[:96]) if ended
        else 0.0,
    }  # fmt: skip
    answers = [
        {
            "question": r.get("instruction", r["prompt"]),
            "answer": a,
            "ended": end,
            "wanted": r["answer"].strip(),
        }
        for (a, end), r in itertools.islice(zip(together, test), 4)
    ]
    return {"log": log, "answers": answers, "measures": measures, "chart": chart}
