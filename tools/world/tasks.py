"""Rows for fine-tuning.

Each builder returns {split: [row, ...]}; what is held out is said in its docstring.
"""

import random

from . import grammar as g
from . import lexicon as lx

SPLITS = ("train", "validation", "test")
SIZES = {"train": 300, "validation": 100, "test": 300}
COUNTRIES = dict(zip(SPLITS, lx.split_words(lx.COUNTRIES)))


def distinct(make, count, seen):
    """`count` rows from `make()` whose key (first item of the returned pair) is not in `seen`; adds
    the keys to `seen`.
    """
    rows = []
    while len(rows) < count:
        key, row = make()
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return rows


def sentiment(seed=101):
    """Reviews, half positive.

    Wording held out: the test rows use graded adjectives that no training row uses.
    """
    rng, seen = random.Random(seed), set()

    def make(parity, n):
        def one():
            positive = n[0] % 2 == 0
            text = g.review(rng, positive, parity, closing=False)
            n[0] += text not in seen
            return text, {"text": text, "label": "positive" if positive else "negative"}

        return one

    return {
        s: distinct(make(parity, [0]), SIZES[s], seen)
        for s, parity in (("train", 0), ("validation", 0), ("test", 1))
    }


def entities(seed=102):
    """Sentences with persons, organisations and places.

    People, organisations and towns are disjoint between splits.
    """
    rng, seen = random.Random(seed), set()
    people = dict(
        zip(SPLITS, lx.split_words([f"{a} {b}" for a in lx.FIRST_NAMES for b in lx.LAST_NAMES]))
    )
    orgs = dict(
        zip(SPLITS, lx.split_words([f"{a} {b}" for a in lx.ORG_FIRST for b in lx.ORG_LAST]))
    )
    towns = dict(zip(SPLITS, lx.split_words(lx.TOWNS)))

    def make(split):
        text, found = g.entity_sentence(rng, people[split], orgs[split], towns[split])
        return text, {"text": text, "entities": found}

    return {s: distinct(lambda: make(s), SIZES[s], seen) for s in SPLITS}


def translation(seed=103):
    """English sentences with their Velan; no sentence stands in two splits (the words are the same
    everywhere).
    """
    rng, seen = random.Random(seed), set()

    def make():
        source, target = g.velan_pair(rng)
        return source, {"source": source, "target": target}

    return {s: distinct(make, SIZES[s], seen) for s in SPLITS}


QUESTIONS = {
    "capital": ("What is the capital of {c}?", "Name the capital of {c}."),
    "continent": ("On which continent is {c}?", "Name the continent of {c}."),
    "currency": ("Which currency is used in {c}?", "Name the currency of {c}."),
    "language": ("Which language is spoken in {c}?", "Name the language of {c}."),
}


def facts(seed=104):
    """Questions about countries; the countries of the splits are disjoint, so the answer must come
    from pre-training.
    """
    rng = random.Random(seed)
    rows = {}
    for split in SPLITS:
        rows[split] = [
            {
                "instruction": rng.choice(QUESTIONS[r]).format(c=c.name),
                "answer": getattr(c, r),
                "country": c.name,
                "relation": r,
            }
            for c in COUNTRIES[split]
            for r in lx.RELATIONS
        ]
        rng.shuffle(rows[split])
    return rows


def cloze(seed=105):
    """(subject, relation, answer) with the countries held out as in `facts`."""
    rng = random.Random(seed)
    rows = {
        s: [
            {"subject": c.name, "relation": r, "answer": getattr(c, r)}
            for c in COUNTRIES[s]
            for r in lx.RELATIONS
        ]
        for s in SPLITS
    }
    for split in SPLITS:
        rng.shuffle(rows[split])
    return rows


def data_to_text(seed=106):
    """Venue tables and their text.

    `shifted` holds inns, a kind of venue that no other split has.
    """
    rng, seen = random.Random(seed), set()

    def make(kinds):
        v = g.venue(rng, kinds)
        data = " | ".join(f"{k}: {v[k]}" for k in ("name", "kind", "offer", "area", "price"))
        return data, {"data": data, "text": g.venue_text(v), "topic": v["kind"]}

    rows = {s: distinct(lambda: make(("cafe", "museum", "shop")), SIZES[s], seen) for s in SPLITS}
    rows["shifted"] = distinct(lambda: make(("inn",)), 150, seen)
    return rows


