"""Solutions and plausible mistakes of lesson 12's exercises."""

import hashlib
import random


def chatml(messages, add_generation_prompt):
    text = ""
    for message in messages:
        text += f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
    if add_generation_prompt:
        text += "<|im_start|>assistant\n"
    return text


def joined(messages, add_generation_prompt):
    parts = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages]
    if add_generation_prompt:
        parts.append("<|im_start|>assistant")
    return "\n".join(parts) + "\n"


def without_last(messages, add_generation_prompt):
    parts = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages]
    if add_generation_prompt:
        parts.append("<|im_start|>assistant\n")
    return "\n".join(parts)


def no_line_end(messages, add_generation_prompt):
    text = "".join(f"<|im_start|>{m['role']}{m['content']}<|im_end|>\n" for m in messages)
    return text + "<|im_start|>assistant" * add_generation_prompt


def with_other(change):
    """The solution on changed messages."""
    return lambda m, ask: chatml([{**x, **change(x)} for x in m], ask)


def appends(messages, add_generation_prompt):
    if add_generation_prompt:
        messages.append({"role": "assistant", "content": ""})
    return chatml(messages, False)


def returns_in_loop(messages, add_generation_prompt):
    for message in messages:
        return chatml([message], add_generation_prompt)


def make_labels(ids, prompt, length):
    return [-100] * prompt + ids[prompt:length] + [-100] * (len(ids) - length)


def in_place(ids, prompt, length):
    ids[:prompt] = [-100] * prompt
    return ids


def mask_pads(ids, prompt, length):
    return [-100] * prompt + [i if i != ids[-1] else -100 for i in ids[prompt:]]


def split(draw, keep=lambda rows: rows):
    """A split of the rows by the countries that `draw` holds out."""

    def answer(rows, share, seed):
        held = draw(rows, share, seed)
        rows = keep(rows)
        return [r for r in rows if r["country"] not in held], [
            r for r in rows if r["country"] in held
        ]

    return answer


def sampled(rows, share, seed):
    countries = sorted({r["country"] for r in rows})
    return set(random.Random(seed).sample(countries, round(share * len(countries))))


def hashed(rows, share, seed):
    def bucket(country):
        return int(hashlib.md5(f"{seed} {country}".encode()).hexdigest(), 16) % 1000

    return {r["country"] for r in rows if bucket(r["country"]) < 1000 * share}


def one_by_one(rows, share, seed):
    rng = random.Random(seed)
    return {c for c in sorted({r["country"] for r in rows}) if rng.random() < share}


def first(rows, share, seed):
    countries = sorted({r["country"] for r in rows})
    return set(countries[: round(share * len(countries))])


def unseeded(rows, share, seed):
    countries = sorted({r["country"] for r in rows})
    return set(random.sample(countries, round(share * len(countries))))


def in_order(rows, share, seed):
    countries = list(dict.fromkeys(r["country"] for r in rows))
    return set(random.Random(seed).sample(countries, round(share * len(countries))))


def by_rows(rows, share, seed):
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    n = round(share * len(rows))
    return rows[n:], rows[:n]


def shuffled(rows, share, seed):
    random.Random(seed).shuffle(rows)
    return rows[20:], rows[:20]


def one_row_each(rows):
    return list({r["country"]: r for r in rows}.values())


SOLUTIONS = {
    "write_chatml": [chatml, joined],
    "make_labels": make_labels,
    "split_rows": [split(sampled), split(hashed), split(one_by_one)],
}

