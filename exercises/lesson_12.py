"""Checks of lesson 12's exercises."""

import random

from utils.checks import Hint, call, compare, exercise, sequence

IGNORE = -100


OPEN, CLOSE = "<|im_start|>", "<|im_end|>"


def _chatml(messages, ask, after_role="\n", after_end="\n", close=CLOSE, opening=OPEN):
    """The text; with other values for its parts, a mistake."""
    said = "".join(
        f"{opening}{m['role']}{after_role}{m['content']}{close}{after_end}" for m in messages
    )
    return said + f"{opening}assistant{after_role}" * bool(ask)


def _says(*turns):
    return [{"role": role, "content": content} for role, content in turns]


@exercise(1, "Write a conversation as ChatML.")
def write_chatml(answer):
    asked, told = ("user", "Name the capital of Togo."), ("assistant", "Lome")
    compare(
        answer,
        _chatml,
        {
            "one question, to be answered": (_says(asked), True),
            "a question and its answer": (_says(asked, told), False),
            "a system message and two turns, to be answered": (
                _says(("system", "Be brief."), asked, told, ("user", "And of Peru?")),
                True,
            ),
            "a content with spaces and line ends around it": (
                _says(("user", " Indent this:\n"), ("assistant", "    x = 1\n")),
                False,
            ),
        },
        [
            (
                "The opening of the answer stands at the end of every text. It belongs there only "
                "with add_generation_prompt.",
                lambda m, ask: _chatml(m, True),
            ),
            (
                "The opening of the answer is missing where add_generation_prompt is set.",
                lambda m, ask: _chatml(m, False),
            ),
            (
                "`add_generation_prompt` is the wrong way round.",
                lambda m, ask: _chatml(m, not ask),
            ),
            (
                "The opening of the answer ends in <|im_end|>. Nothing is said there yet: the "
                "model continues this text.",
                lambda m, ask: _chatml(m, ask) + f"{CLOSE}\n" * ask,
                lambda m, ask: _chatml(m, ask) + CLOSE * ask,
            ),
            (
                "A new line is missing behind `assistant` at the end. In training one stood there.",
                lambda m, ask: _chatml(m, ask)[: -1 if ask else None],
            ),
            (
                "The new line behind the role is missing.",
                lambda m, ask: _chatml(m, ask, after_role=""),
                lambda m, ask: _chatml(m, ask, after_role=" "),
                lambda m, ask: _chatml(m, False, after_role="") + f"{OPEN}assistant\n" * ask,
            ),
            (
                "The new line behind <|im_end|> is missing.",
                lambda m, ask: _chatml(m, ask, after_end=""),
            ),
            (
                "The last <|im_end|> has no new line behind it. A new line ends every message; "
                "joining puts it only between them.",
                lambda m, ask: _chatml(m, False)[:-1] + "\n<|im_start|>assistant\n" * ask,
                lambda m, ask: _chatml(m, False)[:-1] + "<|im_start|>assistant\n" * ask,
                lambda m, ask: _chatml(m, ask).removesuffix("\n"),
            ),
            (
                "A new line stands in front of <|im_end|>. It comes at once behind the content.",
                lambda m, ask: _chatml(m, ask, close=f"\n{CLOSE}"),
            ),
            (
                "The messages are not closed: <|im_end|> is missing.",
                lambda m, ask: _chatml(m, ask, close=""),
            ),
            (
                "You closed the messages with </s>. Here <|im_end|> closes them.",
                lambda m, ask: _chatml(m, ask, close="</s>"),
            ),
            (
                "The last message is left open: it is closed like the others.",
                lambda m, ask: (
                    _chatml(m, False).removesuffix(f"{CLOSE}\n") + "<|im_start|>assistant\n" * ask
                ),
            ),
            (
                "You took white space off a content. It is data: code begins with it.",
                lambda m, ask: _chatml([{**x, "content": x["content"].strip()} for x in m], ask),
                lambda m, ask: _chatml([{**x, "content": x["content"].lstrip()} for x in m], ask),
                lambda m, ask: _chatml([{**x, "content": x["content"].rstrip()} for x in m], ask),
            ),
            (
                "Only the last message is there. The model sees the whole conversation.",
                lambda m, ask: _chatml(m[-1:], ask),
            ),
            (
                "Only the first message is there. The model sees the whole conversation.",
                lambda m, ask: _chatml(m[:1], ask),
            ),
            (
                "The system message is missing. It is a message like the others.",
                lambda m, ask: _chatml([x for x in m if x["role"] != "system"], ask),
            ),
            (
                "You put a system message in. The exercise leaves SmolLM2's out.",
                lambda m, ask: _chatml(
                    m
                    if m[0]["role"] == "system"
                    else [
                        {
                            "role": "system",
                            "content": "You are a helpful AI assistant named SmolLM, trained by "
                            "Hugging Face",
                        },
                        *m,
                    ],
                    ask,
                ),
            ),
            (
                "There is a BOS in front. SmolLM2's template writes none.",
                lambda m, ask: "<s>" + _chatml(m, ask),
            ),
            (
                "Every message has the same role. Each brings its own.",
                lambda m, ask: _chatml([{**x, "role": "user"} for x in m], ask),
                lambda m, ask: _chatml([{**x, "role": "assistant"} for x in m], ask),
            ),
        ],
        form="one text",
        advice="Print both with repr() and compare them character by character.",
    )
    return "This is the text that the model sees. The ids of a question are the first of a row's."


