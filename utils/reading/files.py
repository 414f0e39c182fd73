"""What a file is, found by its content: archives, Parquet, text in some encoding, or something that
holds no rows.
"""

import codecs
import difflib
import io
import pathlib
import re
import tarfile
import zipfile
import zlib

from .formats import csv_rows, is_json_text, json_rows
from .report import Rows, UnreadableFile, listed, shorten

# First bytes of files that hold no text; what they are, and what to do. (None: `read` can open it.)
SIGNATURES = (
    (b"PAR1", "Parquet", None),
    (b"ARROW1", "Arrow", None),
    (b"\xff\xff\xff\xff", "Arrow", None),
    (b"\x1f\x8b", "gzip", None),
    (b"BZh", "bzip2", None),
    (b"\xfd7zXZ\x00", "xz", None),
    (b"\x28\xb5\x2f\xfd", "zstd", None),
    (b"PK\x03\x04", "zip", None),
    (b"PK\x05\x06", "an empty zip archive", "Pack the data again."),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls) or Word file", "Save it as CSV UTF-8."),
    (b"%PDF", "a PDF", "Copy its text into a table or into JSON lines."),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first."),
    (b"Rar!", "a RAR archive", "Unpack it first."),
    (b"\x89PNG", "a PNG image", "Rows must be text."),
    (b"\xff\xd8\xff", "a JPEG image", "Rows must be text."),
    (b"\x93NUMPY", "a NumPy array", "Save the rows as JSON lines."),
    (b"GGUF", "a GGUF model", "Give the file of your rows."),
    (b"Obj\x01", "an Avro file", "Convert it to Parquet or JSON lines."),
    (b"ORC", "an ORC file", "Convert it to Parquet or JSON lines."),
    (b"\x89HDF", "an HDF5 file", "Save the rows as JSON lines."),
    (
        b"\x80\x02",
        "a pickle",
        "Pickles can run code, so they are not opened; save the rows as JSON lines.",
    ),
    (
        b"\x80\x03",
        "a pickle",
        "Pickles can run code, so they are not opened; save the rows as JSON lines.",
    ),
    (
        b"\x80\x04",
        "a pickle",
        "Pickles can run code, so they are not opened; save the rows as JSON lines.",
    ),
    (
        b"\x80\x05",
        "a pickle",
        "Pickles can run code, so they are not opened; save the rows as JSON lines.",
    ),
)
DATA_NAMES = re.compile(
    r"\.(jsonl?|ndjson|csv|tsv|txt|parquet|arrow|gz|bz2|xz|zst)$", re.IGNORECASE
)


