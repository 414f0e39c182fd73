# %% [markdown]
# # 07 · Prefix tuning
#
# **Can keys and values alone steer a frozen model?**
#
# You will be able to hand a model keys and values that no text produced, prove your version equal to `peft`'s, say what the
# re-parametrisation is for and what becomes of it, choose length and start, and read how much attention a prefix gets.
#
# You need: attention with keys and values, the key-value cache of generation, and lesson 05 for LoRA.

# %% tags=["setup"]

# %% [markdown]
# ## The idea
#
# In attention every position looks at the keys and values of the positions before it. Prefix tuning (Li and Liang, arXiv
# 2101.00190) puts $p$ more in front, in every layer, and trains only those:
#
# $$\text{head} = \text{softmax}\!\left(\frac{Q\,[P_K; K]^\top}{\sqrt{d}}\right)[P_V; V]$$
#
# No text produced $P_K$ and $P_V$; they are parameters. No weight of the model changes. All a prefix can do is add its values to what
# attention reads, and take attention away from the text.

# %%
from utils import figures

p, n = 3, 6
ax = figures.axes(title="What each position of the text may look at", width=5.4, height=2.9)
for row in range(n):
    for column in range(p + row + 1):
        trained = column < p
        ax.add_patch(figures.plt.Rectangle((column, row), 0.92, 0.92, facecolor=figures.COLOURS[1] if trained else "#dcdcdc",
                                           hatch="//" if trained else "", edgecolor=figures.INK, linewidth=0.6))
ax.set(xlim=(-0.1, p + n), ylim=(n, -0.1), ylabel="queries: the text", xlabel="keys and values: prefix (hatched, trained), then the text")
ax.set_xticks([c + 0.46 for c in range(p + n)], [f"$P_{c + 1}$" for c in range(p)] + [f"$x_{c + 1}$" for c in range(n)])
ax.set_yticks([r + 0.46 for r in range(n)], [f"$x_{r + 1}$" for r in range(n)])
ax.grid(False);

# %% [markdown]
# ## By hand
#
# When a model generates, it keeps the keys and values of what it has read in a cache. We hand over a cache that is already filled:
# the model takes our vectors for those of $p$ tokens that it has read. With `mlp_width` a small network makes them from a
# smaller table $P'$: the paper's re-parametrisation, $P = \text{MLP}(P')$.

# %% tags=["by-hand"]
import torch
from torch import nn
from transformers import DynamicCache


class PrefixTuning(nn.Module):
    """Keys [P_K; K] and values [P_V; V] in every layer of a frozen model, through a cache that is filled beforehand."""

    def __init__(self, model, tokens, mlp_width=None):
        super().__init__()
        c = model.config
        self.model = model.requires_grad_(False)
        self.shape = (tokens, c.num_hidden_layers, 2, c.num_key_value_heads, c.head_dim)
        d_kv = c.num_key_value_heads * c.head_dim
        kept = c.num_hidden_layers * 2 * d_kv  # numbers for each virtual token
        self.P = nn.Parameter(torch.randn(tokens, d_kv if mlp_width else kept, device=model.device))
        self.mlp = nn.Sequential(nn.Linear(d_kv, mlp_width), nn.Tanh(), nn.Linear(mlp_width, kept)).to(model.device) if mlp_width else nn.Identity()

    def keys_and_values(self):
        """[layer, key or value, head, virtual token, head_dim]"""
        return self.mlp(self.P).view(self.shape).permute(1, 2, 3, 0, 4)

    def forward(self, input_ids, attention_mask):
        rows = len(input_ids)
        cache = DynamicCache([tuple(kv.unsqueeze(1).expand(-1, rows, -1, -1, -1)) for kv in self.keys_and_values()])
        mask = torch.cat([attention_mask.new_ones(rows, self.shape[0]), attention_mask], dim=1)
        return self.model(input_ids=input_ids, attention_mask=mask, past_key_values=cache)


# %% [markdown]
# The mask grows by $p$ ones in front, the logits do not: a prefix has keys and values, but it asks nothing and predicts nothing.
# What is kept of a prefix is $2 \cdot L \cdot p \cdot d_{kv}$ numbers. With grouped-query attention $d_{kv}$ is smaller than the
# hidden size $d$, because several query heads share one key and value.

