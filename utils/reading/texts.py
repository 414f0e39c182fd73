"""What no text that trains should hold, and texts that say the same."""

import collections
import re
import unicodedata

from .report import Reason, shorten

# Further code pages in which UTF-8 is read by mistake: other Windows and DOS pages, Macs, East
# Asia.
PAGES = (
    "sloppy-windows-1251",
    "koi8-r",
    "sloppy-windows-1250",
    "iso8859-2",
    "cp437",
    "cp850",
    "cp866",
    "mac-roman",
    "sloppy-windows-1253",
    "sloppy-windows-1254",
    "cp874",
    "gbk",
    "cp932",
    "big5",
    "cp949",
)
TEMPLATE = re.compile(r"<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|<(start|end)_of_turn>")


def _undone(text, pages=("latin-1", "sloppy-windows-1252")):
    """The text with its bytes in one of the code pages read as UTF-8 instead, or None where that is
    not possible.
    """
    for page in pages:
        try:
            back = text.encode(page).decode("utf-8")
        except UnicodeError:
            continue
        if back != text:
            return back
    return None


def mangled(text):
    """What of a text shows that its bytes were once read in the wrong encoding: (the bad piece,
    what it was, or ""), or None.

    The rule: ftfy finds the text unlikely, and either its bytes are valid UTF-8 or ftfy finds two
    such places. Each alone gives false alarms on correct Portuguese and French. UTF-8 read by
    another code page and Cyrillic or Greek read as Western European have rules of their own, which
    need several letters.
    """
    if found := re.search("[\ufffd\ufeff\x00-\x08\x0b\x0e-\x1f\x7f]|\u951f\u65a4\u62f7", text):
        return found[0], ""
    if text.isascii():
        return None
    import ftfy
    import ftfy.bad_codecs
    from ftfy import badness

    bad = badness.is_bad(text)
    if bad and (_undone(text) is not None or badness.badness(text) >= 2 or _amid_word(text)):
        return _worst(text, ftfy.fix_encoding)
    foreign = sum(not c.isascii() for c in text)
    if foreign >= (2 if bad else 8) and (back := _undone(text, PAGES)) and _one_script(back):
        return _worst(text, lambda word: _undone(word, PAGES) or word, back)
    # three letters À to ÿ in a row, again and again, and hardly another letter: a one-byte alphabet
    runs = re.findall("[À-ÖØ-öø-ÿ]{3,}", text)
    if len(runs) >= 2 and 2 * sum(map(len, runs)) > sum(c.isalpha() for c in text):
        return runs[0], ""
    return None


def _one_script(text):
    """Do the foreign letters of a text belong to one alphabet? What a wrong guess makes of correct
    text is a mixture.
    """
    signs = re.compile(
        "[\x00-\xbf\u2000-\u20cf\u2122\u3000-\u303f\uff00-\uffef\U0001f000-\U0001ffff]"
    )
    letters = {c for c in text if not signs.match(c)}
    names = {unicodedata.name(c, str(ord(c))).split()[0] for c in letters}
    japanese = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}
    return len(names) <= 1 or names <= japanese


def _amid_word(text):
    """A small letter and behind it, as in cafÃ©, characters that are one letter's UTF-8 bytes: no
    correct word has that.
    """
    for found in re.finditer("(?<=[a-zß-ÿ])(?:[ÂÃÄÅÎÏÐÑ][^\x00-\x7f]|â[^\x00-\x7f]{2})", text):
        if _undone(found[0]) is not None:
            return True
    return False


def _worst(text, mend, whole=""):
    """(the first word that `mend` changes, what it becomes), shortened."""
    for word in text.split():
        if not word.isascii() and (right := mend(word)) != word:
            return word[:30], right[:30] if right.isprintable() and "\ufffd" not in right else ""
    piece = re.search(r"[^\x00-\x7f]+", text)[0][:30]
    return piece, whole[:30]


def forbidden(text, where, special=(), marks=()):
    """Why a text cannot train, as a `Reason`, or "". `special` are the tokenizer's own tokens,
    `marks` a template's headings.
    """
    if found := next((m for m in marks if m in text), None):
        return Reason(f"{where} contains {found!r}, a marker of the template")
    if found := next((t for t in special if t in text), None):
        return Reason(f"{where} contains {found!r}, a special token of the tokenizer")
    if re.search("[\ud800-\udfff]", text):
        return Reason(
            f"{where} contains half of a character (a lone surrogate), which no tokenizer can read"
        )
    if found := mangled(text):
        piece = ascii(found[0]) if not found[1] else shorten(repr(found[0]), 40)
        was = (
            f", {shorten(found[1], 40)!r} read in the wrong encoding"
            if found[1]
            else ", which text in the right encoding does not hold"
        )
        return Reason(f"{where} contains {piece}{was}", f"{where}: wrong encoding")
    return ""


def special_tokens(tokenizer):
    """The texts that the tokenizer reads as one special token each, such as "</s>"."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return sorted({str(t) for t in added if t.special} | set(tokenizer.all_special_tokens))


def squeezed(text):
    """The text without regard to capitals, accents' notation, white space and punctuation; "" if it
    is nothing else.
    """
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words) or text.strip()


def near(texts, least=0.85):
    """{index: an earlier index} of texts that are equal but for capitals, spaces and punctuation,
    or share most of their words.

    Long texts are compared by their runs of three words (Jaccard's index of at least `least`);
    candidates come from MinHash.
    """
    first, found, long = {}, {}, []
    for index, text in enumerate(texts):
        key = squeezed(text)
        if key in first:
            found[index] = first[key]
            continue
        first[key] = index
        words = key.split()
        if len(words) >= 20:
            long.append((index, {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}))
    if len(long) < 2:
        return found
    import zlib

    import numpy

    rng = numpy.random.default_rng(0)
    prime = (1 << 31) - 1
    scale, shift = rng.integers(1, prime, (2, 48), dtype=numpy.uint64)
    bands, shingles = collections.defaultdict(list), dict(long)
    for index, pieces in long:
        hashes = numpy.array(
            [zlib.crc32(p.encode("utf-8", "replace")) for p in pieces], dtype=numpy.uint64
        )
        least_hash = ((hashes[:, None] % prime * scale + shift) % prime).min(0)
        candidates = set()
        for start in range(0, 48, 4):
            bucket = bands[start, least_hash[start : start + 4].tobytes()]
            candidates.update(bucket[:20])
            bucket.append(index)
        for other in sorted(candidates):
            union = len(pieces | shingles[other])
            if len(pieces & shingles[other]) >= least * union:
                found[index] = other
                break
    return found
