# %% [markdown]
# # 08 · Prompt tuning
#
# **Can a frozen model be steered by its input alone?**
#
# You will be able to write prompt tuning in twelve lines, prove your version equal to `peft`'s, choose how a prompt starts and
# how fast it learns, let several prompts vote, and say what a small model cannot be told this way.
#
# You need: what an embedding is, and lesson 07 for a prompt that reaches every layer.

# %% tags=["setup"]

# %% [markdown]
# ## The idea
#
# A prompt in words is a row of embeddings taken from the vocabulary. Prompt tuning (Lester et al., arXiv 2104.08691) drops the
# words and learns the row itself:
#
# $$\text{input} = [P_e;\, X_e], \qquad P_e \in \mathbb{R}^{p \times d} \text{ trained}, \quad X_e \in \mathbb{R}^{n \times d} \text{ the text}$$
#
# Every weight of the model stays frozen. $p$ is the number of virtual tokens and $d$ the width of an embedding, so a task costs
# $p \cdot d$ numbers. No word need exist that has these embeddings.

# %%
from utils import figures

ax = figures.axes(title="The input of one row: trained columns in front, frozen ones behind", width=7.2, height=1.7)
text = "Review: The plot was superb. Sentiment:".split()
for place in range(4 + len(text)):
    virtual = place < 4
    ax.add_patch(figures.plt.Rectangle((place, 0), 0.86, 1, facecolor=figures.COLOURS[1] if virtual else "#dcdcdc",
                                       hatch="//" if virtual else "", edgecolor=figures.INK))
    ax.text(place + 0.43, -0.28, f"$p_{place + 1}$" if virtual else text[place - 4], ha="center", fontsize=9)
ax.set(xlim=(-0.2, 4.2 + len(text)), ylim=(-0.5, 1.2))
_ = ax.axis("off")

# %% [markdown]
# ## By hand
#
# The wrapper looks the words up itself, puts the prompt in front, and lengthens the attention mask to match. The rest of the
# model does not know that anything happened.

# %% tags=["by-hand"]
import torch
from torch import nn


class PromptTuned(nn.Module):
    """A frozen model with trainable embeddings in front of its input: [P; X]."""

    def __init__(self, model, start):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.prompt = nn.Parameter(start.clone())

    def forward(self, input_ids, attention_mask):
        words = self.model.get_input_embeddings()(input_ids)
        prompt = self.prompt.to(words.dtype).expand(len(words), -1, -1)
        mask = torch.cat([attention_mask.new_ones(prompt.shape[:2]), attention_mask], dim=1)
        return self.model(inputs_embeds=torch.cat([prompt, words], dim=1), attention_mask=mask)


# %%
from utils import bases, training

tokens = 10
model, tokenizer = bases.load()
width = model.config.hidden_size
torch.manual_seed(0)
mine = PromptTuned(model, torch.randn(tokens, width))
trainable, total = training.count(mine)
assert trainable == tokens * width
print(f"{trainable:,} of {total:,} numbers train ({trainable / total:.2%})")

# %% [markdown]
# ## The same as the library
#
# `peft` keeps the prompt in an embedding table of its own. We copy ours into it and compare outputs, gradients and the prompt
# after one optimiser step. There is nothing to merge: a prompt is not a change of any weight.

# %% tags=["parity"]
from utils import evaluation, methods, tasks

theirs = methods.apply("prompt", bases.load()[0], tokens=tokens)
table = theirs.prompt_encoder["default"].embedding.weight
with torch.no_grad():
    table.copy_(mine.prompt)

