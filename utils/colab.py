"""The set-up of a lesson: in Colab and on Kaggle it adds what is missing, elsewhere it only looks.

It never imports transformers or peft.

`SETUP_CELL` is the cell that every notebook starts with: `tools.badges` writes it into them, the
lint compares.
"""

import importlib
import importlib.metadata
import logging
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import warnings

from . import ROOT

SETUP_CELL = """\
# Set-up, the same in every lesson of the course's version {version}; it fetches that version.
BASE = "pocket"  # @param ["pocket", "pocket-xs", "pocket-m", "smollm", "mistral"]
import os, pathlib, subprocess, sys

source = os.environ.get("COURSE_REPOSITORY", "https://github.com/{repository}")
here = pathlib.Path.cwd()
root = next((p for p in (here, *here.parents) if (p / "utils/colab.py").exists()), here / "course")
for at in (["--branch", "{revision}"], []):  # a fork may lack the release's tag
    if not root.exists():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", *at, source, str(root)])
if not (root / "utils/colab.py").exists():
    raise OSError("The course could not be fetched, or only half of it. Check that the Internet is "
                  f"on, delete {{root}} if it is there, and run this cell again.")
sys.path.insert(0, str(root))
from utils import colab
colab.prepare(BASE, "{version}")"""

HELD = (
    "torch",
    "numpy",
)  # never installed or replaced in Colab: a swapped numpy or torch forces a restart
# What Unsloth 2026.10.9 and TRL 1.12 accept. A version outside is replaced by the one in requirements.txt.
ACCEPTED = {
    "transformers": ">=4.56.2,<=5.17.0,!=4.57.0,!=4.57.4,!=4.57.5,!=5.0.0,!=5.1.0",
    "trl": "==1.12.0",
    "datasets": ">=4.7.0,<5.0.0,!=4.0.*,!=4.1.0,!=4.4.*,!=4.5.0",
    "peft": ">=0.21.2,<0.22",  # 0.20 (Colab's) has fewer methods, and warns of newer adapters' keys
    "bitsandbytes": ">=0.45.5,!=0.46.0,!=0.48.0",
    "accelerate": ">=1.4.0",
    "huggingface_hub": ">=0.34.0,<2",
    "chardet": ">=7",  # the readers ask it for a list of encodings, which older ones cannot take
}
# Only when it is there: peft refuses to build a LoRA layer beside an older one (Colab carries 0.10.0).
IF_THERE = {"torchao": (">=0.16.0", "0.17.0")}
LESSON_TOOLS = (
    "ipywidgets",
    "jupyterlab",
    "nbformat",
    "nbclient",
    "nbconvert",
    "jupytext",
    "pytest",
    "pytest-xdist",
    "nbval",
)
_threads = (
    None  # what `settle_threads` put into OMP_NUM_THREADS, so that another base may change it
)
_last = None  # what `prepare` put into PEFT_COURSE_BASE, so that a changed form is not taken for a set variable


def _key(name):
    return name.lower().replace("_", "-")


def read_pins(path):
    """{name: version} of the `name==version` lines of a requirements file; markers are left out."""
    return dict(
        line.split(";")[0].strip().split("==")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "==" in line and line[0] != "#"
    )


def needed():
    """{name: version} of what lessons import: requirements.txt without the tools for testing, and without torch and numpy."""
    pins = read_pins(ROOT / "requirements.txt")
    return {name: version for name, version in pins.items() if name not in (*LESSON_TOOLS, *HELD)}


def installed():
    """{name: version} of the packages of this Python, names in lower case with hyphens."""
    return {
        _key(d.metadata["Name"]): d.version
        for d in importlib.metadata.distributions()
        if d.metadata["Name"]
    }


def plan(installed, needed, accepted=ACCEPTED, if_there=IF_THERE):
    """Requirements for pip: what is missing, or present in a version that is not accepted. Never torch or numpy.

    `installed` and `needed` are {name: version}, `accepted` {name: specifier}, `if_there` {name: (specifier, version)}
    for packages that may be absent. A package that is present and has no entry in `accepted` is left as it is.
    """
    from packaging.specifiers import SpecifierSet

    wanted = []
    for name, version in needed.items():
        present = installed.get(_key(name))
        if present is None or not SpecifierSet(accepted.get(name, "")).contains(
            present, prereleases=True
        ):
            wanted.append(f"{name}=={version}")
    for name, (specifier, version) in if_there.items():
        present = installed.get(_key(name))
        if present is not None and not SpecifierSet(specifier).contains(present, prereleases=True):
            wanted.append(f"{name}=={version}")
    assert not any(_key(r.split("==")[0]) in HELD for r in wanted), (
        f"the install plan names torch or numpy: {wanted}"
    )
    return wanted