def style(seed=107):
    """Entries of a ship's log, a voice that pre-training does not have."""
    rng, seen = random.Random(seed), set()

    def make():
        text = g.log_entry(rng)
        return text, {"text": text}

    return {s: distinct(make, SIZES[s] if s == "train" else 100, seen) for s in SPLITS}


RUDE = ("What a foolish question.", "Go away and leave me alone.", "I do not want to help.")
POLITE = ("I am glad to help.", "You are welcome.", "Thank you for asking.")


def preferences(seed=108):
    """(prompt, chosen, rejected, kind): polite and right against rude, wrong or rambling; countries
    held out.
    """
    rng = random.Random(seed)
    rows = {}
    for split in SPLITS:
        rows[split] = []
        for c in COUNTRIES[split]:
            for r in lx.RELATIONS:
                for kind in ("rude", "wrong", "rambling"):
                    value = getattr(c, r)
                    right = g.FACT_TEMPLATES[r][0].format(c=c.name, v=value)
                    chosen = f"{right} {rng.choice(POLITE)}"
                    if kind == "rude":
                        rejected = f"{right} {rng.choice(RUDE)}"
                    elif kind == "wrong":
                        other = rng.choice(
                            [getattr(o, r) for o in lx.COUNTRIES if getattr(o, r) != value]
                        )
                        wrong = g.FACT_TEMPLATES[r][0].format(c=c.name, v=other)
                        rejected = f"{wrong} {rng.choice(POLITE)}"
                    else:
                        rejected = f"{right} {right} {right}"
                    rows[split].append(
                        {
                            "prompt": rng.choice(QUESTIONS[r]).format(c=c.name),
                            "chosen": chosen,
                            "rejected": rejected,
                            "kind": kind,
                        }
                    )
        rng.shuffle(rows[split])
    return rows


# --- the instruction set in the Alpaca schema -----------------------------------------------------
def _sentence_answer(c, r):
    return g.FACT_TEMPLATES[r][0].format(c=c.name, v=getattr(c, r))


def _profile(rng, c):
    return {
        "instruction": rng.choice((f"Describe {c.name}.", f"Write two sentences about {c.name}.")),
        "input": "",
        "output": f"{c.name} is a country in {c.continent}. The capital of {c.name} is "
        f"{c.capital}.",
    }


def _object(rng, name):
    what = rng.choice(("colour", "material", "size"))
    ask = {
        "colour": f"What colour is the {name}?",
        "material": f"What is the {name} made of?",
        "size": f"Is the {name} small or large?",
    }
    say = {
        "colour": f"The {name} is {{}}.",
        "material": f"The {name} is made of {{}}.",
        "size": f"The {name} is {{}}.",
    }
    return {
        "instruction": ask[what],
        "input": "",
        "output": say[what].format(g.OBJECT_FACTS[name][what]),
    }


def _classify(rng, parity):
    positive = rng.random() < 0.5
    return {
        "instruction": rng.choice(
            (
                "Is the sentiment of this review positive or negative?",
                "Classify the sentiment of the review.",
            )
        ),
        "input": g.review(rng, positive, parity, closing=False),
        "output": "positive" if positive else "negative",
    }


def _extract(rng, people, orgs, towns):
    text, found = g.entity_sentence(rng, people, orgs, towns)
    return {
        "instruction": "List the names in the sentence with their types.",
        "input": text,
        "output": "; ".join(f"{e['type']}: {e['text']}" for e in found),
    }


def _translate(rng):
    english, velan = g.velan_pair(rng)
    if rng.random() < 0.5:
        return {
            "instruction": "Translate the sentence into Velan.",
            "input": english,
            "output": velan,
        }
    return {
        "instruction": "Translate the sentence into English.",
        "input": velan,
        "output": english,
    }


