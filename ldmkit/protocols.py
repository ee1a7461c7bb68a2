"""The protocols: what a part of each kind is. Each is abstract; no concrete class of ours is ever subclassed.

A part is built as ``Part(config, **runtime)``. ``config`` is an instance of the class's nested frozen dataclass
``Config``, which the kernel has checked key by key; the runtime arguments are named in each protocol's docstring and
carry what only the other parts know, mostly sizes. Legend of shapes: see ``ldmkit.values``.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ldmkit.artifacts.random import RowRandom
from ldmkit.specs import CondSpec, DataSpec, FieldSpec, LatentSpec, OptimizerSpec, Reach, Spacing
from ldmkit.values import Batch, Conditioning, Fields, Levels, Posterior, Reconstruction

log = logging.getLogger("ldmkit")


class FirstStage(nn.Module, ABC):
    """Maps pixels to a latent grid and back. Built with ``channels``, the number of image channels.

    ``reach`` is for one that computes nothing over all positions, as attention and group norm do: large images then
    pass in tiles with the same result. None says that everything may depend on everything.
    """

    spec: LatentSpec
    reach: Reach | None = None

    @abstractmethod
    def encode(self, images: Tensor) -> Posterior:
        """Pixels in [-1, 1], (B, C, H, W) with H and W multiples of ``spec.factor`` => posterior (B, c, h, w)."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) => pixels, nominally in [-1, 1], (B, C, H, W)."""

    def reconstruct(self, images: Tensor, random: RowRandom) -> Reconstruction:
        """What training judges: encode, draw latents from the posterior by the rows' own streams, decode."""
        posterior = self.encode(images)
        return Reconstruction(self.decode(posterior.sample(random)), posterior)

    def code_counts(self, latents: Tensor) -> Tensor | None:
        """How often each of n codes stands for a position of ``latents`` (B, c, h, w), in q codebooks: int64 (q, n).

        None where the decoder takes latents as they are.
        """
        return None

    @property
    def last_layer(self) -> Tensor | None:
        """Weight of the decoder's last layer, at which a loss may compare gradients; None where there is none."""
        return None


class Adversary(nn.Module, ABC):
    """What a loss trains against the first stage, in turn with it, by an ``optimizer`` of its own."""

    optimizer: OptimizerSpec

    @abstractmethod
    def forward(self, images: Tensor, reconstructions: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]] | None:
        """Return the scalar to minimise and its named parts, for the log; None at a ``step`` when it does not play.

        Both are pixels (B, C, H, W); ``step`` counts from 0. The first stage learns nothing from this.
        """


