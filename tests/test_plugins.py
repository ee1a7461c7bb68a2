"""`ldmkit plugins`: the list, one plugin in full, and the examination of all of them in processes of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ldmkit import examination
from ldmkit.cli import main
from ldmkit.registry.discovery import registry
from ldmkit.registry.loading import entries

Install = Callable[..., Path]
Hook = Callable[..., str]

# The list

CONDITIONERS = [
    f"cond/{name}" for name in ("class", "image", "inpaint", "layout", "low-res", "scalar", "semantic", "size", "text")
]


def test_plugins_lists_name_distribution_version_status_and_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["plugin", "distribution", "version", "status", "components"]
    assert ["conditioners", "ldmkit", "0.1.0", "ok", *CONDITIONERS] in lines


def test_plugins_as_json_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clashes"] == []
    (row,) = [row for row in found["plugins"] if row["name"] == "conditioners"]
    assert row["components"] == CONDITIONERS
    assert (row["status"], row["error"]) == ("ok", "")


def test_plugins_exits_1_when_one_failed(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("broken-one", "import sys; sys.exit('no')", version="0.9")
    assert main(["plugins"]) == 1
    assert "broken-one    broken-one    0.9      failed  SystemExit: no" in capsys.readouterr().out


def test_plugins_exits_1_when_two_clash(install: Install, hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    install("one", hook("one"))
    install("two", hook("two"))
    assert main(["plugins"]) == 1
    assert "clash: cond 'made-up' is provided by more than one package: one 1.0 and two 1.0" in capsys.readouterr().out


def test_disabling_the_bad_ones_makes_plugins_exit_0(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LDMKIT_DISABLE", "broken-one,no-such")
    install("broken-one", "import sys; sys.exit('no')")
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert "disabled" in out
    assert "LDMKIT_DISABLE: no plugin is called 'no-such'" in out


@pytest.mark.parametrize("allowed", ["", "two", "TWO_b", "two-b"])
def test_an_allow_list_takes_in_what_it_names_and_our_own(
    allowed: str, install: Install, hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LDMKIT_PLUGINS", allowed)
    install("one", "raise ValueError('imported')")
    install("two-b", hook("two_b"), entry="two")
    assert main(["plugins", "--json"]) == 0
    found = {plugin["distribution"]: plugin for plugin in json.loads(capsys.readouterr().out)["plugins"]}
    assert (found["one"]["status"], found["one"]["error"]) == ("disabled", "disabled by LDMKIT_PLUGINS")
    assert found["two-b"]["status"] == ("ok" if allowed else "disabled")
    assert found["ldmkit"]["status"] == "ok"


def test_what_is_both_allowed_and_disabled_is_disabled(
    install: Install, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LDMKIT_PLUGINS", "one")
    monkeypatch.setenv("LDMKIT_DISABLE", "one")
    install("one", hook("one"))
    assert [plugin.error for plugin in registry().plugins if plugin.name == "one"] == ["disabled by LDMKIT_DISABLE"]


def test_names_that_no_plugin_has_are_told(
    monkeypatch: pytest.MonkeyPatch, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LDMKIT_PLUGINS", "palete,samplers")
    install("one", "raise ValueError('imported')")
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "LDMKIT_PLUGINS: no plugin is called 'palete'"


def test_a_name_that_is_not_found_tells_what_the_allow_list_leaves_out(
    install: Install, hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LDMKIT_PLUGINS", "")
    install("one", hook("one"), files={"conf/cond/made-up.yaml": "# @package cond.made-up\nname: made-up\n"})
    assert main(["show", "cond", "made-up"]) == 2
    assert capsys.readouterr().err.endswith(". Disabled by LDMKIT_PLUGINS: one\n")


# One plugin

METADATA = """Metadata-Version: 2.4
Name: one
Version: 1.0
Summary: What it is
Author-email: Ada <ada@example.org>
License-Expression: MIT
Project-URL: Issues, https://example.org/issues
Project-URL: Homepage, https://example.org
Requires-Dist: ldmkit>=0.1,<0.2
Requires-Dist: pytest; extra == "test"
"""


@pytest.fixture
def one(install: Install, hook: Hook) -> Path:
    """The folder of a plugin ``one`` with metadata."""
    option = "# @package cond.made-up\nname: made-up # What it makes up\n"
    site = install("one", "LDMKIT_API = 1\n" + hook("one"), files={"conf/cond/made-up.yaml": option})
    (site / "one-1.0.dist-info" / "METADATA").write_text(METADATA)
    return site


def test_info_has_all_that_a_plugin_says_of_itself(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "info", "one", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["plugins"]
    digest = facts.pop("digest")
    assert facts == {
        "name": "one",
        "distribution": "one",
        "version": "1.0",
        "status": "ok",
        "error": "",
        "components": ["cond/made-up"],
        "summary": "What it is",
        "author": "Ada <ada@example.org>",
        "home_page": "https://example.org",
        "license": "MIT",
        "requires": ["ldmkit>=0.1,<0.2"],
        "api": 1,
        "package": str(one / "one"),
        "hooks": ["components"],
        "parts": [{"kind": "cond", "name": "made-up", "target": "one.part:Part", "summary": "made up"}],
        "options": [
            {
                "group": "cond",
                "name": "made-up",
                "summary": "made up",
                "path": str(one / "one" / "conf" / "cond" / "made-up.yaml"),
            }
        ],
    }
    assert len(digest) == 64


def test_info_is_a_page_to_read(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "info", "one"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one, a plugin of one 1.0"
    assert "  home page   https://example.org" in lines
    assert "  plugin API  1" in lines
    assert "    cond/made-up  made up" in lines


def test_info_of_a_distribution_tells_of_all_its_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json", "info", "ldmkit"]) == 0
    names = [facts["name"] for facts in json.loads(capsys.readouterr().out)["plugins"]]
    assert names == [plugin.name for plugin in registry().plugins if plugin.distribution == "ldmkit"]


def test_info_of_a_plugin_that_failed_says_why(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("bad-one", "import no_such_module_anywhere")
    assert main(["plugins", "info", "bad_one"]) == 1
    assert "  status      failed: ModuleNotFoundError: No module named 'no_such_module" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["info", "sampler"], "no plugin is called 'sampler'; did you mean 'samplers'? There is: conditioners, data, "),
        (
            ["check", "sampler"],
            "no plugin is called 'sampler'; did you mean 'samplers'? There is: conditioners, data, ",
        ),
        (["inof", "x"], "there is no 'ldmkit plugins inof'; did you mean 'info'? There is: check, info, list"),
        (["info"], "plugins info: the following arguments are required: NAME"),
    ],
)
def test_a_mistaken_word_gets_the_nearest(words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", *words]) == 2
    assert said in capsys.readouterr().err


# The examination

GOOD_PART = """
from dataclasses import dataclass
from ldmkit.protocols import Sampler

