"""Lesson 20's clinic: broken runs, evidence to ask for, causes to name, repairs that are run.

    case = clinic.open_case(2)     # complaint, configuration, log, answers
    case.look()                    # what there is to look at
    case.look("labels")
    case.name("...")               # why not; or the repair, run on the spot
    clinic.score()

What is broken is in exercises/clinic_cases.py, and the pipeline that makes the runs is in
exercises/clinic_runs.py. tools/clinic.py stored the broken ones in data/results/clinic.json.
"""

import difflib
import math
import time

from . import results
from .tables import Table

POINTS = 3  # for the cause at once; one less for each wrong name, and never less than 1
MEASURES = {
    "stops": "answers that end by themselves",
    "score": "right answers to test questions",
    "score_fresh": "right answers to a colleague's new questions",
    "score_batch": "right answers to the same questions in a batch",
    "facts_kept": "facts kept that the base knew",
    "steps_done": "steps done",
    "adapter_gradient": "grad_norm of the adapter (median)",
    "gap": "test score less the score on new questions",
}
opened = {}  # {number: Case} of this session


def _cases():
    from exercises import clinic_cases

    return {case.number: case for case in clinic_cases.CASES}


def _causes():
    from exercises import clinic_cases

    return clinic_cases.CAUSES


def measured(record, name):
    """One of a run's measures; `gap` is made of two."""
    m = record["measures"]
    return m["score"] - m["score_fresh"] if name == "gap" else m[name]


def chart_of(record):
    """A record's chart. A number that was stored as None is nan: the run's weights were."""
    return {k: float("nan") if v is None else v for k, v in record["chart"].items()}


def broke_off(record):
    """Did the run end before its last step, so that no model answered?"""
    return record["measures"]["steps_done"] < record["settings"]["steps"]


def healthy_run():
    """What a healthy run of the pipeline has, on the task facts."""
    stored = results.load("clinic")
    # case 13 is broken by how its model answers: its training is the healthy one
    trained = next(r for r in stored["rows"] if r["case"] == 13)
    return {
        "healthy": stored["settings"]["healthy_score"],
        "healthy_lr": trained["settings"]["lr"],
        "healthy_steps": trained["settings"]["steps"],
        "healthy_change": trained["chart"]["change"],
    }


def change_words(chart):
    """(size of the learned change, how many times it is in the weights that answer), as text."""
    if math.isnan(chart["change"]):
        return "not a number", "the weights are nan, so what was merged cannot be counted"
    size = f"{chart['change']:.0%} of the size of the weights"
    if not chart["change"]:
        return size, "nothing was learned, so there is nothing that could be merged"
    return size, f"the learned change is in the weights that answer {chart['times']:.1f} times"


def enough_words(record):
    """(what speaks against too few steps, what speaks against too small a rank)"""
    steps, score = record["settings"]["steps"], record["measures"]["score"]
    well = healthy_run()
    rank = f"as in a healthy run of this pipeline, which scores {well['healthy']:.2f}"
    if broke_off(record):
        return (
            f"the run broke off in step {record['measures']['steps_done'] + 1} of {steps}, and more "
            "steps would not mend that",
            rank,
        )
    if record["settings"]["task"] != "facts":
        return (
            f"{steps} steps are enough to get {score:.2f} of its test rows right",
            f"and it is enough to get {score:.2f} of its test rows right",
        )
    return (
        f"there are {steps} steps; a healthy run of this pipeline takes {well['healthy_steps']} and "
        f"scores {well['healthy']:.2f}",
        rank,
    )


