"""Tables as files: CSV that no spreadsheet takes for formulas, and Parquet where pyarrow is there."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ldmkit.artifacts.whole import write_whole

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a text must not begin with, or a spreadsheet executes it (OWASP, "CSV Injection")."""


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``rows`` as CSV with a line of their keys above; what a row lacks is empty.

    A text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay as they are.
    """
    keys = _keys(rows)
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow([_inert(key) for key in keys])
    table.writerows([[_inert(row.get(key, "")) for key in keys] for row in rows])
    write_whole(path, text.getvalue())


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path | None:
    """Write ``rows`` as Parquet, numbers as doubles, and return ``path``; None where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        return None
    import pyarrow
    from pyarrow import parquet

    columns = {key: [_plain(row.get(key)) for row in rows] for key in _keys(rows)}
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink)
    return write_whole(path, sink.getvalue())


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _inert(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else value
