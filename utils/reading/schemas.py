"""What the rows of a file mean: recognised once per file by the columns."""

import ast
import collections
import json
import re

from .report import Schema, UnknownSchema, Unreadable, UnreadableFile, count, kind_of, shorten

QUESTIONS = (
    "instruction",
    "prompt",
    "question",
    "query",
    "problem",
    "user",
    "human",
    "user_message",
    "user_input",
    "request",
    "q",
    "source",
    "input",
)
ANSWERS = (
    "output",
    "completion",
    "response",
    "solution",
    "answer",
    "assistant",
    "reply",
    "assistant_message",
    "bot",
    "gpt",
    "model_answer",
    "target",
    "a",
)
SYSTEMS = ("system", "system_prompt", "system_message")
CHATS = (
    "messages",
    "conversations",
    "contents",
    "conversation",
    "chat",
    "dialog",
    "dialogue",
    "dialogs",
    "turns",
    "items",
)
CHOSEN = {
    "chosen": "rejected",
    "response_j": "response_k",
    "chosen_response": "rejected_response",
    "preferred": "dispreferred",
    "preferred_response": "rejected_response",
    "accepted": "rejected",
    "win": "lose",
}
ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "customer", "question", "instruction"),
    "assistant": (
        "assistant",
        "gpt",
        "chatgpt",
        "bing",
        "bard",
        "model",
        "bot",
        "ai",
        "chatbot",
        "answer",
        "response",
    ),
    "call": ("function_call", "tool_call"),
    "tool": ("tool", "function", "observation", "function_response", "tool_response", "ipython"),
}
ROLE_OF = {word: role for role, words in ROLES.items() for word in words}
SPEAKS, SAYS = (
    ("role", "from", "speaker", "author"),
    ("content", "value", "text", "message", "parts"),
)
MISSING = object()


def plain(name):
    """A column's name without regard to capitals, blanks and hyphens."""
    return re.sub(r"[\s\-]+", "_", str(name).strip()).lower()


def cell(row, column):
    """The value of a column, whatever its capitals, or MISSING."""
    if column in row:
        return row[column]
    wanted = plain(column)
    return next((v for k, v in row.items() if plain(k) == wanted), MISSING)


def guess(row):
    """(schema's name, kind, {part: column}) that one row looks like by its columns, or None."""
    if isinstance(row, list):
        if row and all(isinstance(m, dict) and _speaker(m) for m in row):
            return "lists of messages", "chat", {"messages": None}
        if row and all(is_pair(m) for m in row):
            return "lists of [question, answer]", "chat", {"messages": None}
        return None
    if not isinstance(row, dict):
        return None
    names = {}
    for key in row:
        names.setdefault(plain(key), key)
    first = lambda options: next((names[o] for o in options if o in names), None)
    if isinstance(row.get("prompt"), dict) and "replies" in row["prompt"]:
        return "OASST trees", "chat", {"tree": "prompt"}
    if "replies" in row and "text" in row and "role" in row:
        return "OASST trees", "chat", {"tree": None}
    if {"message_id", "parent_id", "text", "role"} <= set(names):
        return "OASST messages", "chat", {"message": None}
    for chosen, rejected in CHOSEN.items():
        if chosen in names and rejected in names:
            columns = {"chosen": names[chosen], "rejected": names[rejected]}
            return _pairs(row, names, first, columns)
    if isinstance(row.get("label"), bool) and first(QUESTIONS) and first(ANSWERS):
        return "answers with a label true or false (KTO)", "labelled", {}
    for column in CHATS:
        if column in names and (
            isinstance(value := row[names[column]], (list, tuple))
            or column in CHATS[:2]
            or (isinstance(value, str) and value.lstrip()[:1] == "[")
        ):
            turns = listed_value(value)
            turns = turns if isinstance(turns, list) else []
            one = turns[0] if turns and isinstance(turns[0], dict) else {}
            if isinstance(value, list) and value and not (one or is_pair(turns[0])):
                continue
            share = "from" in one or (not one and column != "messages")
            name = "ShareGPT conversations" if share else "OpenAI messages"
            if one and both_in_one(one):
                name = "conversations of question and answer"
            columns = {
                "messages": names[column],
                "system": first(SYSTEMS),
                "tools": first(("tools", "functions")),
            }
            return name, "chat", {k: v for k, v in columns.items() if v}
    return _questions(names, first)


def _pairs(row, names, first, columns):
    chosen = listed_value(row[columns["chosen"]])
    prompt = first([q for q in QUESTIONS if q != "input"])
    context = names.get("input") if prompt and plain(prompt) == "instruction" else None
    chat = next(
        (names[c] for c in CHATS if c in names and isinstance(listed_value(row[names[c]]), list)),
        None,
    )
    columns |= {"prompt": chat or prompt, "context": context, "system": first(SYSTEMS)}
    if isinstance(chosen, (list, dict)) or chat:
        name = "preference pairs as messages"
    elif not prompt and isinstance(chosen, str) and re.match(r"\s*Human: ?", chosen):
        name = "preference pairs as in HH-RLHF"
    else:
        name = "preference pairs as text"
    return name, "pairs", {k: v for k, v in columns.items() if v}


