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


def words(chart):
    """The chart with its yes and no in words, for the sentences of the causes."""
    same = chart["trained_prompt"] == chart["served_prompt"]
    return {
        **chart,
        "checkpointing_word": "on" if chart["checkpointing"] else "off",
        "needs": "requires" if chart["inputs_need_gradients"] else "does not require",
        "eos_word": "as they should be" if chart["eos"] else "and EOS is not the last of them",
        "prompts_word": "the same" if same else "not the same",
        "healthy": results.load("clinic")["settings"]["healthy_score"],
    }


def worst_steps(log):
    """The log's lines with the most memory and with the median, as (step, tokens, MiB)."""
    by_size = sorted(log, key=lambda line: line["mib"])
    return [(line["step"], line["longest"], line["mib"]) for line in (by_size[len(log) // 2],
                                                                      by_size[-1])]  # fmt: skip


# What can be looked at: each gives sentences from a run's record.
LOOKS = {
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
        f"what enters the first block requires a gradient: {c['inputs_need_gradients']}",
        f"activation checkpointing: {'on' if c['checkpointing'] else 'off'}",
    ],
    "dtypes": lambda r, c: [
        f"frozen base: {c['base_dtype']}; adapter: {c['adapter_dtype']}",
        f"the 1e-8 that AdamW adds to its divisor is {c['epsilon']:.0e} in {c['adapter_dtype']}",
    ],
    "change": lambda r, c: [
        f"the learned change is {c['change']:.0%} of the size of the weights that it changes"
    ],
    "loading": lambda r, c: [
        f"tensors of the saved adapter: {c['tensors']}; without a place in the model that answers: "
        f"{c['lost_tensors']}",
        f"times that the learned change is in the weights that answer: {c['times']:.1f}",
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
        f"eight questions, each alone: {r['measures']['score_alone']:.2f} right; "
        f"in one batch: {r['measures']['score_batch']:.2f}",
    ],
    "rows": lambda r, c: [
        f"training rows: {c['rows']}; test rows: {c['test_rows']}; in both: {c['shared_rows']}",
        f"right on the test rows: {r['measures']['score']:.2f}; on a colleague's new questions: "
        f"{r['measures']['score_fresh']:.2f}",
    ],
    "lengths": lambda r, c: [
        f"tokens of a row: median {c['median_tokens']}, longest {c['longest_tokens']}",
        *(
            f"step {step}: longest row {tokens} tokens, {mib:.0f} MiB kept for the backward pass"
            for step, tokens, mib in worst_steps(r["log"])
        ),
    ],
    "healthy": lambda r, c: [
        f"a healthy run of this pipeline: rank 8, 40 steps, {words(c)['healthy']:.2f} right"
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
        known_of_run = words(chart_of(self.record))
        seen = cause.seen.format(**known_of_run, steps=self.record["settings"]["steps"])
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