def words(record):
    """A run's chart with its yes and no in words, for the sentences of the causes."""
    chart = chart_of(record)
    same = chart["trained_prompt"] == chart["served_prompt"]
    ends = "as they should be" if chart["eos"] else "and EOS is not the last of them"
    size, times = change_words(chart)
    steps, rank = enough_words(record)
    return {
        **chart,
        **healthy_run(),
        "lr": record["settings"]["lr"],
        "size_word": size,
        "times_word": times,
        "steps_word": steps,
        "rank_word": rank,
        "checkpointing_word": "on" if chart["checkpointing"] else "off",
        "needs": "requires" if chart["inputs_need_gradients"] else "does not require",
        "ends_word": f"{chart['last_labels']}, {ends}"
        if chart["trained_tokens"]
        else "none, so it is not EOS alone that is missing",
        "prompts_word": "the same" if same else "not the same",
    }


def worst_steps(log):
    """The log's lines with the median and with the most memory, as (step, tokens, MiB)."""
    by_size = sorted(log, key=lambda line: line["mib"])
    two = (by_size[len(log) // 2], by_size[-1])
    return dict.fromkeys((line["step"], line["longest"], line["mib"]) for line in two)


def answered(record, *sentences):
    """The sentences, where a model answered at all."""
    return sentences if not broke_off(record) else ["no answers: the run had stopped"]


# What can be looked at: each gives sentences from a run's record.
LOOKS = {
    "symptom": lambda r, c: [
        f"{MEASURES[name]}: {measured(r, name):.{0 if name == 'steps_done' else 2}f}"
        for name in [_cases()[r["case"]].measure]
    ],
    "labels": lambda r, c: [
        f"the first row as it trains: {c['row']!r}",
        f"{c['trained_tokens']} of its {c['row_tokens']} tokens have a label; "
        f"the last labels are {c['last_labels'] or 'none'}",
    ],
    "optimiser": lambda r, c: [
        f"the adapter has {c['adapter_numbers']:,} numbers; the optimiser holds "
        f"{c['held_numbers']:,} of them"
    ],
    "gradients": lambda r, c: [
        f"grad_norm of the adapter at the first step: {c['gradient']:.3f}",
        f"activation checkpointing: {'on' if c['checkpointing'] else 'off'}",
        f"what enters the first block requires a gradient: {c['inputs_need_gradients']} "
        "(only a run with checkpointing needs that)",
    ],
    "dtypes": lambda r, c: [
        f"frozen base: {c['base_dtype']}; adapter: {c['adapter_dtype']}",
        f"the 1e-8 that AdamW adds to its divisor is {c['epsilon']:.0e} in {c['adapter_dtype']}",
    ],
    "change": lambda r, c: [
        f"the learned change is {change_words(c)[0]}",
        f"in a healthy run of this pipeline: {healthy_run()['healthy_change']:.0%}",
    ],
    "loading": lambda r, c: [
        f"tensors of the saved adapter: {c['tensors']}; without a place in the model that answers: "
        f"{c['lost_tensors']}",
        change_words(c)[1],
    ],
    "base": lambda r, c: [
        f"fingerprint of the base in training: {c['base_trained']}",
        f"fingerprint of the base that answers: {c['base_answering']}",
    ],
    "prompts": lambda r, c: [
        f"a training prompt:      {c['trained_prompt']!r}",
        f"the same when answered: {c['served_prompt']!r}",
    ],
    "padding": lambda r, c: [
        f"prompts of a batch are padded on the {c['padding_side']}",
        *answered(
            r,
            f"eight questions, each alone: {r['measures']['score_alone']:.2f} right; "
            f"in one batch: {r['measures']['score_batch']:.2f}",
        ),
    ],
    "rows": lambda r, c: [
        f"training rows: {c['rows']}; test rows: {c['test_rows']}; in both: {c['shared_rows']}",
        *answered(
            r,
            f"right on the test rows: {r['measures']['score']:.2f}; on a colleague's new "
            f"questions: {r['measures']['score_fresh']:.2f}",
        ),
    ],
    "lengths": lambda r, c: [
        f"tokens of a row: median {c['median_tokens']}, longest {c['longest_tokens']}",
        *(
            f"step {step}: longest row {tokens} tokens, {mib:.0f} MiB kept for the backward pass"
            for step, tokens, mib in worst_steps(r["log"])
        ),
    ],
    "healthy": lambda r, c: [
        "a healthy run of this pipeline, on the task facts: rank 8, {healthy_steps} steps, learning "
        "rate {healthy_lr:g}; {healthy:.2f} right".format(**healthy_run())
    ],
}


def listing(things):
    """The names in lines that a notebook shows without scrolling."""
    return "\n".join(f"  {thing}" for thing in things)


def find(said, names):
    """The one name meant, or None: case, spaces and punctuation do not matter, nor does a slip."""
    plain = lambda text: "".join(c for c in str(text).casefold() if c.isalnum())  # noqa: E731
    by = {plain(name): name for name in names}
    wanted = plain(said) if isinstance(said, str) else ""
    if not wanted:
        return None
    if wanted in by:
        return by[wanted]
    inside = [name for key, name in by.items() if wanted in key]
    close = difflib.get_close_matches(wanted, by, n=1, cutoff=0.8)
    return inside[0] if len(inside) == 1 else by[close[0]] if close else None


class Case:
    """One patient: its record, what was looked at, what was named."""

    def __init__(self, number, record):
        self.number, self.record, self.about = number, record, _cases()[number]
        self.looked, self.wrong, self.solved = [], [], False

    def look(self, what=None):
        """Print a piece of evidence; without a name, what there is."""
        if what is ...:
            print(f"Ask for evidence: {', '.join(LOOKS)}.")
            return
        name = find(what, LOOKS)
        if name is None:
            if what is not None:
                print(f"There is nothing to look at called {what!r}.")
            print("What you can look at:")
            print(listing(LOOKS))
            return
        self.looked.append(name)
        print(f"Case {self.number}, {name}:")
        print(listing(LOOKS[name](self.record, chart_of(self.record))))

    def judge(self, said):
        """(right or not, text) for a name, without running the repair."""
        if said is ...:
            return False, "Name the cause, in quotation marks. clinic.causes() lists them."
        known = _causes()
        name = find(said, known)
        if name is None:
            odd = f"{said!r} is not among the causes that can be named:"
            told = "Say one of these, in quotation marks:" if said is None else odd
            return False, f"{told}\n{listing(known)}"
        cause = known[name]
        seen = cause.seen.format(**words(self.record))
        if name == self.about.cause:
            return True, f"Yes: {name}. In this run {seen}.\nCure: {cause.cure}"
        if name not in self.wrong:
            self.wrong.append(name)
        return False, f'Not "{name}" (look: {cause.look}). In this run {seen}.'

    def name(self, said=None):
        """Name the cause. If it is right the repaired run is made now, in a few seconds."""
        right, text = self.judge(said)
        print(text)
        if right:
            self.solved = True
            began = time.process_time()
            after = self.repair()
            self.show_repair(after)
            print(f"(repaired and run here: {time.process_time() - began:.1f} s)")

    def again(self):
        """Make the broken run here, and set the symptom beside the stored run's."""
        from exercises import clinic_runs

        made = clinic_runs.run(clinic_runs.Settings(**self.about.broken))
        there, here = (measured(r, self.about.measure) for r in (self.record, made))
        near = "agrees within 0.15" if abs(here - there) <= 0.15 else f"has {here:.2f}"
        print(f"{MEASURES[self.about.measure]}: {there:.2f} stored; the run made here {near}")
        return made

    def repair(self):
        """The record of the same run without its fault, made now."""
        from exercises import clinic_runs

        return clinic_runs.run(clinic_runs.Settings(**self.about.repaired))

    def better(self, after):
        """Did the repair help: is the symptom's measure better by a good deal?"""
        was, now = (measured(r, self.about.measure) for r in (self.record, after))
        gain = now - was if self.about.better == "higher" else was - now
        return gain >= 0.2

    def show_repair(self, after):
        """The symptom before and after, and the answers side by side."""
        change = ", ".join(
            f"{name} {self.about.broken.get(name, 'not set')!r} → {value!r}"
            for name, value in self.about.repaired.items()
            if self.about.broken.get(name) != value
        )
        print(f"Repaired: {change}")
        for name in dict.fromkeys((self.about.measure, "score")):
            was, now = measured(self.record, name), measured(after, name)
            digits = (0, 0) if name == "steps_done" else (2, 1)  # what was run here: less exact
            print(f"  {MEASURES[name]}: {was:.{digits[0]}f} before, {now:.{digits[1]}f} now")
        if not self.better(after):
            print("  The repair did not help here as it did where the course was made.")

    @property
    def points(self):
        """3 for the cause at once, less for wrong names; 0 before it is solved."""
        return max(1, POINTS - len(self.wrong)) if self.solved else 0

    def show(self):
        """Complaint, configuration, log and answers: what somebody with this run would send."""
        print(f"Case {self.number}: “{self.about.complaint}”\n")
        print("\n".join(f"{k:>14}: {v}" for k, v in configuration(self.record).items()))
        print(f"\n{log_table(self.record['log'])!r}\n")
        for answer in self.record["answers"]:
            text = answer["answer"].strip() or "no answer: the run had stopped"
            cut = " …" if answer["answer"].strip() and not answer["ended"] else ""
            print(f"  {answer['question']}  →  {text}{cut}")


def configuration(record):
    """What a configuration file of the run would say."""
    s = record["settings"]
    shown = {
        "rows": f"{s['task']}, {record['chart']['rows']} rows",
        "method": "LoRA, rank 8, alpha 16, all linear layers",
        "steps": f"{s['steps']} of {s['batch_size']} rows, AdamW, learning rate {s['lr']:g}",
    }
    extra = {
        "dtype": s["dtype"] != "float32" and f"{s['dtype']} to save memory",
        "checkpointing": s["checkpointing"] and "by hand, use_reentrant=True",
        "also trained": s["trained_head"] and "the last norm",
        "memory": s["memory_mib"]  # None for as much as there is
        and f"{s['memory_mib']:g} MiB for what the backward pass needs",
        "handed over": "merged" if s["merge"] else "",
    }
    return shown | {name: text for name, text in extra.items() if text}


def number(value, digits=3):
    """A log's number as text: "nan" was stored as None, and a step that broke off has none."""
    return "nan" if value is None else value if value == "" else f"{value:.{digits}f}"


def log_table(log, lines=6):
    """A few lines of the log, first and last among them."""
    at = sorted({round(i * (len(log) - 1) / (lines - 1)) for i in range(lines)})
    rows = [
        (log[i]["step"], number(log[i].get("loss", "")), number(log[i].get("grad_norm", "")),
         f"{log[i]['mib']:.0f}" if "loss" in log[i] else "out of memory")
        for i in at
    ]  # fmt: skip
    return Table(["step", "loss", "grad_norm", "MiB"], rows)


def causes():
    """Print every cause that can be named."""
    print("What can be named:")
    print(listing(_causes()))


def open_case(number):
    """Print a case and return it; a number that is not there says which are."""
    cases = _cases()
    if type(number) is not int or number not in cases:
        print(f"There is no case {number!r}. There are {', '.join(map(str, cases))}.")
        return None
    record = next(r for r in results.load("clinic")["rows"] if r["case"] == number)
    opened.setdefault(number, Case(number, record)).show()
    return opened[number]


def score():
    """A table of the cases of this session, and the points."""
    cases = _cases()
    rows = [
        (n, case.about.complaint, len(case.looked), len(case.wrong), case.points)
        for n, case in sorted(opened.items())
    ]
    print(f"{sum(row[-1] for row in rows)} of {POINTS * len(cases)} points")
    return Table(["case", "complaint", "looks", "wrong names", "points"], rows)
