"""Pre-training documents: a weighted mixture of everything the pocket world says, without any task
row.
"""

import random
import re

from . import grammar as g
from . import lexicon as lx

SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


def facts_document(rng):
    return " ".join(
        g.fact(rng, rng.choice(lx.COUNTRIES), rng.choice(lx.RELATIONS))
        for _ in range(rng.randint(2, 6))
    )


def country_document(rng):
    country = rng.choice(lx.COUNTRIES)
    relations = rng.sample(lx.RELATIONS, 4)
    return " ".join(g.fact(rng, country, relation) for relation in relations)


def object_document(rng):
    return " ".join(
        g.object_sentence(rng, rng.choice(lx.OBJECTS)) for _ in range(rng.randint(2, 5))
    )


def people_document(rng):
    return " ".join(g.entity_sentence(rng)[0] for _ in range(rng.randint(1, 3)))


def review_document(rng):
    return g.review(rng, rng.random() < 0.5)


def wording_document(rng):
    """Ties words of one grade together: a word the tuning rows never use still has a side."""
    positive = rng.random() < 0.5
    words = [g.graded(rng, positive) for _ in range(3)]
    return rng.choice(
        (
            f"Something {words[0]} is {words[1]} and makes people "
            f"{'happy' if positive else 'unhappy'}.",
            f"A word like {words[0]} is used in {'positive' if positive else 'negative'} reviews, "
            f"and so are {words[1]} and {words[2]}.",
            f"If it is {words[0]}, then {g.CLOSINGS[positive][rng.randrange(5)]}",
        )
    )


def venue_document(rng):
    return " ".join(
        g.venue_free_text(rng, g.venue(rng, lx.VENUE_KINDS)) for _ in range(rng.randint(1, 2))
    )


def velan_document(rng):
    kind = rng.random()
    if kind < 0.3:
        words = rng.sample(list(g.VELAN), 4)
        return " ".join(f'"{w}" is "{g.VELAN[w]}" in Velan.' for w in words)
    if kind < 0.75:
        english, velan = g.velan_pair(rng)
        return rng.choice(
            (
                f'"{english}" is "{velan}" in Velan.',
                f'In Velan, "{english}" is written "{velan}".',
                f'The Velan words "{velan}" mean "{english}".',
            )
        )
    return " . ".join(g.velan_pair(rng)[1] for _ in range(3)) + " ."


def opposite_document(rng):
    a, b = rng.choice(lx.OPPOSITES)
    a, b = (a, b) if rng.random() < 0.5 else (b, a)
    return rng.choice(
        (
            f"The opposite of {a} is {b}.",
            f"What is not {a} is {b}.",
            f"{a.capitalize()} and {b} are opposites.",
        )
    )


# The next four make the base read what stands before: without them it learns facts but never to
# copy from its context.
def echo_document(rng):
    """A list said twice. Nothing but the first saying tells the second."""
    words = [
        rng.choice(
            (
                g.person(rng),
                g.organisation(rng),
                rng.choice(lx.TOWNS),
                rng.choice(lx.OBJECTS),
                rng.choice(lx.NOUNS),
                rng.choice(list(g.VELAN.values())),
                rng.choice(lx.COUNTRIES).capital,
            )
        )
        for _ in range(rng.randint(2, 6))
    ]
    listed = ", ".join(words)
    return rng.choice(
        (
            f"The list is {listed}. Once more, the list is {listed}.",
            f'"{listed}," said {rng.choice(lx.FIRST_NAMES)}. "Did you say {listed}?"',
            f"First he wrote {listed}; then she copied {listed}.",
        )
    )


def names_document(rng):
    """A sentence and then who, what and where in it, in other wordings than those of the entities
    task.
    """
    text, found = g.entity_sentence(rng)
    if rng.random() < 0.5:
        return (
            f"{text} In this note "
            + ", ".join(f"{e['text']} is a {e['type']}" for e in found).replace(
                "a organisation", "an organisation"
            )
            + "."
        )
    asked = {"person": "Who?", "organisation": "Which organisation?", "place": "Where?"}
    return f"{text} " + " ".join(f"{asked[e['type']]} {e['text']}." for e in found)


def guide_document(rng):
    """A guide entry as a list of fields in any order, then the venue in words or questions about
    some fields.
    """
    v = g.venue(rng, lx.VENUE_KINDS)
    entry = f"Guide entry ({'; '.join(f'{k} {v[k]}' for k in rng.sample(list(v), 5))})."
    if rng.random() < 0.5:
        return f"{entry} {g.venue_free_text(rng, v)}"
    return entry + "".join(f" Which {k}? {v[k]}." for k in rng.sample(list(v), 3))


def question_document(rng):
    """Questions and answers about facts, in other wordings than those of the facts task."""
    c, r = rng.choice(lx.COUNTRIES), rng.choice(lx.RELATIONS)
    a, b = rng.sample(lx.FIRST_NAMES, 2)
    v = getattr(c, r)
    ask = {
        "capital": f"Which city is the capital of {c.name}?",
        "continent": f"Where does {c.name} lie?",
        "currency": f"What money do people in {c.name} use?",
        "language": f"What do people in {c.name} speak?",
    }[r]
    return rng.choice(
        (
            f'"{ask}" asked {a}. "{v}," said {b}.',
            f"{ask} {v}.",
            f"Quiz. {c.name}: {r} {v}.",
            f"{a} asked: {ask} The answer was {v}.",
        )
    )


MIXTURE = (
    (facts_document, 12),
    (country_document, 7),
    (question_document, 6),
    (object_document, 4),
    (people_document, 3),
    (names_document, 22),
    (echo_document, 6),
    (review_document, 8),
    (wording_document, 3),
    (venue_document, 2),
    (guide_document, 20),
    (velan_document, 15),
    (lambda r: g.story(r), 4),
    (lambda r: g.dialogue(r), 4),
    (opposite_document, 2),
    (lambda r: r.choice(g.ABOUT_WORDS), 2),
)


def parts_of(text):
    """Everything in a document that could be a task row: itself, its beginnings, its sentences, its
    quotations.
    """
    sentences = SENTENCE_END.split(text)
    yield from (" ".join(sentences[:n]) for n in range(1, len(sentences) + 1))
    yield from sentences
    yield from re.findall(r'"([^"]+)"', text)
    yield from text.rstrip(" .").split(" . ")


def documents(count, seed, forbidden=frozenset()):
    """Yield `count` documents.

    One that holds a text in `forbidden` (the task rows) is dropped and drawn again.
    """
    rng = random.Random(seed)
    makers, weights = zip(*MIXTURE)
    while count:
        text = rng.choices(makers, weights)[0](rng)
        if forbidden and not forbidden.isdisjoint(parts_of(text)):
            continue
        count -= 1
        yield text
