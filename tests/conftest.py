"""Every test runs with the network closed, one thread and no progress bars, also when pytest is started by hand."""

import importlib.util
import os
import pathlib

import pytest

CLOSED = pathlib.Path(__file__).parent / "closed_network" / "sitecustomize.py"
os.environ.update(PEFT_COURSE_QUIET="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.pop("PEFT_COURSE_BASE", None)

_spec = importlib.util.spec_from_file_location("closed_network", CLOSED)
_spec.loader.exec_module(
    importlib.util.module_from_spec(_spec)
)  # does nothing if `make test` has closed it already


@pytest.fixture(autouse=True)
def base_as_before():
    """No test may leave another base behind for the notebooks, whose kernels inherit this process's environment."""
    before = os.environ.get("PEFT_COURSE_BASE")
    yield
    os.environ.pop("PEFT_COURSE_BASE", None)
    if before is not None:
        os.environ["PEFT_COURSE_BASE"] = before
