"""Write the tables of data/README.md from the files they describe: python -m tools.datasheet"""

import json
import re

from utils import DATA
from utils import tasks as task_rows

PAGE = DATA / "README.md"


def bases_table():
    """One row a size, from data/results/pretraining-<size>.json."""
    lines = [
        "| size | parameters | hidden × layers | heads (KV) | tokens seen | seconds (threads) | "
        "held-out perplexity | facts recalled |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in ("xs", "s", "m"):
        r = json.loads((DATA / "results" / f"pretraining-{size}.json").read_text(encoding="utf-8"))
        c = r["recipe"]
        lines.append(
            f"| {size} | {r['parameters']:,} | {c['hidden_size']} × {c['num_hidden_layers']} | "
            f"{c['num_attention_heads']} ({c['num_key_value_heads']}) "
            f"| {r['tokens_seen']:,} | {r['seconds']:,} ({r['threads']}) | "
            f"{r['heldout_perplexity']:.2f} | {r['facts_recalled']:.1%} |"
        )
    return "\n".join(lines)


def tasks_table():
    """One row a task, counted from the files."""
    lines = ["| task | train | validation | test | more | fields |", "|---|---|---|---|---|---|"]
    for folder in sorted((DATA / "tasks").iterdir()):
        rows = {p.stem: task_rows.read_rows(p) for p in sorted(folder.glob("*.jsonl"))}
        more = (
            ", ".join(
                f"{s}: {len(r)}"
                for s, r in rows.items()
                if s not in ("train", "validation", "test")
            )
            or "–"
        )
        lines.append(
            f"| {folder.name} | {len(rows['train'])} | {len(rows['validation'])} | "
            f"{len(rows['test'])} | {more} | {', '.join(rows['train'][0])} |"
        )
    return "\n".join(lines)


def filled(text):
    """The page with each table put between its markers."""
    for name, table in (("bases", bases_table()), ("tasks", tasks_table())):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda m: m.group(1) + table + "\n" + m.group(2),
            text,
            flags=re.S,
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
