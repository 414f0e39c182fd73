"""One row of any known schema as messages, or as a preference pair; what cannot be said so is a
`Fault`.
"""

import json
import re

from .report import Fault, Unreadable, kind_of, listed, shorten
from .schemas import (
    MISSING,
    ROLE_OF,
    SAYS,
    SPEAKS,
    both_in_one,
    cell,
    is_pair,
    listed_value,
    plain,
    recognise,
)


def text_of(value, where):
    """The value itself if it is text; Fault if it is missing, null, a number, a list or blank."""
    if value is MISSING:
        raise Fault(f"the field {where!r} is missing")
    if value is None:
        raise Fault(f"{where!r} is null, and must be text")
    if not isinstance(value, str):
        raise Fault(f"{where!r} is {kind_of(value)}, and must be text")
    if not value:
        raise Fault(f"{where!r} is empty")
    if not value.strip():
        raise Fault(f"{where!r} holds nothing but white space")
    return value


def optional_text(value, where):
    """The same, but missing, null and blank are ""."""
    if value is MISSING or value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return text_of(value, where)


def asked_in_input(row, schema):
    """Is the instruction of an Alpaca row blank, so that its input is the whole question?"""
    ask, context = (schema.columns.get(part) for part in ("question", "context"))
    if not isinstance(row, dict) or not context or plain(context) != "input":
        return False
    blank, said = cell(row, ask), cell(row, context)
    return isinstance(blank, str) and not blank.strip() and isinstance(said, str) and said.strip()


def parts(row, schema):
    """{"system", "question", "context", "answer", "history"} of a row with one question and one
    answer, checked.
    """
    columns = schema.columns
    if not isinstance(row, dict):
        raise Fault(
            f"{kind_of(row)} where an object with {', '.join(c for c in columns.values() if c)} "
            "belongs"
        )
    lost = [c for c in (columns["question"], columns["answer"]) if cell(row, c) is MISSING]
    if lost:
        there = f"; the row has {listed(map(repr, row))}" if row else ""
        fields = " and ".join(map(repr, lost))
        raise Fault(f"the field {fields} is missing{there}", f"{lost} missing")
    asks = columns["context"] if asked_in_input(row, schema) else columns["question"]
    made = {
        "question": text_of(cell(row, asks), asks),
        "answer": text_of(cell(row, columns["answer"]), columns["answer"]),
    }
    for part in ("context", "system"):
        column = columns.get(part)
        made[part] = optional_text(cell(row, column), column) if column not in (None, asks) else ""
    history = listed_value(cell(row, columns["history"])) if columns.get("history") else None
    made["history"] = [] if history in (None, MISSING, "") else history
    if not isinstance(made["history"], list) or not all(map(is_pair, made["history"])):
        raise Fault(f"{columns['history']!r} is no list of [question, answer]")
    return made


def message(found, where):
    """One message as {"role", "content"} and the fields that tools need. Fault says what is wrong
    with it.
    """
    if not isinstance(found, dict):
        raise Fault(f"{where} is {kind_of(found)}, not a message", "not a message")
    speaks, says = (next((k for k in keys if k in found), None) for keys in (SPEAKS, SAYS))
    if speaks is None:
        raise Fault(f"{where} does not say who speaks (role or from)", "no role")
    spoken = found[speaks]
    role = ROLE_OF.get(plain(spoken)) if isinstance(spoken, str) else None
    if role is None:
        raise Fault(f"{where} has the unknown role {shorten(repr(spoken), 40)}", f"role {spoken!r}")
    content = found.get(says) if says else MISSING
    calls = listed_value(found.get("tool_calls")) or None
    if role == "call" or (found.get("function_call") and not calls):
        calls = [_call(content if role == "call" else found["function_call"], where)]
        role, content = "assistant", None if role == "call" else content
    if isinstance(content, list):
        kinds = {str(p.get("type", "text")) if isinstance(p, dict) else "text" for p in content}
        if kinds - {"text"}:
            raise Fault(
                f"{where} holds {', '.join(sorted(kinds - {'text'}))}, not text alone",
                "not text alone",
            )
        texts = [p.get("text") if isinstance(p, dict) else p for p in content]
        if not all(isinstance(t, str) for t in texts):
            raise Fault(f"{where} holds a part without text", "part without text")
        content = "".join(texts)
    if calls and content in (None, MISSING):
        content = ""
    if not (calls or role == "tool") or not isinstance(content, str):
        if content is MISSING:
            raise Fault(f"{where} has no content", "no content")
        if not isinstance(content, str) or not content.strip():
            blank = "blank" if content else "empty"
            what = blank if isinstance(content, str) else kind_of(content)
            raise Fault(
                f"{where} ({role}) is {what}, and must be text", f"a turn of {role} is {what}"
            )
    made = {"role": role, "content": content}
    if calls:
        made["tool_calls"] = calls
    for key in ("tool_call_id", "name", "reasoning_content"):
        if found.get(key) is not None:
            made[key] = found[key]
    return made


