"""utils.reading: what a file is, found by content; every row counted, no text changed."""

import csv
import gzip
import io
import json
import pathlib
import random
import shutil
import subprocess
import sys
import zipfile

import pandas
import pytest

from utils import ROOT, bases, instructions, preferences, reading

CASES = pathlib.Path(__file__).parent / "cases"
ROWS = [
    {"instruction": "Name the capital of Togo.", "input": "", "output": "Lome"},
    {"instruction": "Translate; please.", "input": "the red, door", "output": '  lobi\nteri "x"\n'},
    {"instruction": "Dis-le.", "input": "", "output": "L’été à Nîmes, où l’âne brait – amanhã."},
]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
TABLE = pandas.DataFrame(ROWS)


@pytest.fixture(scope="module")
def tokenizer():
    return bases.load_tokenizer("pocket-xs")


def ask(text):
    return {"role": "user", "content": text}


def say(text):
    return {"role": "assistant", "content": text}


def written(tmp_path, data, name="rows.data"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


# --- the cases: their content as it was given -----------------------------------------------------


def trained_on(case, name, tokenizer):
    report = instructions.check_file(CASES / case / name, tokenizer, 256)
    assert report.read == len(report.kept) + len(report.rejected)
    return report, [pair["completion"] for pair in instructions.for_trl(report.kept, tokenizer)]


def test_leading_indentation_is_part_of_the_answer(tokenizer):
    report, answers = trained_on("leading-indentation", "rows.jsonl", tokenizer)
    assert report.read == 2 and not report.rejected
    assert answers[0].startswith("    total = 0\n    for p in prices:\n")
    assert answers[1] == "  colour: red\n  litres: 2" + tokenizer.eos_token
    compile("def add_up(prices):\n" + answers[0].removesuffix(tokenizer.eos_token), "row", "exec")


def test_text_in_a_wrong_encoding_is_found_in_seven_scripts(tokenizer):
    path = CASES / "mojibake-beyond-western-europe" / "rows.jsonl"
    report = instructions.check_file(path, tokenizer, 256)
    assert report.read == len(report.rejected) == 7
    assert all("wrong encoding" in reason for _, reason in report.rejected)
    assert len(report.groups()) == 1 and "nothing to train on" in str(report)


def test_no_row_kept_stops_with_a_sentence(tokenizer):
    report, answers = trained_on("no-row-kept-goes-on", "rows.json", tokenizer)
    assert answers == [" Sencha." + tokenizer.eos_token] and "GPTeacher" in str(report)
    empty = instructions.check_rows([{**ROWS[0], "output": " "}] * 3, tokenizer, 256)
    assert "training goes on" not in str(empty) and "nothing to train on" in str(empty)
    with pytest.raises(reading.NoRowKept, match="none of the 3 rows can train.*white space"):
        empty.need_rows()
    for stop in (lambda: instructions.for_trl([], tokenizer), lambda: preferences.for_trl([])):
        with pytest.raises(ValueError, match="There is no (row|pair) to train on"):
            stop()


@pytest.mark.parametrize(
    "name, container, read, first",
    [
        ("by_number.json", "keyed by number", 400, " a"),
        ("data_key.json", "rows under 'data'", 2, " Lome"),
        ("excel_utf8_bom.csv", "CSV parted by ';', UTF-8 with", 2, " Tee für zwölf"),
        ("excel_windows1252.csv", "CSV parted by ';', cp1252", 2, " Tee für zwölf"),
        ("old_mac_line_ends.jsonl", "JSON lines", 2, " Lome"),
        ("pretty.jsonl", "one behind another", 2, " x0"),
        ("python_notation.jsonl", "Python's notation", 1, " Tea"),
        ("rows.jsonl.gz", "gzip", 1, " Lome"),
        ("rows.parquet", "Parquet", 1, " Lome"),
    ],
)
def test_files_that_are_not_json_lines(name, container, read, first, tokenizer):
    report, answers = trained_on("not-a-json-file", name, tokenizer)
    assert report.read == read and container in str(report)
    assert answers[0] == first + tokenizer.eos_token


def test_a_pointer_of_git_lfs_is_named(tokenizer):
    with pytest.raises(ValueError, match="Git-LFS pointer.*1,234 bytes.*git lfs pull"):
        instructions.check_file(CASES / "not-a-json-file" / "lfs_pointer.jsonl", tokenizer, 256)


@pytest.mark.parametrize(
    "name, schema, kept",
    [
        ("alpaca_with_text_column.jsonl", "Alpaca rows, 1 row; columns not used: text", 1),
        ("capitals.jsonl", "Alpaca rows", 1),
        ("dolly.jsonl", "Dolly rows, 1 row; columns not used: category", 1),
        ("gpteacher.json", "GPTeacher rows", 1),
        ("messages.jsonl", "OpenAI messages", 1),
        ("null_or_missing_input.jsonl", "Alpaca rows, 2 rows", 2),
        ("prompt_completion.jsonl", "prompt/completion rows", 1),
        ("sharegpt.json", "ShareGPT conversations, 3 rows; columns not used: id", 1),
    ],
)
def test_schemas_are_named_once_and_read(name, schema, kept, tokenizer):
    report, answers = trained_on("other-schemas", name, tokenizer)
    assert str(report).count("taken for: " + schema) == 1 and len(report.kept) == kept
    assert all(a.startswith((" Sencha", " Lome", " Tea")) for a in answers)
    assert all(set(row) == {"instruction", "input", "output"} for row in report.kept)


@pytest.mark.parametrize(
    "name, direct, checked",
    [
        ("equal.jsonl", "row 1: 'chosen' and 'rejected' are the same", "are the same text"),
        ("message_lists.jsonl", "row 1: 'chosen' is a list of messages", ""),
        ("no_prompt.jsonl", "row 1: the field 'prompt' is missing", "'prompt' is missing"),
        ("null_rejected.jsonl", "row 1: 'rejected' is null", "'rejected' is null"),
    ],
)
def test_preference_rows_are_checked(name, direct, checked):
    path = CASES / "dpo-rows-unchecked" / name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    with pytest.raises(ValueError, match=direct):
        preferences.for_trl(rows)
    report = preferences.check_pairs(path)
    assert report.read == 8 and len(report.groups()) == bool(checked)
    if checked:
        assert not report.kept and checked in str(report)
    else:
        assert preferences.for_trl(report.kept)[0] == {
            "prompt": "Which colour is box 0?",
            "chosen": " Green.",
            "rejected": " Go away.",
        }


# --- containers -----------------------------------------------------------------------------------


def zipped(**files):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return made.getvalue()


CONTAINERS = {
    "lines": LINES,
    "lines, CRLF": LINES.replace("\n", "\r\n"),
    "lines with commas": LINES.replace("\n", ",\n"),
    "UTF-16 lines": LINES.encode("utf-16"),
    "UTF-16 without a mark": LINES.encode("utf-16-le"),
    "UTF-32 list": json.dumps(ROWS).encode("utf-32"),
    "Windows lines": LINES.encode("cp1252"),
    "list": json.dumps(ROWS, indent=1),
    "list with a comma too many": json.dumps(ROWS)[:-1] + ",]",
    "under a key": json.dumps({"version": 2, "examples": ROWS}),
    "under two keys": json.dumps({"result": {"data": ROWS}}),
    "by number": json.dumps({str(n): row for n, row in enumerate(ROWS)}),
    "by name": json.dumps({f"q-{n}": row for n, row in enumerate(ROWS)}),
    "pandas columns": TABLE.to_json(),
    "pandas split": TABLE.to_json(orient="split"),
    "columns": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}),
    "viewer": json.dumps(
        {"features": [{"name": "x"}], "rows": [{"row_idx": 0, "row": r} for r in ROWS]}
    ),
    "written twice": json.dumps(json.dumps(ROWS)),
    "lines written twice": "\n".join(json.dumps(json.dumps(r)) for r in ROWS),
    "Python": repr(ROWS),
    "Python lines": "\n".join(map(repr, ROWS)),
    "pretty": "\n".join(json.dumps(r, indent=2) for r in ROWS),
    **{f"table {sep!r}": TABLE.to_csv(sep=sep, index=False) for sep in ",;\t|^~:"},
    "all quoted": TABLE.to_csv(index=False, quoting=1),
    "Excel's sep": "sep=;\n" + TABLE.to_csv(sep=";", index=False),
    "table with a mark": TABLE.to_csv(sep=";", index=False).encode("utf-8-sig"),
    "Windows table": TABLE.to_csv(sep=";", index=False).encode("cp1252"),
    "UTF-16 table": TABLE.to_csv(sep="\t", index=False).encode("utf-16"),
    "backslashes": TABLE.to_csv(index=False, escapechar="\\", doublequote=False),
    "Parquet": TABLE.to_parquet(),
    "gzip": gzip.compress(LINES.encode()),
    "gzip table": gzip.compress(TABLE.to_csv(sep=";", index=False).encode("cp1252")),
    "zip": zipped(rows_jsonl=LINES, README_md="x"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_rows_whatever_its_name(name, tmp_path):
    data = CONTAINERS[name]
    for suffix in (".jsonl", ".csv", ""):
        assert reading.read(written(tmp_path, data, "rows" + suffix)) == ROWS


@pytest.mark.parametrize(
    "data, message",
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "Git-LFS pointer"),
        ("\n <!DOCTYPE html>\n<html><head>", "an HTML page"),
        ("<html lang=en>", "an HTML page"),
        ("<?xml version='1.0'?><rows/>", "is XML"),
        ("- instruction: a\n  output: b\n", "is YAML"),
        (zipped(xl_workbook="x", **{"xl/workbook_xml": "x"}), r"an Excel workbook \(.xlsx\)"),
        (zipped(train_jsonl=LINES, test_jsonl=LINES), 'with 2 files: .*member="train.jsonl"'),
        (b"\xd0\xcf\x11\xe0" + bytes(99), "old Excel workbook"),
        (b"%PDF-1.4", "is a PDF"),
        (b"\x80\x04\x95xx", "a pickle"),
        (bytes(range(256)) * 9, "a binary file"),
        (gzip.compress(LINES.encode())[:-9], "a damaged gzip file"),
        (TABLE.to_parquet()[:-9], "a damaged Parquet file"),
        ("It was dark.\nIt rained.\n", r"plain text \(2 lines"),
        ("", "holds no rows"),
        ("[]", "holds no rows"),
        ("instruction,output\n", "holds no rows"),
        ("instruction,output,output\na,b,c", "'output' stands twice in its header"),
        (json.dumps({"train": ROWS, "test": ROWS[:1]}), r"'train' \(3 rows\).*key='train'"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps(ROWS)[:-9], "line 1: not valid JSON.*one list of objects"),
    ],
)
def test_what_is_no_data_file_is_named_in_one_sentence(data, message, tmp_path):
    with pytest.raises(reading.UnreadableFile, match=message) as error:
        reading.read(written(tmp_path, data))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_choices_that_a_file_leaves_open(tmp_path):
    path = written(tmp_path, json.dumps({"train": ROWS, "test": ROWS[:1]}))
    assert reading.read(path, key="test") == ROWS[:1]
    path = written(tmp_path, zipped(train_jsonl=LINES, test_csv=TABLE.to_csv(index=False)))
    assert reading.read(path, member="test.csv") == ROWS
    polish = written(tmp_path, "question,answer\nPowiedz,Łyżka leży\n".encode("cp1250"))
    assert reading.read(polish, encoding="cp1250")[0]["answer"] == "Łyżka leży"
    with pytest.raises(reading.UnreadableFile, match="Name one file in it"):
        reading.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="Is it rows.data"):
        reading.read(tmp_path / "row.data")