@exercise(2, "Give the labels: -100 where nothing is to be learned, the id where something is.")
def make_labels(answer):
    def masked(ids, prompt, length, mask=IGNORE):
        return [mask] * prompt + ids[prompt:length] + [mask] * (len(ids) - length)

    def changed(first=0, last=0):
        """The answer from `first` tokens later and `last` tokens longer."""
        return lambda ids, prompt, length: masked(
            ids, max(0, prompt + first), min(len(ids), length + last)
        )

    compare(
        answer,
        masked,
        [
            ([1, 50, 51, 52, 60, 61, 2, 2, 2], 4, 7),
            ([1, 50, 60, 2], 2, 4),
            ([1, 50, 51, 60, 2, 3], 3, 5),
            ([1, 7, 9, 9, 2, 2], 2, 5),
            ([1, 8, 2, 0, 0, 0], 1, 3),
        ],
        [
            (
                "You shifted the labels. The model does that itself.",
                lambda i, p, n: i[1:] + [IGNORE],
                lambda i, p, n: [*masked(i, p, n)[1:], IGNORE],
                lambda i, p, n: [IGNORE, *masked(i, p, n)[:-1]],
            ),
            (
                "The padding trains in your labels. What teaches a model to write padding?",
                lambda i, p, n: masked(i, p, len(i)),
            ),
            (
                "The prompt trains in your labels. Only the answer should.",
                lambda i, p, n: masked(i, 0, n),
            ),
            (
                "The EOS of the answer is masked: this model will not stop. Go by the length, "
                "not by the token: padding may be the same token.",
                changed(last=-1),
                lambda i, p, n: [IGNORE if k == i[-1] else k for k in masked(i, p, n)],
                lambda i, p, n: [IGNORE if k == i[n - 1] else k for k in masked(i, p, n)],
                lambda i, p, n: [IGNORE if k == 2 else k for k in masked(i, p, n)],
            ),
            (
                "The last token of the prompt trains too. The first `prompt` tokens are masked.",
                changed(first=-1),
            ),
            ("The first token of the answer is masked. It should train.", changed(first=1)),
            ("One token of the padding trains, where there is one.", changed(last=1)),
            (
                "BOS trains in your labels. It belongs to the prompt.",
                lambda i, p, n: [i[0], *masked(i, p, n)[1:]],
            ),
            (
                "You masked with 0, which is a token like any other. Which number is skipped?",
                lambda i, p, n: masked(i, p, n, 0),
            ),
            (
                "You masked with -1. PyTorch skips the label -100.",
                lambda i, p, n: masked(i, p, n, -1),
            ),
            ("That is a copy of the ids: everything trains.", lambda i, p, n: i),
            ("Everything is masked: nothing is learned.", lambda i, p, n: [IGNORE] * len(i)),
            (
                "It is the other way round: the answer trains, the rest is masked.",
                lambda i, p, n: [*i[:p], *[IGNORE] * (n - p), *i[n:]],
            ),
            (
                "Each position has a label: as many as ids.",
                lambda i, p, n: i[p:n],
                lambda i, p, n: masked(i, p, n)[:n],
                lambda i, p, n: [IGNORE] * p + i[p:] + [IGNORE] * (len(i) - n),
            ),
        ],
        form="a list of labels",
        advice="Write out by hand which of the ids belong to the answer.",
    )
    return "The EOS of the answer trains even where padding is the same token."


