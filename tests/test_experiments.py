"""Recipes: each composes, every part accepts its keys, and the paper's build the published networks."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import ldmkit
from ldmkit import models
from ldmkit.cli import main
from ldmkit.diffusion.model import LatentDiffusion
from ldmkit.errors import ConfigError
from ldmkit.models import build_first_stage, parameters
from ldmkit.registry.composing import Composer
from ldmkit.registry.discovery import kernel_conf
from ldmkit.specs import DataSpec, FieldSpec
from ldmkit.values import Conditioning

EXPERIMENTS = kernel_conf() / "experiment"
FILES = {path.relative_to(EXPERIMENTS).with_suffix("").as_posix(): path for path in sorted(EXPERIMENTS.rglob("*.yaml"))}
PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
UNETS = PLUGINS / "ldmkit_denoisers" / "tests" / "manifests"
CONDITIONERS = PLUGINS / "ldmkit_conditioners" / "tests" / "manifests"
FIRST_STAGES = PLUGINS / "ldmkit_first_stages" / "tests" / "manifests"

# First stage; image size; channels of the latent; abar of the last training step, of the released schedule.
PAPER = {
    "bsr_sr": ("vq-f4", 256, 3, 0.000669),
    "celeba256_ffhq256_lsun_beds256": ("vq-f4", 256, 3, 0.000142),
    "cin256-v2-vq-f4": ("vq-f4", 256, 3, 0.000142),
    "cin256-vq-f8": ("vq-f8", 256, 4, 0.000142),
    "inpainting_big": ("vq-f4-noattn", 256, 3, 0.000097),
    "layout2img-openimages256": ("vq-f4", 256, 3, 0.000097),
    "lsun_churches256": ("kl-f8", 256, 4, 0.000669),
    "rdm768": ("kl-f16", 768, 16, 0.000813),
    "sd-v1": ("kl-f8", 512, 4, 0.004660),
    "semantic_synthesis256_512": ("vq-f4", 256, 3, 0.000097),
    "text2img256-vq-f4": ("vq-f4", 256, 3, 0.000142),
    "txt2img-1p4B-kl-f8": ("kl-f8", 256, 4, 0.004660),
}
# Published networks that read text or boxes; the heads over their vocabularies, which nothing uses, are not ours.
READERS = {
    "layout2img-openimages256": "layout512x16vocab8192seq92",
    "text2img256-vq-f4": "BERTEmbedder640x32",
    "txt2img-1p4B-kl-f8": "BERTEmbedder1280x32",
}
FIELDS = {
    "boxes": FieldSpec("boxes", tuple(f"class {index}" for index in range(601))),
    "caption": FieldSpec("text"),
    "class": FieldSpec("label", tuple(f"class {index}" for index in range(1000))),
    "semantic": FieldSpec("map", tuple(f"class {index}" for index in range(182))),
}


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


def build(config: dict[str, Any], clip: Path) -> LatentDiffusion:
    """The model of a recipe, its networks on no device; ``clip`` is what it has in place of CLIP ViT-L/14."""
    for name in config["cond"].keys() & {"hf-text"}:
        config["cond"][name]["path"] = str(clip)
    build_part = models.build_part

    def on_no_device(kind: str, *args: Any, **runtime: Any) -> Any:
        with torch.device("meta" if kind in {"model", "cond", "denoiser"} else "cpu"):
            return build_part(kind, *args, **runtime)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build_part", on_no_device)
        return models.build(config, DataSpec(size=config["data"]["size"], channels=3, fields=FIELDS))


def shapes(network: nn.Module) -> Counter[str]:
    return Counter("x".join(map(str, value.shape)) for value in network.state_dict().values())


def manifest(path: Path, without: str = "\n") -> Counter[str]:
    rows = (line.split("\t") for line in path.read_text().splitlines() if without not in line)
    return Counter(shape for _, shape in rows)


# Every recipe


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_composes_to_a_config_that_every_part_accepts(name: str, composer: Composer) -> None:
    ldmkit.check(composer.compose([f"+experiment={name}"]))


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_changes_only_keys_that_there_are(name: str, composer: Composer) -> None:
    def unknown(node: Any, there: Any, where: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        assert isinstance(there, dict), where
        lost = [f"{where}.{key}" for key in node if key not in there]
        return lost + [
            text for key in node.keys() & there.keys() for text in unknown(node[key], there[key], f"{where}.{key}")
        ]

    body = yaml.safe_load(FILES[name].read_text())
    body.pop("hydra", None)
    for key in set(re.findall(r"\$\{[^}]*?scale\.(\w+)", FILES[name].read_text())) & body.get("scale", {}).keys():
        del body["scale"][key]  # what the recipe itself reads
    choices = [entry for entry in body.pop("defaults", []) if entry != "_self_"]
    lines = [f"{group.removeprefix('override /')}={value}" for entry in choices for group, value in entry.items()]
    assert unknown(body, composer.compose([line.replace(" ", "").replace("'", "") for line in lines]), "") == []


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_says_in_its_first_line_what_it_is(name: str) -> None:
    package, first, *_ = FILES[name].read_text().splitlines()
    assert package == "# @package _global_"
    assert first.startswith("# ")
    assert "_target_" not in FILES[name].read_text()


def test_ls_lists_every_recipe_and_show_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "experiment"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]} == set(FILES)
    assert main(["show", "experiment", "paper/sd-v1"]) == 0
    assert capsys.readouterr().out.startswith("experiment=paper/sd-v1: Stable Diffusion 1")


def test_a_recipe_that_there_is_not_costs_one_line_with_the_nearest(composer: Composer) -> None:
    with pytest.raises(ConfigError, match="experiment has no option 'paper/sd-v2'; did you mean 'paper/sd-v1'"):
        composer.compose(["+experiment=paper/sd-v2"])


def test_the_command_line_wins_over_a_recipe(composer: Composer) -> None:
    recipe = "+experiment=paper/cin256-v2-vq-f4"
    config = composer.compose([recipe, "model=kl-f8", "denoiser.channels=64", "latents.scale=null", "cond=[]"])
    assert config["model"]["name"] == "kl"
    assert (config["denoiser"]["channels"], config["denoiser"]["multipliers"]) == (64, [1, 2, 3, 5])
    assert (config["latents"]["scale"], config["cond"]) == (None, {})
    ldmkit.check(composer.compose([recipe, "data=shapes", "sampler=dpmpp-2m", "objective=v"]))
    ldmkit.check(composer.compose([recipe, "guidance=none", "~guidance.scale"]))


def test_what_a_recipe_says_of_a_conditioner_that_was_taken_out_can_be_taken_out_too(composer: Composer) -> None:
    taken = ["+experiment=paper/semantic_synthesis256_512", "cond=[class]"]
    with pytest.raises(ConfigError, match=r"cond\.semantic names no part; leave its keys out with ~cond\.semantic"):
        ldmkit.check(composer.compose(taken))
    ldmkit.check(composer.compose([*taken, "~cond.semantic"]))


# The paper's


def test_every_published_unet_is_a_recipe() -> None:
    names = {path.stem.removeprefix("unet-") for path in UNETS.glob("*.tsv")}
    assert {name.removeprefix("paper/") for name in FILES if name.startswith("paper/")} == names == set(PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_the_first_stage_the_schedule_and_the_size_are_the_published_ones(name: str, composer: Composer) -> None:
    option, size, channels, abar = PAPER[name]
    config = composer.compose([f"+experiment=paper/{name}", "cond=[]"])
    assert config["data"]["size"] == size
    with torch.device("meta"):
        first_stage = build_first_stage(config, DataSpec(size=size, channels=3))
    assert first_stage.spec.channels == channels
    assert shapes(first_stage) == manifest(FIRST_STAGES / f"first_stage-{option}.tsv")
    objective = models.build_part("objective", config["objective"])
    noisiest = objective.levels(1000)[0]
    assert float(noisiest.alpha) ** 2 == pytest.approx(abar, abs=5e-7)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that says of itself what CLIP ViT-L/14's text encoder would."""
    directory = tmp_path_factory.mktemp("clip")
    said = {"model_type": "clip_text_model", "hidden_size": 768, "max_position_embeddings": 77}
    (directory / "config.json").write_text(json.dumps(said))
    return directory