rows = tasks.load("sentiment", "train")
batch = evaluation.collate([evaluation.encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows[:8]], tokenizer.pad_token_id, model.device)
out = [m(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits for m in (mine, theirs)]
print("text:", batch["input_ids"].shape[1], "tokens a row; logits:", out[1].shape[1], "a row, the virtual tokens' own included")

# %% tags=["parity"]
for m in (mine, theirs):
    training.loss_of(m, batch).backward()
assert (out[0] - out[1]).abs().max() < 1e-4 and (mine.prompt.grad - table.grad).abs().max() < 1e-5
print("outputs agree within 1e-4, gradients within 1e-5")

for m, prompt in ((mine, mine.prompt), (theirs, table)):
    torch.optim.SGD([prompt], lr=0.1).step()
assert (mine.prompt - table).abs().max() < 1e-5
print("after one step the prompts agree within 1e-5")

# %% [markdown]
# ## First: what does the base expect here?
#
# The task: is a review positive or negative? Before tuning anything, measure what each wanted token costs the untouched base, in
# the course's plain form and in a sentence. (Cost: $-\log p$, in nats.)

# %%
from utils.tables import Table


def sentence(row):
    """The same task as a sentence such as the base has read."""
    return {**row, "prompt": f"{row['text']} The sentiment is", "answer": f" {row['label']}."}


def costs(model, row):
    """[(token, nats)] of the answer's tokens and the end of the text."""
    ids, labels = evaluation.encode_pair(tokenizer, row["prompt"], row["answer"])
    with torch.inference_mode():
        log_p = model(input_ids=torch.tensor([ids], device=model.device)).logits[0].log_softmax(-1)
    return [(tokenizer.decode([t]), -log_p[i - 1, t].item()) for i, t in enumerate(labels) if t != evaluation.IGNORE]


base, _ = bases.load()
for row in (rows[0], sentence(rows[0])):
    print(f"...{row['prompt'][-32:]!r}:", ", ".join(f"{token!r} {nats:.2f}" for token, nats in costs(base, row)))

# %% [markdown]
# In the plain form the base resists twice: it does not expect a label there, and it has hardly ever seen a text end without a full
# stop. The paper met something like it: its T5 had been pre-trained only on text with gaps, and prompts steered it poorly until
# it was trained a while on plain text (§3.2). We take the sentence instead: there only the label has to be steered.
#
# A model that always gives one label is right half of the time. One half means that nothing was learned.

# %%
import collections

rows, validation, test = ([sentence(r) for r in tasks.load("sentiment", split)] for split in ("train", "validation", "test"))
majority = collections.Counter(r["answer"] for r in test).most_common(1)[0][1] / len(test)
print(f"majority baseline {majority:.3f}, the base without a prompt {evaluation.exact_match(base, tokenizer, test):.3f}")
print(test[0]["prompt"] + test[0]["answer"])

# %% [markdown]
# ## How a prompt starts, and how fast it learns
#
# `peft` offers three starts. `RANDOM` draws every number from a normal distribution of width one. `SAMPLE_VOCAB` copies the
# embeddings of words picked at random. `TEXT` copies those of a text; with the two labels as the text it is the paper's
# class-label start. Look at their sizes before anything else.

# %%
LABELS = {"tokens": tokens, "init": "TEXT", "text": " positive negative"}
STARTS = {"random": {"tokens": tokens, "init": "RANDOM"}, "vocabulary": {"tokens": tokens, "init": "SAMPLE_VOCAB"}, "class labels": LABELS}


def prompt_of(model):
    """The virtual tokens of a peft model, [p, d]."""
    return model.get_prompt_embedding_to_save("default")


words = base.get_input_embeddings().weight.detach()
starts = {name: prompt_of(methods.apply("prompt", bases.load()[0], **options)) for name, options in STARTS.items()}
Table(["start", "mean length of a vector"], [("(all words of the base)", words.norm(dim=1).mean().item()),
                                             *((name, P.norm(dim=1).mean().item()) for name, P in starts.items())])

# %% [markdown]
# Each start was trained once at each of five rates; the rate with the best validation score was trained again with two more
# seeds (`data/results/prompt-start.json`). The left end of the axis is a rate that suits LoRA.

# %%
import json

from utils import results

sweep = results.load("prompt-start")["rows"]


def arm(rows, chosen=True, **wanted):
    """The runs of one arm of a sweep: those at its chosen rate, or seed 0 at every rate."""
    return [r for r in results.select(rows, **wanted) if (r["chosen"] if chosen else r["seed"] == 0)]


by_start = {name: json.dumps(options) for name, options in STARTS.items()}
ax = figures.axes(title="Score on validation rows", xlabel="learning rate", width=5.2)
for number, (name, options) in enumerate(by_start.items()):
    runs = arm(sweep, chosen=False, task="sentiment", options=options)
    figures.line(ax, [r["lr"] for r in runs], [r["validation_score"] for r in runs], name, number)
ax.axhline(majority, color=figures.INK, linewidth=1, linestyle=":")
ax.set(xscale="log", ylim=(0, 1.05))
_ = ax.legend(title="dotted: majority")

# %%
chosen = {name: arm(sweep, task="sentiment", options=options) for name, options in by_start.items()}
plain = arm(results.load("prompt-plain")["rows"])
Table(["start", "chosen rate", "steps", "validation", "test", "facts kept"],
      [(name, runs[0]["lr"], runs[0]["steps"], *(results.mean_and_spread(runs, c) for c in ("validation_score", "test_score", "facts_kept")))
       for name, runs in [*chosen.items(), ("class labels, plain form", plain)]])

# %% [markdown]
# ## Train one here
#
# One stored row, trained again in front of you: the class-label start at its chosen rate, seed 0.

# %% tags=["train"]
stored = next(r for r in chosen["class labels"] if r["seed"] == 0)
tuned = methods.apply("prompt", bases.load()[0], **LABELS)
start = prompt_of(tuned)
history = training.train(tuned, tokenizer, rows, steps=stored["steps"], lr=stored["lr"], batch_size=stored["batch_size"])
score = evaluation.exact_match(tuned, tokenizer, test)
assert score == stored["test_score"], "the stored row should come out again"
print(f"lr {stored['lr']:g}, {stored['steps']} steps: test score {score:.3f}, equal to the stored run")

# %%
ax = figures.axes(title="Loss on the answers", xlabel="step", ylabel="nats a token", width=4.6)
figures.line(ax, range(1, len(history.loss) + 1), figures.smooth(history.loss), marker="")
_ = ax.set_ylim(bottom=0)

# %%
some = test[:5]
texts = [r["prompt"] for r in some]
before, after = (evaluation.answers(m, tokenizer, texts, max_new_tokens=8) for m in (base, tuned))
Table(["review", "base", "with the prompt", "right"], [(r["text"], b.strip()[:24], a.strip(), r["label"]) for r, b, a in zip(some, before, after)])

# %% [markdown]
# ## What does the prompt say?
#
# The virtual tokens live among the embeddings of words, so one can ask which word is nearest to each (by cosine).

# %%
learned = prompt_of(tuned)
unit = words / words.norm(dim=1, keepdim=True)


def nearest(vectors):
    """The nearest word of each vector, and its cosine."""
    best = (vectors / vectors.norm(dim=1, keepdim=True) @ unit.T).max(dim=1)
    return [repr(tokenizer.decode([i])) for i in best.indices.tolist()], best.values.tolist()


Table(["virtual token", "starts as", "ends nearest to", "cosine", "length", "moved by"],
      [(i, s, w, c, n, m) for i, (s, w, c, n, m) in enumerate(zip(nearest(start)[0], *nearest(learned), learned.norm(dim=1).tolist(),
                                                                   (learned - start).norm(dim=1).tolist()))])

# %% [markdown]
# ## Against examples in the context
#
# The other way to steer by the input alone is to show examples (few-shot prompting): no training, but every example costs
# context in every call. The same frozen base, with training rows as examples:

# %%
def few_shot(rows, examples):
    """The rows with solved examples in front of each prompt."""
    shown = "".join(f"{r['prompt']}{r['answer']} " for r in examples)
    return [{**r, "prompt": shown + r["prompt"]} for r in rows]


pairs = [(next(r for r in rows[k:] if r["label"] == "positive"), next(r for r in rows[k:] if r["label"] == "negative")) for k in (0, 20, 40)]
shots = {}
for count in (2, 4):
    for order, pair in enumerate(pairs):
        examples = (list(pair) + list(pairs[order - 1]))[:count]
        hits = evaluation.correct_rows(base, tokenizer, few_shot(test[:60], examples), eos=False)
        shots.setdefault(count, []).append(sum(hits) / len(hits))
Table(["examples in the context", "three draws of examples, first 60 test rows"],
      [(count, ", ".join(f"{v:.2f}" for v in values)) for count, values in shots.items()])

# %% [markdown]
# ## Does size matter?
#
# The paper's main figure: the larger the frozen model, the smaller the gap between tuning the prompt and tuning the whole
# model. Our bases are at the small end of that axis, or rather to the left of it. Same rows, same number of steps, five rates
# for each method, three seeds at the best one.

# %%
SIZES = [size for size in ("xs", "s", "m") if (results.DATA / "results" / f"prompt-full-{size}.json").exists()]


def sized(size):
    """The chosen runs of (prompt, full) on one base."""
    prompt = chosen["class labels"] if size == "s" else arm(results.load(f"prompt-scale-{size}")["rows"])
    return prompt, arm(results.load(f"prompt-full-{size}")["rows"])


scale = {size: sized(size) for size in SIZES}
parameters = [results.load(f"prompt-full-{size}")["rows"][0]["trainable"] for size in SIZES]
ax = figures.axes(title="Test score over the size of the frozen base", xlabel="parameters of the base", width=5.2)
for number, (name, place) in enumerate((("full tuning", 1), ("prompt tuning", 0))):
    runs = [scale[size][place] for size in SIZES]
    figures.line(ax, parameters, [results.mean(r, "test_score") for r in runs], name, number, [results.spread(r, "test_score") for r in runs])
ax.axhline(majority, color=figures.INK, linewidth=1, linestyle=":")
ax.set(xscale="log", ylim=(0.4, 1.03))
_ = ax.legend(title="dotted: majority")

# %%
def gaps():
    for size, count, (prompt, full) in zip(SIZES, parameters, scale.values()):
        mean, half = results.paired_difference(prompt, full, "test_score")
        yield (size, count, prompt[0]["trainable"], results.mean_and_spread(prompt, "test_score"),
               results.mean_and_spread(full, "test_score"), f"{mean:+.2f} ± {half:.2f}")


gap_rows = list(gaps())
Table(["base", "parameters", "in the prompt", "prompt tuning", "full tuning", "difference (95 %)"], gap_rows)

# %% [markdown]
# ## Several prompts over one model
#
# Five prompts, trained with five seeds, are five small files beside one base. One batch can hold a row with each of them, so
# the five answers come from a single pass (`data/results/prompt-votes.safetensors` keeps the prompts).

# %%
from safetensors.torch import load_file

prompts = torch.stack(list(load_file(results.DATA / "results" / "prompt-votes.safetensors").values())).to(base.device, base.dtype)
label_ids = [tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in (" positive", " negative")]


@torch.inference_mode()
def votes(prompts, rows):
    """Log-probabilities of the two labels, [prompts, rows, 2]; all prompts in each batch."""
    found = []
    for start in range(0, len(rows), 50):
        ids = tokenizer([r["prompt"] for r in rows[start:start + 50]], return_tensors="pt", padding=True).to(base.device)
        words = base.get_input_embeddings()(ids["input_ids"]).expand(len(prompts), -1, -1, -1)
        front = prompts[:, None].expand(-1, words.shape[1], -1, -1)
        hidden = base.model(inputs_embeds=torch.cat([front, words], dim=2).flatten(0, 1)).last_hidden_state
        last = prompts.shape[1] + ids["attention_mask"].sum(1) - 1
        hidden = hidden.unflatten(0, words.shape[:2])[:, torch.arange(len(last)), last]
        found.append(base.lm_head(hidden)[..., label_ids].log_softmax(-1))
    return torch.cat(found, dim=1)


# %%
wanted = torch.tensor([int(r["label"] == "negative") for r in test])
log_p = votes(prompts, test).cpu()
alone = [(v.argmax(-1) == wanted).float().mean().item() for v in log_p]
majority_vote = (log_p.argmax(-1).float().mean(0).round() == wanted).float().mean().item()
averaged = (log_p.mean(0).argmax(-1) == wanted).float().mean().item()
ax = figures.axes(title=f"{len(prompts)} prompts alone and together, test score", width=5)
names = [*(f"prompt {i}" for i in range(len(alone))), "majority vote", "averaged log-probabilities"]
_ = figures.bars(ax, names, [*alone, majority_vote, averaged], fmt="{:.3f}")

# %% [markdown]
# ## A shifted domain
#
# Train on reviews of films only, score on films and on products. The test wording is new in both; the products' aspects (price,
# sound, service) are new on top.

# %%
films = {"prompt tuning": arm(results.load("prompt-films")["rows"]), "full tuning": arm(results.load("full-films")["rows"])}
Table(["trained on films", "rate", "films", "products", "change"],
      [(name, runs[0]["lr"], results.mean_and_spread(runs, "test_score"), results.mean_and_spread(runs, "products_score"),
        results.mean(runs, "products_score") - results.mean(runs, "test_score")) for name, runs in films.items()])

# %% [markdown]
# ## What the article says

# %% tags=["claims"]
from utils.claims import cards

best_shots = max(v for values in shots.values() for v in values)
cards({35: f"this base, sentiment: tuned prompt {score:.2f}; examples in the context at best {best_shots:.2f} (six sets tried)",
       36: "prompt tuning minus full tuning, three seeds: " + ", ".join(f"{size} {difference}" for size, *_, difference in gap_rows),
       37: f"five prompts alone {min(alone):.2f} to {max(alone):.2f}, their vote {majority_vote:.2f}. Trained on films, prompt tuning gets "
           f"{results.mean(films['prompt tuning'], 'test_score'):.2f} there and "
           f"{results.mean(films['prompt tuning'], 'products_score'):.2f} on products"})

# %% [markdown]
# ## Break it
#
# You have tuned LoRA before and take its rate over. The library's default start is `RANDOM`.

# %% tags=["break-it"]
def short_run(lr):
    """30 steps from a random start; prints the score, what it answers, and how far the prompt has moved. Returns the losses."""
    model = methods.apply("prompt", bases.load()[0], tokens=tokens)
    first = prompt_of(model)
    losses = training.train(model, tokenizer, rows, steps=30, lr=lr, batch_size=stored["batch_size"]).loss
    moved = (prompt_of(model) - first).norm() / first.norm()
    given = evaluation.answers(model, tokenizer, [r["prompt"] for r in validation[:40]], max_new_tokens=3)
    said = collections.Counter(a.strip() for a in given)
    print(f"lr {lr:g}: validation score {evaluation.exact_match(model, tokenizer, validation):.2f}, loss {sum(losses[-5:]) / 5:.2f}, "
          f"the prompt moved by {moved:.0%} of its length\n  answers to 40 reviews: {dict(said.most_common(3))}")
    return losses


flat = short_run(3e-3)

# %% [markdown]
# The loss comes down and settles, which looks like a finished run. The score says otherwise: it is the majority's. Adam moves each
# number by about the rate in a step, whatever the size of its gradient, and the numbers of this start are of size one. At a
# LoRA-like rate the prompt stays where it was. The repair is the rate; a start from words, whose vectors are shorter, helps too.

# %% tags=["break-it"]
repaired = chosen["random"][0]["lr"]
steep = short_run(repaired)
ax = figures.axes(title="The same 30 steps at two rates", xlabel="step", ylabel="nats a token", width=4.6)
for number, (name, losses) in enumerate((("lr 0.003", flat), (f"lr {repaired:g}", steep))):
    figures.line(ax, range(1, 31), figures.smooth(losses, 5), name, number, marker="")
_ = ax.legend()

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). What does a prompt cost? Give the trained numbers, and how many tokens of text still fit.

