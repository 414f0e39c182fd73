"""Make lesson 20's broken runs and store them in data/results/clinic.json.

python -m tools.clinic             every case, broken and repaired, on one core
python -m tools.clinic 5 9         only these cases again; the others stay as they are stored

Nothing in the file is typed: each record is what exercises/clinic_runs.run gave.
"""

import argparse
import dataclasses
import math
import os

from exercises import clinic_cases, clinic_runs
from utils import clinic, results

HEALTHY = clinic_runs.Settings()


def finite(value):
    """The value with every nan and infinity in it as None, and numbers to six digits."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


class Runs:
    """Makes each run once, whatever cases ask for it."""

    def __init__(self):
        self.made = {}

    def of(self, settings):
        if settings not in self.made:
            self.made[settings] = clinic_runs.run(settings)
        return self.made[settings]


def record(case, runs):
    """What is stored of a case: the whole broken run, and the repaired one's measures."""
    broken, repaired = (clinic_runs.Settings(**s) for s in (case.broken, case.repaired))
    made = runs.of(broken)
    row = {
        "case": case.number,
        "settings": dataclasses.asdict(broken),
        **made,
        "repaired": runs.of(repaired)["measures"],
    }
    holding = [n for n, cause in clinic_cases.CAUSES.items() if cause.holds(made["chart"])]
    was, now = (clinic.measured({"measures": m}, case.measure) for m in
                (made["measures"], row["repaired"]))  # fmt: skip
    print(f"case {case.number}: the chart shows {', '.join(holding)}")
    print(f"    {case.measure} {was:.3f} broken, {now:.3f} repaired", flush=True)
    return finite(row)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", type=int)
    wanted = parser.parse_args().cases
    os.environ["PEFT_COURSE_QUIET"] = "1"
    os.environ["PEFT_COURSE_BASE"] = "pocket"
    runs, stored = Runs(), {}
    if wanted and (results.DATA / "results" / "clinic.json").exists():
        stored = {row["case"]: dict(row) for row in results.load("clinic")["rows"]}
    rows = []
    for case in clinic_cases.CASES:
        if not wanted or case.number in wanted:
            rows.append(record(case, runs))
        elif case.number in stored:
            rows.append(stored[case.number])
    settings = {"base": "pocket-s", "healthy_score": runs.of(HEALTHY)["measures"]["score"]}
    print(results.save("clinic", rows, settings))


if __name__ == "__main__":
    main()