MISTAKES = {
    "write_chatml": [
        ("always open", lambda m, ask: chatml(m, True), "at the end of every text"),
        ("never open", lambda m, ask: chatml(m, False), "opening of the answer is missing"),
        ("wrong way", lambda m, ask: chatml(m, not ask), "wrong way round"),
        ("closed opening", lambda m, ask: chatml(m, ask) + "<|im_end|>\n" * ask, "said there yet"),
        (
            "opening without a line end",
            lambda m, ask: chatml(m, False) + "<|im_start|>assistant" * ask,
            "behind `assistant` at the end",
        ),
        ("no line end behind the role", no_line_end, "new line behind the role is missing"),
        (
            "no line end behind the role but at the end",
            lambda m, ask: no_line_end(m, ask) + "\n" * ask,
            "new line behind the role is missing",
        ),
        (
            "no line end behind im_end",
            lambda m, ask: chatml(m, ask).replace("<|im_end|>\n", "<|im_end|>"),
            "behind <|im_end|> is missing",
        ),
        ("joined", without_last, "has no new line behind it"),
        ("strip at the end", lambda m, ask: chatml(m, ask).strip(), "has no new line behind it"),
        (
            "line end before im_end",
            lambda m, ask: chatml(m, ask).replace("<|im_end|>", "\n<|im_end|>"),
            "in front of <|im_end|>",
        ),
        ("not closed", lambda m, ask: chatml(m, ask).replace("<|im_end|>", ""), "not closed"),
        ("eos", lambda m, ask: chatml(m, ask).replace("<|im_end|>", "</s>"), "with </s>"),
        ("strip", with_other(lambda x: {"content": x["content"].strip()}), "white space"),
        ("last alone", lambda m, ask: chatml(m[-1:], ask), "Only the last message"),
        ("return in the loop", returns_in_loop, "Only the first message"),
        (
            "no system",
            lambda m, ask: chatml([x for x in m if x["role"] != "system"], ask),
            "system message is missing",
        ),
        ("BOS", lambda m, ask: "<s>" + chatml(m, ask), "BOS in front"),
        ("all user", with_other(lambda x: {"role": "user"}), "same role"),
        ("in place", appends, "changes `messages`"),
        ("a list", lambda m, ask: [x["content"] for x in m], "Give one text"),
        ("upper case", with_other(lambda x: {"role": x["role"].upper()}), "character by character"),
    ],
    "make_labels": [
        ("pads by token", mask_pads, "EOS of the answer is masked"),
        (
            "eos",
            lambda ids, prompt, length: make_labels(ids, prompt, length - 1),
            "EOS of the answer is masked",
        ),
        ("padding", lambda ids, prompt, length: [-100] * prompt + ids[prompt:], "padding trains"),
        ("prompt", lambda ids, prompt, length: make_labels(ids, 0, length), "prompt trains"),
        (
            "shifted",
            lambda ids, prompt, length: make_labels(ids, prompt, length)[1:] + [-100],
            "shifted",
        ),
        ("shifted ids", lambda ids, prompt, length: ids[1:] + [-100], "shifted"),
        (
            "answer alone",
            lambda ids, prompt, length: ids[prompt:length],
            "Each position has a label",
        ),
        (
            "last of prompt",
            lambda ids, prompt, length: make_labels(ids, prompt - 1, length),
            "last token of the prompt",
        ),
        (
            "first of answer",
            lambda ids, prompt, length: make_labels(ids, prompt + 1, length),
            "first token of the answer",
        ),
        (
            "mask 0",
            lambda ids, prompt, length: [
                0 if i == -100 else i for i in make_labels(ids, prompt, length)
            ],
            "masked with 0",
        ),
        (
            "mask -1",
            lambda ids, prompt, length: [
                -1 if i == -100 else i for i in make_labels(ids, prompt, length)
            ],
            "masked with -1",
        ),
        ("copy", lambda ids, prompt, length: list(ids), "everything trains"),
        ("in place", in_place, "changes `ids`"),
        ("nothing", lambda ids, prompt, length: [-100] * len(ids), "Everything is masked"),
        (
            "other way",
            lambda ids, prompt, length: ids[:prompt] + [-100] * (length - prompt) + ids[length:],
            "other way round",
        ),
        (
            "None",
            lambda ids, prompt, length: [None] * prompt + ids[prompt:],
            "each one number",
        ),
    ],
    "split_rows": [
        ("by rows", by_rows, "on both sides"),
        ("in place", shuffled, "changes `rows`"),
        ("swapped", lambda *a: split(sampled)(*a)[::-1], "wrong way round"),
        ("one row each", split(sampled, one_row_each), "rows are lost"),
        ("first ones", split(first), "Another seed"),
        ("no seed", split(unseeded), "same seed gave another"),
        ("order", split(in_order), "Sort the countries"),
        ("0.25", split(lambda rows, share, seed: sampled(rows, 0.25, seed)), "Use `share`"),
        ("0.1", split(lambda rows, share, seed: sampled(rows, 0.1, seed)), "about 50"),
        ("twice", split(sampled, lambda rows: rows + rows[:3]), "A row is there twice"),
        (
            "train alone",
            lambda rows, share, seed: split(sampled)(rows, share, seed)[0],
            "two lists of rows",
        ),
        (
            "questions",
            lambda rows, share, seed: [
                [r["question"] for r in side] for side in split(sampled)(rows, share, seed)
            ],
            "each row as it was given",
        ),
        ("nothing held out", split(lambda rows, share, seed: set()), "side is empty"),
    ],
}
