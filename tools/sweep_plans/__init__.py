"""What to sweep, one module a lesson: SWEEPS = {name: plan} and, where a lesson needs its own method, METHODS = {name: function}.

A plan has `arms`, a list of (task, method, options); `seeds`, `steps`, `rates`; and optionally `base`, `count` (training rows),
`batch_size`, `keep` (which rows to use), `form` (another prompt and answer for a row) and `tests` (more scores, on parts of the
test split). All arms of a plan get the same rates, steps and seeds.
"""

import json


def about(base, task, method, options, lr, seed, steps, count, batch_size):
    """The columns with which every run's row begins: what was run."""
    return {
        "base": base,
        "task": task,
        "method": method,
        "options": json.dumps(options),
        "lr": lr,
        "seed": seed,
        "steps": steps,
        "count": count,
        "batch_size": batch_size,
    }
