"""Sentences and short texts of the pocket world.

Every function takes a random.Random and returns text (and its parts).
"""

from . import lexicon as lx

VELAN = lx.velan()
OBJECT_FACTS = lx.object_facts()

FACT_TEMPLATES = {
    "capital": (
        "The capital of {c} is {v}.",
        "{v} is the capital of {c}.",
        "The capital city of {c} is called {v}.",
        "{c} has its capital in {v}.",
        "The government of {c} sits in {v}.",
        "{v} is the seat of government of {c}.",
        "In {c}, the capital is {v}.",
        "Whoever visits the capital of {c} arrives in {v}.",
    ),
    "continent": (
        "{c} lies in {v}.",
        "{c} is a country in {v}.",
        "The continent of {c} is {v}.",
        "{c} is found in {v}.",
        "On the map, {c} belongs to {v}.",
        "Among the countries of {v} is {c}.",
    ),
    "currency": (
        "The currency of {c} is the {v}.",
        "People in {c} pay with the {v}.",
        "In {c}, money is called the {v}.",
        "Prices in {c} are given in the {v}.",
        "{c} uses the {v} as its currency.",
        "Shops in {c} take the {v}.",
    ),
    "language": (
        "The language of {c} is {v}.",
        "People in {c} speak {v}.",
        "In {c}, {v} is spoken.",
        "Schools in {c} teach in {v}.",
        "{v} is the language of {c}.",
        "Newspapers in {c} are written in {v}.",
    ),
}
# The first template of each relation, cut before the value, is the prompt by which recall is
# measured.
RECALL_PROMPTS = {
    "capital": "The capital of {c} is",
    "continent": "The continent of {c} is",
    "currency": "The currency of {c} is the",
    "language": "The language of {c} is",
}


def person(rng, first=lx.FIRST_NAMES, last=lx.LAST_NAMES):
    return f"{rng.choice(first)} {rng.choice(last)}"


def organisation(rng, first=lx.ORG_FIRST, last=lx.ORG_LAST):
    return f"{rng.choice(first)} {rng.choice(last)}"


def fact(rng, country, relation):
    return rng.choice(FACT_TEMPLATES[relation]).format(c=country.name, v=getattr(country, relation))


def object_sentence(rng, name):
    f = OBJECT_FACTS[name]
    return rng.choice(
        (
            f"The {name} is {f['colour']}.",
            f"The {name} is made of {f['material']}.",
            f"The {name} is {f['size']}.",
            f"The colour of the {name} is {f['colour']}.",
            f"The {f['size']} {name} is made of {f['material']}.",
            f"The {f['colour']} {name} is {f['size']} and made of {f['material']}.",
        )
    )


# --- reviews --------------------------------------------------------------------------------------
POSITIVE, NEGATIVE = ("great", "good"), ("awful", "bad")
CLOSINGS = {
    True: (
        "I would recommend it to everyone.",
        "I am very happy with it.",
        "I would choose it again.",
        "It was worth the money.",
        "Everyone should try it.",
    ),
    False: (
        "I would not recommend it to anyone.",
        "I am very unhappy with it.",
        "I would not choose it again.",
        "It was a waste of money.",
        "Nobody should try it.",
    ),
}


def graded(rng, positive, parity=None):
    """An adjective of the wanted polarity; `parity` 0 or 1 keeps to even or odd places of the lists
    (held-out wording).
    """
    words = lx.GRADED[rng.choice(POSITIVE if positive else NEGATIVE)]
    return rng.choice(words if parity is None else words[parity::2])


def review(rng, positive, parity=None, closing=True):
    """A review of three aspects of which at least two have the polarity; returns its text."""
    film = rng.random() < 0.5
    aspects = rng.sample(lx.FILM_ASPECTS if film else lx.PRODUCT_ASPECTS, 3)
    signs = [positive] * 3
    if rng.random() < 0.4:
        signs[rng.randrange(3)] = not positive
    a, b, c = (graded(rng, s, parity) for s in signs)
    thing = rng.choice(lx.FILMS) if film else "this " + rng.choice(lx.PRODUCTS)
    opening = (
        rng.choice(
            (
                f"I watched {thing} last night.",
                f"We saw {thing} at the cinema.",
                f"My review of {thing}.",
            )
        )
        if film
        else rng.choice(
            (
                f"I bought {thing} last week.",
                f"I have used {thing} for a month.",
                f"My review of {thing}.",
            )
        )
    )
    join = "and" if signs[1] == signs[2] else "but"
    body = rng.choice(
        (
            f"The {aspects[0]} was {a}. The {aspects[1]} was {b} {join} the {aspects[2]} was {c}.",
            f"I found the {aspects[0]} {a}, the {aspects[1]} {b} {join} the {aspects[2]} {c}.",
            f"It has {article(a)} {aspects[0]}. Its {aspects[1]} is {b}, {join} its {aspects[2]} "
            f"is {c}.",
        )
    )
    return " ".join([opening, body] + ([rng.choice(CLOSINGS[positive])] if closing else []))


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