# %%
from utils import bases, evaluation, methods, tasks, training

model, tokenizer = bases.load()
config, p = model.config, 10
d_kv = config.num_key_value_heads * config.head_dim
mine = PrefixTuning(model, tokens=p)
trainable, total = training.count(mine)
assert trainable == 2 * config.num_hidden_layers * p * d_kv
print(f"hidden size {config.hidden_size}, key-value width {d_kv}, {config.num_hidden_layers} layers")
print(f"{p} virtual tokens: {trainable:,} of {total:,} numbers train ({trainable / total:.2%})")

# %% [markdown]
# ## The same as the library
#
# `peft` calls this `PrefixTuningConfig`; `prefix_projection=True` puts the MLP in. We copy our parameters into its encoder,
# with and without MLP, and compare outputs, gradients, and the parameters after one optimiser step. Nothing merges: there is no
# weight that a prefix could be added to.

# %% tags=["parity"]
rows = tasks.load("data_to_text", "train")
batch = evaluation.collate([evaluation.encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows[:8]], tokenizer.pad_token_id, model.device)


def twins(mlp):
    """Our version and peft's with the same numbers, and the pairs of parameters."""
    ours = PrefixTuning(bases.load()[0], tokens=p, mlp_width=d_kv if mlp else None)
    theirs = methods.apply("prefix", bases.load()[0], tokens=p, mlp=mlp)
    pairs = list(zip([q for _, q in training.trainable(ours)], theirs.prompt_encoder["default"].parameters()))
    with torch.no_grad():
        for a, b in pairs:
            b.copy_(a)
    return ours, theirs, pairs


def largest(differences):
    return max(d.abs().max().item() for d in differences)


