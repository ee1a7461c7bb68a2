"""The store: made once, found again, never believed unverified."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ldmkit.artifacts.store import Store, digest_of, inputs_of

INPUTS = {"model": {"width": 16}, "seed": 0}


def test_a_result_is_made_once_and_then_found(tmp_path: Path) -> None:
    store, made = Store(tmp_path), []

    def make(directory: Path) -> None:
        made.append(directory)
        (directory / "weights").write_text("w")

    first = store.obtain("first-stage", INPUTS, make)
    again = store.obtain("first-stage", dict(reversed(INPUTS.items())), make)
    assert len(made) == 1
    assert (first.reused, again.reused) == (False, True)
    assert first.path == again.path
    assert first.digest == again.digest
    assert inputs_of(first.path) == INPUTS


def test_other_inputs_make_another_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = store.obtain("first-stage", INPUTS, lambda directory: None)
    two = store.obtain("first-stage", {**INPUTS, "seed": 1}, lambda directory: None)
    three = store.obtain("denoiser", INPUTS, lambda directory: None)
    assert len({one.path, two.path, three.path}) == 3
    assert one.digest != two.digest


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = store.obtain("latents", INPUTS, lambda directory: (directory / "file").write_text("whole") and None)
    (made.path / "file").write_text("torn")
    assert store.find("latents", INPUTS) is None
    assert not store.obtain("latents", INPUTS, lambda directory: None).reused


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.obtain("latents", INPUTS, lambda directory: None).path
    place.rename(tmp_path / "latents" / f".tmp-{place.name}-1-beef")
    other = tmp_path / "latents" / ".tmp-of-another-result"
    other.mkdir()
    store.obtain("latents", INPUTS, lambda directory: None)
    assert list((tmp_path / "latents").glob(".tmp-*")) == [other]


def test_a_failed_make_leaves_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(directory: Path) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.obtain("latents", INPUTS, fail)
    assert store.find("latents", INPUTS) is None
    assert not store.obtain("latents", INPUTS, lambda directory: None).reused


def test_two_that_want_the_same_result_wait_for_one_making(tmp_path: Path) -> None:
    store, made, waited, started = Store(tmp_path), [], [], threading.Event()

    def make(directory: Path) -> None:
        started.set()
        time.sleep(0.3)
        made.append(directory)

    one = threading.Thread(target=store.obtain, args=("denoiser", INPUTS, make))
    one.start()
    started.wait()
    artifact = store.obtain("denoiser", INPUTS, make, waiting=waited.append)
    one.join()
    assert len(made) == 1
    assert artifact.reused
    assert waited == ["another run is making the same denoiser; waiting for it"]


def test_the_digest_knows_values_not_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2}) != digest_of({"a": "2"})