def _call(value, where):
    value = listed_value(value)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise Fault(f"{where} is a tool call without the tool's name", "tool call")
    arguments = value.get("arguments", value.get("parameters", {}))
    return {"type": "function", "function": {"name": value["name"], "arguments": arguments}}


def turns_of(value, what="the conversation"):
    """[messages] of a list in any of the known notations, checked one by one."""
    value = listed_value(value)
    if value is MISSING:
        raise Fault(f"the field {what!r} is missing")
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise Fault(f"{what!r} is {kind_of(value)}, and must be a list of messages")
    if not value:
        raise Fault(f"{what!r} is empty")
    made = []
    for number, found in enumerate(value, 1):
        if is_pair(found):
            found = {"human": found[0], "assistant": found[1]}
        both = (
            both_in_one(found)
            if isinstance(found, dict) and not any(k in found for k in SPEAKS)
            else None
        )
        if both:
            for key, role in zip(both, ("user", "assistant")):
                made.append({"role": role, "content": text_of(found[key], key)})
        else:
            made.append(message(found, f"turn {number}"))
    return made


def in_order(messages, ends_with_answer=True):
    """The messages, if a system turn stands first only, user and assistant take turns, and the last
    is an answer; else Fault.
    """
    before = None
    for number, turn in enumerate(messages, 1):
        role, calls = turn["role"], bool(turn.get("tool_calls"))
        if role == "system" and number > 1:
            raise Fault(f"turn {number} is a system turn in the middle", "system in the middle")
        if role == "tool" and before not in ("call", "tool"):
            raise Fault(
                f"turn {number} is a tool's answer, and no tool was called before it", "tool order"
            )
        if before == "call" and role != "tool":
            raise Fault(
                f"turn {number} follows a tool call that got no answer", "call without answer"
            )
        if role == "assistant" and before in (None, "system"):
            raise Fault("the conversation begins with an answer", "begins with an answer")
        if (
            role == before
            and role in ("user", "assistant")
            or (role == "user" and before == "tool")
        ):
            raise Fault(
                f"turn {number} is a second turn of {role} in a row"
                if role == before
                else f"turn {number} is a question where the answer to a tool belongs",
                "turns not in order",
            )
        before = "call" if calls else role
    if ends_with_answer and before not in ("assistant", "call"):
        if not any(turn["role"] == "assistant" for turn in messages):
            raise Fault("the conversation has no answer", "no answer")
        raise Fault(
            f"the last turn is one of {before}, and no answer follows", f"ends with {before}"
        )
    return messages


def to_messages(row, schema=None):
    """{"messages": [{"role", "content"}, ...]} of one row, with "tools" where it has them; a
    preference pair becomes {"prompt": [...], "chosen": [answer], "rejected": [answer]}. Fault says
    what is wrong with the row.
    """
    if isinstance(row, Unreadable):
        raise Fault(row.reason, row.kind)
    schema = schema or recognise([row])
    if schema.kind == "pairs":
        return _pair(row, schema)
    if "question" in schema.columns:
        asks, answers = schema.columns["question"], schema.columns["answer"]
        ask, reply = (
            (cell(row, asks), cell(row, answers)) if isinstance(row, dict) else (None, None)
        )
        if isinstance(ask, list) and isinstance(reply, (list, dict)):  # TRL's conversational pairs
            return {"messages": in_order(turns_of(ask) + turns_of(reply))}
        found = parts(row, schema)
        messages = [{"role": "system", "content": found["system"]}] if found["system"] else []
        for question, answer in found["history"]:
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        asked = found["question"] + ("\n\n" + found["context"] if found["context"] else "")
        messages.append({"role": "user", "content": asked})
        return {"messages": messages + [{"role": "assistant", "content": found["answer"]}]}
    if "tree" in schema.columns:
        return {"messages": in_order(_best_path(row, schema))}
    column = schema.columns["messages"]
    if column is None:
        return {"messages": in_order(turns_of(row, "the row"))}
    if not isinstance(row, dict):
        raise Fault(f"{kind_of(row)} where an object with {column!r} belongs")
    messages = turns_of(cell(row, column), column)
    system = schema.columns.get("system")
    system = optional_text(cell(row, system), system) if system else ""
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    made = {"messages": in_order(messages)}
    tools = (
        listed_value(cell(row, schema.columns["tools"])) if schema.columns.get("tools") else None
    )
    if tools not in (None, MISSING, "", []):
        if not isinstance(tools, list):
            raise Fault(f"{schema.columns['tools']!r} is no list of tools")
        made["tools"] = tools
    return made