@pytest.mark.parametrize("name", PAPER)
def test_the_denoiser_told_by_its_conditioners_is_the_published_one(name: str, composer: Composer, clip: Path) -> None:
    model = build(composer.compose([f"+experiment=paper/{name}"]), clip)
    assert shapes(model.denoiser) == manifest(UNETS / f"unet-{name}.tsv")


@pytest.mark.parametrize("name", READERS)
def test_the_conditioner_that_is_trained_with_it_is_the_published_one(
    name: str, composer: Composer, clip: Path
) -> None:
    model = build(composer.compose([f"+experiment=paper/{name}"]), clip)
    published = manifest(CONDITIONERS / f"cond-{READERS[name]}.tsv", without="to_logits")
    assert shapes(model.conditioners) == published


def test_text_to_image_has_the_papers_number_of_parameters_in_all(composer: Composer, clip: Path) -> None:
    """1.45 B: the UNet, the text transformer, and the head over its vocabulary, which we leave out."""
    model = build(composer.compose(["+experiment=paper/txt2img-1p4B-kl-f8"]), clip)
    assert parameters(model.denoiser) == 872_300_484
    assert parameters(model.conditioners) + 30522 * 1280 + 30522 == 581_994_042


# Figure 6 of the paper


def test_the_compression_sweep_alone_is_five_models_two_budgets_and_three_seeds(composer: Composer) -> None:
    jobs = [frozenset(job) for job in composer.jobs(["+experiment=compression-sweep"])]
    models = ("identity", "kl-f2", "kl-f4", "kl-f8", "kl-f16")
    assert set(jobs) == {
        frozenset({"+experiment=compression-sweep", f"model={model}", f"train.denoiser.steps={steps}", f"seed={seed}"})
        for model in models
        for steps in (200, 800)
        for seed in (0, 1, 2)
    }
    assert len(jobs) == 30