# %% tags=["parity"]
for mlp in (False, True):
    ours, theirs, pairs = twins(mlp)
    out = [m(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits for m in (ours, theirs)]
    for m in (ours, theirs):
        training.loss_of(m, batch).backward()
    outputs, gradients = largest([out[0] - out[1]]), largest([a.grad - b.grad for a, b in pairs])
    assert outputs < 1e-4 and gradients < 1e-5 and min(a.grad.abs().max().item() for a, _ in pairs) > 0
    for m in (ours, theirs):
        torch.optim.SGD([q for _, q in training.trainable(m)], lr=0.1).step()
    assert largest([a - b for a, b in pairs]) < 1e-5
    print(f"MLP {mlp}, {training.count(ours)[0]:,} parameters: outputs agree within 1e-4, gradients and one step within 1e-5")

# %% [markdown]
# ## Train it on a real task
#
# Data-to-text, the paper's own kind of task: a row of fields goes in, two sentences in a fixed wording come out. The training rows
# name cafes, museums and shops. A second test set, `shifted`, has only inns and what inns offer, which no training row has.

# %%
validation, test, shifted = (tasks.load("data_to_text", split) for split in ("validation", "test", "shifted"))
base, _ = bases.load()
print(f"{len(rows)} training rows, {len(validation)} for choosing, {len(test)} for the score, {len(shifted)} of another topic")
for row in (rows[0], shifted[0]):
    print("\n" + row["prompt"] + row["answer"])

# %% [markdown]
# The rate was chosen beforehand on validation rows, from one grid for all methods (`tools/sweep_plans/lesson_07.py`, stored in
# `data/results/prefix-length.json`). Here is the search for a prefix of 20, without MLP.

# %%
import json

from utils import results
from utils.tables import Table

sweep = results.load("prefix-length")["rows"]


def runs_of(method, stored=sweep, **options):
    """All runs of one arm; those at the rate that won have `chosen`."""
    return [r for r in stored if r["method"] == method and json.loads(r["options"]) == options]


search = [r for r in runs_of("prefix", tokens=20) if r["seed"] == 0]
display(Table(["learning rate", "validation loss", "validation score", "chosen"],
              [(f"{r['lr']:g}", r["validation_loss"], r["validation_score"], "yes" if r["chosen"] else "") for r in search]))
stored = next(r for r in search if r["chosen"])

# %% tags=["train"]
tuned = methods.apply("prefix", bases.load()[0], tokens=20)
history = training.train(tuned, tokenizer, rows, steps=stored["steps"], lr=stored["lr"], batch_size=stored["batch_size"])
loss = evaluation.answer_loss(tuned, tokenizer, test)
assert abs(loss - stored["test_loss"]) < 1e-3, "the stored row should come out again"
before_loss = evaluation.answer_loss(base, tokenizer, test)
print(f"loss on the test answers: base {before_loss:.3f}, with the prefix {loss:.3f} nats a token: equal to the stored run")

# %%
ax = figures.axes(title="Loss on the answers", xlabel="step", ylabel="nats a token", width=4.6)
figures.line(ax, range(1, len(history.loss) + 1), figures.smooth(history.loss), marker="")
ax.set_ylim(bottom=0);

# %%
some = test[:3] + shifted[:3]
before = evaluation.answers(base, tokenizer, [r["prompt"] for r in some], max_new_tokens=12)
after = evaluation.answers(tuned, tokenizer, [r["prompt"] for r in some], max_new_tokens=30)
Table(["wanted", "base", "with the prefix"], [(r["answer"].strip(), b.strip()[:40], a.strip()) for r, b, a in zip(some, before, after)])

# %% [markdown]
# The wording is there, word for word. What has to be read from the row and copied is another matter.
#
# ## Does it read the row?
#
# Suppose a writer knows the wording and how often each name, offer, area and price occurs in the training rows, and writes with closed
# eyes. What loss would that writer have? Each free choice costs $-\log$ of its frequency, all other words cost nothing.

# %%
import math
from collections import Counter, defaultdict


def choices(row):
    """What remains to be chosen once the wording is known: (of what, which)."""
    field = dict(part.split(": ") for part in row["data"].split(" | "))
    first, last = field["name"].split()
    return [("first", first), ("last", last), ("kind", field["kind"]), ("of a " + field["kind"], field["offer"]),
            ("area", field["area"]), ("price", field["price"])]


seen = defaultdict(Counter)
for what, which in (choice for row in rows for choice in choices(row)):
    seen[what][which] += 1
tokens_in_answers = sum(len(tokenizer(r["answer"], add_special_tokens=False)["input_ids"]) + 1 for r in test)
blind = -sum(math.log(seen[a][b] / seen[a].total()) for r in test for a, b in choices(r)) / tokens_in_answers
print(f"a writer with closed eyes: {blind:.3f} nats a token; the prefix: {loss:.3f}")

# %% [markdown]
# The two are close, which is suspicious. A control decides it: give the model the data of *another* row and score the same answers.
# Whoever reads the row must do worse then. LoRA, trained for as many steps at the rate that won its own search, stands beside it.

# %% tags=["train"]
stored_lora = next(r for r in runs_of("lora", rank=8) if r["chosen"] and r["seed"] == 0)
lora = methods.apply("lora", bases.load()[0], rank=8)
training.train(lora, tokenizer, rows, steps=stored_lora["steps"], lr=stored_lora["lr"], batch_size=stored_lora["batch_size"])
some_rows = test[:100]
strangers = [{**row, "prompt": other["prompt"]} for row, other in zip(some_rows, some_rows[1:] + some_rows[:1])]
reads = {name: [evaluation.answer_loss(m, tokenizer, part) for part in (some_rows, strangers)] for name, m in (("prefix 20", tuned), ("LoRA r=8", lora))}
Table(["loss on the answers", "own row", "another row"], [(name, *values) for name, values in reads.items()])

# %% [markdown]
# And the base itself? Nothing in it has changed: with the prefix taken off it is the model that it was.

# %%
kept_on = evaluation.facts_kept(tuned, tokenizer)
with tuned.disable_adapter():
    kept_off = evaluation.facts_kept(tuned, tokenizer)
assert kept_off == evaluation.facts_kept(base, tokenizer)
print(f"facts of the world completed: {kept_on:.2f} with the prefix, {kept_off:.2f} without it, as the base")

# %% [markdown]
# ## How long, from where, and with or without the MLP?
#
# Each point is three runs with different seeds at the rate that won for that arm. Full tuning and LoRA went through the same search
# over the same rates. "From words" starts from the keys and values of a text in the task's wording instead of noise, as the paper
# does when rows are few.

# %%
WORDS = " Red Fox is a shop near the harbour. It offers flowers at fair prices." * 2
ARMS = {"full tuning": ("full", {}), "LoRA r=8": ("lora", {"rank": 8}), **{f"prefix {k}": ("prefix", {"tokens": k}) for k in (1, 5, 20)},
        "prefix 20, MLP": ("prefix", {"tokens": 20, "mlp": True}), "prefix 20, from words": ("prefix", {"tokens": 20, "text": WORDS})}
best = {name: [r for r in runs_of(method, **options) if r["chosen"]] for name, (method, options) in ARMS.items()}
Table(["method", "trainable", "rate", "test loss", "test score", "loss on inns", "facts kept"],
      [(name, r[0]["trainable"], f"{r[0]['lr']:g}", *(results.mean_and_spread(r, c).removesuffix(" (3 runs)") for c in
        ("test_loss", "test_score", "shifted_loss", "facts_kept"))) for name, r in best.items()])

# %%
lengths = (1, 5, 20)
panels = figures.axes(2, title=["cafes, museums, shops", "inns, never trained on"], xlabel="virtual tokens p", ylabel="loss, nats a token")
for ax, column in zip(panels, ("test_loss", "shifted_loss")):
    arms = [best[f"prefix {k}"] for k in lengths]
    figures.line(ax, range(3), [results.mean(r, column) for r in arms], "prefix", 0, [results.spread(r, column) for r in arms])
    figures.line(ax, [2], [results.mean(best["prefix 20, MLP"], column)], "prefix with MLP", 1, linestyle="")
    for number, name in ((2, "LoRA r=8"), (3, "full tuning")):
        ax.axhline(results.mean(best[name], column), color=figures.COLOURS[number], linestyle=figures.DASHES[number], label=name)
    ax.set_xticks(range(3), lengths)
    ax.set_ylim(bottom=0)
panels[0].axhline(blind, color=figures.FAINT, linewidth=5, zorder=0, label="eyes closed")
panels[0].legend(fontsize=8.5);

# %% [markdown]
# ## What the attention to a prefix looks like
#
# The softmax of every position shares out one unit of attention. What goes to the prefix is missing from the text. With
# `attn_implementation="eager"` the model gives these shares out: here for one test row, mean over the positions of its answer.

# %%
tuned.base_model.set_attn_implementation("eager")
prompt_ids, labels = evaluation.encode_pair(tokenizer, test[0]["prompt"], test[0]["answer"])
one = evaluation.collate([(prompt_ids, labels)], tokenizer.pad_token_id, model.device)
with torch.inference_mode():
    maps = tuned(input_ids=one["input_ids"], attention_mask=one["attention_mask"], output_attentions=True).attentions
tuned.base_model.set_attn_implementation("sdpa")
share = torch.stack(maps)[:, 0, :, :, :20].sum(-1).cpu()  # [layer, head, position]
print("of the attention of all heads and positions,", f"{share.mean():.0%} goes to the prefix; most in one head:", f"{share.mean(-1).max():.0%}")

# %%
left, right = figures.axes(2, title=["Share of attention on the prefix", "by position, mean over heads"])
answer = torch.tensor(labels) != evaluation.IGNORE
grid = share[:, :, answer].mean(-1)
left.imshow(grid, cmap="Greys", vmin=0, vmax=1.4, aspect="auto")
for layer, row in enumerate(grid):
    for head, value in enumerate(row):
        left.text(head, layer, f"{value:.2f}", ha="center", va="center", fontsize=9)
left.set(xlabel="head", ylabel="layer", xticks=range(grid.shape[1]), yticks=range(grid.shape[0]))
left.grid(False)
for layer in range(len(share)):
    figures.line(right, range(share.shape[-1]), share[layer].mean(0), f"layer {layer}", layer, marker="")
right.axvspan(answer.nonzero()[0].item(), share.shape[-1] - 1, color="#eeeeee", zorder=0)
right.set(xlabel="position (grey: the answer)", ylim=(0, 1.02))
right.legend(fontsize=8.5, ncols=2);

# %% [markdown]
# ## What is stored, what is thrown away
#
# The MLP is a scaffold. After training its output is computed once, and only that is saved: $p$ rows of $2 \cdot L \cdot d_{kv}$
# numbers, the same as without MLP. We save `peft`'s twin with the MLP from above, load it, and compare.

# %%
import pathlib
import tempfile

from peft import PeftModel
from safetensors.torch import load_file

folder = pathlib.Path(tempfile.mkdtemp())
theirs.save_pretrained(folder)
kept = load_file(folder / "adapter_model.safetensors")
reloaded = PeftModel.from_pretrained(bases.load()[0], folder)
inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
with torch.inference_mode():
    assert largest([theirs(**inputs).logits - reloaded(**inputs).logits]) < 1e-5
with_mlp, in_file = training.count(theirs)[0], sum(t.numel() for t in kept.values())
assert in_file == 2 * config.num_hidden_layers * p * d_kv
print(f"trained {with_mlp:,} numbers, stored {in_file:,}; outputs after loading agree within 1e-5")

# %% [markdown]
# The price: the scaffold is gone. `peft` loads a saved prefix for inference only.

# %%
try:
    PeftModel.from_pretrained(bases.load()[0], folder, is_trainable=True)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# ## What the article says
#
# Three claims. The second needs another sweep: the same search with 50 training rows in place of 300.

# %%
few = results.load("prefix-few-rows")["rows"]
few_best = {name: [r for r in runs_of(ARMS[name][0], few, **ARMS[name][1]) if r["chosen"]] for name in ("full tuning", "prefix 20")}
Table(["trained on", "full tuning", "prefix 20"],
      [(f"{count} rows: {column.replace('_', ' ')}", *(results.mean_and_spread(arms[n], column).removesuffix(" (3 runs)") for n in few_best))
       for count, arms in ((len(rows), best), (50, few_best)) for column in ("test_loss", "shifted_loss")])

# %% tags=["claims"]
from utils.claims import cards


def gap(arms, column, other="full tuning"):
    """prefix 20 minus another method, with the 95 % interval over three seeds."""
    mean, half = results.paired_difference(arms["prefix 20"], arms[other], column)
    return f"{mean:+.2f} ± {half:.2f}"


changed = [n for (n, a), (_, b) in zip(base.named_parameters(), tuned.base_model.named_parameters()) if not torch.equal(a, b)]
assert changed == []
cards({32: f"loss on test answers, prefix 20 minus full tuning: {gap(best, 'test_loss')} nats a token (95 % interval, three seeds); "
           f"minus LoRA r=8: {gap(best, 'test_loss', 'LoRA r=8')}",
       33: f"prefix 20 minus full tuning with 50 rows: {gap(few_best, 'test_loss')} nats a token; on inns, "
           f"{len(rows)} rows: {gap(best, 'shifted_loss')}",
       34: f"after training {len(changed)} of {len(list(base.parameters()))} tensors of the base differ. The twin with MLP trained "
           f"{with_mlp:,} numbers and stored {in_file:,}"})

# %% [markdown]
# ## Break it
#
# Gradient checkpointing saves memory, and trainers switch it on by default. We switch it on after the prefix is made, as a trainer
# does, take one step, and listen to the warnings of transformers, which the set-up of this course otherwise silences.

# %% tags=["break-it"]
import logging

from transformers.utils import logging as hf_logging

said = []
listener = logging.Handler()
listener.emit = lambda record: said.append(record.getMessage())
hf_logging.set_verbosity_warning(), hf_logging.disable_default_handler(), hf_logging.add_handler(listener)
broken = methods.apply("prefix", bases.load()[0], tokens=p)
broken.base_model.gradient_checkpointing_enable()
broken.train()
try:
    training.loss_of(broken, batch).backward()
except RuntimeError as error:
    print("RuntimeError:", error)
print("\n".join(f"warning: {text}" for text in said))

# %% [markdown]
# Diagnosis: the two widths in the message differ by $p$. Checkpointing computes every layer twice, and a cache must not be filled
# twice, so transformers drops it, and with it the prefix. The mask still counts the virtual tokens. The repair is to train
# without checkpointing: in TRL, `SFTConfig(gradient_checkpointing=False)`.

# %% tags=["break-it"]
length = batch["input_ids"].shape[1]
print(f"the text has {length} positions; with the prefix the mask has {length + p}")
broken.base_model.gradient_checkpointing_disable()
training.loss_of(broken, batch).backward()
gradient = broken.prompt_encoder["default"].embedding.weight.grad.abs().max().item()
assert gradient > 0
hf_logging.remove_handler(listener), hf_logging.enable_default_handler(), hf_logging.set_verbosity_error()
print("without checkpointing a gradient reaches the prefix")

# %% [markdown]
# Had checkpointing been on before `get_peft_model`, `peft` would have refused at once and said why.

# %% tags=["break-it"]
early = bases.load()[0]
early.gradient_checkpointing_enable()
try:
    methods.apply("prefix", early, tokens=p)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# ## Exercises
#
# **1** (easy, 5 minutes). How many numbers does the file of a prefix hold? The model has `heads` query heads and `kv_heads` key-value
# heads.

# %% tags=["exercise"]
from exercises import lesson_07


def stored_numbers(layers, tokens, heads, kv_heads, head_dim):
    ...  # your code


lesson_07.count_stored(stored_numbers)

# %% [markdown]
# **2** (easy, 5 minutes). The attention mask of a padded batch, made wide enough for a prefix of `p`.

# %% tags=["exercise"]
def with_prefix(mask, p):
    """mask [batch, length] of 1 (seen) and 0 (padding) -> [batch, p + length]."""
    ...  # your code


lesson_07.widen_mask(with_prefix)

# %% [markdown]
# **3** (medium, 10 minutes). In the file each virtual token is one long row, `[layers, 2, kv_heads, head_dim]` laid flat, the key
# before the value. Take out the key and the value of one layer in the shape that a cache wants.

# %% tags=["exercise"]
def layer_of(flat, layer, layers, kv_heads, head_dim):
    """flat [p, layers * 2 * kv_heads * head_dim] -> key, value, each [kv_heads, p, head_dim]."""
    ...  # your code


lesson_07.unpack(layer_of)

# %% [markdown]
# ## Recap

# %% tags=["recap"]
from IPython.display import Markdown

losses = {name: results.mean(r, "test_loss") for name, r in best.items()}
Markdown(f"""
- A prefix is $2 \\cdot L \\cdot p \\cdot d_{{kv}}$ numbers, handed over as a cache that is already filled: {trainable:,} for p = {p} here. It equals `peft`'s with and without the MLP.
- Keys and values alone do steer a frozen model: the loss on the answers falls from {before_loss:.2f} to {losses["prefix 20"]:.2f} with 20 virtual tokens. LoRA r = 8 reaches {losses["LoRA r=8"]:.2f} and full tuning {losses["full tuning"]:.2f} with the same search and the same steps.
- One virtual token reaches {losses["prefix 1"]:.2f}, five {losses["prefix 5"]:.2f}.
- The MLP is thrown away: {with_mlp:,} numbers trained, {in_file:,} stored, equal outputs. A saved prefix cannot be trained on.
- {share.mean():.0%} of the attention goes to the prefix of 20 in the row that we looked at.
""")

# %% [markdown]
# **When to use it.** When one frozen model serves many tasks and no weight may change: a prefix is a small file that is put in front of
# a request. **When not.** When the context is short: every virtual token takes a place in the cache of every request. When the
# adapter should vanish at inference: it does not merge. When training must go on later: keep a checkpoint of what trains, because
# the saved prefix is loaded for inference only.
#
# **Papers.** Prefix tuning 2101.00190 · P-tuning v2 2110.07602 · grouped-query attention 2305.13245
#
# **Next.** [08 · Prompt tuning](08_prompt_tuning.ipynb): the same idea with nothing but the input.
