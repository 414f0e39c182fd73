"""Ratios of times, measured so that a busy machine hurts all sides alike."""

import contextlib
import statistics
import time

import torch

from . import bases


def interleaved(functions, repeats=20, gradients=False):
    """{name: median seconds a call} of functions called in turn, `repeats` rounds after a round of warm-up (3 on a large base)."""
    repeats = min(repeats, bases.chosen().repeats or repeats)
    seconds = {name: [] for name in functions}
    with contextlib.nullcontext() if gradients else torch.inference_mode():
        for round_ in range(repeats + 1):
            for name, function in functions.items():
                began = time.perf_counter()
                function()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if round_:
                    seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}
