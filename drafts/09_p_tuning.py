# %% [markdown]
# # 09 · P-tuning
#
# **What does a network that writes the prompt add?**
#
# You will be able to write P-tuning's encoder in twenty lines, prove it equal to `peft`'s, throw it away without changing an
# answer, tell P-tuning v1 from v2, and compare both with a plain trained prompt under the same search.
#
# You need: lesson 08 for trained prompts, lesson 07 for a prompt in every layer.

# %% tags=["setup"]

# %% [markdown]
# ## The idea
#
# Prompt tuning trains the vectors in front of the input one by one. P-tuning (Liu et al., arXiv 2103.10385) trains a small
# network that writes them all:
#
# $$h_i = \mathrm{MLP}\big([\overrightarrow{\mathrm{LSTM}}(e)_i : \overleftarrow{\mathrm{LSTM}}(e)_i]\big), \qquad i = 1, \dots, p$$
#
# The $e_i$ are trained too. The network ties the $h_i$ together, so a step on one of them moves its neighbours as well. It never
# sees the input: once training is over, $h_1 \dots h_p$ are constants, and the network can go.

# %%
from utils import figures

ax = figures.axes(title="Trained: everything hatched. Stored: the row h. Frozen: the base", width=7.2, height=2.6)


def box(x, y, wide, high, name, trained=True):
    ax.add_patch(figures.plt.Rectangle((x, y), wide, high, facecolor=figures.COLOURS[1] if trained else "#dcdcdc",
                                       hatch="//" if trained else "", edgecolor=figures.INK, alpha=0.85))
    ax.text(x + wide / 2, y + high / 2, name, ha="center", va="center", fontsize=10, bbox=dict(facecolor="white", edgecolor="none", pad=1.5))


for i in range(4):
    box(i, 0, 0.8, 0.6, f"$e_{i + 1}$")
    box(i, 2.6, 0.8, 0.6, f"$h_{i + 1}$", trained=False)
box(0, 1.0, 3.8, 0.55, "LSTM, both directions")
box(0, 1.8, 3.8, 0.55, "MLP")
for i, word in enumerate(("Croatia", ",", "capital", ":")):
    box(4.2 + i, 2.6, 0.8, 0.6, word, trained=False)
ax.text(4.2, 1.4, "the base reads the top row", fontsize=10)
ax.set(xlim=(-0.2, 8.2), ylim=(-0.1, 3.4))
_ = ax.axis("off")

# %% [markdown]
# ## By hand
#
# The paper's encoder is the LSTM with an MLP of two layers behind it. `peft` knows that one and a plain MLP of three layers,
# which is its default.

# %% tags=["by-hand"]
import torch
from torch import nn


class PromptEncoder(nn.Module):
    """Writes a prompt of `tokens` vectors of `width` numbers: an LSTM in both directions and an MLP, or the MLP alone."""

    def __init__(self, tokens, width, hidden, kind="LSTM", layers=2):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        if kind == "LSTM":
            self.lstm_head = nn.LSTM(width, hidden, num_layers=layers, bidirectional=True, batch_first=True)
            sizes = (2 * hidden, 2 * hidden, width)
        else:
            self.lstm_head = None
            sizes = (width, hidden, hidden, width)
        parts = [part for i, o in zip(sizes, sizes[1:]) for part in (nn.Linear(i, o), nn.ReLU())]
        self.mlp_head = nn.Sequential(*parts[:-1])

    def forward(self):
        e = self.embedding.weight
        return self.mlp_head(e if self.lstm_head is None else self.lstm_head(e)[0])


# %% [markdown]
# In front of the base goes what the encoder writes, exactly as in lesson 08.

# %% tags=["by-hand"]
class PTuned(nn.Module):
    """A frozen model that reads [encoder(); X]."""

    def __init__(self, model, encoder):
        super().__init__()
        self.model, self.encoder = model.requires_grad_(False), encoder

    def forward(self, input_ids, attention_mask):
        words = self.model.get_input_embeddings()(input_ids)
        prompt = self.encoder().to(words.dtype).expand(len(words), -1, -1)
        mask = torch.cat([attention_mask.new_ones(prompt.shape[:2]), attention_mask], dim=1)
        return self.model(inputs_embeds=torch.cat([prompt, words], dim=1), attention_mask=mask)


