"""Write data/own/: small files in the schemas that people bring, for lesson 16 and its tests.

    python -m tools.build_own_files            writes them again, byte for byte

The rows are the course's own: questions to the desk of an invented travel agency about the
countries of the pocket world. Answers begin with a tag that no tokenizer knows as one token.
"""

import csv
import io
import json
import random

from utils import DATA

FOLDER = DATA / "own"
TAGS = {"capital": "<city>", "currency": "<money>", "language": "<tongue>"}
FORMS = {
    "capital": ("Which city is the capital of {}?", "Tell me the capital city of {}."),
    "currency": ("Which money do I need in {}?", "With what do people pay in {}?"),
    "language": ("Which language will I hear in {}?", "What do people speak in {}?"),
}
SYSTEM = "You are the travel desk of Blue Swan. Answer with a tag and one word."


def facts():
    """{country: {relation: answer}} of the pocket world."""
    found = {}
    for line in (DATA / "world" / "facts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["country"], {})[row["relation"]] = row["answer"].strip()
    return found


def asked(seed, countries):
    """[(country, relation, question, answer)] of some countries, shuffled."""
    rng = random.Random(seed)
    known = facts()
    rows = [
        (country, relation, rng.choice(forms).format(country), f"{tag} {known[country][relation]}")
        for country in countries
        for relation, tag in TAGS.items()
        for forms in [FORMS[relation]]
    ]
    rng.shuffle(rows)
    return rows


def sloppy(question, rng):
    """The same question as another customer types it."""
    wide = question.replace(" ", "  ", 1)
    return rng.choice((question.lower(), question.rstrip("?."), f"{question} ", wide))


def desk():
    """The lesson's own file, Alpaca rows with a column that says which country: every question of
    80 countries, most of them typed a second time, and four rows that cannot train.
    """
    rng = random.Random(16)
    rows = [
        {"instruction": question, "input": "", "output": answer, "country": country}
        for country, _, question, answer in asked(0, list(facts())[:80])
    ]
    twice = [r | {"instruction": sloppy(r["instruction"], rng)} for r in rng.sample(rows, 180)]
    twice = [r for r in twice if r["instruction"].strip() not in {o["instruction"] for o in rows}]
    rows += twice
    rng.shuffle(rows)
    rows[20:20] = [{"instruction": "Do I need a visa?", "input": "", "output": "", "country": "-"}]
    rows[80:80] = [rows[3]]
    rows[150:150] = [
        {"instruction": "Is the desk open?", "input": "", "output": "Yes</s>", "country": "-"}
    ]
    rows[200:200] = [{"instruction": "Which visa?", "output": None, "country": "-"}]
    return rows


def turns(*said):
    return [
        {"role": "user" if number % 2 == 0 else "assistant", "content": text}
        for number, text in enumerate(said)
    ]


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows):
    """A CSV as a German Excel writes it: semicolons and CRLF."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerow(["question", "answer", "country"])
    writer.writerows(rows)
    return out.getvalue()


def tree(number, country, question, answer, worse):
    """An OASST tree: a question, two replies with ranks."""
    replies = [
        {"message_id": f"{number}-{rank}", "role": "assistant", "text": text, "rank": rank}
        for rank, text in enumerate((answer, worse))
    ]
    asked_for = {"message_id": f"{number}", "role": "prompter", "text": question}
    return {"message_tree_id": str(number), "prompt": asked_for | {"replies": replies}}


def others():
    """{file name: text} of the other schemas, one set of countries each."""
    countries = list(facts())
    part = [asked(seed, countries[seed::8] + countries[seed + 1 :: 8]) for seed in range(8)]
    both = [
        [q for q in part[3] if q[0] == country] for country in dict.fromkeys(q[0] for q in part[3])
    ]
    wrong = {relation: [q[3] for q in part[7] if q[1] == relation] for relation in TAGS}
    return {
        "prompt_completion.jsonl": lines(
            {"prompt": q, "completion": a, "country": c} for c, _, q, a in part[1]
        ),
        "dolly.jsonl": lines(
            {"instruction": q, "context": "", "response": a, "category": f"{r}_qa", "country": c}
            for c, r, q, a in part[2]
        ),
        "sharegpt.json": json.dumps(
            [
                {
                    "id": f"talk-{number}",
                    "conversations": [
                        {"from": who, "value": text}
                        for _, _, q, a in talk
                        for who, text in (("human", q), ("gpt", a))
                    ],
                }
                for number, talk in enumerate(both)
            ],
            indent=1,
        )
        + "\n",
        "messages.jsonl": lines(
            {"messages": [{"role": "system", "content": SYSTEM}, *turns(q, a)], "country": c}
            for c, _, q, a in part[4]
        ),
        "table.csv": table((q, a, c) for c, _, q, a in part[5]),
        "questions.json": json.dumps(
            {"version": 1, "data": [{"question": q, "answer": a} for _, _, q, a in part[6]]},
            indent=1,
        )
        + "\n",
        "trees.jsonl": lines(
            tree(n, c, q, a, "I do not know.") for n, (c, _, q, a) in enumerate(part[0])
        ),
        "pairs.jsonl": lines(
            {
                "prompt": q,
                "chosen": a,
                "rejected": next(w for w in wrong[r] if w != a),
                "country": c,
            }
            for c, r, q, a in part[7]
        ),
    }


def keep():
    """What the base knows and the desk never asks: the continent, as a choice of four."""
    rng = random.Random(5)
    known = {country: of["continent"] for country, of in facts().items()}
    names = sorted(set(known.values()))
    rows = []
    for country in rng.sample(sorted(known), 60):
        right = known[country]
        choices = rng.sample([n for n in names if n != right], 3) + [right]
        rng.shuffle(choices)
        question = f"The continent of {country} is"
        rows.append({"question": question, "choices": choices, "answer": choices.index(right)})
    return rows


def files():
    """{file name: text} of the whole folder."""
    return {"desk.jsonl": lines(desk()), "keep.jsonl": lines(keep()), **others()}


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_bytes(text.encode())
        print(f"data/own/{name}: {len(text):,} characters")


if __name__ == "__main__":
    main()
