"""The set-up cell in Colab.

From an empty folder, against a local clone, with Colab's own packages, and pip only recorded.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import nbformat
import pytest

from tools import badges
from utils import ROOT, colab

# Colab in August 2026, as far as the course looks at it; trl, bitsandbytes and unsloth are missing
# there.
COLAB = {
    "torch": "2.11.0+cu128",
    "numpy": "2.1.3",
    "transformers": "5.15.0",
    "peft": "0.20.0",
    "datasets": "4.0.0",
    "accelerate": "1.14.0",
    "huggingface_hub": "1.27.0",
    "triton": "3.6.0",
    "torchao": "0.10.0",
    "torchvision": "0.26.0",
    "matplotlib": "3.10.0",
    "pandas": "2.2.3",
    "ipython": "7.34.0",
    "tokenizers": "0.22.2",
    "safetensors": "0.6.2",
    "tqdm": "4.67.1",
    "PyYAML": "6.0.2",
    "packaging": "25.0",
}
THERE = {colab._key(name): version for name, version in COLAB.items()}
PINS = colab.read_pins(ROOT / "requirements.txt")
PLAN = [
    "peft==0.21.2",
    "trl==1.12.0",
    "bitsandbytes==0.50.2",
    "datasets==4.8.5",
    "sacrebleu==2.6.0",
    "gguf==0.19.0",
    "chardet==7.7.0",
    "clevercsv==0.8.5",
    "ftfy==6.3.1",
    "torchao==0.17.0",
]

# Runs the notebook's set-up cell as Colab would, with what Colab has, and writes down what pip was
# asked for.
DRIVER = """
import importlib.metadata, json, subprocess, sys, types
calls, real = [], subprocess.run

def run(command, *rest, **options):
    if "pip" in command:
        held = open(command[command.index("--constraint") + 1]).read().split()
        calls.append({"command": command, "held": held})
        return types.SimpleNamespace(returncode=0, stdout="", stderr="")
    return real(command, *rest, **options)

class Package:
    def __init__(self, name, version):
        self.metadata, self.version = {"Name": name}, version
        self._normalized_name, self.entry_points = name, []  # torch asks for entry points while it is imported

subprocess.run = run
importlib.metadata.distributions = lambda: [Package(*p) for p in json.loads(sys.argv[2]).items()]
cells = json.load(open(sys.argv[1]))["cells"]
cell = next("".join(c["source"]) for c in cells if "setup" in c["metadata"].get("tags", []))
before = set(sys.modules)
exec(compile(cell, "set-up cell", "exec"), globals())
early = sorted({m.split(".")[0] for m in set(sys.modules) - before} & {"transformers", "peft", "trl", "unsloth", "datasets"})
print(json.dumps({"calls": calls, "root": str(root), "module": colab.__file__, "imported": early}))
if "unsloth" in sys.argv:
    calls.clear()
    colab.install_unsloth()
    print(json.dumps(calls))