@pytest.mark.parametrize(
    "codec, text",
    [
        ("cp1252", "Nenne ein Getränk: Tee für zwölf"),
        ("cp1250", "Zażółć gęślą jaźń, łyżka leży obok"),
        ("cp1251", "Чайник стоит на столе и кипит."),
        ("cp1253", "Το νερό βράζει στο μπρίκι."),
        ("cp1256", "الماء يغلي في الإبريق"),
        ("shift_jis", "りんごは机の上にあります。水も飲みます。"),
        ("gbk", "水壶在桌子上，水已经烧开了。"),
        ("big5", "水壺在桌子上，水已經燒開了。"),
        ("euc-kr", "물이 끓는다 주전자가 있다"),
        ("koi8-r", "Чайник стоит на столе и кипит."),
    ],
)
def test_a_code_page_is_guessed_and_the_guess_is_said(codec, text, tmp_path):
    path = written(tmp_path, f"instruction;output\nSay it;{text}\n".encode(codec))
    report = reading.check(path)
    assert report.kept[0]["messages"][1]["content"] == text
    assert "a guess from its bytes" in str(report)


def test_cells_stay_text(tmp_path):
    limit = csv.field_size_limit()
    cells = ["NA", "007", "1.0", "null", "NaN", "True", " two ", "3,5"]
    table = "question;answer\n" + "".join(f"q{n};{c}\n" for n, c in enumerate(cells))
    assert [r["answer"] for r in reading.read(written(tmp_path, table))] == cells
    long = "question;answer\nq;" + "x" * 200_000
    assert len(reading.read(written(tmp_path, long))[0]["answer"]) == 200_000
    assert csv.field_size_limit() == limit