def on_kaggle():
    """Is this kernel one of Kaggle's?"""
    return bool(os.environ.get("KAGGLE_KERNEL_RUN_TYPE") or os.environ.get("KAGGLE_URL_BASE"))


def in_colab():
    """Is this kernel one of Google Colab's? (Kaggle's has Colab's module too.)"""
    if on_kaggle():
        return False
    try:
        return importlib.import_module("google.colab") is not None
    except ImportError:
        return False


def hosted():
    """Is this kernel lent by a service for a session, so that the course may install into it?"""
    return on_kaggle() or in_colab()


def pip_install(requirements, *options):
    """Install with pip while torch and numpy are held at the versions that are there. RuntimeError carries pip's last line."""
    present = installed()
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as held:
        held.write("".join(f"{name}=={present[name]}\n" for name in HELD if name in present))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        held.name,
        *options,
        *requirements,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    os.unlink(held.name)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["?"]
        reason = next((x for x in reversed(lines) if x.startswith("ERROR")), lines[-1])
        network = (
            "Switch Internet on in the notebook's settings"
            if on_kaggle()
            else "Check the network and the free disk space"
        )
        raise RuntimeError(
            f"pip could not install {', '.join(requirements)}: {reason}\n{network}, then run this "
            "cell again. If it stays, end this session (in Colab: Runtime → Disconnect and delete) "
            "and start over."
        )
    importlib.invalidate_caches()


def install(requirements, *options, command="make lab"):
    """In Colab and on Kaggle: install and say so. Elsewhere: one sentence that names the command."""
    if not requirements:
        return
    names = ", ".join(requirements)
    if hosted():
        print(f"installing {names}")
        pip_install(requirements, *options)
    else:
        line = " ".join(["%pip install", *options, *requirements])
        print(
            f"Missing here: {names}. Run `{command}` in the course's folder; it installs exactly "
            f"these versions. In a hosted notebook, run `{line}` in a cell of its own, then restart "
            "the kernel."
        )


def install_unsloth():
    """For lesson 13, before anything else is imported: Unsloth without its dependencies (requirements-unsloth.txt says why)."""
    pins = read_pins(ROOT / "requirements-unsloth.txt")
    install(
        plan(installed(), pins, {name: f"=={version}" for name, version in pins.items()}, {}),
        "--no-deps",
    )


def choose(form):
    """The base's name: PEFT_COURSE_BASE if someone set it, else the form's value; checked, and written to PEFT_COURSE_BASE."""
    global _last
    from . import bases

    given = os.environ.get("PEFT_COURSE_BASE")
    name = bases.chosen(form if given in (None, "", _last) else given).name
    os.environ["PEFT_COURSE_BASE"] = _last = name
    return name


def quieten():
    """Keep harmless warnings and log lines out of a lesson; no progress bars at all if PEFT_COURSE_QUIET is 1."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads leave the cores to others
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if os.environ.get("PEFT_COURSE_QUIET") == "1":
        os.environ.update(
            TQDM_DISABLE="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
            HF_DATASETS_DISABLE_PROGRESS_BARS="1",
        )
    for name in (
        "bitsandbytes",
        "torchao",
        "huggingface_hub",
        "datasets",
        "accelerate",
        "matplotlib.font_manager",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        r".*pin_memory.*no accelerator",
        r".*IProgress not found",
        r".*use_reentrant",
        r".*cast from float16 to float32",
        r"Position ids are not supported for parameter efficient tuning",
    ):
        warnings.filterwarnings("ignore", message=message)


def seed(value=0):
    """Seed Python, NumPy and torch."""
    import numpy
    import torch

    random.seed(value)
    numpy.random.seed(value)
    torch.manual_seed(value)


def figures_inline(dpi=96):
    """Inline figures as PNG files of `dpi` a page's inch, drawn twice as fine for zoomed and fine screens.

    Set on the shell, so that matplotlib need not be imported here.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        shell.config.InlineBackend.figure_formats = {"retina"}  # shown at half of their pixels
        shell.config.InlineBackend.print_figure_kwargs = {
            "bbox_inches": "tight",
            "dpi": 2 * dpi,
            "metadata": {"Software": None},
        }


