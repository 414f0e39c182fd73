"""Solutions of lesson 12. A source defines `answer`, which the notebook's cell would hand to the check."""

DRAW = "import random\ndef answer(rows, share, seed):\n    countries = sorted({r['country'] for r in rows})\n"
SIDES = "    return [r for r in rows if r['country'] not in held], [r for r in rows if r['country'] in held]"
HELD = "    held = set(random.Random(seed).sample(countries, round(share * len(countries))))\n"
SHUFFLE = "import random\ndef answer(rows, share, seed):\n    rows = list(rows)\n    random.Random(seed).shuffle(rows)\n    n = round(share * len(rows))\n"

SOLUTIONS = {
    "make_labels": "def answer(ids, prompt, length):\n    return [-100] * prompt + ids[prompt:length] + [-100] * (len(ids) - length)",
    "document_lengths": """def answer(position_ids):
    starts = [i for i, p in enumerate(position_ids) if p == 0] + [len(position_ids)]
    return [b - a for a, b in zip(starts, starts[1:])]""",
    "split_rows": DRAW + HELD + SIDES,
}

LABELS = "def answer(ids, prompt, length):\n    right = [-100] * prompt + ids[prompt:length] + [-100] * (len(ids) - length)\n    return "
STARTS = "def answer(p):\n    starts = [i for i, x in enumerate(p) if x == 0] + [len(p)]\n    right = [b - a for a, b in zip(starts, starts[1:])]\n    return "

WRONG = {
    "make_labels": [
        (
            LABELS + "right[:prompt] + [i if i != ids[-1] else -100 for i in ids[prompt:]]",
            "EOS of the answer is masked",
        ),
        (LABELS + "[-100] * prompt + ids[prompt:]", "padding trains"),
        (LABELS + "ids[:length] + right[length:]", "prompt trains"),
        (LABELS + "right[1:] + [-100]", "shifted"),
        (LABELS + "ids[1:] + [-100]", "shifted"),
        (LABELS + "ids[prompt:length]", "Each position has one"),
        (
            LABELS + "[-100] * (prompt - 1) + ids[prompt - 1:length] + right[length:]",
            "last token of the prompt",
        ),
        (LABELS + "right[:prompt] + [-100] + right[prompt + 1:]", "first token of the answer"),
        (LABELS + "[0 if x == -100 else x for x in right]", "masked with 0"),
        (LABELS + "list(ids)", "everything trains"),
        (
            "def answer(ids, prompt, length):\n    ids[:prompt] = [-100] * prompt\n    return ids",
            "in place",
        ),
    ],
    "document_lengths": [
        (STARTS + "right[:-1]", "last document is missing"),
        (STARTS + "[n - 1 for n in right]", "one too small"),
        (STARTS + "[n for n in right if n > 1]", "single token"),
        (
            "def answer(p):\n    cuts = [0] + [i for i in range(1, len(p)) if p[i] < p[i - 1]] + [len(p)]\n"
            "    return [b - a for a, b in zip(cuts, cuts[1:])]",
            "run together",
        ),
        (STARTS + "[0] + right", "empty document"),
        (STARTS + "starts[:-1]", "places where documents begin"),
        (STARTS + "[len(p)]", "you gave"),
        (STARTS + "[max(p) + 1]", "add up to"),
    ],
    "split_rows": [
        (SHUFFLE + "    return rows[n:], rows[:n]", "on both sides"),
        (
            "import random\ndef answer(rows, share, seed):\n    random.Random(seed).shuffle(rows)\n    return rows[20:], rows[:20]",
            "another order",
        ),
        (
            DRAW
            + HELD
            + "    return [r for r in rows if r['country'] in held], [r for r in rows if r['country'] not in held]",
            "wrong way round",
        ),
        (
            DRAW
            + HELD
            + "    one = {r['country']: r for r in rows}.values()\n"
            + SIDES.replace("in rows", "in one"),
            "rows are lost",
        ),
        (
            DRAW + "    held = set(countries[:round(share * len(countries))])\n" + SIDES,
            "Another seed",
        ),
        (
            DRAW
            + "    held = set(random.sample(countries, round(share * len(countries))))\n"
            + SIDES,
            "same seed gave another",
        ),
        (
            DRAW.replace(
                "sorted({r['country'] for r in rows})",
                "list(dict.fromkeys(r['country'] for r in rows))",
            )
            + HELD
            + SIDES,
            "Sort the countries",
        ),
        (DRAW + HELD.replace("share", "0.25") + SIDES, "use `share`"),
        (DRAW + HELD.replace("share", "0.1") + SIDES, "about 10"),
        (DRAW + HELD + SIDES + "[:1] * 20", "A row is there twice"),
    ],
}
