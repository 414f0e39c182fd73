"""utils.instructions: the template word for word, the end of the answer, rows kept and rejected, files read with clear messages."""

import collections
import json
import subprocess
import sys

import pytest

from utils import ROOT, bases, evaluation, instructions

GOOD = {"instruction": "Name the capital of Togo.", "input": "", "output": "Lome"}
WITH = {"instruction": "Translate.", "input": "the red door", "output": "lobi teri"}


@pytest.fixture(scope="module")
def tokenizer():
    return bases.load_tokenizer("pocket-s")


def reasons(rows, tokenizer, max_length=256):
    report = instructions.check_rows(rows, tokenizer, max_length)
    assert report.read == len(rows) == len(report.kept) + len(report.rejected)
    return dict(report.rejected)


def test_import_is_cheap():
    code = "import sys, utils.instructions; print(sorted({'torch', 'transformers', 'datasets', 'peft'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
        == "[]"
    )


def test_template_word_for_word():
    assert instructions.prompt(GOOD) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName the capital of Togo.\n\n### Response:"
    )
    assert instructions.prompt(WITH) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that "
        "appropriately completes the request.\n\n### Instruction:\nTranslate.\n\n### Input:\nthe red door\n\n### Response:"
    )


@pytest.mark.parametrize("empty", [{"input": " \n"}, {"input": None}, {}])
def test_blank_input_takes_the_short_template(empty):
    row = {"instruction": GOOD["instruction"], "output": "Lome", **empty}
    assert instructions.prompt(row) == instructions.prompt(GOOD)


def test_braces_in_a_row_are_text():
    row = {"instruction": "Fill {instruction} and {0}.", "input": "{input}", "output": "{}"}
    assert "Fill {instruction} and {0}." in instructions.prompt(
        row
    ) and "\n{input}\n" in instructions.prompt(row)


def test_answer_has_one_leading_space_and_no_end_yet():
    assert instructions.answer(GOOD) == " Lome"
    for text in (" Lome", "    total = 0\n    return total\n", "\n- one\n- two", "\tx"):
        assert instructions.answer({**GOOD, "output": text}) == text
    made = instructions.examples([{**GOOD, "kind": "fact"}])[0]
    assert (made["prompt"], made["answer"], made["kind"]) == (
        instructions.prompt(GOOD),
        " Lome",
        "fact",
    )


def test_the_same_tokens_for_training_and_for_scoring(tokenizer):
    """TRL tokenises prompt + completion as one text, the scores tokenise the two apart: equal for every row of the course."""
    rows = instructions.load("train", "pocket-s")[:200] + instructions.load("test", "pocket-s")
    for pair, row in zip(instructions.for_trl(rows, tokenizer), instructions.examples(rows)):
        ids, labels = evaluation.encode_pair(tokenizer, row["prompt"], row["answer"])
        assert tokenizer(pair["prompt"] + pair["completion"])["input_ids"] == ids
        assert tokenizer(pair["prompt"])["input_ids"] == ids[: labels.count(-100)]


def test_last_label_of_the_trainers_own_batch_is_the_end(tokenizer, tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = bases.load("pocket-s")
    rows = instructions.load("train", "pocket-s")[:12]
    config = SFTConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        max_length=256,
        bf16=False,
        report_to="none",
    )
    data = Dataset.from_list(instructions.for_trl(rows, tokenizer))
    trainer = SFTTrainer(model=model, processing_class=tokenizer, args=config, train_dataset=data)
    count = 0
    for batch in trainer.get_train_dataloader():
        for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist()):
            kept = [i for i in labels if i != -100]
            assert kept[-1] == tokenizer.eos_token_id and kept.count(tokenizer.eos_token_id) == 1
            text = tokenizer.decode(kept[:-1])
            assert text in [instructions.answer(r) for r in rows] and "###" not in text
            count += 1
    assert count == 12


def test_committed_rows_are_all_kept_and_splits_share_none(tokenizer):
    splits = {s: instructions.load(s, "pocket-s") for s in ("train", "validation", "test")}
    longest = 0
    for rows in splits.values():
        assert reasons(rows, tokenizer) == {}
        texts = [
            pair["prompt"] + pair["completion"] for pair in instructions.for_trl(rows, tokenizer)
        ]
        longest = max(longest, *map(len, tokenizer(texts)["input_ids"]))
    assert longest <= 256
    keys = [{(r["instruction"], r["input"]) for r in rows} for rows in splits.values()]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert len(splits["train"]) >= 1000 and len({r["kind"] for r in splits["train"]}) >= 8
    assert 0 < sum(not r["input"] for r in splits["train"]) < len(splits["train"])


