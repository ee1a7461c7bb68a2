"""Cached posteriors: what is written batch by batch is found again by index, over all files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ldmkit.artifacts.checkpoint import read_tensors, write_json
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.models import STATISTICS
from ldmkit.stages import latents
from ldmkit.values import Posterior

CPU = torch.device("cpu")


def cached(posteriors: list[Posterior], directory: Path, monkeypatch: pytest.MonkeyPatch) -> latents.Latents:
    monkeypatch.setattr(latents, "BATCH", 4)
    monkeypatch.setattr(latents, "SHARD", 8)
    statistics = LatentStatistics.measure(latents._write(posteriors, directory), "digest")
    write_json(directory / STATISTICS, statistics.as_json())
    return latents.Latents(directory)


def test_posteriors_are_found_by_index_over_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Posterior(torch.randn(size, 3, 2, 2), torch.rand(size, 3, 2, 2)) for size in (4, 4, 4, 4, 3)]
    found = cached(made, tmp_path, monkeypatch)
    assert len(list(tmp_path.glob("posteriors-*"))) == 3
    assert len(found) == 19
    assert found.statistics.count == 19
    indices = [18, 0, 7, 8, 0]
    posterior = found.posterior(indices, CPU)
    assert torch.equal(posterior.mean, torch.cat([p.mean for p in made])[indices])
    assert torch.equal(posterior.std, torch.cat([p.std for p in made])[indices])


def test_a_spread_of_zero_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Posterior(torch.randn(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)) for _ in range(3)]
    found = cached(made, tmp_path, monkeypatch)
    assert all(set(read_tensors(path)) == {"mean"} for path in tmp_path.glob("posteriors-*"))
    assert torch.equal(found.posterior([9], CPU).mean, made[2].mean[1:2])
    assert not found.posterior([9, 0], CPU).std.any()
