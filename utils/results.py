"""Stored measurements: data/results/<name>.json holds rows with the settings, versions and processor that made them.

Only `tools/` writes there; a lesson reads, draws, and recomputes at least one row live.
"""

import importlib.metadata
import json
import math
import os
import platform
import statistics

from . import DATA

LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes")


def processor():
    """Name of the CPU, as the operating system gives it."""
    try:
        for line in open("/proc/cpuinfo", encoding="utf-8"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def provenance():
    """{"processor", "instructions", "python", library: version ...} of this machine."""
    import torch

    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def save(name, rows, settings, folder=None, made_with=None):
    """Write rows (list of flat dicts) with settings and provenance, into data/results unless told otherwise; returns the path.

    `made_with` is the provenance of rows that were made elsewhere and are only written again; else it is this machine's.
    """
    path = (folder or DATA / "results") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = json.dumps({"settings": settings, "provenance": made_with or provenance()}, indent=1)[
        :-2
    ]
    path.write_text(f'{head},\n "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    return path


def load(name):
    """{"settings", "provenance", "rows"}; FileNotFoundError says which results there are and how they are made."""
    path = DATA / "results" / f"{name}.json"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.json")))
        raise FileNotFoundError(
            f"data/results/{name}.json is missing; it is written by tools/. There are: {there}."
        )
    found = json.loads(path.read_text(encoding="utf-8"))
    if "rows" in found:
        found["rows"] = [Row(row, found.get("provenance", {})) for row in found["rows"]]
    return found


class Row(dict):
    """A stored run that knows the processor and the versions that made it."""

    def __init__(self, values, made_with):
        super().__init__(values)
        self.provenance = made_with


def select(rows, **wanted):
    """The rows in which every named column has the wanted value."""
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


class Said(str):
    """A sentence that a notebook shows without quotation marks."""

    def __repr__(self):
        return str(self)


def on_cards(**wanted):
    """A Table of the 7B steps that tools/gpu_evidence.py timed on real cards, base weights random; a sentence if there are none."""
    from .tables import Table

    files = sorted((DATA / "results").glob("gpu-*.json"))
    stored = [load(f.stem) for f in files]
    found = [
        (one["settings"]["card"]["name"], row)
        for one in stored
        for row in select(one["rows"], part="speed", **wanted)
    ]
    if not found:
        return Said("No run on a GPU is stored with this version of the course.")
    columns = {
        "stack": "stack",
        "dtype": "dtype",
        "batch": "rows",
        "accumulation": "accumulated",
        "length": "tokens a row",
        "outcome": "outcome",
        "tokens_per_second": "tokens/s",
        "peak_reserved_gib": "peak GiB",
        "share_of_limit": "share of the card's limit",
    }
    rows = [(name, *(row.get(c, "") for c in columns)) for name, row in found]
    return Table(["card", *columns.values()], rows)


SEARCHED = ("validation_score", "validation_loss", "facts_kept")


def search_table(runs, columns=SEARCHED):
    """A Table of one arm's search: a row for each learning rate, means over its seeds, and what the rule of choice said of it."""
    from .tables import Table

    def verdict(some):
        if any(row.get("eligible") is False for row in some):
            return "not steady"
        return "chosen" if some[0]["chosen"] else ""

    by_rate = {lr: select(runs, lr=lr) for lr in sorted({row["lr"] for row in runs})}
    return Table(
        ["learning rate", "seeds", *(c.replace("_", " ") for c in columns), ""],
        [
            (f"{lr:g}", len(some), *(mean(some, c) for c in columns), verdict(some))
            for lr, some in by_rate.items()
        ],
    )


def mean(rows, column):
    """Mean of a column over rows."""
    return statistics.fmean(row[column] for row in rows)


def spread(rows, column):
    """Sample standard deviation of a column over rows (0.0 for a single row)."""
    return statistics.stdev(row[column] for row in rows) if len(rows) > 1 else 0.0


# Two-sided 95 % quantiles of Student's t by degrees of freedom, for the few seeds that a course can afford.
T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def paired_difference(rows_a, rows_b, column, pair="seed"):
    """(mean, half width of the 95 % interval) of a - b over rows with the same `pair` value."""
    b = {row[pair]: row[column] for row in rows_b}
    gaps = [row[column] - b[row[pair]] for row in rows_a if row[pair] in b]
    if len(gaps) < 2:
        raise ValueError(
            f"An interval needs two pairs or more; {len(gaps)} {pair}s are in both sets of rows."
        )
    return statistics.fmean(gaps), T95.get(len(gaps) - 1, 1.96) * statistics.stdev(
        gaps
    ) / math.sqrt(len(gaps))


def mean_and_spread(rows, column, digits=2):
    """ "0.93 ± 0.02 (3 runs)" for a column."""
    return f"{mean(rows, column):.{digits}f} ± {spread(rows, column):.{digits}f} ({len(rows)} runs)"


SHARE_BAND, RELATIVE_BAND = 0.02, 0.05  # what a run may differ by where no wobble was measured


def band(row, column):
    """How far a run on another machine may be from a stored one: twice its wobble, at least .02 of a share or 5 % of the rest."""
    least = SHARE_BAND if abs(row[column]) <= 1 else RELATIVE_BAND * abs(row[column])
    return max(2 * (row.get("wobble") or {}).get(column, 0.0), least)


def same_as_stored(row, **values):
    """A sentence that sets a live run's values beside the stored run's; in tests, AssertionError outside the `band`.

    It never raises in front of a reader, whose machine, versions and settings may be others.
    """
    from . import bases

    if bases.chosen().name != row["base"] or bases.device().type != "cpu":
        return f"the stored run was {row['base']} on a CPU, yours may differ"
    if missing := [name for name in values if name not in row]:
        return _fails(
            f"the stored run has no {missing[0]}: it was made by another version of the course"
        )
    told = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f} here and {row[name]:.3f} stored"
        for name, value in values.items()
    )
    if outside := [n for n, value in values.items() if abs(value - row[n]) > band(row, n)]:
        return _fails(
            f"{told}: {outside[0].replace('_', ' ')} is further away than rounding explains "
            f"({band(row, outside[0]):.2g}), so settings, rows or versions differ{_versions(row)}"
        )
    if "wobble" not in row:
        return f"{told}; how much other machines differ was not measured"
    widest = max(band(row, name) for name in values)
    return f"{told}; other machines differ by up to {widest:.2f}"


def _versions(row):
    """ " (stored with peft 0.21.2, here 0.20.0)" where a library's version is another one, else nothing."""
    there, here = getattr(row, "provenance", {}), provenance()
    other = [n for n in LIBRARIES if n in there and there[n].split("+")[0] != here[n].split("+")[0]]
    told = ", ".join(f"{name} {there[name]}, here {here[name]}" for name in other)
    return f" (stored with {told})" if told else ""


def in_tests():
    """True under the course's tests (PEFT_COURSE_TESTS=1), where a finding that does not hold is a failure."""
    return os.environ.get("PEFT_COURSE_TESTS") == "1"


def _fails(sentence):
    assert not in_tests(), sentence
    return sentence


def expect(holds, finding):
    """Check a finding that the lesson's text states of the pocket base; a reader is told if it does not hold, a test fails."""
    from . import bases

    if not holds:
        name = bases.chosen().name
        ours = name == "pocket-s" and bases.device().type == "cpu"
        assert not (ours and in_tests()), finding
        print(f"Not so {'here' if ours else f'on {name}'}: {finding}.")