def _best_path(row, schema):
    """The turns of an OASST tree from its root along the best-ranked replies to the last answer."""
    if not isinstance(row, dict):
        raise Fault(f"{kind_of(row)} where a tree of messages belongs")
    node, found = row.get(schema.columns["tree"], row), []
    while isinstance(node, dict):
        found.append(message({k: node.get(k) for k in ("role", "text")}, f"turn {len(found) + 1}"))
        replies = node["replies"] if isinstance(node.get("replies"), list) else []
        replies = [r for r in replies if isinstance(r, dict) and not r.get("deleted")]
        rank = lambda r: r["rank"] if isinstance(r.get("rank"), (int, float)) else 1e9
        node = min(replies, key=rank, default=None)
    while len(found) > 1 and found[-1]["role"] == "user":
        found.pop()
    return found


def trees_of(rows):
    """Trees of the flat OASST export, one message a row; a message whose parent is not in the file
    becomes `Unreadable`.
    """
    nodes = {
        str(r["message_id"]): {**r, "replies": []}
        for r in rows
        if isinstance(r, dict) and r.get("message_id")
    }
    made = []
    for row in rows:
        if not isinstance(row, dict) or str(row.get("message_id")) not in nodes:
            made.append(row)
            continue
        node, parent = nodes[str(row["message_id"])], row.get("parent_id")
        if parent is None or parent == "" or isinstance(parent, float):  # null, or pandas' NaN
            made.append(node)
        elif str(parent) in nodes and str(parent) != str(row["message_id"]):
            nodes[str(parent)]["replies"].append(node)
        else:
            text = json.dumps(row, ensure_ascii=False, default=str)
            made.append(Unreadable(text, "its parent message is not in the file", "orphan"))
    return made


def question_and_answer(kept):
    """(everything before the last answer, the last answer) of a kept row, each as one text."""
    if "messages" in kept:
        *before, last = kept["messages"]
    else:
        before, last = kept["prompt"], kept["chosen"][0]
    said = last["content"] or json.dumps(last.get("tool_calls"), default=str)
    return "\n".join(turn["content"] for turn in before), said