"""


@pytest.fixture(scope="module")
def clone_from(tmp_path_factory):
    """A repository with the working tree as it is now (what is ignored left out), to clone from."""
    folder = tmp_path_factory.mktemp("github") / "peft-course"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file() and name.split("/")[
            0
        ] != "data":  # the set-up needs no data, and copying it takes time
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git = [
        "git",
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "-c",
        "commit.gpgsign=false",
    ]
    made = ["commit", "-q", "-m", "tree", "--no-verify"]
    for command in (["init", "-q"], ["add", "-A"], made, ["tag", badges.revision()]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder.as_uri()


@pytest.fixture
def empty(tmp_path):
    """An empty folder that holds nothing but the notebook."""
    folder = tmp_path / "content"
    folder.mkdir()
    lessons = badges.lesson_paths()
    if lessons:
        shutil.copy(lessons[0], folder)
    else:
        write_notebook(folder)
    return folder


def write_notebook(folder):
    """A notebook that holds nothing but the set-up cell as utils.colab has it now."""
    source = badges.setup_cell(badges.repository())
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["setup"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "00_made.ipynb")


@pytest.fixture
def bare(tmp_path):
    """An empty folder with such a notebook."""
    folder = tmp_path / "bare"
    folder.mkdir()
    write_notebook(folder)
    return folder


@pytest.fixture
def stand_in(tmp_path):
    """A `google.colab` whose drive.mount makes no fuss."""
    package = tmp_path / "stand_in" / "google" / "colab"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "drive.py").write_text("def mount(path):\n    print('mounted', path)\n")
    return package.parent.parent


def set_up(
    folder, repository, *extra, path="", there=COLAB, base=None, fails=False, then="", **variables
):
    """Run the set-up cell in its own Python, `folder` being its working folder.

    The lines printed, the recorded last.

    With `fails`, what it wrote to stderr.
    """
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PEFT_COURSE_BASE", "PYTHONPATH")
    }
    environment |= variables
    environment |= {
        "COURSE_REPOSITORY": repository,
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(path), str(ROOT / "tests" / "closed_network")])
        ),
    }
    environment |= {"PEFT_COURSE_BASE": base} if base else {}
    notebook = next(folder.glob("*.ipynb"))
    driver = folder.parent / "driver.py"
    driver.write_text(DRIVER + then)
    done = subprocess.run(
        [sys.executable, str(driver), notebook.name, json.dumps(there), *extra],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if fails:
        assert done.returncode
        return done.stderr
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_set_up_from_an_empty_folder(empty, stand_in, clone_from):
    said = set_up(empty, clone_from, "unsloth", path=stand_in)
    assert said[0] == "installing " + ", ".join(PLAN)
    assert said[1].startswith("base pocket-s · ")
    recorded = json.loads(said[3])
    assert pathlib.Path(recorded["module"]) == empty / "course" / "utils" / "colab.py", (
        "the clone's own code must be used"
    )
    assert recorded["imported"] == [], "lesson 13 must be able to import unsloth first"
    (call,) = recorded["calls"]
    assert call["command"][-len(PLAN) :] == PLAN
    assert call["held"] == ["torch==2.11.0+cu128", "numpy==2.1.3"]
    assert said[4] == "installing unsloth==2026.10.9, unsloth_zoo==2026.10.9"
    (unsloth,) = json.loads(said[5])
    assert unsloth["command"][-3:] == ["--no-deps", "unsloth==2026.10.9", "unsloth_zoo==2026.10.9"]
    for command in (call["command"], unsloth["command"]):
        assert [
            part
            for part in command[command.index("install") :]
            if part.startswith(("torch=", "numpy"))
        ] == []

    # Run again: the clone stays, and nothing is installed a second time.
    (empty / "course" / "mine.txt").touch()
    said = set_up(
        empty, "file:///nowhere", path=stand_in, there=COLAB | dict(r.split("==") for r in PLAN)
    )
    assert (
        (empty / "course" / "mine.txt").exists()
        and said[0].startswith("base pocket-s")
        and json.loads(said[2])["calls"] == []
    )


def git(folder, *command):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(
        ["git", *identity, "-c", "commit.gpgsign=false", *command], cwd=folder, check=True
    )


@pytest.fixture
def moved_on(clone_from, tmp_path):
    """A repository whose branch has gone on to version 9.9.9 since the tag: (address, folder)."""
    folder = tmp_path / "moved-on"
    git(tmp_path, "clone", "-q", clone_from, str(folder))
    project = folder / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    own = colab.course_version()
    project.write_text(text.replace(f'version = "{own}"', 'version = "9.9.9"'), encoding="utf-8")
    git(folder, "commit", "-q", "-a", "-m", "on", "--no-verify")
    return folder.as_uri(), folder


def test_the_set_up_cell_fetches_the_version_that_its_notebook_belongs_to(bare, moved_on):
    said = set_up(bare, moved_on[0])
    assert colab.course_version(bare / "course") == colab.course_version()
    assert not any("belongs to version" in line for line in said)
    assert f"course's version {colab.course_version()};" in badges.setup_cell("a/b")
    assert f'"--branch", "{badges.revision()}"' in badges.setup_cell("a/b")


def test_where_the_tag_is_missing_the_newest_is_fetched_and_it_is_said(bare, moved_on):
    address, folder = moved_on
    git(folder, "tag", "-d", badges.revision())
    said = set_up(bare, address)
    assert colab.course_version(bare / "course") == "9.9.9"
    assert said[0].startswith(f"This notebook belongs to version {colab.course_version()} of")
    assert "is of version 9.9.9, so outputs may differ" in said[0]


def test_a_notebook_opened_alone_works_in_the_clones_notebooks(bare, clone_from):
    """Paths in the lessons, such as a take-home cell's, are relative to notebooks/."""
    said = set_up(bare, clone_from, then="print(pathlib.Path.cwd())")
    there = bare / "course" / "notebooks"
    assert f"working folder: {there} (a file of yours in {bare} needs its whole path)" in said
    assert said[-1] == str(there)


def test_inside_the_course_the_working_folder_stays(tmp_path, monkeypatch, capsys):
    for folder in (ROOT, ROOT / "notebooks", ROOT / "utils"):
        monkeypatch.chdir(folder)
        colab.settle_folder()
        assert pathlib.Path.cwd() == folder
    assert capsys.readouterr().out == ""


