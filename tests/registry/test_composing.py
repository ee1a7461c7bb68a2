"""Overrides become one plain, resolved dictionary, or one line that says what is wrong."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.version import getbase, setbase
from omegaconf import OmegaConf

from ldmkit.errors import ConfigError
from ldmkit.registry.components import KINDS
from ldmkit.registry.composing import Composer, PluginConfigs, check, compose, part_nodes
from ldmkit.registry.discovery import kernel_conf

Install = Callable[..., Path]
Hook = Callable[..., str]


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


def message(overrides: list[str], composer: Composer) -> str:
    with pytest.raises(ConfigError) as error:
        check(composer.compose(overrides))
    assert "\n" not in str(error.value)
    return str(error.value)


def refusal(overrides: list[str], composer: Composer) -> str | None:
    """The message of a refusal, or None where the overrides are right; any other exception passes through."""
    try:
        check(composer.compose(overrides))
    except ConfigError as error:
        return str(error)
    return None


def test_the_result_is_plain_json_without_hydra_or_interpolations() -> None:
    config = compose()
    assert json.loads(json.dumps(config)) == config
    assert "hydra" not in config
    assert "${" not in json.dumps(config)
    assert set(KINDS) <= set(config)


def test_options_and_keys_of_the_command_line_win() -> None:
    config = compose(["model=kl-f4", "seed=7", "cond=[text,class]", "cond.text.depth=1", "train.denoiser.steps=9"])
    assert (config["model"]["factor"], config["seed"], list(config["cond"])) == (4, 7, ["text", "class"])
    assert (config["cond"]["text"]["depth"], config["train"]["denoiser"]["steps"]) == (1, 9)


@pytest.mark.parametrize(
    "overrides", [[], ["cond=[text,semantic]", "scale=smoke"], ["model=identity", "seed=3", "cond.text.dropout=0.3"]]
)
def test_the_result_is_what_hydra_itself_composes(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = Plugins.instance().plugin_type_to_subclass_list
    monkeypatch.setitem(plugins, SearchPathPlugin, [*plugins[SearchPathPlugin], PluginConfigs])
    with initialize_config_dir(str(kernel_conf()), version_base="1.3"):
        expected = OmegaConf.to_container(hydra_compose("config", overrides), resolve=True)
    assert compose(overrides) == expected


def test_no_conditioner_at_all_is_an_empty_mapping() -> None:
    assert compose(["cond=[]"])["cond"] == {}


def test_composing_leaves_hydras_global_state_alone() -> None:
    before = getbase()
    setbase("1.2")
    try:
        compose()
        assert str(getbase()) == "1.2"
        assert not GlobalHydra.instance().is_initialized()
        assert PluginConfigs not in Plugins.instance().discover(SearchPathPlugin)
        with initialize_config_dir(str(kernel_conf() / "scale"), version_base="1.3"):
            outer = GlobalHydra.instance().hydra
            compose()
            assert GlobalHydra.instance().hydra is outer
    finally:
        setbase(str(before) if before is not None else None)


def test_composing_twice_gives_equal_and_separate_results(composer: Composer) -> None:
    one, two = composer.compose(), composer.compose()
    assert one == two
    one["model"]["name"] = "changed"
    assert composer.compose() == two


def test_checking_returns_the_kernels_own_settings(composer: Composer) -> None:
    run = check(composer.compose(["seed=5"]))
    assert run.seed == 5
    assert run.train.first_stage.betas == (0.9, 0.99)


MISTAKES = {
    "modle=kl-f8": "there is no group or key 'modle'; did you mean 'model'? There is: cond, data, ",
    "model=kl-f9": "model has no option 'kl-f9'; did you mean 'kl-f8'? There is: identity, kl-f16, kl-f2, ",
    "cond=[text,clas]": "cond has no option 'clas'; did you mean 'class'? There is: "
    "class, hf-text, image, inpaint, layout, low-res, scalar, semantic, size, text",
    "sede=3": "there is no group or key 'sede'; did you mean 'seed'?",
    "cond.text.widht=3": "cond 'text' has no key 'widht'; did you mean 'width'? There is: ",
    "+cond.text.widht=3": "cond 'text' has no key 'widht'; did you mean 'width'? There is: ",
    "++cond.text.widht=3": "cond 'text' has no key 'widht'; did you mean 'width'? There is: ",
    "~cond.text.widht": "cond 'text' has no key 'widht'; did you mean 'width'? There is: ",
    "cond.txt.width=3": "this run has no cond 'txt'; did you mean 'text'? There is: text",
    "cond.class.width=3": "cond 'class' is not in this run; type cond=[text,class] as well",
    "train.first_stage.step=3": "train.first_stage has no key 'step'; did you mean 'steps'?",
    "train={first_stage:{stepz:3}}": "train.first_stage has no key 'stepz'; did you mean 'steps'?",
    "cond.text.width=wide": "cond.text.width: 'wide' is not an int",
    "seed=1.5": "seed: 1.5 is not an int",
    "seed=": "seed: '' is not an int",
    "seed=null": "seed: null is not an int",
    "precision=bf61": "precision: 'bf61' is not one of its values; did you mean 'bf16'? There is: auto, bf16, fp32",
    "train.first_stage.betas=[0.9]": "train.first_stage.betas: [0.9] has 1 elements; it must have 2",
    "train=3": "train is a mapping; type train.KEY=VALUE with one of its keys first_stage, denoiser",
    "seed.x=3": "seed is 0, without keys of its own",
    "scale.train.denoiser.steps=x": "scale.train.denoiser.steps: 'x' is not like ",
    "scale.train.denoiser.stps=3": "scale.train.denoiser has no key 'stps'; did you mean 'steps'?",
    "+scale.train.denoiser.stps=3": "scale.train.denoiser has no key 'stps'; did you mean 'steps'?",
    "samples.previews.0=3": "samples.previews is read from scale.samples.previews; type scale.samples.previews.0=VALUE",
    "samples.previews[0]=3": "'samples.previews[0]' is not a key; did you mean 'samples.previews.0'?",
    "kl-f8": "'kl-f8' is not key=value; did you mean 'model=kl-f8'?",
    "modelkl-f8": "'modelkl-f8' is not key=value; did you mean 'model=kl-f8'?",
    "model": "'model' names no option; type model=OPTION. There is: identity, kl-f16, kl-f2, ",
    "seed": "'seed' has no value; type seed=VALUE",
    "cond=[text": "'cond=[text' cannot be read: its brackets or quotes do not match",
    "resume='a": "'resume='a' cannot be read: its brackets or quotes do not match",
    "resume=a(b)": "cannot be read",
    "cond=text,semantic": "type -m to run each, or cond=[text,semantic] for one run with a list",
    "seed=range(1,5)": "'seed=range(1,5)' has more than one value: type -m to run each",
    "cond=[text,text]": "'cond=[text,text]' names text twice",
    "cond=null": "'cond=null' names no option; type cond=[] for none. There is: "
    "class, hf-text, image, inpaint, layout, low-res, scalar, semantic, size, text",
    "seed=a\nb": "holds a character that cannot be printed",
    "cond=none": "type cond=[] for none",
    "model=null": "'model=null' names no option; type model=OPTION. There is: identity, kl-f16, kl-f2, ",
    "model=": "'model=' names no option; type model=OPTION",
    "model=8": "model has no option '8'",
    "model=[kl-f8,kl-f4]": "model takes one option",
    "~model": "model cannot be left out of a run",
    "~cond": "cond cannot be left out of a run; type cond=[] for none",
    "~seed": "the config lacks the key seed",
    "~sed": "there is no group or key 'sed'; did you mean 'seed'?",
    "+model=kl-f8": "model is already in the run; type model=kl-f8",
    "++model=kl-f8": "a group takes no '++'; type model=kl-f8",
    "+seed=3": "seed is already in the config; type seed=3",
    "model@cond=kl-f8": "options cannot be put elsewhere with '@'; type model=OPTION",
    "modle@cond=kl-f8": "there is no group 'modle'; did you mean 'model'?",
    "+foo=1": "there is no group or key 'foo'",
    "+_target_=os.system": "there is no group or key '_target_'",
    "model._target_=os.system": "has no key '_target_'",
    "+model._target_=os.system": "model 'kl' has no key '_target_'",
    "+cond.text._target_=os.system": "cond 'text' has no key '_target_'",
    "+hydra.callbacks.x._target_=os.system": "a config names no Python to be called",
    "hydra.launcher._target_=os.system": "a config names no Python to be called",
    "hydra.callbacks={x:{y:1}}": "a config names no Python to be called",
    "model.name=os:system": "no plugin provides model 'os:system'",
    "+cond.extra={name:os.system}": "no plugin provides cond 'os.system'",
    "+cond.extra=3": "cond.extra names no part; type cond=OPTION",
    "seed=${sede}": "seed reads ${sede}, which the config does not have; did you mean 'seed'?",
    "seed=${nope:3}": "seed: Unsupported interpolation type nope",
    "device=${device}": "device: Recursive interpolation detected",
    "outputs=???": "outputs has no value; type outputs=VALUE",
    "hydra.run.dri=x": "hydra.run has no key 'dri'; did you mean 'dir'?",
    "hydra/launcher=basi": "hydra/launcher has no option 'basi'; did you mean 'basic'?",
    "hydra/launchr=basic": "there is no group 'hydra/launchr'; did you mean 'hydra/launcher'?",
    "hydra.searchpath=[/no/such/place]": "/no/such/place is not available",
    "": "",
    "=": "",
    "model==kl-f8": "",
    "${seed}=3": "",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_type(override: str, composer: Composer) -> None:
    assert MISTAKES[override] in message([override], composer)


def test_one_key_with_two_values_is_refused(composer: Composer) -> None:
    assert "seed is given twice: 'seed=1' and 'seed=2'" in message(["seed=1", "seed=2"], composer)
    assert "model is given twice" in message(["model=kl-f8", "model=kl-f4"], composer)


def test_a_recipe_needs_a_plus_and_the_command_line_wins_over_it(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: kl-f4\n  - override /cond: [class]\nseed: 5\n"
    )
    composer = Composer(tmp_path)
    config = composer.compose(["+experiment=mine", "cond=text"])
    assert (config["model"]["factor"], list(config["cond"]), config["seed"]) == (4, ["text"], 5)
    assert "experiment is not in the run by itself; type +experiment=mine" in message(["experiment=mine"], composer)
    assert "experiment has no option 'mien'; did you mean 'mine'?" in message(["+experiment=mien"], composer)


def test_a_directory_of_ones_own_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config-dir: there is no directory '.*nowhere'"):
        Composer(tmp_path / "nowhere")


def test_an_option_file_that_two_packages_carry_is_an_error_when_it_is_chosen(install: Install, hook: Hook) -> None:
    text = "# @package cond.text\nname: text\n"
    install("stranger", hook("stranger"), files={"conf/cond/text.yaml": text})
    with pytest.raises(ConfigError) as error:
        compose(["cond=text"])
    assert str(error.value) == (
        "the option file cond/text.yaml is provided by more than one package: ldmkit (conditioners) 0.1.0 and "
        "stranger 1.0; leave one out with LDMKIT_DISABLE=conditioners or LDMKIT_DISABLE=stranger"
    )
    assert list(compose(["cond=class"])["cond"]) == ["class"]


def test_an_option_file_that_shadows_the_kernels_is_an_error(install: Install, hook: Hook) -> None:
    install("stranger", hook("stranger"), files={"conf/scale/demo.yaml": "name: demo\n"})
    with pytest.raises(ConfigError, match=r"scale/demo\.yaml is provided by ldmkit and stranger"):
        compose()


def test_an_option_of_a_plugin_that_failed_says_so(install: Install) -> None:
    install("broken-one", "import no_such_module_anywhere", files={"conf/cond/theirs.yaml": "name: theirs"})
    with pytest.raises(
        ConfigError, match=r"cond has no option 'theirs'.*Failed to load, see 'ldmkit plugins': broken-one"
    ):
        compose(["cond=theirs"])


def test_without_a_plugin_the_run_says_which_option_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    from ldmkit.registry.discovery import registry

    monkeypatch.setenv("LDMKIT_DISABLE", "denoisers")
    registry.cache_clear()
    try:
        with pytest.raises(
            ConfigError, match=r"no option file denoiser/unet\.yaml. Disabled by LDMKIT_DISABLE: ldmkit"
        ):
            compose()
        with pytest.raises(ConfigError, match=r"denoiser has no option 'unet'.* Disabled by"):
            compose(["denoiser=unet"])
    finally:
        registry.cache_clear()


def test_an_option_file_that_is_no_yaml_costs_only_those_who_choose_it(install: Install, hook: Hook) -> None:
    install("one", hook("one"), files={"conf/cond/torn.yaml": "# @package cond.torn\nname: [made-up\nfield: a: b\n"})
    with pytest.raises(ConfigError, match=r"cond/torn\.yaml"):
        compose(["cond=torn"])
    assert list(compose(["cond=text"])["cond"]) == ["text"]


def test_a_required_key_without_a_value_is_named(install: Install, hook: Hook) -> None:
    yaml = "# @package cond.made-up\nname: made-up\npath: ???\n"
    install("one", hook("one"), files={"conf/cond/made-up.yaml": yaml})
    with pytest.raises(ConfigError, match=r"cond\.made-up\.path has no value; type cond\.made-up\.path=VALUE"):
        compose(["cond=made-up"])
    assert compose(["cond=made-up", "cond.made-up.path=x"])["cond"]["made-up"]["path"] == "x"


def test_a_config_that_was_stored_is_checked_as_data(composer: Composer) -> None:
    config = composer.compose()
    for change in ({"_target_": "os.system"}, {"target": "os.system"}):
        with pytest.raises(ConfigError, match="has no key"):
            check({**config, "denoiser": {**config["denoiser"], **change}})
    with pytest.raises(ConfigError, match="holds an interpolation"):
        check({**config, "outputs": "${oc.env:HOME}"})
    with pytest.raises(ConfigError, match="the config lacks denoiser; type denoiser=OPTION"):
        check({key: value for key, value in config.items() if key != "denoiser"})
    with pytest.raises(ConfigError, match="the config has no key 'extra'"):
        check({**config, "extra": 1})


def test_composing_imports_no_torch() -> None:
    code = "import ldmkit, sys; ldmkit.compose(['cond=[text,semantic]']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_each_job_of_a_sweep_is_one_list_of_overrides(composer: Composer) -> None:
    jobs = list(composer.jobs(["model=kl-f8,kl-f4", "seed=range(0,2)", "cond=[text],[text,class]", "device=cpu"]))
    assert len(jobs) == 8
    assert jobs[0] == ["model=kl-f8", "seed=0", "cond=[text]", "device=cpu"]
    with pytest.raises(ConfigError, match="did you mean 'kl-f8'"):
        list(composer.jobs(["model=kl-f4,kl-f9"]))


# 1,000 random wrong overrides


def names(composer: Composer) -> list[tuple[str, int, int]]:
    """Overrides that are right, each with the span of the one name in it that is to be misspelt."""
    base = composer.compose(["cond=[text,class,semantic]"])
    found: list[tuple[str, int, int]] = []
    for group, options in composer.groups.items():
        for option in options:
            line = f"+{group}={option}" if group == "experiment" else f"{group}={option}"
            start = line.index("=") + 1
            found += [(line, line.index(group), start - 1), (line, start, len(line))]

    def walk(node: Any, path: list[str]) -> None:
        for key, value in node.items():
            below = [*path, str(key)]
            if isinstance(value, dict):
                walk(value, below)
            line = f"{'.'.join(below)}={json.dumps(value) if isinstance(value, int | float) else 'x'}"
            start = len(".".join([*path, ""]))
            found.append((line, start, start + len(str(key))))

    walk(base, [])
    return found


def misspelt(word: str, chance: random.Random) -> str:
    """One edit: a letter left out, put in, replaced, or two swapped."""
    at = chance.randrange(len(word))
    letter = chance.choice("abcdefghijklmnopqrstuvwxyz")
    edits = [word[:at] + word[at + 1 :], word[:at] + letter + word[at:], word[:at] + letter + word[at + 1 :]]
    if at + 1 < len(word):
        edits.append(word[:at] + word[at + 1] + word[at] + word[at + 2 :])
    return chance.choice(edits)


def test_misspelt_names_never_raise_anything_else_and_nearly_always_get_a_hint(composer: Composer) -> None:
    chance = random.Random(0)
    right = names(composer)
    choices = ["cond=[text,class,semantic]"]
    wrong: list[str] = []
    while len(wrong) < 700:
        line, start, end = chance.choice(right)
        override = line[:start] + misspelt(line[start:end], chance) + line[end:]
        said = refusal([override] if "cond=" in override else [*choices, override], composer)
        if said is not None:
            wrong.append(f"{override}: {said}")
    assert not [said for said in wrong if "\n" in said]
    silent = [said for said in wrong if "did you mean" not in said]
    assert len(silent) <= 0.1 * len(wrong), silent


def test_garbage_is_always_one_line(composer: Composer) -> None:
    chance = random.Random(1)
    right = [line for line, _, _ in names(composer)]
    marks = [*"=[]{}()'\"\\,:.+~@$#%&*!?/|<> \t", "${", "}", "null", "\u00e9", "\x00", "\n", "--", "=="]
    refused = []
    for _ in range(300):
        line = chance.choice(right)
        for _ in range(chance.randint(1, 4)):
            at = chance.randint(0, len(line))
            line = line[:at] + chance.choice(marks) + line[at + chance.randint(0, 1) :]
        refused.append(refusal([line], composer))
    assert not [said for said in refused if said is not None and "\n" in said]
    assert sum(said is not None for said in refused) > 250


def test_a_value_of_a_wrong_type_is_one_line_for_every_key_of_every_part(composer: Composer) -> None:
    base = composer.compose(["cond=[text,class,semantic]"])
    nodes = [(where, node) for _, where, node in part_nodes(base)]
    keys = [(f"{where}.{key}", value) for where, node in nodes for key, value in node.items()]
    values = itertools.cycle(["[[1]]", "{a:{b:1}}", "[{a:1}]"])
    for (key, _), value in zip(keys, values, strict=False):
        assert key.partition(".")[0] in message(["cond=[text,class,semantic]", f"{key}={value}"], composer)


def test_a_recipe_cannot_bring_callbacks(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "sly.yaml").write_text(
        "# @package _global_\nhydra:\n  callbacks:\n    sly:\n      _target_: os.system\n"
    )
    with pytest.raises(ConfigError, match=r"hydra\.callbacks: a config names no Python"):
        Composer(tmp_path).compose(["+experiment=sly"])