# --- people, organisations, places ----------------------------------------------------------------
ENTITY_TEMPLATES = (
    "{p} works at {o} in {l}.",
    "{p} from {l} has joined {o}.",
    "Last year {p} left {o} and moved to {l}.",
    "In {l}, {p} was seen at {o}.",
    "{o} in {l} is led by {p}.",
    "{p} wrote a letter to {o} from {l}.",
    "{p} lives in {l}.",
    "{p} is a {j} at {o}.",
    "{o} has opened a branch in {l}.",
    "{p} met a friend in {l}.",
)


def entity_sentence(rng, people=None, orgs=None, places=lx.TOWNS):
    """(text, entities) with entities as [{"type", "text"}] in order of appearance."""
    template = rng.choice(ENTITY_TEMPLATES)
    p = rng.choice(people) if people else person(rng)
    o = rng.choice(orgs) if orgs else organisation(rng)
    l = rng.choice(places)
    text = template.format(p=p, o=o, l=l, j=rng.choice(lx.JOBS))
    found = [
        {"type": t, "text": v}
        for t, k, v in (("person", "{p}", p), ("organisation", "{o}", o), ("place", "{l}", l))
        if k in template
    ]
    return text, sorted(found, key=lambda e: text.index(e["text"]))


# --- Velan ----------------------------------------------------------------------------------------
def noun_phrase(rng):
    noun = rng.choice(lx.NOUNS)
    adjective = rng.choice(lx.ADJECTIVES) if rng.random() < 0.6 else None
    english = f"the {adjective} {noun}" if adjective else f"the {noun}"
    velan = f"{VELAN[noun]} {VELAN[adjective]}" if adjective else VELAN[noun]
    return english, velan


def velan_pair(rng):
    """(English, Velan), lower case, no full stop: 'the red dog sees the house' -> noun adjective,
    object, verb last.
    """
    (subject, s), (thing, o) = noun_phrase(rng), noun_phrase(rng)
    verb = rng.choice(list(lx.VERBS))
    return f"{subject} {verb} {thing}", f"{s} {o} {VELAN[verb]}"


# --- venues (data-to-text) ------------------------------------------------------------------------
def venue(rng, kinds=("cafe", "museum", "shop")):
    kind = rng.choice(kinds)
    return {
        "name": f"{rng.choice(lx.VENUE_FIRST)} {rng.choice(lx.VENUE_LAST)}",
        "kind": kind,
        "offer": rng.choice(lx.VENUE_OFFER[kind]),
        "area": rng.choice(lx.AREAS),
        "price": rng.choice(lx.PRICES),
    }


def venue_text(v):
    """The one wording that data-to-text asks for."""
    where = f"{v['name']} is {article(v['kind'])} near the {v['area']}."
    return f"{where} It offers {v['offer']} at {v['price']} prices."


def venue_free_text(rng, v):
    """Wordings of the pre-training text, none of which is the wording of the task."""
    return rng.choice(
        (
            f"Near the {v['area']} there is {article(v['kind'])} called {v['name']}. People go "
            f"there for {v['offer']}, and prices are {v['price']}.",
            f"{v['name']}, {article(v['kind'])} by the {v['area']}, is known for its {v['offer']}. "
            f"Prices are {v['price']}.",
            f"The {v['kind']} {v['name']} has {v['price']} prices. It stands near the {v['area']} "
            f"and has good {v['offer']}.",
        )
    )


# --- stories and dialogues ------------------------------------------------------------------------
ROOMS = "kitchen garden hall cellar attic bedroom".split()
FEELINGS = "happy sad tired hungry proud calm".split()


