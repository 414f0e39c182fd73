"""Finished runs on disk, and searches that ask for more of them.

A search is plain code that asks a ledger for rows: `Ledger.find` gives the row of a run or raises
`Missing`. `complete` makes the missing runs, on all processors (tools/engine.py), and calls the
search again from its beginning, until it has all its rows. So the rule of choice stands in one
place (tools/sweeps.py) and knows nothing of processes, and what is on disk is not made again.
"""

import contextlib
import functools
import heapq
import json
import os
import subprocess
import sys

from tqdm import tqdm

from tools import engine
from utils import ROOT

MODES = {
    "MKL compatible": {"MKL_CBWR": "COMPATIBLE"},
    "no vector instructions": {"ATEN_CPU_CAPABILITY": "default"},
}


class Missing(Exception):
    """Runs that a search cannot go on without; no `calls` while it waits for another search."""

    def __init__(self, calls=()):
        super().__init__(", ".join(call.key for call in calls))
        self.calls = list(calls)


def together(*asked):
    """The results of functions without arguments; one Missing names what all of them lack."""
    found, calls = [], []
    for ask in asked:
        try:
            found.append(ask())
        except Missing as missing:
            calls += missing.calls
    if len(found) < len(asked):
        raise Missing(calls)
    return found


def rows_of(get, calls):
    """[get(*call), ...] of runs that are all needed, whatever the others give."""
    return together(*(functools.partial(get, *call) for call in calls))


class Call:
    """A run to be made for a ledger; its key says which settings."""

    def __init__(self, ledger, noise, settings):
        self.ledger, self.noise, self.settings = ledger, noise, settings
        self.key = f"{ledger.name} {json.dumps({**settings, 'noise': noise})}"

    def job(self):
        return self.key, self.ledger.made, {"settings": self.settings, "noise": self.noise}

    def done(self, row):
        self.ledger.add(self.noise, self.settings, row)


class Ledger:
    """Finished runs on disk, so that a stopped sweep goes on; written by one process at a time."""

    def __init__(self, name, made):
        """`made(settings, noise)` makes a row; a function that other processes can import."""
        self.name, self.made, self.index = name, made, {}
        self.path = ROOT / "build" / "sweeps" / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole, _, torn = text.rpartition("\n")
        if torn:  # a line that was being written when the machine stopped
            self.path.write_text(whole and whole + "\n", encoding="utf-8")
        self.rows = [json.loads(line) for line in whole.splitlines()]

    def find(self, noise=None, **settings):
        """The row of these settings; Missing if it was not made yet.

        `noise` is None, the seed of a noise on the weights, or the name of one of MODES.
        """
        names, values = self._key(noise, settings)
        if names not in self.index:
            index = self.index[names] = {}
            for row in self.rows:
                index.setdefault(tuple(row.get(name) for name in names), row)
        row = self.index[names].get(values)
        if row is None:
            raise Missing([Call(self, noise, settings)])
        return {name: value for name, value in row.items() if name != "noise"}

    def add(self, noise, settings, row):
        """Write the row of a run that was made."""
        row = {**row, "noise": noise}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)
        for names, index in self.index.items():
            index.setdefault(tuple(row.get(name) for name in names), row)
        names, values = self._key(noise, settings)
        self.index.get(names, {})[values] = row

    def get(self, noise=None, **settings):
        """The row of these settings; a run that is missing is made here and now."""
        with contextlib.suppress(Missing):
            return self.find(noise, **settings)
        self.add(noise, settings, self.made(settings=settings, noise=noise))
        return self.find(noise, **settings)

    @staticmethod
    def _key(noise, settings):
        columns = {**settings, "options": json.dumps(settings["options"]), "noise": noise}
        return tuple(columns), tuple(columns.values())


@contextlib.contextmanager
def environment(**variables):
    """In here the variables are set; None takes one away."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        _set(variables)
        yield
    finally:
        _set(before)


def _set(variables):
    for name, value in variables.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def made(run, settings, noise, again, base=None):
    """The row of run(**settings) under a noise, with `base` as the chosen one, in any process.

    A noise on the weights is a variable. One of MODES is read when torch is imported, so the run
    gets a process of its own: `again`, a call of a module of tools, gives its row as JSON there.
    """
    perturb = str(0 if noise in MODES else noise or 0)
    with environment(PEFT_COURSE_PERTURB=perturb, PEFT_COURSE_BASE=base):
        if noise not in MODES:
            return run(**settings)
        code = f"from tools import {again.split('.')[0]}; print({again})"
        own = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, **MODES[noise]},
        )
    if own.returncode:
        raise RuntimeError(f"{again} failed under {noise}: {own.stderr[-2000:]}")
    return json.loads(own.stdout.splitlines()[-1])


def complete(searches, finished, title, **how):
    """Make all runs that the searches lack, each once; finished(name, found) as a search ends.

    searches: {name: function that gives what it found, or raises Missing}. Runs of an earlier
    search go first. how: `workers` and `engine` of engine.run_all. A run that failed is told at
    the end by engine.JobsFailed; the searches that do not need it end as usual.
    """
    place = {name: at for at, name in enumerate(searches)}
    left, lacks, calls, queue = dict(searches), {}, {}, []

    def advance(names):
        for name in names:
            try:
                found = left[name]()
            except Missing as missing:
                lacks[name] = {call.key for call in missing.calls}
                for call in missing.calls:
                    if call.key not in calls:
                        calls[call.key] = call
                        heapq.heappush(queue, (place[name], len(calls), call))
            else:
                del left[name]
                finished(name, found)
                bar.update()

    def jobs():
        while left:
            yield heapq.heappop(queue)[-1].job() if queue else None

    def done(key, row):
        calls[key].done(row)
        # A search that lacks no run waits for another search.
        advance([name for name in left if key in lacks[name] or not lacks[name]])

    with tqdm(total=len(searches), desc=title) as bar:
        advance(list(left))
        if queue:
            engine.run_all(jobs(), done, **how)
    if left:
        raise RuntimeError(f"{title}: these wait for what never comes: {', '.join(map(str, left))}")
