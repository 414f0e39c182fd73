"""Lesson 20's cases: what is broken in each, and what each cause would leave behind.

Read this file after you have solved the cases. `CAUSES` holds, for every cause that can be named,
how one sees it in a run's chart (`holds`) and a sentence that sets it beside the run's own numbers
(`seen`), true whether or not it is the cause. So a wrong name is told what the case shows.
"""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Cause:
    """A cause that can be named."""

    name: str
    look: str  # the look that shows or excludes it
    holds: Callable[[dict], bool]  # called with a run's chart
    seen: str  # a sentence with the chart's values
    cure: str


CAUSES = {
    cause.name: cause
    for cause in (
        Cause(
            "no EOS in the labels",
            "labels",
            lambda c: not c["eos"],
            "the last labels of a row are {ends_word}",
            "End every training row with the EOS token, and leave it in the labels.",
        ),
        Cause(
            "all labels masked",
            "labels",
            lambda c: c["trained_tokens"] == 0,
            "{trained_tokens} of the {row_tokens} tokens of a row are trained",
            "Search the answer's marker exactly as the prompt writes it, and count the labels.",
        ),
        Cause(
            "optimiser made too early",
            "optimiser",
            lambda c: c["held_numbers"] == 0,
            "the optimiser holds {held_numbers:,} of the adapter's {adapter_numbers:,} numbers",
            "First get_peft_model, then the optimiser, over what requires a gradient.",
        ),
        Cause(
            "adapter not loaded",
            "loading",
            lambda c: c["lost_tensors"] > 0,
            "{lost_tensors} of the adapter's {tensors} tensors found no place in the model that "
            "answers",
            "Load with PeftModel.from_pretrained, and never ignore what strict=False returns.",
        ),
        Cause(
            "adapter merged twice",
            "loading",
            lambda c: c["lost_tensors"] == 0 and c["times"] > 1.5,
            "{times_word}",
            "Merge once, save the result under a new name, and never load the adapter over it.",
        ),
        Cause(
            "one row far too long",
            "lengths",
            lambda c: c["kept_tokens"] > 5 * c["median_tokens"],
            "the longest row that trains has {kept_tokens} tokens, half of the rows have "
            "{median_tokens} or fewer",
            "Set a maximum length, and look at the rows that are longer before you drop them.",
        ),
        Cause(
            "trained weights in 16 bits",
            "dtypes",
            lambda c: c["adapter_dtype"] != "float32",
            "the adapter trains in {adapter_dtype}, where the optimiser's 1e-8 is {epsilon:g}",
            "Keep what trains in float32; the frozen base may stay in 16 bits.",
        ),
        Cause(
            "no gradient through checkpointing",
            "gradients",
            lambda c: c["checkpointing"] and not c["inputs_need_gradients"],
            "checkpointing is {checkpointing_word}, and what enters the first block {needs} a "
            "gradient",
            "Call model.enable_input_require_grads(), or checkpoint with use_reentrant=False.",
        ),
        Cause(
            "another template at answer time",
            "prompts",
            lambda c: c["trained_prompt"] != c["served_prompt"],
            "the training prompt and the prompt that is answered are {prompts_word}",
            "Make prompts for training and for answers with one function.",
        ),
        Cause(
            "test rows in training",
            "rows",
            lambda c: c["shared_rows"] > 0,
            "{shared_rows} of the {test_rows} test rows are among the training rows too",
            "Split first of all, by what the rows are about, and count what both sides share.",
        ),
        Cause(
            "learning rate too high",
            "change",
            lambda c: c["change"] > 0.2,
            "the learning rate is {lr:g} and the learned change {size_word}; a healthy run has "
            "{healthy_lr:g} and {healthy_change:.0%}",
            "Take a learning rate ten times lower, and watch what the base knew.",
        ),
        Cause(
            "another base under the adapter",
            "base",
            lambda c: c["base_trained"] != c["base_answering"],
            "the adapter was trained on a base with the fingerprint {base_trained} and answers on "
            "{base_answering}",
            "Pin the base's revision, and save its fingerprint beside the adapter.",
        ),
        Cause(
            "padding on the wrong side",
            "padding",
            lambda c: c["padding_side"] != "left",
            "prompts of a batch are padded on the {padding_side}",
            'Set tokenizer.padding_side = "left" before generating in batches.',
        ),
        Cause(
            "rank too small",
            "healthy",
            lambda c: False,
            "the rank is 8, {rank_word}",
            "",
        ),
        Cause(
            "too few steps",
            "healthy",
            lambda c: False,
            "{steps_word}",
            "",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One broken run. `broken` and `repaired` are fields of clinic_runs.Settings."""

    number: int
    complaint: str
    cause: str
    broken: dict
    repaired: dict
    measure: str  # of the run's measures, the one that shows the symptom
    better: str = "higher"  # or "lower"


CASES = [
    Case(
        1,
        "The first word is right, and then it never stops.",
        "no EOS in the labels",
        {"eos": False},
        {"eos": True},
        "stops",
    ),
    Case(
        2,
        "The loss is 0 from the first step. I thought that was good.",
        "all labels masked",
        {"marker": "### Answer:"},
        {"marker": "### Response:"},
        "score",
    ),
    Case(
        3,
        "It trained without an error, and the loss does not fall.",
        "optimiser made too early",
        {"optimiser_first": True},
        {"optimiser_first": False},
        "score",
    ),
    Case(
        4,
        "The loss fell nicely. After I loaded the adapter, the answers are the base's.",
        "adapter not loaded",
        {"load": "load_state_dict"},
        {"load": "peft"},
        "score",
    ),
    Case(
        5,
        "Before merging it was good. The model I put on the server gets half of the answers wrong.",
        "adapter merged twice",
        {"merge": True, "merges": 2},
        {"merge": True, "merges": 1},
        "score",
    ),
    Case(
        6,
        "Out of memory in the middle of the run. The steps before were fine, with room to spare.",
        "one row far too long",
        {"long_row": True, "memory_mib": 100},
        {"long_row": True, "memory_mib": 100, "max_tokens": 64},
        "steps_done",
    ),
    Case(
        7,
        "The loss is nan from the second step on. I only wanted to save memory.",
        "trained weights in 16 bits",
        {"dtype": "float16", "adapter_dtype": "float16", "steps": 30},
        {"dtype": "float16", "adapter_dtype": "float32", "steps": 30},
        "steps_done",
    ),
    Case(
        8,
        "The loss goes up and down and does not fall. grad_norm of the adapter is 0.",
        "no gradient through checkpointing",
        {"checkpointing": True, "trained_head": True, "inputs_need_gradients": False},
        {"checkpointing": True, "trained_head": True, "inputs_need_gradients": True},
        "adapter_gradient",
    ),
    Case(
        9,
        "In the notebook it answered well. In the application it does not.",
        "another template at answer time",
        {"serving_prompt": "### Instruction:\n{}\n\n### Response:\n"},
        {"serving_prompt": None},
        "score",
    ),
    Case(
        10,
        "All test rows are right, and most of my colleague's new questions go wrong.",
        "test rows in training",
        {"task": "teams", "shared_rows": 12, "lr": 1.5e-3, "batch_size": 4, "steps": 160},
        {"task": "teams", "shared_rows": 0, "lr": 1.5e-3, "batch_size": 4, "steps": 160},
        "gap",
        "lower",
    ),
    Case(
        11,
        "The task is learned. Whatever else I ask it, it has forgotten.",
        "learning rate too high",
        {"lr": 1e-2, "task": "sentiment", "steps": 60},
        {"lr": 1e-3, "task": "sentiment", "steps": 60},
        "facts_kept",
    ),
    Case(
        12,
        "The same adapter file answers well on my machine and badly on theirs.",
        "another base under the adapter",
        {"other_base": True},
        {"other_base": False},
        "score",
    ),
    Case(
        13,
        "One question at a time it is right. In a batch the answers are wrong.",
        "padding on the wrong side",
        {"padding_side": "right"},
        {"padding_side": "left"},
        "score_batch",
    ),
]
