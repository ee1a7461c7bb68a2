"""Rows of a safetensors file are what safetensors itself reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ldmkit.artifacts.rows import TensorRows
from ldmkit.errors import CheckpointError


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_rows_in_any_order_are_those_of_the_tensors(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {"mean": torch.randn(7, 3, 2, 5), "std": torch.rand(7, 3, 2, 5), "weight": torch.rand(7)}
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "file", metadata={"about": "something"})
    rows = TensorRows(tmp_path / "file")
    assert len(rows) == 7
    assert rows.shapes == {"mean": (3, 2, 5), "std": (3, 2, 5), "weight": ()}
    for wanted in ([6, 0, 3, 3], [2], []):
        read = rows.read(wanted)
        assert all(torch.equal(read[name], tensor[wanted]) for name, tensor in tensors.items())
        assert all(value.dtype == dtype for value in read.values())


@pytest.mark.parametrize("row", [-1, 7])
def test_a_row_that_is_not_there_is_an_error(row: int, tmp_path: Path) -> None:
    save_file({"mean": torch.zeros(7, 2)}, tmp_path / "file")
    with pytest.raises(IndexError, match="rows 0 to 6"):
        TensorRows(tmp_path / "file").read([0, row])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (2).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"null",
        (17).to_bytes(8, "little") + b'{"mean": "wrong"}',
    ],
)
def test_a_file_that_is_no_safetensors_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot read '.*file'"):
        TensorRows(tmp_path / "file")


def test_tensors_of_different_lengths_have_no_rows(tmp_path: Path) -> None:
    save_file({"mean": torch.zeros(7, 2), "std": torch.zeros(6, 2)}, tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot read"):
        TensorRows(tmp_path / "file")


def test_a_file_that_has_been_cut_or_removed_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    save_file({"mean": torch.zeros(7, 2)}, file)
    rows = TensorRows(file)
    file.write_bytes(file.read_bytes()[:-1])
    assert torch.equal(rows.read([5])["mean"], torch.zeros(1, 2))
    with pytest.raises(CheckpointError, match="ends before row 6"):
        rows.read([6])
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot read"):
        rows.read([0])
