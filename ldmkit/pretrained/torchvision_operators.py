"""Lets torchvision be imported beside a torch for which its compiled operators were not built.

The wheel of torchvision on package indexes is built for CUDA. Beside a CPU build of torch its compiled part cannot be
loaded. torchvision passes over that, but then states how ``torchvision::nms`` acts on tensors without data, and its
import ends in ``RuntimeError: operator torchvision::nms does not exist``. So ends the import of lpips, torch-fidelity
and much of diffusers and transformers, none of which ever calls the operator. That it has a schema is enough for them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""The operators for which torchvision states rules whether they are there or not."""

_declared: list[torch.library.Library] = []  # a schema lives as long as its library


def declare_torchvision_operators() -> None:
    """Declare the operators of an installed torchvision whose own cannot be loaded; call it before the import.

    Does nothing where there is no torchvision, where its compiled part loads, and when called again.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    for compiled in Path(found.origin).parent.glob("_C.*"):
        with contextlib.suppress(OSError):  # built for another torch
            torch.ops.load_library(compiled)
    missing = [schema for name, schema in SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library.define(schema)
        _declared.append(library)


_declare_once = cache(declare_torchvision_operators)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Within, what imports torchvision can be imported, beside any torch and without its warnings.

    lpips, torch-fidelity and networks of transformers do, and so does torchmetrics where torch-fidelity is installed.
    """
    _declare_once()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about image codecs, which nobody asks for
        yield
