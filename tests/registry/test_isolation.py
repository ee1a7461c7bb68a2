"""Six bad packages installed at once cost nobody anything but themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ldmkit.cli import main
from ldmkit.registry.discovery import registry

Install = Callable[..., Path]
Hook = Callable[..., str]

BAD = {
    "bad-import": ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "bad-exit": ("import sys; print('goodbye'); sys.exit(3)", "SystemExit: 3"),
    "bad-hook": (
        "from ldmkit import hookimpl\n@hookimpl\ndef component(): return []",
        "TypeError: implements hooks that do not exist: component; there is: components",
    ),
    "bad-arguments": (
        "from ldmkit import hookimpl\n@hookimpl\ndef components(register): return []",
        "PluginValidation",
    ),
    "bad-api": ("LDMKIT_API = 0", "TypeError: written for plugin API 0; this ldmkit has 1"),
}
CLASH = {"conf/cond/text.yaml": "# @package cond.text\nname: text # Not ours\n"}


@pytest.fixture
def site(install: Install, hook: Hook) -> Path:
    """The folder in which the six are installed, beside a good one."""
    for name, (module, _) in BAD.items():
        install(name, module)
    install(
        "good-one", "print('hello')\n" + hook("good_one"), files={"conf/cond/made-up.yaml": "name: made-up # Good\n"}
    )
    return install("bad-clash", hook("bad_clash", name="text"), files=CLASH)


def test_each_is_listed_with_its_fault_and_the_good_ones_are_ok(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 1
    out = capsys.readouterr().out
    rows = {line.split()[1]: line for line in out.splitlines() if len(line.split()) > 3}
    for name, (_, error) in BAD.items():
        assert f"  1.0      failed  {error}" in rows[name]
    assert "ok      cond/made-up" in rows["good-one"]
    assert (
        "clash: cond 'text' is provided by more than one package: bad-clash 1.0 and ldmkit (conditioners) 0.1.0" in out
    )
    assert "clash: the option file cond/text.yaml is provided by more than one package" in out
    assert "hello" not in out
    assert "goodbye" not in out
    assert {plugin.status for plugin in registry().plugins if plugin.distribution == "ldmkit"} == {"ok"}


@pytest.mark.parametrize("words", [["ls"], ["ls", "cond"], ["show", "cond", "made-up"], ["show", "cond", "text"]])
def test_verbs_that_tell_work(words: list[str], site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(("model: first stage", "cond: conditioner", "cond=made-up", "cond=text"))


@pytest.mark.parametrize(
    ("override", "code", "out", "said"),
    [
        ("cond=class", 0, "seed: 0\n", ""),
        (
            "cond=text",
            2,
            "",
            "is provided by more than one package: bad-clash 1.0 and ldmkit (conditioners) 0.1.0; leave one",
        ),
        (
            "cond=txt",
            2,
            "",
            "Failed to load, see 'ldmkit plugins': bad-api, bad-arguments, bad-exit, bad-hook, bad-import\n",
        ),
    ],
)
def test_a_run_is_touched_by_a_clash_alone_and_only_where_it_asks_for_it(
    override: str, code: int, out: str, said: str, site: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ldmkit", "run", override, "--cfg", "job"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert out in done.stdout
    assert "hello" not in done.stdout


def test_leaving_out_what_is_named_ends_all_of_it(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LDMKIT_PLUGINS", "good-one")
    registry.cache_clear()
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out.count("disabled by LDMKIT_PLUGINS") == 6


def test_ctrl_c_in_a_plugin_that_does_not_end_names_it(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("slow-one", "raise KeyboardInterrupt")
    assert main(["plugins"]) == 130
    assert capsys.readouterr().err == (
        "ldmkit: interrupted while plugin slow-one was loaded; LDMKIT_DISABLE=slow-one leaves it out\n"
    )


@pytest.mark.parametrize(
    ("requirement", "error"),
    [
        ("ldmkit>=9", "ImportError: needs ldmkit>=9; this is 0.1.0"),
        ("ldmkit[metrics] <0.1", "ImportError: needs ldmkit<0.1; this is 0.1.0"),
        ("ldmkit>=0.1,<0.2", ""),
        ('ldmkit>=9; extra == "test"', ""),
        ("ldmkit-palette>=9", ""),
        ("torch>=99", ""),
    ],
)
def test_a_plugin_for_another_ldmkit_is_not_loaded(requirement: str, error: str, install: Install, hook: Hook) -> None:
    site = install("one", hook("one"))
    metadata = site / "one-1.0.dist-info" / "METADATA"
    metadata.write_text(f"{metadata.read_text()}Requires-Dist: {requirement}\n")
    assert [plugin.error for plugin in registry().plugins if plugin.name == "one"] == [error]


@pytest.mark.parametrize("missing", ["no_such_module", "no_such_module.inner"])
def test_a_missing_module_that_an_extra_has_names_the_extra(missing: str, install: Install, hook: Hook) -> None:
    site = install("one", hook("one"), files={"part.py": f"import {missing}"})
    metadata = site / "one-1.0.dist-info" / "METADATA"
    metadata.write_text(f'{metadata.read_text()}Requires-Dist: no-such-module[all]>=2 ; extra == "big"\n')
    with pytest.raises(Exception, match=r"named 'no_such_module'; type: pip install 'one\[big\]'$"):
        registry().part("cond", "made-up")


PART = """
from dataclasses import dataclass

class Part:
    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str

    def __init__(self, config):
        {first}

    def sample(self):
        print(undefined)
"""
UNDEFINED = "NameError: name 'undefined' is not defined"


@pytest.mark.parametrize(
    "case",
    [
        (
            "print(undefined)",
            "while sampler was built: sampler 'made-up' of one 1.0; 'ldmkit plugins info one' says whom",
        ),
        ("pass", "in code of sampler 'made-up' of one 1.0; 'ldmkit plugins info one' says whom to tell"),
    ],
)
def test_an_error_in_a_part_names_it_and_its_package_below_the_traceback(
    case: tuple[str, str],
    install: Install,
    hook: Hook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from ldmkit.models import build_part

    first, said = case
    install("one", hook("one", "sampler"), files={"part.py": PART.format(first=first)})
    monkeypatch.setattr("ldmkit.listing.ls", lambda argv: build_part("sampler", {"name": "made-up"}).sample())
    assert main(["ls"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-2]) == ("Traceback (most recent call last):", UNDEFINED)
    assert lines[-1].startswith(said)


def test_help_asks_no_plugin_and_a_list_asks_each_once(
    install: Install, hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ldmkit.registry import loading

    for number in range(50):
        install(f"plugin-{number}", hook(f"plugin_{number}", name=f"part-{number}"))
    asked: list[str] = []
    components = loading._components
    monkeypatch.setattr(loading, "_components", lambda found: asked.append(found.__name__) or components(found))
    assert main(["--help"]) == 0
    assert asked == []
    assert main(["plugins"]) == 0
    assert [f"plugin_{number}" for number in range(50) if asked.count(f"plugin_{number}") != 1] == []


def test_an_error_of_ours_names_no_plugin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("ldmkit.listing.ls", lambda argv: 1 / 0)
    assert main(["ls"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "ZeroDivisionError: division by zero"
