"""From names to parts: a checked config becomes an untrained model, a checkpoint becomes a trained one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldmkit.artifacts.checkpoint import read_json, read_tensors, verify
from ldmkit.artifacts.random import generator
from ldmkit.diffusion.conditioners import Conditioners
from ldmkit.diffusion.latent_space import LatentSpace
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.diffusion.statistics import LatentStatistics
from ldmkit.errors import CheckpointError, ConfigError, LdmkitError
from ldmkit.protocols import Conditioner, DataSource, Denoiser, FirstStage, FirstStageLoss, Guidance, Objective, Sampler
from ldmkit.records import RUNS, find_run, missing_run
from ldmkit.registry.composing import check
from ldmkit.registry.culprit import name_builder
from ldmkit.registry.discovery import registry
from ldmkit.registry.origin import check_origins, read_origins
from ldmkit.registry.sampling_keys import with_settings
from ldmkit.registry.schema import typed
from ldmkit.specs import DataSpec, FieldSpec

log = logging.getLogger("ldmkit")

CONFIG, SPEC, STATISTICS, PARTS = "config.json", "data.json", "statistics.json", "parts.json"
"""Files of a checkpoint beside the weights."""

MODEL_KINDS = ("model", "cond", "denoiser", "objective", "guidance", "sampler")
"""What a model is made of; a checkpoint is loaded although data, loggers or metrics of its run are not there."""

FIRST_STAGE = "first_stage"
WEIGHTS = (FIRST_STAGE, "conditioners", "denoiser", "objective")
"""Modules of the model whose weights a checkpoint holds, each in its own safetensors file."""


def build_part(kind: str, node: Mapping[str, Any], where: str = "", **runtime: Any) -> Any:
    """Build the part that ``node`` names: check the node against its ``Config``, then ``Part(config, **runtime)``.

    An error that is no LdmkitError gets a note with the part, its package and ``where`` its config is.
    """
    cls = registry().part(kind, node["name"])
    config = typed(cls.Config, node, where or kind)
    try:
        return cls(config, **runtime)
    except Exception as error:
        if not isinstance(error, LdmkitError):
            name_builder(error, kind, node["name"], where or kind)
        raise


def build_data(config: Mapping[str, Any]) -> DataSource:
    """Build the data source of ``config``."""
    source: DataSource = build_part("data", config["data"])
    return source


def build(config: Mapping[str, Any], data: DataSpec | None = None) -> LatentDiffusion:
    """Build the untrained model of a composed ``config``; ``data`` defaults to what the config's data source says.

    Initial weights are a function of ``config["seed"]`` and of each part alone. Raises ConfigError for parts that do
    not go together, before any of them is large.
    """
    model = _untrained(config, data or build_data(config).spec)
    _warn_of_untrained_nulls(config, model)
    if model.guidance.weaker is not None:
        model.weaker = _weaker(model, model.guidance.weaker, Path(config["outputs"]) / "runs")
    return model


def _untrained(config: Mapping[str, Any], data: DataSpec) -> LatentDiffusion:
    seed = config["seed"]
    latents = LatentSpace(build_first_stage(config, data))
    conditioners = {}
    for name, node in config["cond"].items():
        in_latents = {"latents": latents} if registry().part("cond", node["name"]).in_latents else {}
        with seeded(seed, "cond", name):
            conditioners[name] = build_part("cond", node, f"cond.{name}", data=data, **in_latents)
        _check_needs(name, conditioners[name], data)
    with seeded(seed, "conditioners"):
        joined = Conditioners(conditioners)
    _check_accepted(config, joined)
    objective, guidance, sampler = build_sampling(config)
    latent = replace(latents.spec, predictions=objective.predictions)
    with seeded(seed, "denoiser"):
        denoiser = build_part("denoiser", config["denoiser"], latent=latent, cond=joined.spec)
    _check_grid(config, data, latents.spec.factor, denoiser)
    return LatentDiffusion(
        data=data,
        latents=latents,
        conditioners=joined,
        denoiser=denoiser,
        objective=objective,
        guidance=guidance,
        sampler=sampler,
    )


def build_sampling(config: Mapping[str, Any]) -> tuple[Objective, Guidance, Sampler]:
    """Build what a composed ``config`` samples with beside the networks.

    Raises ConfigError where these, or their names, do not go together; no data are needed to know it.
    """
    guidance: Guidance = build_part("guidance", config["guidance"])
    _check_guidance(config, guidance)
    objective: Objective = build_part("objective", config["objective"])
    sampler: Sampler = build_part("sampler", config["sampler"])
    objective.levels(sampler.steps, sampler.spacing)  # refuses what cannot be had
    if sampler.learned_variance and not objective.learned_variance:
        raise ConfigError(
            f"sampler '{config['sampler']['name']}' asks for a learned variance, but objective "
            f"'{config['objective']['name']}' learns none; train with objective.variance=learned, or give the sampler "
            "another variance"
        )
    return objective, guidance, sampler


def build_first_stage(config: Mapping[str, Any], data: DataSpec) -> FirstStage:
    """Build the untrained first stage of a composed ``config``, for images as in ``data``."""
    with seeded(config["seed"], FIRST_STAGE):
        first_stage: FirstStage = build_part("model", config["model"], channels=data.channels)
    check_size(data.size, first_stage, config["model"]["name"])
    return first_stage


def build_loss(config: Mapping[str, Any], first_stage: FirstStage, data: DataSpec) -> FirstStageLoss:
    """Build the loss that trains ``first_stage`` on images as in ``data``."""
    with seeded(config["seed"], "loss"):
        loss: FirstStageLoss = build_part(
            "loss",
            config["loss"],
            image_numel=data.channels * data.size**2,
            latent_numel=first_stage.spec.channels * (data.size // first_stage.spec.factor) ** 2,
            channels=data.channels,
        )
    return loss


def load(
    run: str | Path, device: str | torch.device = "cpu", settings: Mapping[str, Any] | None = None
) -> LatentDiffusion:
    """Load the trained model of a run (its directory, or its id under ``outputs/runs``) or of a checkpoint directory.

    ``settings`` are other values of keys that only sampling reads, such as ``{"guidance.scale": 4}``. Every file is
    verified first, and none of them can execute code. Raises CheckpointError that says what is missing, ConfigError for
    a setting that cannot be.
    """
    path = _whole_checkpoint(run)
    config, data = _read_config(path, MODEL_KINDS)
    model = build(with_settings(config, settings or {}), data)
    _read_model(model, path)
    return model.to(device).eval()


def _weaker(model: LatentDiffusion, run: str, runs: Path) -> LatentDiffusion:
    """The trained model of ``run``, to guide ``model``; an id is looked up in ``runs``."""
    path = _whole_checkpoint(run, runs)
    weaker = _untrained(*_read_config(path, MODEL_KINDS))
    own, other = model.first_stage.spec, weaker.first_stage.spec
    if own != other:
        raise ConfigError(f"the weaker model '{run}' has latents of {other}, but this run of {own}")
    if more := weaker.conditioners.needs.items() - model.conditioners.needs.items():
        extra = ", ".join(f"{field} ({kind})" for field, kind in sorted(more))
        raise ConfigError(f"the weaker model '{run}' is conditioned on {extra}, which this run's cond does not read")
    _read_model(weaker, path)
    return weaker.eval().requires_grad_(False)


def _whole_checkpoint(run: str | Path, runs: Path = RUNS) -> Path:
    """The verified checkpoint of ``run``, which is more than a first stage."""
    path = find_checkpoint(run, runs)
    verify(path)
    if not (path / "denoiser.safetensors").is_file():
        raise CheckpointError(f"'{path}' holds a first stage alone; type ldmkit run task=reconstruct task.run={run}")
    return path


def _read_model(model: LatentDiffusion, path: Path) -> None:
    """Read weights, statistics and what conditioners fitted from a checkpoint into ``model``."""
    for name in WEIGHTS:
        _read_weights(getattr(model, name), path / f"{name}.safetensors")
    restore_conditioners(model.conditioners, path / "conditioners")
    if (path / STATISTICS).is_file():
        model.statistics = LatentStatistics.from_json(read_json(path / STATISTICS))


def load_first_stage(
    run: str | Path, device: str | torch.device = "cpu", runs: Path = RUNS
) -> tuple[FirstStage, dict[str, Any], DataSpec]:
    """Load the first stage alone of what :func:`load` takes, or of a run of task=first-stage; frozen, in eval mode.

    An id is looked up in the directory ``runs``. Returns it with the config and the data that it was trained with.
    Raises CheckpointError as :func:`load` does.
    """
    path = find_checkpoint(run, runs)
    verify(path)
    config, data = _read_config(path, ["model"])
    first_stage = build_first_stage(config, data)
    _read_weights(first_stage, path / f"{FIRST_STAGE}.safetensors")
    return first_stage.to(device).eval().requires_grad_(False), config, data


def _read_config(path: Path, kinds: Collection[str]) -> tuple[dict[str, Any], DataSpec]:
    """The config of a checkpoint, its parts of ``kinds`` checked, and the data that it was trained with."""
    config: dict[str, Any] = read_json(path / CONFIG)
    if (path / PARTS).is_file():  # older checkpoints have none
        check_origins(read_origins(read_json(path / PARTS), f"'{path}'"), kinds, f"'{path}'")
    check(config, kinds)
    return config, spec_from_json(read_json(path / SPEC))


def _read_weights(part: nn.Module, path: Path) -> None:
    try:
        part.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise CheckpointError(f"'{path}' does not fit the installed parts: {error}") from error


def find_checkpoint(run: str | Path, runs: Path = RUNS) -> Path:
    """Return the checkpoint directory that ``run`` means: itself, its ``model/``, or that of an id in ``runs``.

    The beginning of an id will do; see :func:`ldmkit.records.find_run`.
    """
    given = Path(run)
    found = find_run(run, runs)
    for place in (given, given / "model", *([found / "model"] if found is not None else [])):
        if (place / CONFIG).is_file() and (place / SPEC).is_file():
            return place
    if found is None:
        raise missing_run(run, runs)
    raise CheckpointError(
        f"run '{found.name}' has left no model; if it was interrupted, ldmkit run resume={found.name} goes on with it"
    )


def restore_conditioners(conditioners: Conditioners, directory: Path) -> None:
    """Let each conditioner read back what it fitted, from ``directory/<name>``."""
    for name, part in conditioners.items():
        if (directory / name).is_dir():
            part.restore(directory / name)


@contextmanager
def seeded(seed: int, *purpose: str) -> Iterator[None]:
    """Within, torch's own generator is a function of ``seed`` and ``purpose``; afterwards it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "init", *purpose).integers(2**63)))
        yield


