"""Stored measurements: data/results/<name>.json holds rows with the settings, versions and processor that made them.

Only `tools/` writes there; a lesson reads, draws, and recomputes at least one row live.
"""

import importlib.metadata
import json
import math
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
    """{"processor", "python", library: version ...} of this machine."""
    return {
        "processor": processor(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def save(name, rows, settings, folder=None):
    """Write rows (list of flat dicts) with settings and provenance, into data/results unless told otherwise; returns the path."""
    path = (folder or DATA / "results") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = json.dumps({"settings": settings, "provenance": provenance()}, indent=1)[:-2]
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
    return json.loads(path.read_text(encoding="utf-8"))


def select(rows, **wanted):
    """The rows in which every named column has the wanted value."""
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def on_cards(**wanted):
    """A Table of the 7B steps that tools/gpu_evidence.py timed on real cards, base weights random; it says so if there are none yet."""
    from .tables import Table

    files = sorted((DATA / "results").glob("gpu-*.json"))
    found = [
        (load(f.stem)["settings"]["card"]["name"], row)
        for f in files
        for row in select(load(f.stem)["rows"], part="speed", **wanted)
    ]
    if not found:
        return Table(["measured on a GPU"], [("not measured yet",)])
    columns = (
        "stack",
        "dtype",
        "batch",
        "accumulation",
        "length",
        "outcome",
        "tokens_per_second",
        "peak_reserved_gib",
        "share_of_limit",
    )
    header = [
        "card",
        "stack",
        "dtype",
        "rows",
        "accumulated",
        "tokens a row",
        "outcome",
        "tokens/s",
        "peak GiB",
        "share of the card's limit",
    ]
    return Table(header, [(name, *(row.get(c, "") for c in columns)) for name, row in found])


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


def same_as_stored(row, **values):
    """A sentence; AssertionError if this machine recomputes the stored row's settings on a CPU and gets other values."""
    from . import bases

    if bases.chosen().name != row["base"] or bases.device().type != "cpu":
        return f"the stored run was {row['base']} on a CPU, yours may differ"
    for name, value in values.items():
        assert abs(value - row[name]) < 1e-9, f"{name} is {value}, the stored run has {row[name]}"
    return "equal to the stored run"


def expect(holds, finding):
    """Check a finding that the lesson's text states of the pocket base: AssertionError there; on another base it is only said to fail."""
    from . import bases

    if not holds:
        name = bases.chosen().name
        assert name != "pocket-s" or bases.device().type != "cpu", finding
        print(f"Not so on {name}: {finding}.")
