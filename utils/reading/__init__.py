"""Read somebody's data file: container, schema and rows are found by content, and a report counts
every row.

    read(path)         -> Rows: what the file holds, row by row, and in which container
    recognise(rows)    -> Schema: what the rows are taken for, once per file
    to_messages(row)   -> {"messages": [...]}, or {"prompt", "chosen", "rejected"} of a pair
    check(path)        -> Report: kept + rejected = read; `kept` trains, the rest can be saved

The folder needs nothing else of the course and may be copied along. It uses chardet for encodings,
clevercsv for delimiters, ftfy for text that was read in the wrong encoding and pyarrow for Parquet;
each is imported only where it is needed. No text is ever changed: leading spaces and line ends
reach the trainer as they are.
"""

from .checking import check
from .files import read
from .messages import parts, question_and_answer, to_messages
from .report import (
    Fault,
    NoRowKept,
    Reason,
    Report,
    Rows,
    Schema,
    UnknownSchema,
    Unreadable,
    UnreadableFile,
    count,
)
from .schemas import recognise
from .texts import mangled, near, special_tokens

__all__ = [
    "Fault",
    "NoRowKept",
    "Reason",
    "Report",
    "Rows",
    "Schema",
    "UnknownSchema",
    "Unreadable",
    "UnreadableFile",
    "check",
    "count",
    "mangled",
    "near",
    "parts",
    "question_and_answer",
    "read",
    "recognise",
    "special_tokens",
    "to_messages",
]