def spec_as_json(spec: DataSpec) -> dict[str, Any]:
    """What :func:`spec_from_json` reads back."""
    fields = {name: {"kind": field.kind, "names": list(field.names)} for name, field in spec.fields.items()}
    return {"size": spec.size, "channels": spec.channels, "fields": fields}


def spec_from_json(value: Mapping[str, Any]) -> DataSpec:
    """Read a DataSpec back; CheckpointError where ``value`` is none."""
    try:
        fields = {name: FieldSpec(kind=f["kind"], names=tuple(f["names"])) for name, f in value["fields"].items()}
        return DataSpec(size=int(value["size"]), channels=int(value["channels"]), fields=fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's {SPEC} does not describe data: {error!r}") from error


def parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())


def _check_needs(name: str, conditioner: Conditioner, data: DataSpec) -> None:
    offered = ", ".join(f"{field} ({spec.kind})" for field, spec in data.fields.items()) or "no fields"
    for field, kind in conditioner.needs.items():
        if field in conditioner.observed:
            continue
        if field not in data.fields or data.fields[field].kind != kind:
            raise ConfigError(f"cond '{name}' needs the field '{field}' ({kind}), but the data offers: {offered}")


def check_size(size: int, first_stage: FirstStage, name: str) -> None:
    """Raise ConfigError where images of ``size`` pixels do not divide by the factor of ``first_stage``."""
    factor = first_stage.spec.factor
    if size % factor:
        raise ConfigError(
            f"images of {size} pixels do not divide by the factor {factor} of model '{name}'; {_nearest(size, factor)}"
        )


