"""The ledger of claims: what the article said, what a notebook measured, the verdict, the source. A cell shows one with
card(21, f"{full / lora:,.0f} times fewer"), several with cards({19: "...", 20: "..."}); `python -m utils.claims` writes
docs/claims.md anew from data/claims.yml and the executed notebooks."""

import functools
import html
import json
import re
import textwrap
from dataclasses import dataclass

import yaml

from . import DATA, ROOT

VERDICTS = ("right", "narrow", "imprecise", "wrong")
LEDGER, NOTEBOOKS, PAGE = DATA / "claims.yml", ROOT / "notebooks", ROOT / "docs" / "claims.md"


@dataclass(frozen=True)
class Claim:
    """One claim of data/claims.yml; the header of that file explains the fields. `lesson` is always a tuple here."""

    id: int
    quote: str
    verdict: str
    truth: str
    source: str
    lesson: tuple
    scale: str = ""


@functools.lru_cache
def load(path=LEDGER):
    """{id: Claim}, or a ValueError that names the file, the claim and the field to mend."""
    claims, fields = {}, Claim.__dataclass_fields__
    for place, row in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), 1):
        lesson = row["lesson"] if isinstance(row.get("lesson"), list) else [row.get("lesson")]
        rules = {
            "id": (
                type(row.get("id")) is int and row["id"] not in claims,
                "a whole number, used only once",
            ),
            "verdict": (row.get("verdict") in VERDICTS, f"one of {', '.join(VERDICTS)}"),
            "lesson": (
                lesson and all(type(n) is int for n in lesson),
                "a lesson's number or a list of them",
            ),
        }
        rules |= {
            f: (False, f"left out: the fields are {', '.join(fields)}")
            for f in row
            if f not in fields
        }
        for field in [*(f for f in fields if f != "scale"), *row]:
            ok, wish = rules.get(field) or (
                isinstance(row.get(field), str) and row[field].strip(),
                "a non-empty text",
            )
            if not ok:
                raise ValueError(
                    f"{path.name}: claim {row.get('id', f'no. {place} from the top')}: {field!r} is "
                    f"{row.get(field)!r}, but must be {wish}."
                )
        claims[row["id"]] = Claim(**{**row, "lesson": tuple(lesson)})
    return claims


class Card(dict):
    """{id: {label: text}}, shown as text and as a small table that leaves the colours to the reader's theme."""

    def __repr__(self):
        wrap = textwrap.TextWrapper(
            96, subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False
        )
        return "\n\n".join(
            "\n".join(wrap.fill(f"{k:<10}{v}") for k, v in rows.items()) for rows in self.values()
        )

    def _repr_html_(self):
        row = '<tr style="background:none"><td valign="top">{}</td><td style="text-align:left">{}</td></tr>'
        tables = (
            "".join(row.format(k, html.escape(v, False)) for k, v in rows.items())
            for rows in self.values()
        )
        return "".join(f'<table style="max-width:60em">{table}</table>' for table in tables)


def card(id, measured, note=None):
    """What the article claims beside what this cell measured, `measured` being a text with the cell's own numbers."""
    c = load().get(id)
    if c is None:
        raise ValueError(
            f"There is no claim {id!r}: {LEDGER.name} has the ids {min(load())} to {max(load())}."
        )
    if not isinstance(measured, str) or not measured.strip():
        raise ValueError(
            f"Claim {id}: measured is {measured!r}; hand over a text, as f'{{score:.2f}} after training'."
        )
    rows = {
        "claim": str(id),
        "said": c.quote,
        "measured": measured,
        "verdict": f"{c.verdict}. {c.truth}",
        "scale": c.scale,
        "note": note,
        "source": c.source,
    }
    return Card({id: {label: " ".join(text.split()) for label, text in rows.items() if text}})


def cards(measured):
    """Several cards as one object: cards({19: "...", 20: "..."})."""
    return Card({id: card(id, text)[id] for id, text in measured.items()})


def shown_in(notebook):
    """{id: measured text} of the cards stored in an executed notebook's outputs."""
    outputs = [
        o
        for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for o in c.get("outputs", [])
    ]
    text = "\n".join(
        "".join(o.get("text") or o.get("data", {}).get("text/plain", "")) for o in outputs
    )
    found = re.findall(
        r"^claim     (\d+)\nsaid      .*?\nmeasured  (.+?)\nverdict   ", text, re.M | re.S
    )
    return {int(id): " ".join(measured.split()) for id, measured in found}


def page(notebooks=NOTEBOOKS):
    """The text of docs/claims.md: every claim, with the value that an executed notebook shows for it."""
    lessons = {int(path.name[:2]): path for path in sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))}
    shown, verdicts = (
        {n: shown_in(path) for n, path in lessons.items()},
        [c.verdict for c in load().values()],
    )
    lines = [
        "<!-- Generated by `python -m utils.claims` from data/claims.yml and the notebooks. Do not edit. -->",
        '# The claims of "Fine-tuning Large Language Models (LLMs) using PEFT" (N. S. Chauhan), measured\n',
        f"Of {len(verdicts)} claims: {', '.join(f'{verdicts.count(v)} {v}' for v in VERDICTS)}.\n",
        "| id | said | verdict | what is true | source | lesson | measured |",
        "|" + "---|" * 7,
    ]
    for c in load().values():
        links = (
            f"[{n:02d}](../notebooks/{lessons[n].name})" if n in lessons else f"{n:02d}"
            for n in c.lesson
        )
        values = "; ".join(shown[n][c.id] for n in c.lesson if c.id in shown.get(n, ()))
        row = (
            str(c.id),
            c.quote,
            c.verdict,
            f"{c.truth} {c.scale}",
            c.source,
            ", ".join(links),
            values or ("not shown" if c.lesson[0] in lessons else "lesson not written yet"),
        )
        lines.append("| " + " | ".join(text.strip().replace("|", "\\|") for text in row) + " |")
    return (
        re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", "\n".join(lines))
        + "\n"
    )


def write_page():
    """Write docs/claims.md anew."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write_page()
