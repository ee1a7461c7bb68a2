"""Checks of parts that have weights."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from ldmkit.artifacts.checkpoint import read_tensors, write_tensors
from ldmkit.testing.outputs import differing, normal, randomise, relative_difference
from ldmkit.testing.suite import Suite

FITTED = "fitted"
"""Where the fitted files lie beside the saved weights."""

NEAR = 0.1
"""How far results in bf16, which has 8 bits, may be from those in float32, in root mean squares of these."""


class ModuleSuite(Suite):
    """What holds for every part that is a module."""

    def fitted(self, part: Any, directory: Path) -> Any:
        """Do what the kernel does between building ``part`` and training it, with files in ``directory``; nothing."""
        return part

    def restored(self, part: Any, directory: Path) -> Any:
        """Let ``part`` read back what was fitted; nothing by default."""
        return part

    def modules(self, part: Any) -> dict[str, nn.Module]:
        """Whose weights are saved, by the name of the file."""
        return {"weights": part}

    def ready(self) -> Any:
        """The part with every trainable weight drawn anew: zeros that it may begin with would hide mistakes."""
        with TemporaryDirectory() as directory:
            return self.as_trained(Path(directory))

    def as_trained(self, directory: Path) -> Any:
        """The part as :meth:`ready` gives it, fitted into ``directory``."""
        folder = directory / FITTED
        folder.mkdir()
        part = self.fitted(self.part(), folder).eval()
        for module in self.modules(part).values():
            randomise(module)
        return part

    def leave(self, directory: Path) -> dict[str, Any]:
        """Save the weights and what was fitted."""
        part = self.as_trained(directory)
        for name, module in self.modules(part).items():
            write_tensors(directory / f"{name}.safetensors", module.state_dict())
        return {**self.made_anew(), **self.found(part)}

    def take_up(self, directory: Path) -> dict[str, Any]:
        """What another instance gives with the saved weights and what was fitted."""
        part = self.restored(self.part(), directory / FITTED).eval()
        for name, module in self.modules(part).items():
            module.load_state_dict(read_tensors(directory / f"{name}.safetensors"))
        return {**self.made_anew(), **self.found(part)}

    def made_anew(self) -> dict[str, Any]:
        """What the seed and the data determine: the first weights, and the files that are fitted."""
        part = self.part()
        with TemporaryDirectory() as name:
            self.fitted(part, Path(name))
            files = {f"fitted {path.name}": path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}
        return files | {f"first {name}": weight for name, weight in self.part().state_dict().items()}

    def learned_from(self, part: Any) -> dict[str, Tensor]:
        """What gradients come from."""
        raise NotImplementedError

    def test_its_first_weights_are_a_function_of_the_seed(self) -> None:
        one, two = self.part().state_dict(), self.part().state_dict()
        different = [name for name in one if not torch.equal(one[name], two[name])]
        assert not different, f"expected the same weights for the same seed, got others for {', '.join(different)}"

    def test_gradients_reach_every_weight_that_is_trained(self) -> None:
        part = self.ready()
        outputs = {name: value for name, value in self.learned_from(part).items() if value.requires_grad}
        trained = {name: weight for name, weight in part.named_parameters() if weight.requires_grad}
        if trained:
            assert outputs, f"expected outputs with a gradient, since {', '.join(trained)} require one, got none"
            torch.stack(
                [(value * normal(name, *value.shape)).sum() for name, value in outputs.items()]
            ).sum().backward()
        without = [name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()]
        assert not without, f"expected a gradient for every weight or requires_grad=False, got none: {without}"
        strange = [name for name, weight in trained.items() if not weight.grad.isfinite().all()]
        assert not strange, f"expected finite gradients, got others for {', '.join(strange)}"

    def test_weights_that_are_not_trained_stay_as_they_are(self) -> None:
        part = self.ready().train()
        frozen = {name: weight for name, weight in part.named_parameters() if not weight.requires_grad}
        if not frozen:
            raise SkipTest("all its weights are trained")
        before = {name: weight.clone() for name, weight in frozen.items()}
        self.learned_from(part)
        different = [name for name, weight in frozen.items() if not torch.equal(weight, before[name])]
        assert not different, f"expected weights with requires_grad=False to stay, got others for {different}"

    def test_calling_it_changes_nothing_that_is_saved(self) -> None:
        part = self.ready()
        before = copy.deepcopy(part.state_dict())
        self.found(part)
        different = differing(before, part.state_dict())
        assert not different, f"expected weights and buffers to stay in eval mode, got another {', '.join(different)}"
        training = [name or "the part" for name, module in part.named_modules() if module.training]
        assert not training, f"expected it to stay in eval mode, got training mode in {', '.join(training)}"

    def test_its_saved_weights_make_another_instance_give_the_same(self) -> None:
        with TemporaryDirectory() as name:
            expected = self.leave(Path(name))
            self.expect_same(expected, self.take_up(Path(name)), "an instance with the saved weights")

    def test_it_stays_finite_and_near_in_bf16(self) -> None:
        part = self.ready()
        expected = self.found(part)
        with torch.autocast("cpu", torch.bfloat16):
            got = self.found(part)
        numbers = {name: value for name, value in got.items() if value.is_floating_point()}
        strange = [name for name, value in numbers.items() if not value.isfinite().all()]
        assert not strange, f"expected finite values under autocast to bf16, got others in {', '.join(strange)}"
        for name, value in numbers.items():
            apart = relative_difference(value, expected[name])
            assert apart < NEAR, f"expected {name} under autocast to bf16 as in float32, got {apart:.0%} of it apart"