def test_every_kernel_computes_with_the_courses_threads_unless_somebody_set_them(monkeypatch):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(colab, "_threads", None)
    monkeypatch.setattr(colab, "usable_cores", lambda: 3)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    try:
        colab.settle_threads("pocket-s")
        assert torch.get_num_threads() == 1 and os.environ["OMP_NUM_THREADS"] == "1"
        colab.settle_threads("smollm")  # another base in the same kernel
        assert torch.get_num_threads() == 3 and os.environ["OMP_NUM_THREADS"] == "3"
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        torch.set_num_threads(2)
        colab.settle_threads("pocket-s")
        assert torch.get_num_threads() == 2 and os.environ["OMP_NUM_THREADS"] == "2"
    finally:
        torch.set_num_threads(before)


def test_outside_colab_nothing_is_installed(empty, clone_from):
    said = set_up(empty, clone_from)
    assert (
        said[0].startswith("Missing here: peft==0.21.2, trl==1.12.0")
        and "Run `make lab` in the course's folder" in said[0]
        and "In a hosted notebook, run `%pip install peft==0.21.2 trl==1.12.0 " in said[0]
    )
    assert json.loads(said[3])["calls"] == []


@pytest.mark.parametrize("with_colabs_module", [False, True])
def test_on_kaggle_the_course_installs_as_in_colab(bare, stand_in, clone_from, with_colabs_module):
    path = stand_in if with_colabs_module else ""
    said = set_up(bare, clone_from, path=path, KAGGLE_KERNEL_RUN_TYPE="Interactive")
    assert said[0] == "installing " + ", ".join(PLAN)
    (call,) = json.loads(said[3])["calls"]
    assert call["held"] == ["torch==2.11.0+cu128", "numpy==2.1.3"]


SENTENCE = (
    "The course could not be fetched, or only half of it. Check that the Internet is on, delete"
)


def half_a_clone(folder):
    (folder / "course" / ".git").mkdir(parents=True)


def without_utils(folder):
    (folder / "course" / "notebooks").mkdir(parents=True)
    (folder / "course" / "README.md").touch()


@pytest.mark.parametrize("prepare", [lambda folder: None, half_a_clone, without_utils])
def test_no_network_or_half_a_clone_is_one_sentence(bare, prepare):
    prepare(bare)
    there = sorted(bare.rglob("*"))
    said = set_up(bare, "https://127.0.0.1:9/course", fails=True).strip().splitlines()[-1]
    assert said.startswith("OSError: " + SENTENCE) and str(bare / "course") in said
    assert sorted(bare.rglob("*")) == there, "nothing of the reader's is deleted"


def test_half_a_clone_where_the_network_is_there_is_not_filled_up_unsaid(bare, clone_from):
    half_a_clone(bare)
    assert SENTENCE in set_up(bare, clone_from, fails=True)
    shutil.rmtree(bare / "course")
    assert set_up(bare, clone_from)[1].startswith("base pocket-s")


def test_without_drive_checkpoints_stay_in_the_runtime_and_it_is_said(monkeypatch, capsys):
    drive = type(sys)("google.colab.drive")

    def refuse(path):
        raise ValueError("mount failed: access was refused")

    drive.mount = refuse
    package = type(sys)("google.colab")
    package.drive = drive
    monkeypatch.setitem(sys.modules, "google", type(sys)("google"))
    monkeypatch.setitem(sys.modules, "google.colab", package)
    made = []
    with monkeypatch.context() as m:
        m.setattr(pathlib.Path, "mkdir", lambda self, **_: made.append(str(self)))
        assert str(colab.checkpoint_folder("13")) == "/content/peft-course/13"
        m.setenv("KAGGLE_URL_BASE", "https://www.kaggle.com")
        assert str(colab.checkpoint_folder("13")) == "/kaggle/working/peft-course/13"
    said = capsys.readouterr().out
    assert "Google Drive is not there (mount failed" in said and "are lost when" in said


