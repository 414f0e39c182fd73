"""Write the pocket world's task rows, facts and held-out texts to data/ (seconds; the same files
every time).

python -m tools.build_world
"""

import json

from tools.world import corpus, grammar, lexicon, tasks
from utils import DATA


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def main():
    built = tasks.build_all()
    for name, splits in built.items():
        for split, rows in splits.items():
            write_rows(DATA / "tasks" / name / f"{split}.jsonl", rows)
    write_rows(
        DATA / "world" / "facts.jsonl",
        [
            {
                "prompt": grammar.RECALL_PROMPTS[r].format(c=c.name),
                "answer": f" {getattr(c, r)}",
                "country": c.name,
                "relation": r,
            }
            for c in lexicon.COUNTRIES
            for r in lexicon.RELATIONS
        ],
    )
    # Fixed or short documents ("Big and small are opposites.") cannot be held out: there are only a
    # few of them.
    drawn = corpus.documents(800, seed=HELDOUT_SEED, forbidden=tasks.forbidden_texts(built))
    heldout = list(dict.fromkeys(t for t in drawn if len(t) > 80 and t not in grammar.ABOUT_WORDS))
    (DATA / "world" / "heldout.json").write_text(
        json.dumps(heldout[:400], indent=0, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(
        f"{len(built)} tasks, {sum(len(r) for s in built.values() for r in s.values())} rows "
        f"written to {DATA.name}/tasks"
    )


HELDOUT_SEED, TRAIN_SEED = 990, 7


def pretraining_documents(count, seed=TRAIN_SEED):
    """The documents that a base is trained on: no task row and none of the held-out documents among
    them.
    """
    forbidden = tasks.forbidden_texts(tasks.build_all()) | set(
        json.loads((DATA / "world" / "heldout.json").read_text(encoding="utf-8"))
    )
    return corpus.documents(count, seed, forbidden)


if __name__ == "__main__":
    main()
