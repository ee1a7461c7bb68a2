"""Tables as files: what a spreadsheet would execute stays text, and numbers stay numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from ldmkit_tasks.tables import write_csv, write_parquet

ROWS = [{"name": '=cmd|"/c calc"!A0', "guidance.scale": "-1.5", "psnr": -3.25}, {"name": "a, b", "fid": 7.0}]


def test_csv_gives_back_what_was_written_but_for_formulas(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", ROWS)
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"name": '\'=cmd|"/c calc"!A0', "guidance.scale": "-1.5", "psnr": "-3.25", "fid": ""},
            {"name": "a, b", "guidance.scale": "", "psnr": "", "fid": "7.0"},
        ]


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1"])
def test_every_beginning_of_a_formula_is_guarded_in_heads_too(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "table.csv", [{text: text}])
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [[f"'{text}"], [f"'{text}"]]


def test_parquet_has_the_same_rows_with_numbers_as_doubles(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_parquet(tmp_path / "table.parquet", ROWS) == tmp_path / "table.parquet"
    assert parquet.read_table(tmp_path / "table.parquet").to_pylist() == [
        {**ROWS[0], "fid": None},
        {"name": "a, b", "guidance.scale": None, "psnr": None, "fid": 7.0},
    ]


def test_without_pyarrow_there_is_no_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert write_parquet(tmp_path / "table.parquet", ROWS) is None
    assert list(tmp_path.iterdir()) == []
