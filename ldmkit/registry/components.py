"""What a plugin announces. Pure data: nothing here imports a part, or torch."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    "model": "first stage: maps pixels to the latent grid and back",
    "loss": "what trains a first stage",
    "cond": "conditioner: turns fields of the data into tokens, a vector or a map",
    "denoiser": "the network that removes noise in the latent grid",
    "objective": "noise levels, what the network predicts, how its error is weighted",
    "guidance": "turns the conditional and the unconditional estimate into one",
    "sampler": "walks from noise to a latent",
    "data": "source of images and their fields",
    "metric": "measures reconstructions or samples",
    "logger": "listens to a run",
    "task": "what a run does, as a chain of stages",
}
"""Every kind of part, which is also its config group, with what it is."""

MULTIPLE = frozenset({"cond", "metric", "logger"})
"""Kinds of which a run takes any number. Their node in a config maps each option to its part's config."""


@dataclass(frozen=True)
class Component:
    """One part: its ``kind`` (a key of :data:`KINDS`), registered ``name``, ``target`` and a one-line ``summary``.

    ``target`` is ``"package.module:Class"``; it stays a string until the part is built, so that listing parts
    imports none of them.
    """

    kind: str
    name: str
    target: str
    summary: str