BAD = [
    (["not", "a", "row"], "a list where an object with instruction, input, output belongs"),
    ("text", "text where an object"),
    (
        {"instruction": "x", "input": "", "ouput": "y"},
        "the field 'output' is missing; the row has 'instruction', 'input', 'ouput'",
    ),
    ({**GOOD, "output": 7}, "'output' is a number"),
    ({**GOOD, "output": None}, "'output' is null"),
    ({**GOOD, "input": ["a"]}, "'input' is a list"),
    ({**GOOD, "output": ""}, "'output' is empty"),
    ({**GOOD, "output": " \n\t"}, "'output' holds nothing but white space"),
    ({**GOOD, "instruction": " "}, "'instruction' holds nothing but white space"),
    (
        {**GOOD, "input": "a\n### Response: b"},
        "'input' contains '### Response:', a marker of the template",
    ),
    ({**GOOD, "output": "Lome</s>"}, "'output' contains '</s>', a special token"),
    ({**GOOD, "instruction": "<s>Say"}, "'instruction' contains '<s>', a special token"),
    ({**GOOD, "output": "a <pad> b"}, "'output' contains '<pad>', a special token"),
    ({**GOOD, "output": "half \ud83d"}, "a lone surrogate"),
    (
        {**GOOD, "output": "SÃ£o TomÃ©"},
        "'output' contains 'SÃ£o', 'São' read in the wrong encoding",
    ),
    (
        {**GOOD, "input": "Itâ€™s red"},
        "'input' contains 'Itâ€™s', 'It’s' read in the wrong encoding",
    ),
    (
        {**GOOD, "output": "Lom\ufffd"},
        "'output' contains '\\ufffd', which text in the right encoding does not hold",
    ),
    ({**GOOD, "output": "\ufeffLome"}, "'output' contains '\\ufeff'"),
    ({**GOOD, "output": "Lo\x00me"}, "'output' contains '\\x00'"),
    ({**GOOD, "output": "word " * 300}, "tokens, longer than 256"),
]


@pytest.mark.parametrize("row, reason", BAD, ids=[reason[:40] for _, reason in BAD])
def test_a_bad_row_is_rejected_by_number_with_its_reason(row, reason, tokenizer):
    found = reasons([WITH, row, GOOD], tokenizer)
    assert list(found) == [2] and reason in found[2]


def test_duplicates_name_the_first_row_and_other_answers_stay(tokenizer):
    other = {**GOOD, "output": "The capital of Togo is Lome."}
    assert reasons([GOOD, WITH, {**GOOD, "output": " Lome "}, other], tokenizer) == {
        3: "the same as row 1"
    }


@pytest.mark.parametrize(
    "text",
    [
        "São Tomé",
        "«CAFÉ»",
        "NÃO! Irmã",
        "naïve – “über”",
        "東京 🙂",
        "a\tb\r\nc",
        "Ångström",
        "¿Qué?",
        "Â",
    ],
)
def test_text_with_accents_in_the_right_encoding_stays(text, tokenizer):
    assert reasons([{**GOOD, "output": text}], tokenizer) == {}


def test_all_bad_rows_at_once_and_none_at_all(tokenizer):
    rows = [row for row, _ in BAD]
    report = instructions.check_rows(rows, tokenizer, 256)
    assert (
        len(report.rejected) == len(rows)
        and not report.kept
        and f"{len(rows)} rows read, 0 kept" in str(report)
    )
    assert str(instructions.check_rows([], tokenizer, 256)) == "0 rows read, 0 kept, 0 rejected"


def test_report_says_how_many_more_there_are(tokenizer):
    report = instructions.check_rows([GOOD] * 31, tokenizer, 256)
    assert len(report.rejected) == 30
    assert str(report).splitlines()[1:] == ["  30 rows (2, 3, 4 …): the same as row 1 (row 2)"]


def test_length_counts_bos_and_eos(tokenizer):
    ids, _ = evaluation.encode_pair(tokenizer, instructions.prompt(GOOD), instructions.answer(GOOD))
    assert reasons([GOOD], tokenizer, len(ids)) == {}
    assert (
        f"{len(ids)} tokens, longer than {len(ids) - 1}"
        in reasons([GOOD], tokenizer, len(ids) - 1)[1]
    )


# --- files --------------------------------------------------------------------------------------------------------------


