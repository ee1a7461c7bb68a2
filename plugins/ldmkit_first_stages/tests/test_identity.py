"""Pixel space: what goes in comes out."""

import torch
from ldmkit_first_stages.identity import Identity


def test_the_latent_is_the_image() -> None:
    model = Identity(Identity.Config(name="identity"), channels=3)
    images = torch.rand(2, 3, 7, 5) * 2 - 1
    posterior = model.encode(images)
    assert (model.spec.channels, model.spec.factor) == (3, 1)
    assert torch.equal(posterior.mode(), images)
    assert torch.equal(posterior.std, torch.zeros_like(images))
    assert torch.equal(model.decode(images), images)


def test_there_is_nothing_to_train() -> None:
    assert list(Identity(Identity.Config(name="identity"), channels=1).parameters()) == []