def _nearest(size: int, multiple: int) -> str:
    """Say which sizes of images near ``size`` are multiples of ``multiple``."""
    lower = size // multiple * multiple
    sizes = [str(near) for near in (lower, lower + multiple) if near]
    return f"nearest that do: data.size={' or data.size='.join(sizes)}"


def _check_guidance(config: Mapping[str, Any], guidance: Guidance) -> None:
    name, denoiser, cond = config["guidance"]["name"], config["denoiser"]["name"], list(config["cond"])
    if guidance.perturbs and not registry().part("denoiser", denoiser).perturbable:
        raise ConfigError(f"guidance '{name}' perturbs self-attention, which denoiser '{denoiser}' cannot")
    if guidance.conditioners is not None and set(guidance.conditioners) != set(cond):
        raise ConfigError(
            f"guidance '{name}' has scales for {', '.join(guidance.conditioners) or 'no conditioner'}, but the run's "
            f"cond is [{','.join(cond)}]; give one scale for all of them, or one for each"
        )


def _warn_of_untrained_nulls(config: Mapping[str, Any], model: LatentDiffusion) -> None:
    nulls = model.guidance.nulls
    untrained = [
        name for name, part in model.conditioners.items() if part.dropout == 0 and (nulls is None or name in nulls)
    ]
    if untrained:
        keys = [f"cond.{name}.dropout" for name in untrained]
        log.warning(
            f"guidance '{config['guidance']['name']}' compares with the null conditioning of {', '.join(untrained)}, "
            f"which is not trained while {' and '.join(keys)} is 0; type {' '.join(f'{key}=0.1' for key in keys)}, or "
            "guidance=none"
        )


def _check_accepted(config: Mapping[str, Any], conditioners: Conditioners) -> None:
    accepts = registry().part("denoiser", config["denoiser"]["name"]).accepts
    if refused := conditioners.spec.forms - accepts:
        raise ConfigError(
            f"denoiser '{config['denoiser']['name']}' takes {', '.join(sorted(accepts)) or 'no conditioning'}, "
            f"but cond=[{','.join(config['cond'])}] yields {', '.join(sorted(refused))}"
        )


def _check_grid(config: Mapping[str, Any], data: DataSpec, factor: int, denoiser: Denoiser) -> None:
    """Raise ConfigError where ``denoiser`` cannot take what a first stage of ``factor`` makes of images of ``data``."""
    grid, multiple = data.size // factor, denoiser.multiple
    if grid % multiple:
        raise ConfigError(
            f"latents of {grid}x{grid}, which model '{config['model']['name']}' makes of images of {data.size} pixels,"
            f" do not divide by the {multiple} of denoiser '{config['denoiser']['name']}';"
            f" {_nearest(data.size, factor * multiple)}"
        )