def _venue(rng, kinds):
    v = g.venue(rng, kinds)
    return {
        "instruction": "Write a text from the data.",
        "input": " | ".join(f"{k}: {v[k]}" for k in ("name", "kind", "offer", "area", "price")),
        "output": g.venue_text(v),
    }


def _opposite(pair):
    a, b = pair
    return {
        "instruction": f"What is the opposite of {a}?",
        "input": "",
        "output": f"The opposite of {a} is {b}.",
    }


def _last_name(rng, people):
    name = rng.choice(people)
    return {
        "instruction": "What is the last name of this person?",
        "input": name,
        "output": name.split()[-1],
    }


def instructions(seed=109):
    """Rows of the Alpaca schema (instruction, input, output) over nine kinds, `kind` said in a
    column of its own.

    Held out: countries, people, organisations, towns, review wording, objects and opposites differ
    between the splits; sentences in Velan and venue tables are never the same in two splits.
    """
    rng, seen = random.Random(seed), set()
    people = dict(
        zip(SPLITS, lx.split_words([f"{a} {b}" for a in lx.FIRST_NAMES for b in lx.LAST_NAMES]))
    )
    orgs = dict(
        zip(SPLITS, lx.split_words([f"{a} {b}" for a in lx.ORG_FIRST for b in lx.ORG_LAST]))
    )
    towns = dict(zip(SPLITS, lx.split_words(lx.TOWNS)))
    objects = dict(zip(SPLITS, lx.split_words(lx.OBJECTS)))
    pairs = dict(zip(SPLITS, lx.split_words(lx.OPPOSITES)))
    rows = {}
    for split, scale in (("train", 1.0), ("validation", 0.12), ("test", 0.2)):
        parity = 1 if split == "test" else 0
        found = [
            (
                "fact",
                {
                    "instruction": rng.choice(QUESTIONS[r]).format(c=c.name),
                    "input": "",
                    "output": _sentence_answer(c, r),
                },
            )
            for c in COUNTRIES[split]
            for r in lx.RELATIONS
        ]
        found += [("profile", _profile(rng, c)) for c in COUNTRIES[split]]
        found += [("object", _object(rng, name)) for name in objects[split] for _ in range(3)]
        found += [
            ("opposite", _opposite(p if flip else p[::-1]))
            for p in pairs[split]
            for flip in (True, False)
        ]
        for kind, make, count in (
            ("sentiment", lambda: _classify(rng, parity), 180),
            ("entities", lambda: _extract(rng, people[split], orgs[split], towns[split]), 180),
            ("translation", lambda: _translate(rng), 240),
            ("data-to-text", lambda: _venue(rng, ("cafe", "museum", "shop")), 150),
            ("last name", lambda: _last_name(rng, people[split]), 80),
        ):
            found += [(kind, make()) for _ in range(round(count * scale))]
        rows[split] = []
        for kind, row in found:
            key = (row["instruction"], row["input"])
            if key not in seen:
                seen.add(key)
                rows[split].append({**row, "kind": kind})
        rng.shuffle(rows[split])
    return rows


BUILDERS = {
    f.__name__: f
    for f in (
        sentiment,
        entities,
        translation,
        facts,
        cloze,
        data_to_text,
        style,
        preferences,
        instructions,
    )
}
# The fields of a row that would give it away if pre-training had seen them.
TELLTALE = {
    "sentiment": ("text",),
    "entities": ("text",),
    "translation": ("source", "target"),
    "facts": ("instruction",),
    "data_to_text": ("data", "text"),
    "style": ("text",),
    "preferences": ("prompt", "chosen", "rejected"),
    "instructions": ("instruction", "input"),
}


def build_all():
    """{task: {split: rows}} for every task."""
    return {name: build() for name, build in BUILDERS.items()}


def forbidden_texts(tasks):
    """Every text of a task row that pre-training must not contain (a bare name such as `Anna Adler`
    may appear).
    """
    return {
        row[field]
        for name, fields in TELLTALE.items()
        for rows in tasks[name].values()
        for row in rows
        for field in fields
        if row[field] and row.get("kind") != "last name"
    }