class Part(Sampler):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        name: str
        steps: int
"""
GOOD = {"part.py": GOOD_PART, "conf/sampler/made-up.yaml": "# It is made up\nname: made-up\nsteps: 3 # of it\n"}


def faults(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What ``ldmkit plugins check NAME`` finds: the faults by their place."""
    code = main(["plugins", "check", name, "--json"])
    (verdict,) = json.loads(capsys.readouterr().out)["plugins"]
    assert (code, verdict["status"]) == ((1, "faulty") if verdict["faults"] else (0, "ok"))
    return {fault["where"]: fault["what"] for fault in verdict["faults"]}


def test_a_good_plugin_has_no_faults(install: Install, hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    install("one", hook("one", "sampler"), files=GOOD)
    assert faults("one", capsys) == {}


LOADING = {
    "misspelt hook": (
        "from ldmkit import hookimpl\n@hookimpl\ndef component(): return []",
        "hooks that do not exist: component",
    ),
    "wrong arguments": ("from ldmkit import hookimpl\n@hookimpl\ndef components(register): return []", "register"),
    "end of the process": ("import os; os._exit(3)", "it ended the process with exit code 3"),
    "quiet end of the process": ("import os; os._exit(0)", "it ended the process with exit code 0"),
    "signal": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it ended the process with signal 9"),
    "question": ("input('Are you sure? ')", "EOFError"),
    "heavy": (
        "import omegaconf\nfrom ldmkit import hookimpl\n@hookimpl\ndef components(): return []",
        "importing it imports omegaconf, for which",
    ),
    "words": (
        "print('hello')\nfrom ldmkit import hookimpl\n@hookimpl\ndef components(): return []",
        "importing it prints 'hello'",
    ),
}


@pytest.mark.parametrize("case", LOADING)
def test_a_fault_in_loading_is_named_and_ends_nothing_here(
    case: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    module, said = LOADING[case]
    install("bad-one", module)
    found = faults("bad-one", capsys)
    assert found.keys() == {"loading"}
    assert said in found["loading"]


def test_a_plugin_that_never_ends_is_named(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(examination.SECONDS, "load", 1.5)
    install("bad-one", "import time; time.sleep(30)")
    assert faults("bad-one", capsys) == {"loading": "it had not ended after 1.5 s"}


def test_faults_of_parts_and_options_are_named_all_at_once(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ["no_module:Part", "lost:Part", "function:part", "stranger:Part", "bare:Part", "loose:Part", "loud:Part"]
    parts += ["keys:Part"]
    listed = ", ".join(f"Component('sampler', '{p.partition(':')[0]}', 'bad_one.{p}', '')" for p in parts)
    hook = "from ldmkit import Component, hookimpl\n@hookimpl\ndef components(): return [" + listed + "]\n"
    option = "# It is made up\nname: {name}\nsteps: 3 # of it\n"
    files = {f"conf/sampler/{name}.yaml": option.format(name=name) for name in ("stranger", "loud")}
    files |= {
        "lost.py": "",
        "function.py": "def part(): pass",
        "stranger.py": GOOD_PART.replace("Part(Sampler)", "Part"),
        "bare.py": "from ldmkit.protocols import Sampler\nclass Part(Sampler): pass",
        "loose.py": GOOD_PART.replace("frozen=True, ", "").replace("steps: int", "steps: int = 3"),
        "loud.py": "import os\nos.environ['MADE_UP'] = '1'\nprint('hello')" + GOOD_PART,
        "keys.py": GOOD_PART + "        size: int\n",
        "conf/sampler/bare.yaml": "# It is made up\nname: bare\n",
        "conf/sampler/keys.yaml": "name: keys\nstep: 3\nsize: 3 # of it\n",
        "conf/samplers/made-up.yaml": "name: made-up\n",
        "conf/sampler/torn.yaml": "name: [",
        "conf/sampler/nameless.yaml": "steps: 3 # of it\n",
        "conf/sampler/other.yaml": "name: no-such # It is made up\n",
    }
    install("bad-one", hook, files=files)
    assert main(["plugins", "check", "bad-one"]) == 1
    out = capsys.readouterr().out
    for line in [
        "bad-one (bad-one) 1.0: faulty",
        "sampler/no_module: sampler 'no_module' of bad-one 1.0 cannot be imported from bad_one.no_module:Part: Module",
        "sampler/lost: sampler 'lost' of bad-one 1.0 cannot be imported from bad_one.lost:Part: AttributeError",
        "sampler/function: sampler 'function' of bad-one: bad_one.function:part is not a class",
        "sampler/stranger: bad_one.stranger:Part is no Sampler",
        "sampler/bare: bad_one.bare:Part has no nested class Config",
        "sampler/loose: its Config is not frozen; write @dataclass(frozen=True, kw_only=True)",
        "sampler/loose: its Config has defaults for steps; they belong into the option file",
        "sampler/loose: no option file of sampler has 'name: loose', so that no run can choose it",
        "sampler/loud: importing it changes environment variables, which belong to the user's process",
        "sampler/loud: importing it prints 'hello'",
        "conf/sampler/keys.yaml: it lacks steps",
        "conf/sampler/keys.yaml: Config has no key step; did you mean 'steps'? There is: name, size, steps",
        "conf/sampler/keys.yaml: its key step has no comment",
        "conf/sampler/keys.yaml: no comment at its head says what the option is",
        "conf/samplers/made-up.yaml: there is no group 'samplers'; did you mean 'sampler'?",
        "conf/sampler/torn.yaml: cannot be read: ",
        "conf/sampler/nameless.yaml: it names no part; its first key must be name",
        "conf/sampler/other.yaml: no plugin provides sampler 'no-such'",
    ]:
        assert f"\n  {line}" in out or out.startswith(line), f"{line}\n\n{out}"


def test_a_disabled_plugin_is_not_examined(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LDMKIT_DISABLE", "bad-one")
    install("bad-one", "import os; os._exit(3)")
    assert main(["plugins", "check", "bad-one"]) == 0
    assert capsys.readouterr().out == "bad-one (bad-one) 1.0: disabled\n"


def test_a_part_that_ends_the_process_is_named_and_the_others_are_examined(
    install: Install, hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ldmkit.examination.entries", lambda: [e for e in entries() if e.distribution != "ldmkit"])
    install("bad-one", hook("bad_one", "sampler"), files=GOOD | {"part.py": "import os; os._exit(4)"})
    install("broken", "raise ValueError")
    install("two", hook("two", "sampler"))
    monkeypatch.setenv("LDMKIT_DISABLE", "two")
    assert main(["plugins", "check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "bad-one (bad-one) 1.0: faulty",
        "  sampler/made-up: it ended the process with exit code 4",
        "broken (broken) 1.0: faulty",
        "  loading: ValueError",
        "two (two) 1.0: disabled",
    ]


def test_clashes_of_examined_plugins_are_told(
    install: Install, hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    process = examination._process
    monkeypatch.setattr(examination, "_process", lambda what, one: process(what, one) if what == "load" else ({}, []))
    monkeypatch.setattr("ldmkit.examination.entries", lambda: [e for e in entries() if e.distribution != "ldmkit"])
    install("one", hook("one"))
    install("two", hook("two"))
    assert main(["plugins", "check"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("clash: cond 'made-up' is provided by more than one package: one 1.0 and two 1.0; leave ")


@pytest.mark.slow
def test_nothing_is_wrong_with_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "ldmkit"]) == 0, capsys.readouterr().out
