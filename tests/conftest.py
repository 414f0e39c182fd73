"""Every test runs with the network closed, no progress bars and one thread, also when pytest is started by hand.

The kernels that nbval starts inherit this process's environment: so they see PEFT_COURSE_TESTS=1,
with which a finding that does not hold and a run that differs from its stored twin raise instead of
telling the reader, and the number of threads, which a setting from outside may change.
"""

import importlib.util
import os
import pathlib
import re

import pytest

from tests import comparing

CLOSED = pathlib.Path(__file__).parent / "closed_network" / "sitecustomize.py"
os.environ.update(PEFT_COURSE_QUIET="1", PEFT_COURSE_TESTS="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ.pop("PEFT_COURSE_BASE", None)


def leave_make(environment):
    """Take out what the make that runs the tests hands on: its flags, and the settings it was told.

    Else a make that a test runs would take `make test WORKERS=1` for its own.
    """
    told = environment.get("MAKEFLAGS", "").partition("-- ")[2]
    for name in (*re.findall(r"(?:^|(?<!\\) )(\w+)=", told), "MFLAGS"):
        environment.pop(name, None)
    for name in [name for name in environment if name.startswith("MAKE")]:
        del environment[name]


leave_make(os.environ)

_spec = importlib.util.spec_from_file_location("closed_network", CLOSED)
_spec.loader.exec_module(
    importlib.util.module_from_spec(_spec)
)  # does nothing if `make test` has closed it already

comparing.install()


@pytest.fixture(autouse=True)
def base_as_before():
    """No test may leave another base behind for the notebooks, whose kernels inherit this process's environment."""
    before = os.environ.get("PEFT_COURSE_BASE")
    yield
    os.environ.pop("PEFT_COURSE_BASE", None)
    if before is not None:
        os.environ["PEFT_COURSE_BASE"] = before