def _rows(countries):
    """One to four questions about each country, in a shuffled order."""
    wordings = ("Name the capital of", "Which city rules", "What is spoken in", "Who lives in")
    rows = [
        {"country": country, "question": f"{wording} {country}?"}
        for n, country in enumerate(countries)
        for wording in wordings[: 1 + n % 4]
    ]
    random.Random(5).shuffle(rows)
    return rows


@exercise(3, "Give (train, validation) so that no country is on both sides.")
def split_rows(answer):
    rows = _rows([f"country {n:03d}" for n in range(200)])

    def sides(share, seed, rows=rows):
        """The two sides, each a list of rows."""
        pair = sequence(
            call(answer, [dict(r) for r in rows], share, seed),
            2,
            ("train", "validation"),
            "two lists of rows, (train, validation)",
        )
        pair = [sequence(side, form="two lists of rows, (train, validation)") for side in pair]
        if not all(
            isinstance(r, dict) and {"country", "question"} <= set(r) for side in pair for r in side
        ):
            raise Hint(
                "Give two lists of rows, (train, validation), each row as it was given to you."
            )
        return pair

    def of(side):
        return {r["country"] for r in side}

    train, validation = sides(0.25, 0)
    if both := of(train) & of(validation):
        raise Hint(
            f"{len(both)} countries are on both sides, such as {min(both)}. Draw countries, not "
            f"rows."
        )
    texts = [r["question"] for r in [*train, *validation]]
    if len(texts) != len(set(texts)):
        raise Hint("A row is there twice.")
    if len(texts) != len(rows):
        raise Hint(
            f"{len(rows) - len(texts)} of {len(rows)} rows are lost. Every row of a country "
            f"goes to that country's side."
        )
    if not train or not validation:
        raise Hint(f"The {'training' if not train else 'validation'} side is empty.")

    def about(number, share):
        """Whether that many of 200 countries are about the share, within four standard errors."""
        return abs(number - 200 * share) <= 4 * (200 * share * (1 - share)) ** 0.5

    if about(len(of(train)), 0.25):
        raise Hint(
            "The sides are the wrong way round: `share` is the validation's, and training comes "
            "first."
        )
    if not about(len(of(validation)), 0.25):
        raise Hint(
            f"Validation holds {len(of(validation))} of 200 countries; at a share of 0.25 it "
            f"should be about 50."
        )
    again, other = sides(0.25, 0)[1], sides(0.25, 1)[1]
    if of(again) != of(validation):
        raise Hint(
            "The same seed gave another split. Use random.Random(seed), and no set whose order "
            "changes."
        )
    if of(other) == of(validation):
        raise Hint(
            "Another seed gave the same countries. Draw them with the seed, or you hold out "
            "whatever stands first."
        )
    if of(sides(0.25, 0, rows[::-1])[1]) != of(validation):
        raise Hint(
            "The same rows in another order gave other countries. Sort the countries before you "
            "draw."
        )
    for share in (0.5, 0.1):
        number = len(of(sides(share, 0)[1]))
        if not about(number, share):
            raise Hint(
                f"Right at a share of 0.25, wrong at {share}: validation holds {number} of 200 "
                f"countries. Use `share`."
            )
    return "Now validation asks what the test will ask: something about a country never seen."
