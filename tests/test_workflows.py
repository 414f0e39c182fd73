"""What GitHub, Binder and Codespaces read is pinned, harmless, and calls a person's commands."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from tools import badges, lint_all
from utils import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LINTERS = ROOT / ".venv-lint" / "bin" / "python"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def jobs():
    return [
        (path.name, name, job)
        for path in WORKFLOWS
        for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
    ]


def commands():
    return [
        (f"{file}, {name}", step["run"])
        for file, name, job in jobs()
        for step in job["steps"]
        if "run" in step
    ]


def test_there_are_tests_site_drift_and_links():
    assert {p.stem for p in WORKFLOWS} >= {"test", "site", "drift", "links"}
    matrix = next(j for f, n, j in jobs() if n == "everything")["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert any("macos" in str(job["runs-on"]) for _, _, job in jobs())


def test_every_action_is_pinned_to_a_commit_and_every_job_ends():
    for file, name, job in jobs():
        assert job["timeout-minutes"] <= 120, (file, name)
        for step in job["steps"]:
            if "uses" in step:
                assert re.search(r"@[0-9a-f]{40}$", step["uses"]), (file, name, step["uses"])
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        assert "pull_request_target" not in text and "secrets." not in text
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("where, command", commands())
def test_workflows_call_commands_that_exist(where, command):
    for target in re.findall(r"\bmake ([a-z-]+)", command):
        assert re.search(rf"(?m)^{target}:", MAKEFILE), f"{where}: no target {target}"
    for path in re.findall(r"\btests/\w+\.py|\.ci/run", command):
        assert (ROOT / path).exists(), f"{where}: no {path}"


def test_dependabot_waits():
    read = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    kinds = {u["package-ecosystem"]: u for u in read["updates"]}
    assert set(kinds) == {"pip", "github-actions"}
    assert all(u["cooldown"]["default-days"] >= 7 for u in kinds.values())


def test_binder_installs_what_make_lab_does(tmp_path):
    """postBuild, with a pip that only notes what it is asked."""
    binder = ROOT / ".binder"
    assert all(os.access(binder / name, os.X_OK) for name in ("postBuild", "start"))
    pip = tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\necho "$*" >> "{tmp_path}/calls"\n')
    pip.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [str(binder / "postBuild")], cwd=ROOT, env={**os.environ, "PATH": path}, check=True
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert re.search(r"torch==\S+ --index-url https://download\.pytorch\.org/whl/cpu$", calls[0])
    assert calls[1].endswith("-r requirements.txt -c constraints.txt")
    assert calls[2].endswith("--no-deps -r requirements-unsloth.txt")
    said = subprocess.run(
        [str(binder / "start"), "sh", "-c", "echo $OMP_NUM_THREADS $1", "sh", "a b"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "1 a b\n"
    environment = yaml.safe_load((binder / "environment.yml").read_text(encoding="utf-8"))
    whole = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["dependencies"][0] == whole["dependencies"][0]


def test_codespaces_opens_the_course():
    read = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert read["postCreateCommand"] == "make install TORCH=cpu"
    for name in read["customizations"]["codespaces"]["openFiles"]:
        assert (ROOT / name).exists(), name


def test_citation_and_changelog_name_the_version_and_the_repository():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    assert citation["repository-code"] == f"https://github.com/{badges.repository()}"
    assert citation["url"] == badges.site_address(badges.repository())
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {project['version']}" in changes or "## Unreleased" in changes


# ---- the linters ----


def test_make_lint_names_every_linter_and_fails_with_the_first_fault(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lint_all", "python"])
    monkeypatch.setattr(
        lint_all,
        "commands",
        lambda python: [
            ("good", [sys.executable, "-c", "pass"]),
            ("bad", [sys.executable, "-c", "import sys; print('line 3'); sys.exit(1)"]),
            ("absent", None),
            ("after", [sys.executable, "-c", "pass"]),
        ],
    )
    with pytest.raises(SystemExit, match="Faults in: bad"):
        lint_all.main()
    told = capsys.readouterr().out
    assert "good: in order" in told and "bad: FAULTS" in told and "line 3" in told
    assert "absent: left out" in told and "after: in order" in told


@pytest.mark.skipif(not LINTERS.exists(), reason="no .venv-lint here; `make lint` makes it")
@pytest.mark.parametrize(
    "schema, text",
    [
        ("vendor.github-workflows", "name: bad\non: [push]\njobs: {a: {runs-on: x, stepz: []}}\n"),
        ("vendor.dependabot", "version: 2\nupdates: [{package-ecosystem: pipp}]\n"),
        ("vendor.citation-file-format", "title: x\n"),
    ],
)
def test_a_wrong_file_is_a_fault(schema, text, tmp_path):
    (tmp_path / "bad.yml").write_text(text)
    command = [LINTERS.parent / "check-jsonschema", "--builtin-schema", schema]
    assert subprocess.run([*command, tmp_path / "bad.yml"], check=False).returncode


def test_the_pinned_revision_is_this_versions_tag():
    """A notebook's badge and its set-up cell fetch what the notebook was made with."""
    assert badges.revision() == f"v{badges.course_version()}"