def test_the_command_line_wins_over_what_a_recipe_sweeps_over(composer: Composer) -> None:
    asked = ["+experiment=compression-sweep", "model=kl-f4", "train.denoiser.steps=10", "seed=1,2"]
    assert [set(job) for job in composer.jobs(asked)] == [{*asked[:3], "seed=1"}, {*asked[:3], "seed=2"}]


def test_a_step_of_the_compression_sweep_costs_the_same_with_every_first_stage(composer: Composer) -> None:
    costs = []
    for model in ("identity", "kl-f2", "kl-f4", "kl-f8", "kl-f16"):
        config = composer.compose(["+experiment=compression-sweep", f"model={model}"])
        built = models.build(config)
        spec, told = built.first_stage.spec, built.conditioners.spec
        batch, side = config["train"]["denoiser"]["batch_size"], built.data.size // spec.factor
        z_t = torch.zeros(batch, spec.channels, side, side, device="meta")
        tokens = torch.zeros(batch, config["cond"]["text"]["length"], told.tokens, device="meta")
        caption = Conditioning(tokens=tokens, vector=torch.zeros(batch, told.vector, device="meta"))
        with FlopCounterMode(display=False) as counter:
            built.denoiser.to("meta")(z_t, torch.zeros(batch, device="meta"), caption).sum().backward()
        costs.append(counter.get_total_flops() / 1e9)
    assert costs == pytest.approx([statistics.mean(costs)] * 5, rel=0.04)


def test_a_first_stage_without_a_row_in_the_compression_sweep_is_refused(composer: Composer) -> None:
    with pytest.raises(ConfigError, match=r"scale.by_factor.f32.* did you mean 'scale.by_factor.f"):
        composer.compose(["+experiment=compression-sweep", "model=kl-f32"])