class FirstStageLoss(nn.Module, ABC):
    """What trains a first stage. Built with ``image_numel`` (C * H * W), ``latent_numel`` (c * h * w), ``channels``.

    Its weights are trained, averaged and saved with the first stage's. One that plays an adversary against the first
    stage hands it to ``super().__init__``. The adversary is then no submodule: it is trained and saved on its own.
    """

    def __init__(self, adversary: Adversary | None = None) -> None:
        super().__init__()
        self._apart = (adversary,)  # a module in a tuple is no submodule

    @property
    def adversary(self) -> Adversary | None:
        """What plays against the first stage, or None."""
        return self._apart[0]

    @abstractmethod
    def forward(
        self, images: Tensor, reconstruction: Reconstruction, step: int, last_layer: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar to minimise and its named parts, for the log. ``images`` are pixels (B, C, H, W).

        ``step`` counts from 0; ``last_layer`` is :attr:`FirstStage.last_layer`.
        """

    def constants(self) -> Mapping[str, float]:
        """Numbers worth a line in the log before training, such as a weight in another reduction."""
        return {}


class Conditioner(nn.Module, ABC):
    """Turns fields of the batch into conditioning. Built with ``data``, the :class:`DataSpec` of the source.

    ``needs`` maps each field that it reads to the kind that the field must have; ``spec`` states the widths it
    yields; ``dropout`` is the rate at which the kernel puts its null conditioning in place of a row while training.

    ``sampling_only`` are keys of its ``Config`` that training does not read: runs that differ in them alone share what
    they train, and ``ldmkit sample --set`` takes other values.

    ``observed`` are those fields of ``needs`` that the data does not offer: :meth:`observe` makes them out of the
    pictures, and who samples gives them. One that works in latents (``in_latents``) is built with ``latents`` too, the
    model's :class:`~ldmkit.diffusion.latent_space.LatentSpace`.
    """

    needs: Mapping[str, str]
    spec: CondSpec
    dropout: float
    observed: Mapping[str, FieldSpec] = MappingProxyType({})
    in_latents: ClassVar[bool] = False
    sampling_only: ClassVar[frozenset[str]] = frozenset()
    _said: frozenset[str] = frozenset()

    def fit(self, fields: Fields, directory: Path) -> None:
        """Learn once from all training ``fields`` what training needs (a tokenizer), into files in ``directory``."""

    def restore(self, directory: Path) -> None:
        """Read back what :meth:`fit` wrote. Called before any :meth:`forward`, also right after a fit."""

    def warn_of_loss(self, what: str, message: str) -> None:
        """Log ``message``, that ``what``, such as the end of a caption, is not read: nothing is lost silently.

        In training, where batches come again, only the first time; otherwise once for every ``what``.
        """
        if what not in self._said and not (self.training and self._said):
            self._said |= {what}
            log.warning(message)

    @abstractmethod
    def forward(self, fields: Fields, latent_size: tuple[int, int]) -> Conditioning:
        """Fields of B rows => conditioning for a latent grid of (h, w)."""

    @abstractmethod
    def null(self, batch: int, latent_size: tuple[int, int]) -> Conditioning:
        """Conditioning that says nothing, with the same forms and number of tokens as :meth:`forward` gives."""

    def observe(self, images: Tensor, random: RowRandom) -> Fields:
        """Make the ``observed`` fields out of pictures, uint8 (B, C, H, W), by the rows' own streams.

        In training mode there may be more, such as noise and its level; :meth:`forward` meets them beside the others.
        """
        return {}

    def paste(self, images: Tensor, fields: Fields) -> Tensor:
        """Put back into decoded pixels in [-1, 1] (B, C, H, W) those that ``fields`` give exactly."""
        return images


Perturbation = Literal["middle", "all"]
"""Where in a network self-attention becomes the identity."""


class Denoiser(nn.Module, ABC):
    """The network. Built with ``latent`` (:class:`LatentSpec`) and ``cond`` (:class:`CondSpec`).

    ``accepts`` names the forms of conditioning it can take; the kernel refuses others before anything is built.
    ``multiple`` is what h and w of the latents must be multiples of; the kernel refuses others before it trains.
    ``perturbable`` says that it has self-attention and :meth:`perturb`, which perturbed-attention guidance needs.
    """

    accepts: ClassVar[frozenset[str]]
    multiple: int = 1
    perturbable: ClassVar[bool] = False

    def prepare(self, conditioning: Conditioning) -> Any:
        """Compute once what does not change over the steps of a sampling run, such as K and V of the tokens."""
        return conditioning

    def perturb(self, prepared: Any, where: Perturbation) -> Any:
        """Change what :meth:`prepare` gave, so that self-attention is the identity: each position hears itself alone.

        ``where`` is the middle of the network, which is its lowest resolution or the half of its depth, or all of it.
        Ahn et al. 2024, "Self-rectifying diffusion sampling with perturbed-attention guidance".
        """
        raise NotImplementedError(f"{type(self).__name__} has no perturbed self-attention")

    @abstractmethod
    def forward(self, z: Tensor, t: Tensor, conditioning: Any) -> Tensor:
        """Noisy latents (B, c, h, w) at times t (B,) => raw output (B, ``latent.outputs``, h, w).

        ``conditioning`` is a :class:`Conditioning` or what :meth:`prepare` made of one.
        """


class Objective(nn.Module, ABC):
    """The noise levels, what the network predicts, and how its error is weighted.

    ``predictions`` is how many numbers it wants from the network for each number of a latent: raw outputs have
    ``predictions`` * c channels. ``learned_variance`` says that one of them is :meth:`denoiser_to_variance`.
    """

    predictions: int = 1
    learned_variance: bool = False

    @abstractmethod
    def levels(self, steps: int, spacing: Spacing = "trailing") -> Levels:
        """Exactly ``steps`` levels from the most noise down, and the clean level (alpha 1, sigma 0) behind them.

        So the result has length ``steps`` + 1. Given the levels of training, ``ldmkit.diffusion.spacing.spaced``
        places them; ``"compvis"`` alone gives the number and the end of the original code. Raises ValueError when
        ``steps`` is below 1.
        """

    @abstractmethod
    def training_levels(self, random: RowRandom) -> Levels:
        """One random level for each row, as training meets them: (B,)."""

    @abstractmethod
    def denoiser_to_x0(self, raw: Tensor, z_t: Tensor, level: Levels) -> Tensor:
        """Turn the network's raw output at ``z_t`` into the estimate of z0; ``level`` is 0-d or (B,)."""

    def denoiser_to_variance(self, raw: Tensor, z_t: Tensor) -> Tensor:
        """Turn the network's raw output at ``z_t`` into the variance of an ancestral step: (B, c, h, w).

        As a share of the way, in its logarithm, from that of q(z_s | z_t, z0), 0, to that of q(z_t | z_s), 1.
        """
        raise NotImplementedError(f"{type(self).__name__} learns no variance")

    @abstractmethod
    def loss(
        self, denoiser: Callable[[Tensor, Tensor, Any], Tensor], z0: Tensor, conditioning: Any, random: RowRandom
    ) -> Tensor:
        """Loss of each row: (B,)."""

    def add_noise(self, z0: Tensor, noise: Tensor, level: Levels) -> Tensor:
        """z_t = alpha z0 + sigma eps."""
        level = level.beside(z0)
        return level.alpha * z0 + level.sigma * noise


Denoise = Callable[[Tensor, Levels], Tensor]
"""The one parametrisation between network and sampler: ``denoise(z, level) -> x0``, ``level`` being 0-d."""


@runtime_checkable
class DenoiseWithVariance(Protocol):
    """A :data:`Denoise` that also knows the variance of a step; what a sampler with ``learned_variance`` is handed."""

    def __call__(self, z: Tensor, level: Levels) -> Tensor:
        """As any :data:`Denoise`."""
        ...

    def variance(self, z: Tensor, level: Levels) -> Tensor:
        """As :meth:`Objective.denoiser_to_variance`, told all that there is to tell; takes an evaluation of its own."""
        ...


class ConditionalDenoise(Protocol):
    """A denoiser whose output is already an x0-estimate, as guidance sees it, for the rows that are being drawn.

    ``conditioners`` are the names of the model's conditioners, as in ``cond=[text,semantic]``.
    """

    @property
    def conditioners(self) -> Sequence[str]: ...

    def told(self, conditioners: Collection[str]) -> Conditioning:
        """Conditioning by these conditioners alone; each other one is null, or says what is not wanted."""
        ...

    def prepare(self, conditioning: Conditioning) -> Any:
        """As :meth:`Denoiser.prepare`."""
        ...

    def __call__(self, z: Tensor, level: Levels, prepared: Any) -> Tensor:
        """Noisy latents at one ``level`` (0-d) => x0-estimate."""
        ...

    def perturbed(self, where: Perturbation) -> ConditionalDenoise:
        """The same with :meth:`Denoiser.perturb`, for a guidance that ``perturbs``."""
        ...

    def weaker(self) -> ConditionalDenoise:
        """The model of the run :attr:`Guidance.weaker`, with conditioners of its own, told of the same rows."""
        ...


class Guidance(ABC):
    """Turns several estimates into one: those of a conditioning and of the null, or others that the kernel provides.

    What it needs is said by attributes, and checked before anything is trained: ``conditioners``, those of the run by
    their names where it sets them apart, else None; ``nulls``, those whose null conditioning it asks for, None for all
    of them; ``perturbs``, whether it asks for perturbed estimates; ``weaker``, the run or checkpoint of a second model,
    or None.
    """

    conditioners: Collection[str] | None = None
    nulls: Collection[str] | None = None
    perturbs: bool = False
    weaker: str | None = None

    @abstractmethod
    def guide(self, denoise: ConditionalDenoise, conditioning: Conditioning, null: Conditioning) -> Denoise:
        """Return the guided ``denoise(z, level) -> x0``.

        ``conditioning`` is ``denoise.told`` of all conditioners, ``null`` that of none.
        """


OnStep = Callable[[int, Levels, Tensor, Tensor], None]
"""Told at each step of a sampler: its number from 0, its level, z there, and the estimate of x0."""


def unwatched(step: int, level: Levels, z: Tensor, x0: Tensor) -> None:
    """An :data:`OnStep` that does nothing."""


class Sampler(ABC):
    """Walks down the noise levels. Knows no network and no objective class.

    ``steps`` is the number of levels to ask the objective for when the caller names none, ``spacing`` how they are
    placed. ``order`` is the order with which the walk approaches the exact solution of the probability-flow ODE as
    steps get smaller; None where it does not, as with fresh noise: then it approaches the distribution of the data.
    ``learned_variance`` says that it asks for a :class:`DenoiseWithVariance`; the kernel refuses an objective that
    learns none.
    """

    steps: int
    spacing: Spacing = "trailing"
    order: int | None = None
    learned_variance: bool = False

    def evaluations(self, steps: int) -> int | None:
        """Evaluations of the denoiser in ``steps`` steps that end at sigma = 0; None where the data decide."""
        return steps

    @abstractmethod
    def sample(
        self, denoise: Denoise, z: Tensor, levels: Levels, random: RowRandom, on_step: OnStep = unwatched
    ) -> Tensor:
        """z at ``levels[0]`` => z at ``levels[-1]``, which is z0 where that is clean: (B, c, h, w).

        The walk may begin and end at any level: ``levels[3:]`` goes on from there. ``denoise`` is called at the levels
        given and, by methods of several evaluations a step, between them (:meth:`Levels.at`). ``random`` has one
        stream for each row, for samplers that add noise on the way. ``levels`` are on the CPU whatever z is on.
        """


class DataSource(ABC):
    """Images with their fields. Splits are ``"train"`` and ``"validation"``; the second is never trained on.

    ``skipped`` names what had to be left out, with the reason; ``notices`` is what else a user should know, line by
    line. Both are empty where there is nothing to say, and a run keeps them in its directory.
    """

    spec: DataSpec
    skipped: Sequence[tuple[str, str]] = ()
    notices: Sequence[str] = ()

    @abstractmethod
    def digest(self) -> str:
        """Hexadecimal digest of all that determines the images and fields: equal digests mean equal data."""

    @abstractmethod
    def length(self, split: str) -> int:
        """Number of examples in ``split``."""

    @abstractmethod
    def read(self, split: str, indices: Sequence[int]) -> Batch:
        """Examples ``indices`` of ``split``; the same index always gives the same example."""

    def fields(self, split: str, indices: Sequence[int]) -> Fields:
        """Fields of examples ``indices`` of ``split``, without decoding images where that can be helped."""
        return self.read(split, indices).fields

    def names(self, split: str, indices: Sequence[int]) -> list[str]:
        """What to call examples ``indices`` of ``split``, such as the path of a file; each has a name of its own."""
        return [f"{split}-{index:05d}" for index in indices]

    def prompts(self, count: int) -> Fields:
        """Fields of ``count`` held-out examples to sample with; by default the first of the validation split."""
        length = self.length("validation")
        return self.read("validation", [index % length for index in range(count)]).fields

    def verify(self, images: Tensor, fields: Fields) -> Mapping[str, Tensor] | None:
        """Read back out of pixels, uint8 (B, C, H, W), whether each picture obeys ``fields``.

        Returns by aspect bool (B,), or a score (B,) in [0, 1], and under ``"all"`` bool (B,): whether everything is
        right. None when the source cannot tell.
        """
        return None


Better = Literal["higher", "lower"]
"""Which end of a number is the good one."""


class Metric(ABC):
    """Measures. Built with ``data``, the run's :class:`DataSource`.

    ``on`` says what it is fed: ``"reconstructions"`` of held-out images, ``"samples"``, or what was ``"drawn"``, which
    is samples before :meth:`Conditioner.paste`.
    ``section`` names its place in ``metrics.json``. ``better`` says which end of a number is the good one, by its name,
    in which ``*`` stands for anything; the best of a sweep is marked by it. A number that it does not name has none.
    """

    on: ClassVar[str]
    section: ClassVar[str]
    better: ClassVar[Mapping[str, Better]] = {}

    @abstractmethod
    def update(self, images: Tensor, references: Tensor | None, fields: Fields) -> None:
        """Take in uint8 pictures (B, C, H, W), with the originals of reconstructions.

        Samples have originals too where a conditioner observes them (:attr:`Conditioner.observed`), others None.
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the measurement over all that was taken in; counts among it."""

    def protocol(self) -> Mapping[str, Any]:
        """What the numbers depend on beside the pictures, such as a reference set or a network; as JSON has it.

        Asked for after :meth:`compute`, and kept beside the numbers, so that nobody compares what cannot be compared.
        """
        return {}

    def to(self, device: torch.device) -> None:  # noqa: B027 - most have nothing to move
        """Compute on ``device`` from now on. Pictures still come on the CPU."""