def test_a_table_of_utf8_with_one_line_in_another_encoding(tmp_path):
    table = "question;answer\nWas?;Größe\nWie?;Öl\n".encode() + "Wo?;Köln\n".encode("cp1252")
    report = reading.check(written(tmp_path, table))
    assert len(report.kept) == 2 and "line 4: the byte 0xf6 is not UTF-8" in str(report)
    assert "K\\xf6ln" in report.originals[0].text


def damaged(data, rng):
    """The bytes with a few changed, put in, taken out or doubled."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 20))):
        at = rng.randrange(len(data) + 1)
        size = rng.randrange(20)
        change = rng.choice((b"", b'"', b"\xe9", b"\x00", b"{", b"\n", bytes(data[:size])))
        data[at : at + rng.choice((0, 1, size))] = change
    return bytes(data)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_damaged_file_is_counted_whole_or_refused_with_a_sentence(name, tmp_path):
    rng = random.Random(name)
    data = CONTAINERS[name] if isinstance(CONTAINERS[name], bytes) else CONTAINERS[name].encode()
    for _ in range(12):
        path = written(tmp_path, damaged(data, rng))
        try:
            report = reading.check(path)
        except (reading.UnreadableFile, reading.UnknownSchema) as error:
            assert str(error).startswith("rows.data")
            continue
        numbers = report.numbers + [number for number, _ in report.rejected]
        assert sorted(numbers) == list(range(1, report.read + 1))
        assert len(report.originals) == len(report.rejected)
        report.save_rejected(tmp_path / "rejected.jsonl")


TORN = {
    "short row": ("only,two\n", 1, "2 cells where the header has 3"),
    "long row": ("a,b,c,d\n", 1, "4 cells where the header has 3"),
    "open quote": ('x,,"never closed\ny,,z\nq,,r\n', 1, "a quotation mark opens and never closes"),
    "stray quote": ('"so" he said,,x\ny,,z\n', 1, "quotation marks do not match"),
}


@pytest.mark.parametrize("name", TORN)
def test_a_torn_row_of_a_table_swallows_no_other(name, tmp_path):
    more, bad, reason = TORN[name]
    report = reading.check(written(tmp_path, TABLE.to_csv(index=False) + more))
    assert report.read == 3 + more.count("\n") and len(report.rejected) == bad
    assert reason in str(report)
    assert more.split("\n")[0] in report.originals[0].text


# --- schemas --------------------------------------------------------------------------------------

A, Q = say("a"), ask("q")
TOOL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = [Q, {**say(""), "tool_calls": [TOOL]}, {"role": "tool", "content": "3"}, A]
SCHEMAS = {
    "Alpaca": ({"instruction": "q", "input": None, "output": "a"}, [Q, A]),
    "Alpaca with an input": ({"instruction": "q", "input": "i", "output": "a"}, [ask("q\n\ni"), A]),
    "Alpaca with nothing but an input": (
        {"instruction": " ", "input": "q", "output": "a"},
        [Q, A],
    ),
    "history": (
        {"instruction": "q2", "output": "a", "system": "s", "history": [["q", "a"]]},
        [{"role": "system", "content": "s"}, Q, A, ask("q2"), A],
    ),
    "Dolly": ({"instruction": "q", "context": "c", "response": "a"}, [ask("q\n\nc"), A]),
    "GPTeacher": ({"Instruction": "q", "Input": "", "Response": "a"}, [Q, A]),
    "prompt": ({"prompt": "q", "completion": "a"}, [Q, A]),
    "capitals": ({"QUESTION": "q", "Answer": "a", "Source": "w"}, [Q, A]),
    "OpenOrca": (
        {"id": 1, "system_prompt": "s", "question": "q", "response": "a"},
        [{"role": "system", "content": "s"}, Q, A],
    ),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        [Q, A],
    ),
    "OpenAI": ({"messages": [Q, A, ask("q2"), A]}, [Q, A, ask("q2"), A]),
    "parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, A]},
        [Q, A],
    ),
    "tools": (
        {
            "messages": [
                Q,
                {"role": "assistant", "content": None, "tool_calls": [TOOL]},
                *CALLED[2:],
            ]
        },
        CALLED,
    ),
    "as text": ({"messages": json.dumps([Q, A])}, [Q, A]),
    "as Python": ({"messages": repr([Q, A])}, [Q, A]),
    "human, assistant": ({"conversation": [{"human": "q", "assistant": "a"}]}, [Q, A]),
    "bare list": ([Q, A], [Q, A]),
    "pairs": ([["q", "a"], ["q2", "a"]], [Q, A, ask("q2"), A]),
    "TRL": ({"prompt": [Q], "completion": [A]}, [Q, A]),
    "OASST": (
        {
            "prompt": {
                "text": "q",
                "role": "prompter",
                "replies": [
                    {"text": "worse", "role": "assistant", "rank": 1, "replies": []},
                    {
                        "text": "a",
                        "role": "assistant",
                        "rank": 0,
                        "replies": [{"text": "open", "role": "prompter", "replies": []}],
                    },
                ],
            }
        },
        [Q, A],
    ),
}


PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
PAIRS = {
    "text": PAIR,
    "another order": {"rejected": "b", "chosen": "a", "prompt": "q"},
    "question": {"question": "q", "response_j": "a", "response_k": "b"},
    "messages": {"chosen": [Q, A], "rejected": [Q, say("b")]},
    "prompt and messages": {"prompt": "q", "chosen": [Q, A], "rejected": [Q, say("b")]},
    "TRL": {"prompt": [Q], "chosen": [A], "rejected": [say("b")]},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    },
    "HH-RLHF": {
        "chosen": "\n\nHuman: q\n\nAssistant: a",
        "rejected": "\n\nHuman: q\n\nAssistant: b",
    },
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_becomes_the_same_messages(name, tmp_path):
    row, messages = SCHEMAS[name]
    assert reading.to_messages(row)["messages"] == messages
    path = written(tmp_path, json.dumps([row, {"x": 1}, row]))
    report = reading.check(path)
    assert [r["messages"] for r in report.kept] == [messages] and report.numbers == [1]
    assert [n for n, _ in report.rejected] == [2, 3] and report.rejected[1][
        1
    ] == "the same as row 1"


def test_flat_oasst_messages_form_trees():
    rows = [
        {"message_id": "1", "parent_id": None, "text": "q", "role": "prompter"},
        {"message_id": "2", "parent_id": "1", "text": "worse", "role": "assistant", "rank": 1},
        {"message_id": "3", "parent_id": "1", "text": "a", "role": "assistant", "rank": 0},
        {"message_id": "5", "parent_id": "4", "text": "lost", "role": "assistant", "rank": 0},
    ]
    report = reading.check(rows)
    assert report.kept == [{"messages": [Q, A]}] and report.read == 2
    assert "its parent message is not in the file" in str(report) and "4 messages" in str(report)


@pytest.mark.parametrize(
    "rows, found",
    [
        (
            [{"headline": "h", "body": "b", "n": 3}],
            "'headline' (text), 'body' (text), 'n' (a number)",
        ),
        ([{"instruction": "x", "input": "", "ouput": "y"}] * 3, "'ouput' (text)"),
        ([{"text": "### Human: a"}], "does not say where its answer begins"),
        ([["a", "b", "c"]], "each a list"),
        ([{"prompt": "q", "completion": "a", "label": True}], "the bad answers would be taught"),
    ],
)
def test_an_unknown_schema_shows_what_was_found_and_a_conversion(rows, found, tmp_path):
    path = written(tmp_path, json.dumps(rows))
    with pytest.raises(reading.UnknownSchema) as error:
        reading.check(path)
    message = str(error.value)
    assert found in message and len(message.splitlines()) == 4
    shown = [line.strip() for line in message.splitlines()[1:]]
    space = {"reading": reading, "path": path}
    exec("\n".join(shown[:2]), space)  # noqa: S102 (the conversion runs as it is shown)
    assert isinstance(space["rows"], list) and shown[2] == "report = reading.check(rows)"


def test_odd_values_anywhere_are_a_rejected_row():
    rng = random.Random(2)
    odd = [None, True, 3, float("nan"), "", " ", "[", "Human: a\n\nAssistant: b", [], {}, [{}]]

    def spoiled(value):
        if rng.random() < 0.15:
            return rng.choice(odd)
        if isinstance(value, dict):
            return {k: spoiled(v) for k, v in value.items() if rng.random() > 0.05}
        return [spoiled(v) for v in value] if isinstance(value, list) else value

    good = [row for row, _ in SCHEMAS.values()] + list(PAIRS.values())
    for _ in range(1500):
        row = rng.choice(good)
        rows = [row, *(spoiled(row) for _ in range(3))]
        try:
            kind = "pairs" if row in PAIRS.values() else "chat"
            report = reading.check(rows, kind=kind)
        except (reading.UnknownSchema, reading.UnreadableFile):
            continue
        assert report.read == len(rows) and str(report)


TURNS = {
    "begins with an answer": [A, Q, A],
    "no answer follows": [Q, A, ask("q2")],
    "has no answer": [Q],
    "a second turn of user in a row": [Q, ask("q2"), A],
    "a system turn in the middle": [Q, {"role": "system", "content": "s"}, A],
    "(assistant) is empty": [Q, say("")],
    "(assistant) is null": [Q, say(None)],
    "(assistant) is a number": [Q, say(3)],
    "the unknown role 'alien'": [{"role": "alien", "content": "q"}, A],
    "does not say who speaks": [{"content": "q"}, A],
    "is text, not a message": [Q, "a"],
    "no tool was called": [Q, {"role": "tool", "content": "3"}, A],
    "holds image_url": [ask([{"type": "image_url"}]), A],
}


@pytest.mark.parametrize("reason", TURNS)
def test_a_conversation_that_cannot_train_says_why(reason):
    report = reading.check([{"messages": [Q, A]}, {"messages": TURNS[reason]}])
    assert [n for n, _ in report.rejected] == [2] and reason in report.rejected[0][1]


def test_conversations_in_alpacas_template(tokenizer):
    rows = [{"messages": [{"role": "system", "content": "Be brief."}, Q, A, ask("q2"), say("a2")]}]
    report = instructions.check_rows([*rows, {"messages": CALLED}], tokenizer, 256)
    [pair] = instructions.for_trl(report.kept, tokenizer)
    assert pair["prompt"].endswith(
        "### Instruction:\nBe brief.\n\nq\n\n### Response: a\n\n"
        "### Instruction:\nq2\n\n### Response:"
    )
    assert pair["completion"] == " a2" + tokenizer.eos_token
    assert (
        "several answers in 1 conversation:" in str(report)
        and "it calls tools" in report.rejected[0][1]
    )


# --- rows -----------------------------------------------------------------------------------------


def test_a_report_is_never_more_than_a_screen(tmp_path):
    rng = random.Random(0)
    bad = [None, 7, [], "", " ", "caf\u00c3\u00a9", "\x00", "\ufffd", {"a": 1}, True, "\ud83d"]
    rows = [{"question": f"q{n}", "answer": rng.choice([*bad, "fine"])} for n in range(2000)]
    rows += [{f"column {n}": 1} for n in range(100)] + [[n] for n in range(50)] + [None, "text"]
    report = reading.check(rows)
    assert report.read == len(rows) and 0 < len(report.kept) < 400
    assert len(str(report).splitlines()) <= 24 and max(map(len, str(report).splitlines())) < 320
    lines = report.save_rejected(tmp_path / "r.jsonl").read_text("utf-8").splitlines()
    saved = [json.loads(line) for line in lines]
    assert [row["row"] for row in saved] == [n for n, _ in report.rejected]
    assert [row["original"] for row in saved] == report.originals


def test_a_doubled_key_is_a_rejected_row_that_is_saved_whole(tmp_path):
    path = written(
        tmp_path,
        '[{"question": "q", "answer": "a", "answer": "b"}, {"question": "q", "answer": "a"}]',
    )
    report = reading.check(path)
    assert "the key 'answer' stands twice" in report.rejected[0][1] and len(report.kept) == 1
    assert '"answer": "a", "answer": "b"' in report.originals[0].text


def test_texts_are_not_changed():
    rng, letters = random.Random(1), " \t\n\r\u2028aé’İß\u00a0🙂{}\\\"'<>"
    for _ in range(300):
        text = "".join(rng.choices(letters, k=12)) + "x"
        for row in ({"question": text, "answer": text}, {"messages": [ask(text), say(text)]}):
            assert reading.to_messages(row)["messages"] == [ask(text), say(text)]


def test_special_tokens_and_marks_of_templates(tokenizer):
    rows = [{"messages": [ask("q</s>"), A]}, {"messages": [Q, A]}]
    report = reading.check(rows, tokenizer)
    assert "'</s>', a special token" in report.rejected[0][1]
    note = str(reading.check([{"messages": [ask("<|im_start|>user"), A]}]))
    assert "marks of a chat template" in note


def test_repeats_near_repeats_and_leaks():
    words = "the quick brown fox jumps over a lazy dog and then it sleeps for many hours "
    words += "in the warm summer sun until evening"
    long = {"question": "Tell it.", "answer": words}
    rows = [
        {"question": "What is tea?", "answer": "A drink."},
        {"question": "What is tea?", "answer": " A drink.\n"},
        {"question": "what is TEA", "answer": "A drink"},
        {"question": "What is tea?", "answer": "Leaves in water."},
        long,
        {**long, "answer": words + " comes"},
        {"question": "Is it secret?", "answer": "Yes."},
    ]
    report = reading.check(rows, held_out=[{"prompt": "is it SECRET", "completion": "no"}])
    assert report.rejected == [
        (2, "the same as row 1"),
        (7, "its question is that of row 1 of the held-out rows"),
    ]
    assert "2 rows (row 3 and row 1, row 6 and row 5)" in str(report)


def test_the_courses_own_rows_pass_without_a_note(tokenizer):
    train, test = (instructions.load(split, "pocket-s") for split in ("train", "test"))
    report = instructions.check_rows(train, tokenizer, 512, held_out=test)
    assert (
        report.kept == train
        and str(report) == f"{len(train):,} rows read, {len(train):,} kept, 0 rejected"
    )
    assert all(kept is row for kept, row in zip(report.kept, train))


CORRECT = [
    "A manhã de amanhã será fria, não é? Ação, coração, maçãs.",
    "SÃO PAULO, IRMÃ, AMANHÃ",
    "Â, Ã e Õ são letras.",
    "«AMANHÃ»",
    "“MÃE”",
    "L’été à Nîmes, où l’âne brait : « Ça va ? »",
    "ÂGE, CHÂTEAU, TÂCHE…",
    "La lettre « Â » et la lettre « â ».",
    "À bientôt, Zoë ! Cœur, œuf, naïf.",
    "Prix : 12 € – 15 €",
    "NÃO! – SIM…",
    "«ÇA»",
    "DÉJÀ VU™",
    "»Spaß« „Größe“",
    "20 °C ± 2",
    "äöüÄÖÜß",
    "Łyżka leży obok szklanki.",
    "ĐÃ ĐẾN “RÕ RÀNG”, MÃ SỐ",
    "Чайник стоит на столе.",
    "чоктавски",
    "Το νερό βράζει.",
    "水壶在桌子上。",
    "りんごは机の上にある。",
    "الماء يغلي",
    "पानी उबल रहा है",
    "물이 끓는다",
    "联通",
    "ŞİŞLİ, HÂLÂ",
]


@pytest.mark.parametrize("text", CORRECT)
def test_correct_text_gives_no_alarm_and_its_broken_form_does(text):
    assert reading.mangled(text) is None
    for page in ("latin-1", "cp1252", "mac-roman"):
        try:
            broken = text.encode("utf-8").decode(page)
        except UnicodeDecodeError:
            continue
        assert reading.mangled(broken), (page, broken)


@pytest.mark.parametrize(
    "codec, text",
    [("cp1251", "Привет, мир"), ("cp1253", "Το νερό βράζει."), ("koi8-r", "Чайник стоит")],
)
def test_a_one_byte_alphabet_read_as_western_is_found(codec, text):
    assert reading.mangled(text.encode(codec).decode("cp1252"))


# --- preference pairs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_every_kind_of_pair_becomes_text(name, tokenizer):
    report = preferences.check_pairs([PAIRS[name]], tokenizer, 64)
    assert preferences.for_trl(report.kept) == [{"prompt": "q", "chosen": " a", "rejected": " b"}]


def test_longer_conversations_stay_messages():
    begun = "\n\nHuman: q\n\nAssistant: a\n\nHuman: q2\n\nAssistant:"
    report = preferences.check_pairs(
        [{"chosen": begun + " yes", "rejected": begun + " no"}, PAIRS["HH-RLHF"]]
    )
    first, second = preferences.for_trl(report.kept)
    assert first == {"prompt": [Q, A, ask("q2")], "chosen": [say("yes")], "rejected": [say("no")]}
    assert second["prompt"] == [Q]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"rejected": None}, "'rejected' is null"),
        ({"rejected": " a "}, "are the same text"),
        ({"chosen": ""}, "'chosen' is empty"),
        ({"chosen": 3}, "'chosen' is a number"),
        ({"chosen": "q"}, "'chosen' repeats the prompt: are the fields in the wrong order?"),
        ({"prompt": None}, "'prompt' is null"),
        ({"prompt": ...}, "the field 'prompt' is missing"),
        ({"rejected": ...}, "the field 'rejected' is missing"),
        ({"rejected": [say("b")]}, "one of 'chosen' and 'rejected' is text"),
        ({"chosen": [A, Q], "rejected": [say("b"), Q]}, "does not end with an answer"),
        ({"chosen": [ask("z"), A], "rejected": [ask("z"), say("b")]}, "is not the question that"),
        ({"chosen": [Q, A], "rejected": [ask("z"), say("b")]}, "answer different questions"),
        ({"score_chosen": 1, "score_rejected": 4.5}, "the rejected answer has the higher rating"),
        ({"chosen": "caf\u00c3\u00a9"}, "read in the wrong encoding"),
    ],
)
def test_a_pair_that_cannot_train_says_why(change, reason):
    bad = {key: value for key, value in {**PAIR, **change}.items() if value is not ...}
    report = preferences.check_pairs([{**PAIR, "prompt": "other"}, bad])
    assert [n for n, _ in report.rejected] == [2] and reason in report.rejected[0][1]


@pytest.mark.parametrize("name", ["prompt", "chosen", "rejected"])
@pytest.mark.parametrize("value", [..., None, 3, " ", [say("b")]])
def test_unchecked_pairs_stop_with_the_row_and_the_field(name, value):
    bad = {k: v for k, v in {**PAIR, name: value}.items() if v is not ...}
    with pytest.raises(ValueError, match=f"^row 2: .*'{name}'.*check_pairs"):
        preferences.for_trl([PAIR, bad])


def test_the_courses_own_pairs_pass():
    from utils import tasks

    rows = tasks.load("preferences", "train")
    report = preferences.check_pairs(rows)
    assert not report.rejected
    assert preferences.for_trl(report.kept) == preferences.for_trl(rows)


def test_answers_and_pairs_are_not_taken_for_each_other(tokenizer):
    with pytest.raises(reading.UnknownSchema, match="preference pairs"):
        instructions.check_rows([PAIR], tokenizer, 64)
    with pytest.raises(reading.UnknownSchema, match="prompt, chosen and rejected are needed"):
        preferences.check_pairs([{"prompt": "q", "completion": "a"}])


def test_the_folder_works_without_the_course(tmp_path):
    shutil.copytree(ROOT / "utils" / "reading", tmp_path / "reading")
    path = written(tmp_path, TABLE.to_csv(sep=";", index=False).encode("cp1252"), "mine.csv")
    code = (
        "import sys, reading; heavy = {'torch', 'pandas', 'datasets', 'ftfy'} & set(sys.modules); "
        "print(heavy, reading.check(sys.argv[1]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={},
        check=False,
    )
    assert ran.stdout.startswith("set() mine.csv: 3 rows read, 3 kept, 0 rejected"), ran.stderr


def test_a_question_in_the_input_alone_is_kept_and_counted():
    rows = [
        {"instruction": "", "input": f"What is {n}?", "output": "A number."} for n in ("2", "3.5")
    ]
    rows += [{"instruction": "Say it.", "input": "It", "output": "It."}]
    rows += [{"instruction": "", "input": "", "output": "Nobody asked."}]
    report = reading.check(rows)
    assert [row["messages"][0]["content"] for row in report.kept] == [
        "What is 2?",
        "What is 3.5?",
        "Say it.\n\nIt",
    ]
    assert "'instruction' is empty" in str(report.rejected)
    assert any("empty in 2 rows, and the question is taken" in note for note in report.notes)
