"""The ledger of claims: complete, sourced, its numbers recomputed, and every claim shown where it
belongs."""

import math
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from utils import claims
from utils.claims import card, cards, load, page, shown_in

DOCUMENTS = {
    "Hugging Face blog, unsloth-trl",
    "Unsloth blog, mistral-benchmark",
    "PEFT documentation, IA3 guide",
    "PEFT repository, history of PeftType",
    "PEFT documentation, checkpoint format",
    "Transformers documentation, TextStreamer",
    "TRL documentation",
    "TRL 0.7.10, list of trainers",
    "alpaca-cleaned data card",
    "computed",
}
NOTHING = {"", "todo", "tbd", "none", "nan", "see above", "as said", "n/a"}


def problems(notebooks):
    """What is wrong with the claims that the notebooks of a folder show; an empty list is as it
    should be."""
    found = []
    for path in sorted(notebooks.glob("[0-9][0-9]_*.ipynb")):
        number, shown = int(path.name[:2]), shown_in(path)
        for id, c in load().items():
            if c.lesson[0] == number and id not in shown:
                found.append(
                    f"{path.name} must show claim {id} ({c.quote}): add card({id}, …) and run "
                    f"the cell"
                )
        for id, measured in shown.items():
            if id not in load() or number not in load()[id].lesson:
                found.append(
                    f"{path.name} shows claim {id}, which data/claims.yml does not give to "
                    f"lesson {number}"
                )
            empty = not re.search(r"\w", measured) or measured.strip(" .…").lower() in NOTHING
            if empty or re.search(r"\bnan\b", measured):
                found.append(
                    f"{path.name}: claim {id} shows {measured!r}, which is not a measured value"
                )
    return found


def write_notebook(folder, name, *shown):
    """An executed notebook whose only code cell each displays one of the objects."""
    cells = [
        new_code_cell(
            "card(…)",
            execution_count=n,
            outputs=[
                new_output(
                    "execute_result",
                    execution_count=n,
                    data={"text/plain": repr(x), "text/html": x._repr_html_()},
                )
            ],
        )
        for n, x in enumerate(shown, 1)
    ]
    folder.mkdir(exist_ok=True)
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("claim     1 in prose does not count"), *cells]),
        folder / name,
    )
    return folder / name


# The ledger


def test_the_ledger_is_complete():
    assert list(load()) == list(range(1, 57))
    assert {c.verdict for c in load().values()} == set(claims.VERDICTS)
    assert all(1 <= n <= 20 for c in load().values() for n in c.lesson)


@pytest.mark.parametrize("c", load().values(), ids=lambda c: str(c.id))
def test_every_source_can_be_looked_up(c):
    for source in c.source.split("; "):
        place = (
            r"( (abstract|§\d+(\.\d+)*|Table \d+|Tables \d+–\d+|Figure \d+|footnote \d+)( and "
            r"Table \d+)?)?"
        )
        assert source in DOCUMENTS or re.fullmatch(r"arXiv \d{4}\.\d{5}" + place, source), source


def test_each_lesson_has_the_claims_that_were_given_to_it():
    first = {}
    for c in load().values():
        first.setdefault(c.lesson[0], set()).add(c.id)
    assert first == {
        1: {1, 2},
        2: {3, 4},
        3: {6, 7, 8, 9, 10, 11, 12},
        4: {16, 17, 18},
        5: {*range(19, 26), 43, 46},
        6: set(range(26, 32)),
        7: {32, 33, 34},
        8: {35, 36, 37},
        9: {38, 39, 40},
        10: {41, 42},
        11: {13, 14, 15, 54},
        12: {47},
        13: {44, 45, 51, 52, 53},
        14: {48, 49, 50, 55, 56},
        15: {5},
    }
    assert {c.id: c.lesson[1:] for c in load().values() if c.lesson[1:]} == {
        14: (3,),
        46: (12,),
        47: (13,),
    }


ROW = "- {id: 7, quote: q, verdict: right, truth: t, source: computed, lesson: 1"