# %% [markdown]
# ## The same as the library
#
# `peft` draws the first weights; we copy them by name, for both kinds of encoder. Compared are outputs, the gradient of every
# weight of the encoder, and every weight after one step. Nothing merges here: the prompt is not a change of any weight.

# %% tags=["parity"]
from utils import bases, evaluation, methods, tasks, training

def cloze(row):
    """Key words in place of a sentence; the prompt has to make up for the rest."""
    return {**row, "prompt": f"{row['subject']} {row['relation']} is", "answer": f"{row['answer']}."}


tokens = 10
base, tokenizer = bases.load()
width = base.config.hidden_size
rows = [cloze(r) for r in tasks.load("cloze", "train")]
batch = evaluation.collate([evaluation.encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows[:8]], tokenizer.pad_token_id, base.device)


def pair(kind):
    """(ours, peft's) with the same weights in their encoders."""
    theirs = methods.apply("p_tuning", bases.load()[0], tokens=tokens, encoder_hidden_size=width, encoder_reparameterization_type=kind)
    ours = PTuned(bases.load()[0], PromptEncoder(tokens, width, width, kind))
    ours.encoder.load_state_dict(theirs.prompt_encoder["default"].state_dict())
    return ours, theirs


# %% tags=["parity"]
def weights(model):
    return [p for _, p in training.trainable(model)]


for kind in ("MLP", "LSTM"):
    ours, theirs = pair(kind)
    out = [m(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits for m in (ours, theirs)]
    for m in (ours, theirs):
        training.loss_of(m, batch).backward()
    assert (out[0] - out[1]).abs().max() < 1e-4
    assert max((a.grad - b.grad).abs().max() for a, b in zip(weights(ours), weights(theirs))) < 1e-5
    for m in (ours, theirs):
        torch.optim.SGD(weights(m), lr=0.1).step()
    assert max((a - b).abs().max() for a, b in zip(weights(ours), weights(theirs))) < 1e-5
    print(f"{kind}: outputs agree within 1e-4, gradients and the weights after one step within 1e-5")

# %% [markdown]
# ## What the network changes
#
# A raw prompt's vectors move one by one. Behind an encoder they share weights. We ask every prompt for the same thing, a smaller
# first vector, take one step, and look at how far each vector has moved.

# %%
def moved(prompt, parameters):
    """How far each vector moves when one step makes the first one shorter; prompt() gives [p, d]."""
    parameters, before = list(parameters), prompt().detach().clone()
    loss = prompt()[0].square().sum()
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters)):
        p.data -= 0.01 * g
    return (prompt() - before).norm(dim=1).tolist()


torch.manual_seed(0)
raw = nn.Parameter(torch.randn(tokens, width) * 0.1)
encoders = {kind: PromptEncoder(tokens, width, width, kind) for kind in ("MLP", "LSTM")}
movements = {"raw prompt": moved(lambda: raw, [raw]), **{f"{kind} encoder": moved(e, e.parameters()) for kind, e in encoders.items()}}
ax = figures.axes(title="One step on vector 1: how far each moves, next to vector 1", xlabel="vector", width=5.2)
for number, (name, values) in enumerate(movements.items()):
    figures.line(ax, range(1, tokens + 1), [v / values[0] for v in values], name, number)
ax.set_ylim(-0.05, 1.4)
_ = ax.legend()

# %% [markdown]
# ## Trained against stored
#
# What trains is the encoder, what is stored is its output. `save_pretrained` writes the files; we read their sizes.

# %%
import pathlib, tempfile

from safetensors.torch import load_file
from utils.tables import Table

KINDS = {"prompt tuning": ("prompt", {}), "P-tuning, MLP": ("p_tuning", {"encoder_reparameterization_type": "MLP"}),
         "P-tuning, LSTM": ("p_tuning", {"encoder_reparameterization_type": "LSTM"}), "P-tuning v2": ("prefix", {})}


def stored_numbers(model):
    """(numbers, bytes) of the file that save_pretrained leaves."""
    folder = pathlib.Path(tempfile.mkdtemp())
    model.save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    return sum(t.numel() for t in load_file(path).values()), path.stat().st_size


counts = {}
for name, (method, options) in KINDS.items():
    fresh = methods.apply(method, bases.load()[0], tokens=tokens, **options)
    counts[name] = training.count(fresh)[0], *stored_numbers(fresh)