def _pair(row, schema):
    if not isinstance(row, dict):
        raise Fault(f"{kind_of(row)} where an object with prompt, chosen, rejected belongs")
    columns = schema.columns
    sides = {}
    for side in ("chosen", "rejected"):
        value = cell(row, columns[side])
        value = listed_value(value)
        if isinstance(value, (list, dict)):
            sides[side] = turns_of(value, columns[side])
        else:
            sides[side] = text_of(value, columns[side])
    if isinstance(sides["chosen"], str) != isinstance(sides["rejected"], str):
        raise Fault(
            "one of 'chosen' and 'rejected' is text, the other a list of messages",
            "text and messages",
        )
    column = columns.get("prompt")
    prompt = cell(row, column) if column else MISSING
    if prompt is MISSING and isinstance(sides["chosen"], str):
        if not all(re.match(r"\s*Human: ?", text) for text in sides.values()):
            raise Fault(
                "the field 'prompt' is missing, and the answers do not begin with their question "
                "as in HH-RLHF",
                "no prompt",
            )
        sides = {side: _human(text, side) for side, text in sides.items()}
        if not all(len(turns) > 1 for turns in sides.values()):
            raise Fault(
                "the field 'prompt' is missing, and no 'Assistant:' on a line of its own parts "
                "question and answer",
                "no prompt",
            )
    asked = _asked(prompt, row, columns)
    if isinstance(sides["chosen"], str):
        answers = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
    else:
        heads = {}
        answers = {}
        for side, turns in sides.items():
            if turns[-1]["role"] != "assistant":
                raise Fault(
                    f"{columns[side]!r} does not end with an answer, but with a turn of "
                    f"{turns[-1]['role']}",
                    "ends without an answer",
                )
            heads[side], answers[side] = turns[:-1], turns[-1:]
        if heads["chosen"] != heads["rejected"]:
            raise Fault("chosen and rejected answer different questions", "different questions")
        head = heads["chosen"]
        if asked and head:
            if _said(asked[-1:]) != _said(head[-1:]):
                raise Fault(
                    f"{column!r} is not the question that chosen and rejected answer",
                    "another prompt",
                )
            asked = head if len(head) >= len(asked) else asked
        asked = asked or head
    if not asked:
        raise Fault(f"the field {column or 'prompt'!r} is missing", "no prompt")
    if asked[-1]["role"] not in ("user", "tool"):
        raise Fault("the prompt does not end with a question", "the prompt ends with an answer")
    in_order(asked, ends_with_answer=False)
    question = _said(asked[-1:])
    chosen, rejected = _said(answers["chosen"]), _said(answers["rejected"])
    if chosen == rejected:
        raise Fault(
            f"{columns['chosen']!r} and {columns['rejected']!r} are the same text, so nothing "
            "can be learned"
        )
    for side, text in (("chosen", chosen), ("rejected", rejected)):
        if text == question:
            raise Fault(
                f"{columns[side]!r} repeats the prompt: are the fields in the wrong order?",
                "answer is the prompt",
            )
    better, worse = _ratings(row)
    if better is not None and better < worse:
        raise Fault(
            f"the rejected answer has the higher rating ({worse:g}, the chosen {better:g}): are "
            "the fields in the wrong order?",
            "rating",
        )
    return {"prompt": asked, **answers}


def _said(messages):
    return messages[0]["content"].strip(), messages[0].get("tool_calls")


def _asked(prompt, row, columns):
    """The prompt's turns: from text (with its context and system text), from a list of messages, or
    [].
    """
    if prompt is MISSING:
        return []
    prompt = (
        listed_value(prompt)
        if not isinstance(prompt, str) or '"role"' in prompt or "'role'" in prompt
        else prompt
    )
    system = columns.get("system")
    system = optional_text(cell(row, system), system) if system else ""
    made = [{"role": "system", "content": system}] if system else []
    if isinstance(prompt, (list, dict)):
        turns = turns_of(prompt, columns["prompt"])
        return turns if turns[0]["role"] == "system" else made + turns
    text = text_of(prompt, columns["prompt"])
    if re.match(r"\s*Human: ?", text) and re.search(r"\n\nAssistant:\s*$", text):
        return made + _human(re.sub(r"\n\nAssistant:\s*$", "", text), columns["prompt"])
    context = columns.get("context")
    context = optional_text(cell(row, context), context) if context else ""
    return made + [{"role": "user", "content": text + ("\n\n" + context if context else "")}]


def _human(text, where):
    """Turns of "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    pieces = re.split(r"(?:^|\n\n)\s*(Human|Assistant):", "\n\n" + text.lstrip())[1:]
    turns = []
    for number, (who, said) in enumerate(zip(pieces[::2], pieces[1::2]), 1):
        content = said.removeprefix(" ")
        if not content.strip():
            raise Fault(f"turn {number} of {where!r} ({who}) is empty", "a turn is empty")
        turns.append({"role": ROLE_OF.get(who.lower()), "content": content})
    return turns


def _ratings(row):
    """(rating of chosen, rating of rejected) if the row has both as numbers, else (None, None)."""
    found = {}
    for side in ("chosen", "rejected"):
        for word in ("score", "rating", "reward"):
            for name in (f"{word}_{side}", f"{side}_{word}", f"{side}-{word}"):
                value = cell(row, name)
                try:
                    if value is not MISSING and value is not None and not isinstance(value, bool):
                        found.setdefault(side, float(value))
                except (TypeError, ValueError):
                    pass
    return (found["chosen"], found["rejected"]) if len(found) == 2 else (None, None)