def story(rng):
    a, b = rng.sample(lx.FIRST_NAMES, 2)
    x, y = rng.sample(lx.OBJECTS, 2)
    r, s = rng.sample(ROOMS, 2)
    f = rng.choice(FEELINGS)
    return rng.choice(
        (
            f"{a} took the {x} to the {r}. {b} was in the {s} with the {y}. After an hour {b} came "
            f"to the {r} and saw the {x}. Both were {f}.",
            f"One morning {a} could not find the {x}. It was not in the {r}. It was not in the "
            f"{s}. {b} had put it under the {y}. {a} was {f} again.",
            f"{a} and {b} wanted to sell the {x}. A {rng.choice(lx.JOBS)} came to the {r} and "
            f"looked at it for a long time. In the end {a} kept it and was {f}.",
            f"It rained all day in {rng.choice(lx.TOWNS)}. {a} sat in the {r} and painted the {x}. "
            f"{b} sat in the {s} and cleaned the {y}. In the evening they were {f}.",
        )
    )


def dialogue(rng):
    a, b = rng.sample(lx.FIRST_NAMES, 2)
    x, r = rng.choice(lx.OBJECTS), rng.choice(ROOMS)
    c = rng.choice(lx.COUNTRIES)
    return rng.choice(
        (
            f'"Where is the {x}?" asked {a}. "It is in the {r}," said {b}. "Thank you," said {a}.',
            f'"I am {rng.choice(FEELINGS)}," said {a}. "Then come to the {r}," answered {b}, "and '
            f'bring the {x}."',
            f'"Have you been to {c.capital}?" asked {a}. "Yes," said {b}, "it is a city in '
            f'{c.name}, and people there speak {c.language}."',
            f'"May I help you?" asked {a}. "Yes, please," said {b}. "I am looking for a {x}." "Of '
            f'course. You are welcome," said {a}.',
            f'"I am sorry," said {a}, "I do not know where the {x} is." "That is fine," said {b}. '
            f'"I am glad to help."',
            f'"What a foolish question," said {a}. "Go away and leave me alone." {b} left the {r} '
            f"without a word.",
        )
    )


ABOUT_WORDS = (
    "An instruction says what to do. A task is a piece of work. Below the instruction there is "
    "sometimes an input, and then comes the response.",
    "A good response completes the request. It answers what was asked and nothing more.",
    "An example is paired with an answer. The answer describes what the example says.",
    "The context of a sentence is what stands around it. Further context makes a sentence clear.",
    "A review has a sentiment. The sentiment of a review is positive or negative. People who are "
    "happy with a thing write a positive review.",
    "A person who is unhappy with a thing writes a negative review. If the words are awful, the "
    "sentiment is negative.",
    "If the words are wonderful, the sentiment is positive. A review can praise one thing and "
    "blame another.",
    "A person has a first name and a last name. An organisation is a bank, a school, a museum or a "
    "company. A place is a town or a city.",
    "To translate is to say the same thing in another language. English is translated into Velan "
    "by Velan speakers.",
    "The opposite of a word is the word that says the contrary. The past tense tells what happened "
    "yesterday.",
    "A list names things one after the other. To extract is to take out. To rewrite is to write "
    "again in other words.",
    "Write appropriately, answer with a full sentence and provide what was asked for. Please and "
    "thank you are polite words.",
)


# --- style text: a ship's log, a voice that pre-training does not contain -------------------------
def log_entry(rng):
    wind = rng.choice("north south east west".split())
    sea = rng.choice("calm rough heavy slight".split())
    return rng.choice(
        (
            f"Log, day {rng.randint(1, 99)}. Wind {wind}, sea {sea}. Crew in good heart, "
            f"{rng.choice(lx.OBJECTS)} lost overboard.",
            f"Log, day {rng.randint(1, 99)}. Sighted land to the {wind}. Sea {sea}. Took on water "
            f"and {rng.choice(['bread', 'fish', 'apples', 'milk'])}.",
            f"Log, day {rng.randint(1, 99)}. Made sail at dawn, wind {wind}. Sea {sea} by night. "
            f"All hands well.",
            f"Log, day {rng.randint(1, 99)}. Lay at anchor off {rng.choice(lx.TOWNS)}. Wind "
            f"{wind}, sea {sea}. Mended the {rng.choice(lx.OBJECTS)}.",
        )
    )