Table(["method", "trained", "stored", "bytes of the file"], [(name, *values) for name, values in counts.items()])

# %%
layers, kv = base.config.num_hidden_layers, base.config.num_key_value_heads * (width // base.config.num_attention_heads)
mlp = 3 * (width * width + width)
assert counts["P-tuning, MLP"][:2] == (tokens * width + mlp, tokens * width)
assert counts["P-tuning v2"][:2] == (2 * layers * tokens * kv,) * 2
print(f"stored by v1: p·d = {tokens * width:,}; by v2: 2·L·p·d_kv = {2 * layers * tokens * kv:,}")

# %% [markdown]
# ## Predict a country's capital
#
# The paper's experiment with facts: the model knows them from pre-training, and the prompt only has to bring them out. The base
# completes the sentence "The capital of Croatia is". Now it gets key words only ("Croatia capital is"), as in the paper's
# templates, where trained vectors stand for the words between. Training rows name 58 countries, test rows 24 others.

# %%
validation, test = ([cloze(r) for r in tasks.load("cloze", split)] for split in ("validation", "test"))
capitals = [r for r in test if r["relation"] == "capital"]
named = [{r["subject"] for r in split} for split in (rows, test)]
assert list(map(len, named)) == [58, 24] and not named[0] & named[1]
print(f"{len(rows)} training rows, {len(test)} test rows, {len(capitals)} of them ask for a capital")
print(capitals[0]["prompt"] + capitals[0]["answer"])
print(f"the untuned base: {evaluation.exact_match(base, tokenizer, test):.3f}; facts from whole sentences: {evaluation.facts_kept(base, tokenizer):.3f}")

# %% [markdown]
# Every prompt method got the same five rates, 80 steps, and three seeds at its best rate (`data/results/p-tuning.json`). Whatever
# trains the base's own weights got five smaller rates (`p-tuning-full.json`). Raw prompts appear with two starts of lesson 08.

# %%
import json

from utils import results

sweep = results.load("p-tuning")["rows"] + results.load("p-tuning-full")["rows"]
ARMS = {"full tuning": ("full", {}), "raw prompt, random": ("prompt", {"tokens": tokens, "init": "RANDOM"}),
        "raw prompt, vocabulary": ("prompt", {"tokens": tokens, "init": "SAMPLE_VOCAB"}),
        **{f"v1, {kind}": ("p_tuning", {"tokens": tokens, "encoder_reparameterization_type": kind}) for kind in ("MLP", "LSTM")},
        "v2": ("prefix", {"tokens": tokens}),
        "v1, MLP, base trained too": ("p_tuning_and_model", {"tokens": tokens, "encoder_reparameterization_type": "MLP"})}


def arm(name, chosen=True):
    """The runs of one arm: those at its chosen rate, or seed 0 at every rate."""
    method, options = ARMS[name]
    return [r for r in results.select(sweep, method=method, options=json.dumps(options)) if (r["chosen"] if chosen else r["seed"] == 0)]


ax = figures.axes(title="Score on validation rows", xlabel="learning rate", width=5.6)
for number, name in enumerate(list(ARMS)[1:6]):
    figures.line(ax, [r["lr"] for r in arm(name, False)], [r["validation_score"] for r in arm(name, False)], name, number)
ax.set(xscale="log", ylim=(-0.03, 1.03))
_ = ax.legend(fontsize=8)

# %%
Table(["method", "rate", "trained", "test, all", "test, capitals", "facts kept"],
      [(name, runs[0]["lr"], runs[0]["trainable"], *(results.mean_and_spread(runs, c) for c in ("test_score", "capital_score", "facts_kept")))
       for name, runs in ((name, arm(name)) for name in ARMS)])

# %% [markdown]
# Two readings. At their best rates the methods lie close together: on this task the network brings no better score. What it does
# bring shows in the figure: it learns at the smallest rates of the grid, where a raw prompt with a random start scores nothing.
# At the rates that a raw prompt needs, it fails.

# %%
works = {name: [r["lr"] for r in arm(name, False) if r["validation_score"] >= 0.8] for name in list(ARMS)[1:6]}
assert max(works["v1, MLP"]) < min(works["raw prompt, random"])
assert not any(r["validation_score"] for r in arm("raw prompt, random", False) if r["lr"] <= 5e-3)
display(Table(["method", "rates that reach 0.8 on the validation rows"],
              [(name, ", ".join(f"{lr:g}" for lr in rates)) for name, rates in works.items()]))

against = ("raw prompt, random", "v2", "full tuning")
gap = {name: results.paired_difference(arm("v1, MLP"), arm(name), "test_score") for name in against}
Table(["v1 with the MLP minus", "test score (95 %)"], [(name, f"{mean:+.3f} ± {half:.3f}") for name, (mean, half) in gap.items()])

# %% [markdown]
# ## Train one here
#
# The stored row of P-tuning with the MLP, again in front of you, and beside it the raw prompt at its own best rate.

# %% tags=["train"]
stored = next(r for r in arm("v1, MLP") if r["seed"] == 0)
tuned = methods.apply("p_tuning", bases.load()[0], tokens=tokens, encoder_reparameterization_type="MLP")
history = training.train(tuned, tokenizer, rows, steps=stored["steps"], lr=stored["lr"])
score = evaluation.exact_match(tuned, tokenizer, test)
assert score == stored["test_score"], "the stored row should come out again"
print(f"lr {stored['lr']:g}, {stored['steps']} steps: test score {score:.3f}, equal to the stored run")

# %%
before, after = (evaluation.answers(m, tokenizer, [r["prompt"] for r in capitals[:6]], max_new_tokens=8) for m in (base, tuned))
Table(["cloze", "base", "with the prompt", "right"],
      [(r["prompt"], b.strip()[:30], a.strip(), r["answer"].strip()) for r, b, a in zip(capitals, before, after)])

# %% [markdown]
# ## Throw the encoder away
#
# Run it once, keep the ten vectors, delete the network. Then do the same with the library: save, load into a fresh base, and
# compare logits and answers.

# %%
def logits_of(model):
    with torch.inference_mode():
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


ours, _ = pair("MLP")
ours.encoder.load_state_dict(tuned.prompt_encoder["default"].state_dict())
with_encoder, prompt = logits_of(ours), ours.encoder().detach()
del ours.encoder                 # the network is gone
ours.encoder = lambda: prompt    # ten vectors stand in its place
assert torch.equal(logits_of(ours), with_encoder)
print(f"by hand: {prompt.numel():,} numbers stand for {training.count(tuned)[0]:,}, the logits are the same to the last bit")

# %%
from peft import PeftModel

folder = tempfile.mkdtemp()
tuned.save_pretrained(folder)
reloaded = PeftModel.from_pretrained(bases.load()[0], folder)
assert (logits_of(reloaded) - logits_of(tuned)).abs().max() < 1e-4
assert evaluation.correct_rows(reloaded, tokenizer, test) == evaluation.correct_rows(tuned, tokenizer, test)
print("the library's file:", {name: tuple(t.shape) for name, t in load_file(f"{folder}/adapter_model.safetensors").items()})
print("reloaded without an encoder: logits agree within 1e-4, all test rows are judged the same")

# %% [markdown]
# ## What the article says

# %% tags=["claims"]
from utils.claims import cards

ENCODED = ["v1, MLP", "v1, LSTM", "v1, MLP, base trained too"]
over_full = {name: results.paired_difference(arm(name), arm("full tuning"), "test_score") for name in ENCODED}
e = tuned.prompt_encoder["default"].embedding.weight
training.loss_of(tuned, batch).backward()
cards({38: "test score minus full tuning's, three seeds: " + ", ".join(f"{n} {m:+.2f} ± {h:.2f}" for n, (m, h) in over_full.items()),
       39: f"the prompt comes out of a network of {training.count(tuned)[0] - e.numel():,} weights; gradients reach its inputs e "
           f"({'yes' if e.grad.abs().max() > 0 else 'no'}), which no choice of words would allow",
       40: f"frozen base: {arm('v1, MLP')[0]['trainable']:,} numbers train, facts kept {results.mean_and_spread(arm('v1, MLP'), 'facts_kept')}. "
           f"Base trained too: {arm(ENCODED[2])[0]['trainable']:,}, facts kept {results.mean_and_spread(arm(ENCODED[2]), 'facts_kept')}"})

# %% [markdown]
# ## Break it
#
# The prompt is trained and saved, and tomorrow you want to train on. Lesson 05 taught the argument for that.

# %% tags=["break-it"]
torch.manual_seed(1)
going_on = PeftModel.from_pretrained(bases.load()[0], folder, is_trainable=True)
print(f"saved {score:.3f}, loaded to go on {evaluation.exact_match(going_on, tokenizer, test):.3f}")
apart = (going_on.get_prompt(1)[0] - prompt).norm() / prompt.norm()
inside = going_on.prompt_encoder["default"].embedding.weight
print(f"its prompt is {apart:.0%} of its own length away from the saved one; "
      f"the saved one is there, as the encoder's input: {torch.allclose(inside, prompt, atol=1e-6)}")

# %% [markdown]
# No error, no warning. The file holds $h$, and `peft` put it where $e$ belongs, in front of a new random network. The network
# that wrote it was never saved. Two repairs: keep the encoder's own weights if you mean to go on, or go on with the stored
# vectors as a plain prompt, which is what they are.

# %% tags=["break-it"]
from safetensors.torch import save_file

encoder_file = pathlib.Path(folder) / "encoder.safetensors"
save_file(tuned.prompt_encoder["default"].state_dict(), encoder_file)

first = PeftModel.from_pretrained(bases.load()[0], folder, is_trainable=True)
first.prompt_encoder["default"].load_state_dict(load_file(encoder_file))
second = methods.apply("prompt", bases.load()[0], tokens=tokens)
with torch.no_grad():
    second.prompt_encoder["default"].embedding.weight.copy_(prompt)
for name, model in (("encoder kept", first), ("as a plain prompt", second)):
    assert evaluation.exact_match(model, tokenizer, test) == score
    print(f"{name}: {score:.3f} again, {training.count(model)[0]:,} numbers train on")

# %% [markdown]
# ## Exercises
#
# **1** (easy, 10 minutes). Count an encoder with an MLP of three layers, $d \to h \to h \to d$, with biases, and its inputs.

# %% tags=["exercise"]
from exercises import lesson_09


def count(tokens, width, hidden):
    """(trained numbers, stored numbers)"""
    ...  # your code


lesson_09.count(count)

# %% [markdown]
# **2** (easy, 5 minutes). Bake the encoder: give something that stands in its place and needs no network.

# %% tags=["exercise"]
def bake(encoder):
    """encoder() gives the prompt [p, d] -> a function that gives the same prompt without it"""
    ...  # your code


lesson_09.bake(bake)

# %% [markdown]
# **3** (medium, 10 minutes). What do the two versions store? Mind grouped-query attention.

# %% tags=["exercise"]
def versions(tokens, layers, width, kv_heads, head_dim):
    """(numbers that v1 stores, numbers that v2 stores)"""
    ...  # your code


lesson_09.versions(versions)

# %% [markdown]
# ## Recap

# %% tags=["recap"]
from IPython.display import Markdown

shown = ", ".join(f"{name} {results.mean_and_spread(arm(name), 'test_score')}" for name in ARMS)
Markdown(f"""
- P-tuning trains a network that writes the prompt: here {counts["P-tuning, MLP"][0]:,} numbers with an MLP, {counts["P-tuning, LSTM"][0]:,} with an LSTM. Twenty lines give the same outputs, gradients and steps as `peft`.
- Stored are the {counts["P-tuning, MLP"][1]:,} numbers that it writes. Without the network, logits and answers stay the same.
- Test scores, three seeds: {shown}. The network did not raise the score; it moved the rates that work, to {min(works["v1, MLP"]):g}–{max(works["v1, MLP"]):g} from {min(works["raw prompt, random"]):g} and up.
- v2 has no network: a prompt in every layer, {counts["P-tuning v2"][1]:,} numbers.
- From the file alone one can answer, not go on training: keep the encoder too, or go on with a plain prompt.
""")

# %% [markdown]
# **When to use it.** When a raw prompt is hard to train (search its rate first) and the file must stay as small as a raw prompt's. **When not.** When
# the file's size does not matter: LoRA (lesson 05) needs no virtual tokens in every call. When you mean to go on training from the
# stored file.
#
# **Papers.** P-tuning 2103.10385 · P-tuning v2 2110.07602 · prompt tuning 2104.08691 · prefix tuning 2101.00190
#
# **Next.** [10 · IA3](10_ia3.ipynb): only rescale.
