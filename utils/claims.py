"""The ledger of claims: what the article said, what the literature says of it, and what this
course's base shows. A cell shows one with card(21, f"{full / lora:,.0f} times fewer"), several
with cards({19: "...", 20: "..."}, open=2): the first two stand open, the rest is folded. `python
-m utils.claims` writes docs/claims.md anew from data/claims.yml and the executed notebooks."""

import functools
import html
import json
import re
import textwrap
from dataclasses import dataclass

import yaml

from . import DATA, ROOT

VERDICTS = ("right", "narrow", "imprecise", "wrong")
SAID_PLAINLY = {"narrow": "right in its own setting only"}  # the other verdicts say themselves
LEDGER, NOTEBOOKS, PAGE = DATA / "claims.yml", ROOT / "notebooks", ROOT / "docs" / "claims.md"


@dataclass(frozen=True)
class Claim:
    """One claim of data/claims.yml; the header of that file explains the fields. `lesson` is
    always a tuple here."""

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
                    f"{path.name}: claim {row.get('id', f'no. {place} from the top')}: "
                    f"{field!r} is "
                    f"{row.get(field)!r}, but must be {wish}."
                )
        claims[row["id"]] = Claim(**{**row, "lesson": tuple(lesson)})
    return claims


class Card(dict):
    """{id: {label: text}}, shown as text and as small tables that leave the colours to the
    reader's theme.

    `folded` are the ids whose tables stand behind a line to click on; as text all of them are
    shown, these last.
    """

    def __init__(self, rows, folded=()):
        super().__init__(rows)
        self.folded = tuple(folded)

    def __repr__(self):
        wrap = textwrap.TextWrapper(
            96, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False
        )
        return "\n\n".join(
            "\n".join(wrap.fill(f"{k:<12}{v}") for k, v in self[id].items())
            for id in sorted(self, key=lambda id: id in self.folded)
        )

    def _repr_html_(self):
        row = (
            '<tr style="background:none"><th scope="row" valign="top" style="font-weight:normal">{}'
            '</th><td style="text-align:left">{}</td></tr>'
        )
        cells = {
            id: "".join(row.format(k, html.escape(v, False)) for k, v in rows.items())
            for id, rows in self.items()
        }
        tables = {id: f'<table style="max-width:60em">{rows}</table>' for id, rows in cells.items()}
        line = "<details><summary>claim {}: {}</summary>{}</details>"
        return "".join(tables[id] for id in self if id not in self.folded) + "".join(
            line.format(id, html.escape(self[id]["said"], False), tables[id]) for id in self.folded
        )


def card(id, measured, note=None):
    """What the article claims, what the literature says of it, and what this cell measured.

    `measured` is a text with the cell's own numbers; it stands beside "here". Raises ValueError if
    the ledger has no such claim, or if `measured` is no text.
    """
    c = load().get(id)
    if c is None:
        raise ValueError(
            f"There is no claim {id!r}: {LEDGER.name} has the ids {min(load())} to {max(load())}."
        )
    if not isinstance(measured, str) or not measured.strip():
        raise ValueError(
            f"Claim {id}: measured is {measured!r}; hand over a text, as f'{{score:.2f}} after "
            f"training'."
        )
    rows = {
        "claim": str(id),
        "said": c.quote,
        "literature": f"{SAID_PLAINLY.get(c.verdict, c.verdict)}. {c.truth}",
        "here": measured,
        "scale": c.scale,
        "note": note,
        "source": c.source,
    }
    return Card({id: {label: " ".join(text.split()) for label, text in rows.items() if text}})


def cards(measured, open=3):
    """Several cards as one object: cards({19: "...", 20: "..."}).

    open   how many of them stand open, counted from the first, or a list of their ids; the others
           are folded: in a notebook a click on the claim opens one. As text, and in
           docs/claims.md, all are shown.
    """
    ids = list(measured)
    shown = ids[:open] if type(open) is int else list(open)
    if unknown := [id for id in shown if id not in measured]:
        raise ValueError(f"cards: open names the claims {unknown}, but only {ids} are handed over.")
    rows = {id: card(id, text)[id] for id, text in measured.items()}
    return Card(rows, [id for id in ids if id not in shown])


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
    shown = {}
    for block in re.split(r"^(?=claim +\d+$)", text, flags=re.M)[1:]:
        id = int(block.split("\n", 1)[0].split()[1])
        # "measured" is what notebooks say that were executed before cards had a line "here"
        if measured := re.search(r"^(?:here|measured) +(.+?)\n(?=\S)", block, re.M | re.S):
            shown[id] = " ".join(measured[1].split())
    return shown


def page(notebooks=NOTEBOOKS):
    """The text of docs/claims.md: every claim, with the value that an executed notebook shows for
    it."""
    lessons = {int(path.name[:2]): path for path in sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))}
    shown, verdicts = (
        {n: shown_in(path) for n, path in lessons.items()},
        [c.verdict for c in load().values()],
    )
    lines = [
        "<!-- Generated by `python -m utils.claims` from data/claims.yml and the notebooks. Do "
        "not edit. -->",
        '# The claims of "Fine-tuning Large Language Models (LLMs) using PEFT" (N. S. Chauhan), '
        "measured\n",
        f"Of {len(verdicts)} claims the literature finds "
        f"{', '.join(f'{verdicts.count(v)} {v}' for v in VERDICTS)}. "
        "Narrow means right in its own setting only; imprecise, that something is left out or "
        "blurred that changes what "
        "a reader would do. The last column is what this course's small base shows, as the "
        "lesson measured it: it is not "
        "part of the verdict, and where it disagrees, both stand there.\n",
        "| id | said | literature | what is true | source | lesson | here |",
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