@pytest.mark.parametrize(
    "text, words",
    [
        (
            ROW.replace("right", "maybe") + "}",
            ["claim 7", "'verdict'", "'maybe'", "right, narrow, imprecise, wrong"],
        ),
        (ROW.replace("quote: q", "quote: ''") + "}", ["claim 7", "'quote'", "non-empty text"]),
        (ROW.replace(", truth: t", "") + "}", ["claim 7", "'truth'", "None"]),
        (ROW.replace("lesson: 1", "lesson: '08'") + "}", ["claim 7", "'lesson'", "'08'", "number"]),
        (ROW.replace("lesson: 1", "lesson: []") + "}", ["claim 7", "'lesson'"]),
        (ROW.replace("id: 7, ", "") + "}", ["claim no. 1 from the top", "'id'"]),
        (ROW + "}\n" + ROW + "}", ["claim 7", "'id'", "only once"]),
        (ROW + ", sauce: x}", ["claim 7", "'sauce'", "left out", "quote"]),
        (ROW + ", scale: ''}", ["claim 7", "'scale'", "non-empty text"]),
    ],
)
def test_a_faulty_ledger_is_refused_with_the_place_to_mend(tmp_path, text, words):
    (tmp_path / "broken.yml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        load(tmp_path / "broken.yml")
    assert all(word in str(error.value) for word in ["broken.yml", *words]), error.value


# The card


def test_a_card_says_what_the_literature_and_what_this_base_show_in_96_columns():
    text = repr(card(44, "1.31 times as fast on this GPU", note="One run."))
    assert text.startswith(
        'claim       44\nsaid        Unsloth is "almost twice as fast"\nliterature  imprecise. '
        "For Mistral"
    )
    assert [line.split()[0] for line in text.splitlines() if line[0] != " "] == [
        "claim",
        "said",
        "literature",
        "here",
        "scale",
        "note",
        "source",
    ]
    assert (
        max(map(len, text.splitlines())) <= 96
        and "\nhere        1.31 times as fast on this GPU\n" in text
    )
    assert "literature  right in its own setting only. It is one setting" in repr(card(21, "9,285"))
    assert "scale" not in repr(card(21, "9,285"))


def test_a_card_is_the_same_twice_and_escapes_its_html():
    one, two = card(21, "a < b & c"), card(21, "a < b & c")
    assert repr(one) == repr(two) and one._repr_html_() == two._repr_html_()
    assert (
        "<td" in one._repr_html_()
        and "a &lt; b &amp; c" in one._repr_html_()
        and "color" not in one._repr_html_()
    )
    assert repr(cards({21: "a < b & c", 20: "3"})) == f"{one}\n\n{card(20, '3')}"


def test_cards_beyond_the_open_ones_are_folded_in_html_and_shown_as_text():
    texts = {19: "f(x + y)", 20: "a < b", 21: "9,285"}
    for open, folded in (
        (3, []),
        (1, [20, 21]),
        ([20], [19, 21]),
        (0, [19, 20, 21]),
        ((), [19, 20, 21]),
    ):
        shown = cards(texts, open=open)
        html, text = shown._repr_html_(), repr(shown)
        assert re.findall(r"<details><summary>claim (\d+): ", html) == list(map(str, folded))
        assert html.count("<table") == 3 and html.count("</details>") == len(folded)
        assert "<details>" not in html.split("<details>")[0] and "script" not in html
        order = [id for id in texts if id not in folded] + folded
        assert re.findall(r"^claim +(\d+)$", text, re.M) == list(map(str, order))
        assert all(f"here        {t}" in text for t in texts.values())
        assert repr(cards(texts, open=open)) == text
    assert "akin to adapters" in cards(texts, open=0)._repr_html_().split("</summary>")[0]
    with pytest.raises(ValueError, match=r"open names the claims \[7\], but only \[19, 20, 21\]"):
        cards(texts, open=[7])


@pytest.mark.parametrize("measured", ["", "  \n", None, 0.5])
def test_a_card_without_a_measured_text_says_what_to_hand_over(measured):
    with pytest.raises(
        ValueError, match="Claim 19: measured is .*hand over a text, as f'{score:.2f}"
    ):
        card(19, measured)


def test_an_unknown_claim_says_which_there_are():
    with pytest.raises(ValueError, match="no claim 57: claims.yml has the ids 1 to 56"):
        cards({1: "x", 57: "x"})


# The notebooks and the page


def test_the_notebooks_show_the_claims_that_the_ledger_gives_them():
    assert problems(claims.NOTEBOOKS) == []


def test_the_page_is_up_to_date():
    assert claims.PAGE.read_text(encoding="utf-8") == page(), (
        "docs/claims.md is stale: run `python -m utils.claims`"
    )


def test_the_check_of_the_notebooks_can_go_red(tmp_path):
    long = "accuracy 0.98 after full tuning, " * 6 + "verdict none, claim 9"
    good = write_notebook(
        tmp_path / "good",
        "02_ways.ipynb",
        cards({3: "2.1 to 1.8", 4: long}, open=[4]),
    )
    assert shown_in(good) == {3: "2.1 to 1.8", 4: long}
    assert problems(good.parent) == [] and problems(tmp_path / "empty") == []

    bad = write_notebook(tmp_path / "bad", "02_ways.ipynb", cards({3: "…"}), card(21, "9,285"))
    found = problems(bad.parent)
    assert len(found) == 3 and "must show claim 4" in found[0] and "claim 3 shows '…'" in found[1]
    assert "shows claim 21" in found[2]
    none = write_notebook(tmp_path / "none", "02_ways.ipynb", cards({3: "2.1", 4: "loss nan"}))
    (only,) = problems(none.parent)
    assert "loss nan" in only


def test_the_page_holds_what_a_notebook_shows(tmp_path):
    write_notebook(tmp_path / "some", "01_what.ipynb", card(1, "109.5M | open"))
    lines = [line for line in page(tmp_path / "some").splitlines() if re.match(r"\| \d", line)]
    rows = {int(line.split(" | ")[0][2:]): line for line in lines}
    assert list(rows) == list(load())
    assert "[01](../notebooks/01_what.ipynb)" in rows[1] and "109.5M \\| open" in rows[1]
    assert rows[2].endswith("| not shown |") and rows[3].endswith("| lesson not written yet |")
    assert "[arXiv 2405.09673](https://arxiv.org/abs/2405.09673) §4.2" in rows[2]


# Numbers of the ledger that can be computed: computed here, then looked for in the text

MISTRAL = {
    "q": (4096, 4096),
    "k": (4096, 1024),
    "v": (4096, 1024),
    "o": (4096, 4096),
    "gate": (4096, 14336),
    "up": (4096, 14336),
    "down": (14336, 4096),
}


def lora(rank, matrices=MISTRAL, layers=32):
    """Trainable parameters of LoRA beside the named matrices of every layer of Mistral-7B."""
    return layers * sum(rank * sum(MISTRAL[name]) for name in matrices)


def base(vocabulary):
    """(block weights, all parameters) of Mistral-7B: its matrices, two norms a layer, embeddings,
    head, last norm."""
    blocks = 32 * sum(a * b for a, b in MISTRAL.values())
    return blocks, blocks + 32 * 2 * 4096 + 2 * vocabulary * 4096 + 4096


def says(id, *words):
    missing = [word for word in words if word not in load()[id].truth]
    assert not missing, f"claim {id} should say {missing}: {load()[id].truth}"


def test_a_claim_without_a_quotation_says_so():
    for c in load().values():
        assert ('"' in c.quote) != c.quote.startswith("Not a quotation, but what "), c.quote
    without = {id for id, c in load().items() if '"' not in c.quote}
    assert without == {36, 40, 50, 52, 54, 55, 56}


def test_a_notebook_executed_before_cards_had_a_line_here_is_read(tmp_path):
    class Old:
        _repr_html_ = str

        def __repr__(self):
            return (
                'claim     3\nsaid      "predicting\n          the next word"\nmeasured  2.1 to\n'
                "          1.8\nverdict   right. Going on.\nsource    arXiv 2004.10964"
            )

    assert shown_in(write_notebook(tmp_path, "02_ways.ipynb", Old(), card(5, "KL 0.4"))) == {
        3: "2.1 to 1.8",
        5: "KL 0.4",
    }


def test_claim_6_counts_bytes_and_operations():
    mixed = 2 + 2 + (4 + 4 + 4)  # weights and gradients in 16 bits; copy, m and v in 32
    wide = (4 + 2) + (4 + 4) + 4  # weights in 32 and 16 bits, m and v, gradients in 32
    says(6, f"{mixed} to {wide} bytes a parameter")
    forward, to_inputs, to_weights = 2, 2, 2  # multiply and add, for each parameter and token
    full, frozen = forward + to_inputs + to_weights, forward + to_inputs
    says(6, f"about {full} operations", f"a frozen base needs about {frozen}")


def test_claim_11_adds_up_a_hundred_tasks():
    together, apart = 350 + 100 * 35e-3, 100 * 350  # GB: one base and 100 adapters; 100 models
    says(11, "100 adapted models of 35 MB", f"take {together:.0f} GB", f"take {apart / 1000:g} TB")


def test_claims_12_23_and_31_compare():
    assert 0.509 > 0.414 and 0.567 > 0.559
    both = {"MNLI": (87.6, 87.5), "MRPC": (90.2, 89.7), "CoLA": (63.6, 63.4), "QQP": (91.9, 90.8)}
    says(23, f"leads on {sum(full > lora for full, lora in both.values())} of 8 tasks")
    says(31, "QLoRA reached 60.9", "LoRA on 16 bits 60.7", f"the {62.0 - 60.9:.1f} points")


def test_claim_50_both_may_fall_while_the_loss_falls():
    def loss(chosen, rejected, beta=0.1):
        return -math.log(1 / (1 + math.exp(-beta * (chosen - rejected))))

    assert loss(-5.0, -20.0) < loss(0.0, 0.0)


def test_claim_21_counts_gpt_3():
    trained = {
        r: 96 * 2 * r * 2 * 12288 for r in (1, 4, 8)
    }  # 96 layers, q and v, A and B, width 12,288
    times = {
        r: f"{175_255.8e6 / n:,.0f} times" for r, n in trained.items()
    }  # the paper's Table 4 counts 175,255.8M
    says(
        21,
        f"{trained[4] / 1e6:.2f}M",
        f"r=4 on q and v trains 18.87M parameters, {times[4]}",
        f"r=8 gives {times[8]}",
        f"r=1 gives {times[1]}",
    )


def test_claims_43_and_46_count_mistral_7b():
    assert base(32000)[1] == 7_241_732_096 and base(32768)[1] == 7_248_023_552
    assert lora(16) == 41_943_040
    says(
        43,
        f"{lora(16) * 2 / 1e6:.1f} MB in 16 bits",
        f"{lora(16) * 4 / 1e6:.1f} MB in 32",
        f"{lora(8, 'qv') * 2 / 1e6:.1f} MB in 16 bits",
    )
    for vocabulary in (32000, 32768):  # v0.1 and v0.3
        total = base(vocabulary)[1]
        ranks = [
            next(r for r in range(1, 999) if lora(r) >= share * total) for share in (0.01, 0.1)
        ]
        says(
            46,
            f"{lora(16):,} parameters, {100 * lora(16) / total:.2f} %",
            f"r={ranks[0]} and 10 % takes r={ranks[1]}",
        )


def test_claims_22_and_44_divide():
    says(22, "1.2 TB fell to 350 GB", f"{1200 / 350:.2f} times")
    says(
        44,
        f"942 s is {1599 / 942:.2f} times as fast as plain 1,599 s and {1468 / 942:.2f} times "
        f"as fast as 1,468 s",
    )


def test_claim_53_adds_up():
    bits = 4 + 8 / 64 + 32 / (64 * 256)  # NF4 with its scales quantised once more
    loaded = [
        f"{(blocks * bits / 8 + (total - blocks) * 2) / 2**30:.2f} GiB"
        for blocks, total in (base(32000), base(32768))
    ]
    says(53, *loaded, f"{lora(16) * 16 / 2**30 + 0.005:.2f} GiB")


def test_claim_1_counts_bert():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    large = dict(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    )
    with torch.device("meta"):
        for shape in ({}, large):
            model = transformers.BertModel(transformers.BertConfig(**shape))
            says(1, f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M")


def test_claim_15_enumerates_the_methods_of_peft():
    peft = pytest.importorskip("peft")
    says(15, f"PEFT {peft.__version__} lists {len(peft.PeftType.__members__)} members")


def test_claim_48_lists_the_trainers_of_trl():
    trainers = dir(pytest.importorskip("trl.trainer"))
    assert {f"{name}Trainer" for name in ("SFT", "DPO", "GRPO", "RLOO", "KTO", "Reward")} <= set(
        trainers
    )
