"""The set-up against all that Colab had on 2026-08-19, not only what the course looks at.

data/colab-gpu-freeze-2026-08-19.txt is `pip freeze` of a GPU runtime that day (Python 3.13).
"""

import json
import re

from packaging.requirements import Requirement
from test_colab import COLAB, PLAN, clone_from, empty, set_up, stand_in  # noqa: F401 (fixtures)

from utils import ROOT, colab

LIST = ROOT / "tests" / "data" / "colab-gpu-freeze-2026-08-19.txt"


def listed():
    """{name: version} of the list; packages installed from an address have the version "0"."""
    found = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([\w.-]+)(?:==(\S+)| @ \S+)", line):
            found[match[1]] = match[2] or "0"
    return found


def test_the_short_list_says_what_the_whole_one_says():
    whole = {colab._key(name): version for name, version in listed().items()}
    assert len(whole) > 600
    short = {colab._key(name): version for name, version in COLAB.items()}
    shared = short.keys() & whole.keys()
    assert len(shared) >= 12
    public = {n: whole[n].split("+")[0] for n in shared}
    differing = {n: (short[n], whole[n]) for n in shared if short[n].split("+")[0] != public[n]}
    # Of these the course needs no particular version.
    assert set(differing) <= {"safetensors", "tqdm", "pyyaml", "packaging"}, differing
    missing = {"trl", "bitsandbytes", "unsloth"}
    assert not missing & whole.keys()


def test_the_plan_against_the_whole_list_leaves_torch_and_numpy_alone():
    whole = {colab._key(name): version for name, version in listed().items()}
    plan = colab.plan(whole, colab.needed())
    assert set(plan) <= set(PLAN)
    # What the short list lacks and the whole one has is not installed a second time.
    assert {r.split("==")[0] for r in set(PLAN) - set(plan)} <= whole.keys()
    assert not {"torch", "numpy"} & {r.split("==")[0] for r in plan}


def test_after_the_plan_everything_needed_is_there_in_an_accepted_version():
    there = {colab._key(name): version for name, version in listed().items()}
    for requirement in colab.plan(there, colab.needed()):
        name, version = requirement.split("==")
        there[colab._key(name)] = version
    assert colab.plan(there, colab.needed()) == []
    absent = [name for name in colab.needed() if colab._key(name) not in there]
    assert absent == []


def test_what_the_plan_replaces_is_a_short_list_that_somebody_has_seen():
    """A package that is replaced may disturb another of the 700; each is named here."""
    there = {colab._key(name): version for name, version in listed().items()}
    replaced = {
        Requirement(r).name: there[colab._key(Requirement(r).name)]
        for r in colab.plan(there, colab.needed())
        if colab._key(Requirement(r).name) in there
    }
    assert replaced.keys() <= {"datasets", "torchao", "chardet", "peft"}, replaced


def test_the_set_up_cell_with_the_whole_list(empty, stand_in, clone_from):  # noqa: F811
    said = set_up(empty, clone_from, path=stand_in, there=listed())
    plan = colab.plan({colab._key(n): v for n, v in listed().items()}, colab.needed())
    assert said[0] == "installing " + ", ".join(plan)
    (call,) = json.loads(said[-1])["calls"]
    assert call["held"] == [f"torch=={listed()['torch']}", f"numpy=={listed()['numpy']}"]