def written(tmp_path, data, name="rows.json"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_json_and_json_lines_with_and_without_a_byte_order_mark(tmp_path):
    lines = "\n".join(json.dumps(r) for r in (GOOD, WITH))
    listed = json.dumps([GOOD, WITH], indent=2)
    for data in (
        lines,
        lines + "\n\n",
        "\ufeff" + lines,
        lines.replace("\n", "\r\n"),
        listed,
        "\ufeff\n" + listed,
    ):
        assert instructions.read(written(tmp_path, data)) == [GOOD, WITH]


def test_line_separators_inside_a_text_do_not_split_a_row(tmp_path):
    row = {**GOOD, "output": "one\u2028two\x0bthree"}
    assert instructions.read(written(tmp_path, json.dumps(row, ensure_ascii=False))) == [row]


@pytest.mark.parametrize(
    "data, message",
    [
        (
            '{"a": 1}\n{"a": 2\n',
            r"rows.json, line 2: not valid JSON, column \d+ .*one whole JSON object",
        ),
        (
            '[{"a": 1},\n {"a": }]',
            r"rows.json, line 2: not valid JSON, column \d+ .*one list of objects",
        ),
        ('{\n "a": 1,,\n}', r"rows.json, line 2: not valid JSON"),
        (
            '{"a": "ü"}\n{"a": "'.encode() + b'caf\xe9"}',
            r"rows.json, line 2: the byte 0xe9 is not UTF-8. Save the file again as UTF-8",
        ),
        ('{"a": 1}'.encode("utf-16")[:-1], r"rows.json is cut off or damaged UTF-16"),
        ("", "rows.json holds no rows"),
        ("\n \n", "rows.json holds no rows"),
        ("[]", "rows.json holds no rows"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        instructions.read(written(tmp_path, data))


MIXED = (
    b"\xef\xbb\xbf"
    + json.dumps(GOOD).encode()
    + b'\n{"instruction": "x"\n\n'
    + json.dumps(WITH).encode()
    + b'\r\n{"instruction": "caf\xe9", "input": "", "output": "x"}\n[1]\n\xef\xbb\xbf'
    + json.dumps(GOOD).encode()
    + b"\n"
    + json.dumps({**GOOD, "output": ""}).encode()
)


def test_a_file_of_mixed_lines_is_checked_to_its_end(tokenizer, tmp_path):
    """Each line that holds something is kept or rejected by number, and what was rejected is saved whole."""
    report = instructions.check_file(written(tmp_path, MIXED, "mine.jsonl"), tokenizer, 256)
    assert report.kept == [GOOD, WITH] and report.read == 7 and len(report.originals) == 5
    found = dict(report.rejected)
    assert list(found) == [2, 4, 5, 6, 7]
    for number, part in {
        2: "line 2: not valid JSON, column 20",
        4: "line 5: the byte 0xe9 is not UTF-8",
        5: "a list where an object",
        6: "line 7: a byte-order mark in the middle",
        7: "'output' is empty",
    }.items():
        assert part in found[number]
    assert str(report).startswith(
        "mine.jsonl: 7 rows read, 2 kept, 5 rejected"
    ) and "Mend these rows in mine.jsonl" in str(report)
    saved = [
        json.loads(line)
        for line in report.save_rejected(tmp_path / "rejected.jsonl").read_text().splitlines()
    ]
    assert [(r["row"], r["reason"]) for r in saved] == report.rejected
    assert (
        saved[0]["original"] == '{"instruction": "x"'
        and saved[2]["original"] == [1]
        and saved[4]["original"] == {**GOOD, "output": ""}
    )
    assert "caf\\xe9" in saved[1]["original"]


def test_a_file_without_faults_and_a_list_that_is_cut_off(tokenizer, tmp_path):
    report = instructions.check_file(written(tmp_path, json.dumps([GOOD, WITH])), tokenizer, 256)
    assert str(report).splitlines() == [
        "rows.json: 2 rows read, 2 kept, 0 rejected",
        "  taken for: Alpaca rows, 2 rows (one JSON list)",
    ]
    assert report.save_rejected(tmp_path / "none.jsonl").read_text() == ""
    with pytest.raises(ValueError, match="rows.json, line 1: not valid JSON.*one list of objects"):
        instructions.check_file(written(tmp_path, json.dumps([GOOD, WITH])[:-5]), tokenizer, 256)


def test_a_rejected_half_character_can_be_saved(tokenizer, tmp_path):
    row = {**GOOD, "output": "half \ud83d"}
    report = instructions.check_rows([row], tokenizer, 256)
    assert json.loads(report.save_rejected(tmp_path / "r.jsonl").read_text())["original"] == row


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file mine.json"):
        instructions.read(tmp_path / "mine.json")


def test_unknown_split():
    with pytest.raises(ValueError, match="no split 'dev'; there are train, validation, test"):
        instructions.load("dev", "pocket-s")


def test_hub_rows_without_a_network_say_what_to_do():
    with pytest.raises(
        OSError, match='(?s)yahma/alpaca-cleaned could not be fetched.*BASE = "pocket"'
    ):
        instructions.load("train", "mistral")


def test_hub_rows_are_split_the_same_way_every_time(monkeypatch):
    """The one split of the hub becomes three that share no row, the same on every call."""
    import datasets

    asked = collections.Counter()

    class Set:
        def to_list(self):
            return [{**GOOD, "output": str(i)} for i in range(3000)]

    def load_dataset(name, revision, split):
        asked[name, revision, split] += 1
        return Set()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    parts = {
        s: [r["output"] for r in instructions.load(s, "mistral")]
        for s in ("train", "validation", "test")
    }
    assert {k: len(v) for k, v in parts.items()} == {"train": 2000, "validation": 500, "test": 500}
    assert len(set().union(*parts.values())) == 3000
    assert (
        [r["output"] for r in instructions.load("train", "mistral")]
        == parts["train"]
        != sorted(parts["train"], key=int)
    )
    assert (
        list(asked) == [(instructions.ALPACA, instructions.REVISION, "train")]
        and len(instructions.REVISION) == 40
    )