def _questions(names, first):
    """The schemas of one question and one answer a row."""

    def made(name, question, answer, context=None):
        columns = {
            "question": names[question],
            "context": names.get(context),
            "answer": names[answer],
        }
        if question != "input":
            columns |= {"system": first(SYSTEMS), "history": first(("history",))}
        parts = {k: v for k, v in columns.items() if v}
        return name, "chat", parts

    if {"instruction", "output"} <= names.keys():
        return made("Alpaca rows", "instruction", "output", "input")
    if {"instruction", "context", "response"} <= names.keys():
        return made("Dolly rows", "instruction", "response", "context")
    if {"instruction", "response"} <= names.keys():
        name = "GPTeacher rows" if "input" in names else "instruction/response rows"
        return made(name, "instruction", "response", "input")
    if {"prompt", "completion"} <= names.keys():
        return made("prompt/completion rows", "prompt", "completion")
    if {"question", "answer"} <= names.keys():
        return made("question/answer rows", "question", "answer", "context")
    question = next((q for q in QUESTIONS if q in names), None)
    answer = next((a for a in ANSWERS if a in names), None)
    if not (question and answer):
        return None
    context = next((c for c in ("input", "context") if c in names and c != question), None)
    return made(f"{question}/{answer} rows", question, answer, context)


def _speaker(message):
    return next((k for k in SPEAKS if k in message), None) or both_in_one(message)


def both_in_one(message):
    """(question's key, answer's key) of {"human": .., "assistant": ..}, or None."""
    roles = {ROLE_OF.get(plain(k)): k for k in message}
    return (roles["user"], roles["assistant"]) if {"user", "assistant"} <= roles.keys() else None


def is_pair(value):
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(v, str) for v in value)
    )


def listed_value(value):
    """A list or dict that a table holds as text (JSON or Python's notation), else the value."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, (list, dict)):
                return found
    return value


def recognise(rows):
    """The `Schema` that most rows fit. UnknownSchema if hardly any row fits a known one."""
    found, unused = collections.Counter(), collections.Counter()
    columns, seen = {}, 0
    for row in rows:
        if isinstance(row, Unreadable):
            continue
        seen += 1
        if made := guess(row):
            found[made[:2]] += 1
            known = columns.setdefault(made[:2], {})
            for part, column in made[2].items():
                known.setdefault(part, column)
        if isinstance(row, dict):
            unused.update(row.keys())
    if not seen and len(rows):
        name = getattr(rows, "name", "") or "The data"
        first = next(iter(rows))
        raise UnreadableFile(f"{name}: no row can be read; the first: {first.reason}")
    if not found:
        raise UnknownSchema(_unknown(rows))
    (name, kind), number = found.most_common(1)[0]
    of = getattr(rows, "name", "") or "The data"
    if kind == "labelled":
        raise UnknownSchema(
            f"{of}: these are {name}. Trained as they are, the bad answers would be taught too. "
            "Keep the good ones:\n    rows = [r for r in reading.read(path) if r['label']]\n"
            "    rows = [{k: v for k, v in r.items() if k != 'label'} for r in rows]\n"
            "    report = reading.check(rows)"
        )
    if number < seen / 2 and number < sum(found.values()) / 2:
        kinds = ", ".join(f"{n} ({c:,})" for (n, _), c in found.most_common(4))
        raise UnknownSchema(f"{of} mixes several schemas: {kinds}. Split it into one file each.")
    used = {plain(c) for c in columns[name, kind].values() if c}
    if name.startswith("OASST"):
        used |= set(map(plain, unused))
    others = tuple(c for c, _ in unused.most_common() if plain(c) not in used)
    return Schema(name, kind, columns[name, kind], number, others)


def _unknown(rows):
    """What was found where the schema is not known, and three lines that convert it."""
    name = getattr(rows, "name", "") or "The data"
    good = [row for row in rows if not isinstance(row, Unreadable)]
    tables = [row for row in good if isinstance(row, dict)]
    if not tables:
        shown = shorten(json.dumps(good[0], ensure_ascii=False, default=str), 70)
        return (
            f"{name}: {count(len(good), 'row')}, each {kind_of(good[0])}, and what they mean is "
            f"not known here; the first is {shown}. Give each row its question and its answer:\n"
            "    rows = reading.read(path)\n"
            '    rows = [{"prompt": row[0], "completion": row[-1]} for row in rows]\n'
            "    report = reading.check(rows)"
        )
    counts = collections.Counter(key for row in tables for key in row)
    keys = [key for key, _ in counts.most_common()]
    described = []
    for key in keys[:8]:
        value = next((row[key] for row in tables if row.get(key) is not None), None)
        described.append(f"{shorten(str(key), 30)!r} ({kind_of(value)})")
    more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    texts = [k for k in keys if any(isinstance(row.get(k), str) for row in tables)]
    found = f"Found the columns {', '.join(described)}{more}"
    if not keys:
        return f"{name}: {count(len(tables), 'row')}, and no row has a column."
    if len(keys) == 1 and texts:
        hint = "One column of finished text does not say where its answer begins; split it there"
        halves = f'r[{keys[0]!r}].split("### Response:")'
        line = f'[dict(zip(("prompt", "completion"), {halves})) for r in rows]'
    else:
        hint = "Say which asks and which answers"
        one, two = (
            repr(shorten(str(k), 30))
            for k in [*texts, *(k for k in keys if k not in texts), *keys][:2]
        )
        line = f'[{{"prompt": r[{one}], "completion": r[{two}]}} for r in rows]'
    return (
        f"{name}: {count(len(tables), 'row')} whose schema is not known here. {found}. {hint}:\n"
        f"    rows = reading.read(path)\n    rows = {line}\n    report = reading.check(rows)"
    )