def read(path, *, encoding=None, key=None, member=None, delimiter=None):
    """The rows of a file as `Rows`: dicts as a rule, lists where the file has lists, `Unreadable`
    for a piece that is no row.

    The container is found by content: JSON lines, one JSON list, a list under a key, an object
    keyed by number or by column, Python's notation of these, CSV with any delimiter and code page,
    Parquet, Arrow, and each of them inside gzip, bzip2, xz, zstd, zip or tar. The keywords decide
    where a file leaves a choice. UnreadableFile says what else it is and what to do.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise UnreadableFile(f"{path.name} is a folder. Name one file in it: {inside(path)}.")
    if not path.exists():
        near = difflib.get_close_matches(
            path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        )
        hint = f" Is it {near[0]}?" if near else ""
        raise FileNotFoundError(
            f"There is no file {path.name} in {path.parent}. Upload it there, or mend the "
            f"name.{hint}"
        )
    asked = {"encoding": encoding, "key": key, "member": member, "delimiter": delimiter}
    rows = _open(path.read_bytes(), path.name, asked)
    rows.name = path.name
    if not rows:
        raise UnreadableFile(f"{path.name} holds no rows.")
    return rows


def inside(folder):
    """Some names of data files in a folder."""
    return listed(sorted(p.name for p in folder.iterdir() if p.is_file())) or "it holds none"


def _open(data, name, asked, depth=0):
    """Rows of the bytes of a file, or of a file packed in another."""
    if not data.strip():
        raise UnreadableFile(f"{name} holds no rows: it is empty.")
    for start, kind, remedy in SIGNATURES:
        if data.startswith(start):
            break
    else:
        kind = "tar" if data[257:262] == b"ustar" else "text"
        remedy = None
    if remedy:
        raise UnreadableFile(f"{name} is {kind}. {remedy}")
    if depth > 3:
        raise UnreadableFile(f"{name} is an archive in an archive in an archive. Unpack it first.")
    if kind in ("gzip", "bzip2", "xz", "zstd"):
        rows = _open(_unpacked(data, kind, name), name, asked, depth + 1)
        rows.container = f"{kind}, {rows.container}"
        return rows
    if kind in ("zip", "tar"):
        found, inner = _member(data, kind, name, asked["member"])
        rows = _open(inner, f"{name}/{found}", asked, depth + 1)
        rows.container = f"{kind}, in it {shorten(found, 40)}, {rows.container}"
        return rows
    if kind in ("Parquet", "Arrow"):
        return Rows(_arrow(data, kind, name), name, kind)
    return _text(data, name, asked)


def _unpacked(data, kind, name):
    import bz2
    import gzip
    import lzma

    try:
        if kind == "zstd":
            import pyarrow

            return pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd").read()
        return {"gzip": gzip, "bzip2": bz2, "xz": lzma}[kind].decompress(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise UnreadableFile(
            f"{name} is a damaged {kind} file ({error}). Download or pack it again."
        ) from error


OFFICE = {
    "xl/": ("an Excel workbook (.xlsx)", "In Excel: Save as, CSV UTF-8."),
    "word/": ("a Word document (.docx)", "Copy its rows into a table and save that as CSV UTF-8."),
    "ppt/": ("a PowerPoint file (.pptx)", "Rows must be a table or JSON lines."),
    "content.xml": ("an OpenDocument file", "In LibreOffice: Save as, Text CSV, in UTF-8."),
    "data.pkl": ("a PyTorch file", "Give the file of your rows, not of a model."),
}


def _member(data, kind, name, wanted):
    """(name, bytes) of the one data file in a zip or tar archive, or of the one asked for."""
    try:
        if kind == "zip":
            archive = zipfile.ZipFile(io.BytesIO(data))
            names = [i.filename for i in archive.infolist() if not i.is_dir()]
            get = archive.read
        else:
            archive = tarfile.open(fileobj=io.BytesIO(data))  # noqa: SIM115 (of bytes in memory)
            names = [m.name for m in archive.getmembers() if m.isfile()]

            def get(name):
                return archive.extractfile(name).read()

        for part, (what, remedy) in OFFICE.items():
            if kind == "zip" and any(n.startswith(part) or n.endswith("/" + part) for n in names):
                raise UnreadableFile(f"{name} is {what}. {remedy}")
        hidden = [n for n in names if "__MACOSX" in n or n.rsplit("/", 1)[-1].startswith(".")]
        names = [n for n in names if n not in hidden]
        data_files = [n for n in names if DATA_NAMES.search(n)] or names
        if wanted is not None:
            if wanted not in names:
                raise UnreadableFile(f"{name} holds no {wanted!r}, but {listed(names)}.")
            data_files = [wanted]
        if len(data_files) != 1:
            raise UnreadableFile(
                f"{name} is a {kind} archive with {len(data_files)} files: {listed(data_files)}. "
                "Say which: "
                f'read(..., member="{data_files[0]}").'
                if data_files
                else f"{name} is a {kind} archive without a file in it."
            )
        return data_files[0], get(data_files[0])
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UnreadableFile(
            f"{name} is a damaged {kind} archive ({error}). Download or pack it again."
        ) from error
    except UnreadableFile:
        raise
    except (RuntimeError, ValueError, KeyError) as error:  # a password, a damaged directory
        raise UnreadableFile(f"{name}: {error}. Unpack it first.") from error


def _arrow(data, kind, name):
    import pyarrow
    import pyarrow.parquet

    try:
        source = pyarrow.BufferReader(data)
        if kind == "Parquet":
            return pyarrow.parquet.read_table(source).to_pylist()
        opened = pyarrow.ipc.open_file if data.startswith(b"ARROW1") else pyarrow.ipc.open_stream
        return opened(source).read_all().to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise UnreadableFile(
            f"{name} is a damaged {kind} file ({shorten(first, 100)}). Download or save it again."
        ) from error


MARKS = (  # byte-order marks, the longer first
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte-order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
# Where small files allow several, old DOS, Mac and ISO pages are seldom right: 110 of 123 with this
# list, 94 without.
PAGES = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874"),
    *("shift_jis", "cp932", "euc-jp", "gb18030", "big5", "cp949", "euc-kr"),
    *("koi8-r", "cp866", "cp850", "mac-roman", "iso8859-2"),
)


def decoded(data, name, encoding=None):
    """(text, encoding said in words or "", note or ""). Bytes that are not UTF-8 in a file of UTF-8
    come as U+DC80 to U+DCFF.
    """
    if encoding:
        try:
            return data.decode(encoding), encoding, ""
        except (UnicodeError, LookupError) as error:
            raise UnreadableFile(f"{name} cannot be read as {encoding}: {error}.") from error
    for mark, codec, words in MARKS:
        if data.startswith(mark):
            if codec == "utf-8-sig":
                return data.decode(codec, "surrogateescape"), words, ""
            try:
                return data.decode(codec), words, ""
            except UnicodeError as error:
                raise UnreadableFile(f"{name} is cut off or damaged {words}: {error}.") from error
    sample = data[:4096]
    if sample.count(0) > len(sample) / 5:
        for codec in ("utf-16-le", "utf-16-be"):  # no mark: a NUL in every second byte
            places = sample[1::2] if codec.endswith("le") else sample[::2]
            if places.count(0) > 0.8 * len(places) and len(data) % 2 == 0:
                return data.decode(codec, "replace"), "UTF-16 without a byte-order mark", ""
    if len(re.findall(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", sample)) > len(sample) / 20:
        raise UnreadableFile(f"{name} is a binary file of an unknown kind, not text.")
    try:
        return data.decode("utf-8"), "", ""
    except UnicodeDecodeError:
        pass
    good = bad = 0
    for line in re.split(rb"[\r\n]+", data):
        if not line.isascii():
            try:
                line.decode("utf-8")
                good += 1
            except UnicodeDecodeError:
                bad += 1
    if good >= bad:
        return data.decode("utf-8", "surrogateescape"), "", ""
    codec = guessed(data)
    try:
        text = data.decode(codec)
    except (UnicodeError, LookupError):
        codec, text = "cp1252", data.decode("cp1252", "replace")
    words = re.findall(r"[^\W\d_]*[^\x00-\x7f]+[^\W\d_]*", text)
    shown = max(words[:50], key=lambda word: sum(not c.isascii() for c in word), default="")
    note = (
        f"not UTF-8, read as {codec} (a guess from its bytes). If {shorten(shown, 30)!r} is not "
        "what it should be, "
        f'name the encoding: read(..., encoding="cp1250").'
    )
    return text, codec, note


def guessed(data):
    """The name of the encoding that chardet thinks most likely for bytes that are not UTF-8."""
    import chardet

    if len(data) > 200_000:  # what chardet looks at; the first non-ASCII letter may come later
        data = b"".join(line for line in data.splitlines(True) if not line.isascii())[:200_000]
    try:
        found = chardet.detect(data, include_encodings=PAGES)["encoding"]
    except TypeError:  # chardet before 7
        found = chardet.detect(data)["encoding"]
    larger = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "shift_jis": "cp932"}
    found = codecs.lookup(found or "cp1252").name
    found = larger.get(found, found)
    if found not in ("cp1252", "cp1250", "cp1254", "cp1257", "iso8859-2", "cp850", "mac-roman"):
        return found
    # of a few letters chardet may make nonsense; where a common page makes plain words of them, it
    # is that
    return min((found, "cp1252", "mac-roman", "cp850"), key=lambda page: _odd(data, page))


def _odd(data, page):
    """How many non-ASCII characters look out of place when bytes are read by a code page: signs in
    words, capitals in them.
    """
    try:
        text = data.decode(page)
    except UnicodeError:
        return len(data)
    odd = re.findall(r"[\x80-\x9f\u2500-\u259f]", text)  # controls, and lines to draw boxes
    odd += re.findall(r"(?<=[^\W\d_])[^\w\s\x00-\x7f’‘“”«»…–—]", text)  # a sign behind a letter
    capitals = re.findall(r"(?<=[a-z])[^\x00-\x7f]", text)
    return len(odd) + sum(character.isupper() for character in capitals)


def _text(data, name, asked):
    text, encoding, note = decoded(data, name, asked["encoding"])
    text = text.removeprefix("\ufeff")
    head = text[:2000].lstrip()
    if head.startswith("version https://git-lfs"):
        size = re.search(r"size (\d+)", head)
        of = f" of {int(size[1]):,} bytes" if size else ""
        raise UnreadableFile(
            f"{name} is a Git-LFS pointer, not the data: the true file{of} was not fetched. Run "
            "`git lfs pull`, or "
            "download the file itself."
        )
    if re.match(
        r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b",
        head,
        re.IGNORECASE | re.DOTALL,
    ):
        raise UnreadableFile(
            f"{name} is an HTML page, not data: the link led to a page about the file. On GitHub "
            "take the raw file, on the "
            "Hub a link with /resolve/ instead of /blob/."
        )
    if re.match(r"---\s*\n|- ?\w+:", head):
        raise UnreadableFile(f"{name} is YAML. Save the rows as JSON lines.")
    if re.match(r"<\?xml|<[a-z][\w-]*[\s>/]", head, re.IGNORECASE):
        raise UnreadableFile(f"{name} is XML. Convert its entries to JSON lines.")
    if head[:1] in ("[", "{") or (head[:1] == '"' and is_json_text(text)):
        rows = json_rows(text, name, asked)
    else:
        rows = csv_rows(text, name, asked)
    if encoding:
        rows.container += f", {encoding}"
    if note:
        rows.notes.insert(0, note)
    return rows