def test_inside_the_course_the_course_itself_is_used_and_a_set_variable_wins_over_the_form():
    folder = ROOT / "build" / "test_colab"
    folder.mkdir(parents=True, exist_ok=True)
    cell = nbformat.v4.new_code_cell(badges.setup_cell("a/b"), metadata={"tags": ["setup"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "00_made.ipynb")
    said = set_up(folder, "file:///nowhere", there=PINS, base="pocket-xs")
    assert said[0].startswith("base pocket-xs · ") and json.loads(said[2])["root"] == str(ROOT)
    assert "are pocket-s's" in said[1], "another base is told whose stored runs it sees"
    shutil.rmtree(folder)


def test_checkpoints_go_to_drive_in_colab_and_to_build_elsewhere(monkeypatch, tmp_path):
    mounted = []
    drive = type(sys)("google.colab.drive")
    drive.mount = mounted.append
    package = type(sys)("google.colab")
    package.drive = drive
    made = []
    with monkeypatch.context() as m:
        m.setitem(sys.modules, "google", type(sys)("google"))
        m.setitem(sys.modules, "google.colab", package)
        m.setattr(pathlib.Path, "mkdir", lambda self, **_: made.append(str(self)))
        assert (
            str(colab.checkpoint_folder("lesson-13"))
            == "/content/drive/MyDrive/peft-course/lesson-13"
        )
    assert mounted == ["/content/drive"] and made == [
        "/content/drive/MyDrive/peft-course/lesson-13"
    ]
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    assert colab.checkpoint_folder("lesson-13") == tmp_path / "build" / "checkpoints" / "lesson-13"
    assert (tmp_path / "build" / "checkpoints" / "lesson-13").is_dir()


def test_plan_for_colab_exactly():
    assert colab.plan(THERE, colab.needed()) == PLAN


def test_plan_where_everything_is_there_is_empty():
    assert colab.plan({colab._key(k): v for k, v in PINS.items()}, colab.needed()) == []
    assert colab.plan(colab.installed(), colab.needed()) == []


@pytest.mark.parametrize(
    "name, excluded",
    [
        ("datasets", "4.0.0"),
        ("datasets", "4.0.3"),
        ("datasets", "4.1.0"),
        ("datasets", "4.4.1"),
        ("datasets", "4.5.0"),
        ("datasets", "5.0.0"),
        ("transformers", "5.17.1"),
        ("transformers", "5.0.0"),
        ("trl", "1.15.0"),
        ("torchao", "0.10.0"),
        ("huggingface-hub", "2.0.1"),
    ],
)
def test_plan_replaces_what_is_excluded(name, excluded):
    full = {colab._key(k): v for k, v in PINS.items()}
    assert [
        r.split("==")[0].replace("_", "-")
        for r in colab.plan({**full, name: excluded}, colab.needed())
    ] == [name]


def test_plan_never_names_torch_or_numpy():
    assert not {"torch", "numpy"} & {r.split("==")[0] for r in colab.plan({}, colab.needed())}
    for name in ("torch", "numpy", "Torch"):
        with pytest.raises(AssertionError, match="names torch or numpy"):
            colab.plan({}, {name: "1.0"})


def test_pip_failing_says_what_to_do(monkeypatch):
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *a, **k: subprocess.CompletedProcess(
            a, 1, "", "noise\nERROR: no route to host\nWARNING: a newer pip is there\n"
        ),
    )
    with pytest.raises(
        RuntimeError,
        match="pip could not install trl==1.12.0: ERROR: no route to host\nCheck the network",
    ):
        colab.pip_install(["trl==1.12.0"])
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    with pytest.raises(RuntimeError, match="ERROR: no route to host\nSwitch Internet on in the"):
        colab.pip_install(["trl==1.12.0"])


def test_an_unknown_base_names_those_there_are(monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_BASE", "gpt-9")
    with pytest.raises(ValueError, match="There is no base 'gpt-9'.*pocket-xs"):
        colab.choose("pocket")


def test_changing_the_form_and_running_the_cell_again_counts(monkeypatch):
    monkeypatch.delenv("PEFT_COURSE_BASE", raising=False)
    monkeypatch.setattr(colab, "_last", None)
    assert colab.choose("pocket") == "pocket-s" and colab.choose("pocket-xs") == "pocket-xs"
    monkeypatch.setenv("PEFT_COURSE_BASE", "pocket-m")
    assert colab.choose("pocket-xs") == "pocket-m"


def test_set_up_cell_is_short_and_versions_name_what_decides():
    lines = badges.setup_cell("somebody/peft-course").splitlines()
    assert len(lines) <= 16 and max(map(len, lines)) <= 100
    assert {"python", "torch", "peft"} <= set(colab.versions()) and colab.versions(("no-such",))[
        "no-such"
    ] == "not installed"


def test_the_paths_of_a_take_home_hold_where_nothing_can_be_written(monkeypatch):
    assert colab.beside_data() == ROOT / "notebooks"
    monkeypatch.setattr(os, "access", lambda *_: False)
    folder = colab.beside_data()
    assert (folder / "../data/pocket/s/config.json").is_file() and not list(folder.iterdir())
    assert folder != ROOT / "notebooks"
    shutil.rmtree(folder.parent)