# %% tags=["exercise"]
from exercises import lesson_08


def cost(tokens, width, context):
    """(trained numbers, tokens of text that still fit into the context)"""
    ...  # your code


lesson_08.cost(cost)

# %% [markdown]
# **2** (medium, 10 minutes). The logits of a prompt-tuned model begin with those of the virtual tokens. Line them up with the
# labels of the text, shifted by one as for any language model.

# %% tags=["exercise"]
def line_up(logits, labels):
    """logits [batch, p + n, vocabulary], labels [batch, n] -> (logits, labels), both of length n - 1"""
    ...  # your code


lesson_08.line_up(line_up)

# %% [markdown]
# **3** (medium, 10 minutes). Let several prompts vote.

# %% tags=["exercise"]
def vote(log_p):
    """log_p [prompts, rows, labels] -> the label that most prompts prefer, [rows]; on a tie the one of higher summed log_p"""
    ...  # your code


lesson_08.vote(vote)

# %% [markdown]
# ## Recap

# %% tags=["recap"]
from IPython.display import Markdown

start_scores = ", ".join(f"{name} {results.mean_and_spread(runs, 'test_score')}" for name, runs in chosen.items())
size_gaps = ", ".join(f"{size} {difference}" for size, *_, difference in gap_rows)
Markdown(f"""
- A prompt is $p \\cdot d$ numbers in front of the input: here {trainable:,}, {trainable / total:.2%} of the base. A class of twelve lines gives the same outputs, gradients and steps as `peft`; nothing merges.
- Start and rate decide. Test scores at each start's best rate: {start_scores}; the majority is {majority:.2f}.
- Prompt tuning minus full tuning on one base and the same rows: {size_gaps}.
- {len(prompts)} prompts alone score {min(alone):.2f} to {max(alone):.2f}, their vote {majority_vote:.2f}, from one batch over one base.
- Compute the majority baseline first, and search rates far above those of LoRA.
""")

# %% [markdown]
# **When to use it.** When the base is large and must stay untouched, when many tasks share it in one batch, when a task's file
# should be a few kilobytes. **When not.** On a small base, or when a call is short and the virtual tokens would be most of it:
# they are read again in every call. When the task is new to the base: the prompt can only ask for what is there.
#
# **Papers.** Prompt tuning 2104.08691 · prefix tuning 2101.00190 · P-tuning 2103.10385
#
# **Next.** [09 · P-tuning](09_p_tuning.ipynb): a small network writes the prompt.