def usable_cores(quota=pathlib.Path("/sys/fs/cgroup/cpu.max")):
    """Cores that this process may use: those it is bound to, or fewer by a container's quota."""
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    cores = len(allowed)
    if quota.exists():
        most, _, period = quota.read_text(encoding="utf-8").partition(" ")
        if most.isdigit():
            cores = min(cores, max(1, int(most) // int(period)))
    return cores


def threads(base=None):
    """How many threads a lesson computes with, unless OMP_NUM_THREADS is set.

    One for the pocket bases: a second saves a third of the time on an idle machine and costs ten
    times as much on a busy one. A larger base gets the cores there are.
    """
    base = base or os.environ.get("PEFT_COURSE_BASE") or "pocket"
    return 1 if base.startswith("pocket") else usable_cores()


def settle_threads(base):
    """Compute with `threads(base)`, in whatever kernel this is, unless somebody has set a number.

    `make lab` sets it for its kernels; Colab, Kaggle and a JupyterLab started by hand do not.
    """
    global _threads
    given = os.environ.get("OMP_NUM_THREADS")
    if given and given != _threads:
        return
    _threads = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads(base))
    import torch

    torch.set_num_threads(int(_threads))


def course_version(root=ROOT):
    """The version in the course's pyproject.toml, such as "0.2.0"."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'(?m)^version = "([^"]+)"', text)[1]


def settle_folder():
    """Work in the course's notebooks/, where paths in the lessons begin; said if that is a change.

    A notebook that was opened alone (in Colab, on Kaggle) begins beside the clone, not in it.
    """
    here = pathlib.Path.cwd()
    if ROOT in (here, *here.parents) or not (ROOT / "notebooks").is_dir():
        return
    os.chdir(ROOT / "notebooks")
    print(f"working folder: {ROOT / 'notebooks'} (a file of yours in {here} needs its whole path)")


def tell_where_it_stopped():
    """After a cell that raised, one line for a reader of "Run All": what is below has not run.

    Not where outputs are stored or compared.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or os.environ.get("PEFT_COURSE_QUIET") == "1":
        return

    def after_cell(result):
        error = result.error_in_exec or result.error_before_exec
        if error is not None and not isinstance(error, KeyboardInterrupt):
            print(
                f"This cell stopped with {type(error).__name__}. After “Run All” the cells below "
                "it have not run. `git checkout notebooks` brings their stored outputs back."
            )

    if not any(f.__name__ == "after_cell" for f in shell.events.callbacks["post_run_cell"]):
        shell.events.register("post_run_cell", after_cell)


def prepare(base="pocket", version=None):
    """What the set-up cell calls: install or look, choose the base, quieten, seed, and print what is used.

    `version` is that of the course to which the notebook belongs.
    """
    if version and version != course_version():
        print(
            f"This notebook belongs to version {version} of the course; the code in {ROOT} is of "
            f"version {course_version()}, so outputs may differ. Take both from one version."
        )
    install(plan(installed(), needed()))
    quieten()
    name = choose(base)
    from . import bases

    if bases.BASES[name].folder:
        os.environ.setdefault(
            "HF_HUB_DISABLE_PROGRESS_BARS", "1"
        )  # nothing is downloaded, loading takes no time
    settle_threads(name)
    seed()
    figures_inline()
    tell_where_it_stopped()
    device = bases.device()
    print(
        f"base {name} · {device.type.upper()} · {str(bases.dtype(device)).removeprefix('torch.')}"
    )
    if name != "pocket-s":
        print(
            "Stored sweeps, and the sentences about them, are pocket-s's unless they say otherwise. What a cell measures live is this base's, "
            "with steps, rows and rates of its own."
        )
    settle_folder()


def versions(
    names=("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "unsloth", "numpy"),
):
    """{name: version} of Python and the packages that decide results; differs between machines, so keep it out of compared cells."""
    there = installed()
    return {
        "python": sys.version.split()[0],
        **{name: there.get(name, "not installed") for name in names},
    }


def beside_data():
    """The folder from which `../data` is the course's data: notebooks/, or where nothing can be
    written there a temporary folder beside a link to the data."""
    home = ROOT / "notebooks"
    if os.access(home, os.W_OK):
        return home
    there = pathlib.Path(tempfile.mkdtemp(prefix="peft-course-"))
    (there / "data").symlink_to(ROOT / "data", target_is_directory=True)
    (there / "notebooks").mkdir()
    return there / "notebooks"


def checkpoint_folder(name):
    """A folder for checkpoints that outlives the runtime, as far as there is one.

    In Colab on Drive (it asks for access; without it the folder is in the runtime, and this is
    said), on Kaggle in the notebook's output, else build/checkpoints/<name>.
    """
    if in_colab():
        folder = pathlib.Path("/content/drive/MyDrive/peft-course") / name
        try:
            from google.colab import drive

            drive.mount("/content/drive")
        except Exception as error:  # noqa: BLE001 - access was refused, or there is no Drive
            folder = pathlib.Path("/content/peft-course") / name
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(
                f"Google Drive is not there ({reason}). Checkpoints go to {folder}, and are lost "
                "when Colab takes the runtime back."
            )
    elif on_kaggle():
        folder = pathlib.Path("/kaggle/working/peft-course") / name
    else:
        folder = ROOT / "build" / "checkpoints" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
