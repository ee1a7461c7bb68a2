"""Whatever is wrong with one plugin costs that plugin alone, and says so in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ldmkit.errors import ConfigError, LdmkitError
from ldmkit.registry.components import Component
from ldmkit.registry.discovery import Plugin, discover, kernel_conf, registry
from ldmkit.registry.hooks import hookspec

Install = Callable[..., Path]
Hook = Callable[..., str]


def plugin(distribution: str) -> Plugin:
    (found,) = [plugin for plugin in discover().plugins if plugin.distribution == distribution]
    return found


def test_the_plugins_of_this_repository_are_found_like_a_strangers() -> None:
    own = [plugin for plugin in discover().plugins if plugin.distribution == "ldmkit"]
    assert {plugin.status for plugin in own} == {"ok"}
    assert all(plugin.components and plugin.config_dir for plugin in own)


def test_a_plugin_has_its_name_version_parts_and_config_folder(install: Install, hook: Hook) -> None:
    site = install("good-one", hook("good_one"), version="2.7", files={"conf/cond/made-up.yaml": "name: made-up"})
    found = plugin("good-one")
    assert (found.name, found.version, found.status, found.error) == ("good-one", "2.7", "ok", "")
    assert [(part.kind, part.name, part.target) for part in found.components] == [
        ("cond", "made-up", "good_one.part:Part")
    ]
    assert found.config_dir == site / "good_one" / "conf"


NOTHING = "from ldmkit.registry.components import Component\nfrom ldmkit.registry.hooks import hookimpl\n"
BAD = {
    "import error": (
        "import no_such_module_anywhere",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    ),
    "syntax error": ("def (", "SyntaxError"),
    "exit at import": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "odd exception": ("class Odd(BaseException): pass\nraise Odd('hm')", "Odd: hm"),
    "many lines": ("raise ValueError('one\\ntwo')", "ValueError: one two"),
    "misspelt hook": (
        NOTHING + "@hookimpl\ndef component(): return []",
        "implements hooks that do not exist: component; there is: components",
    ),
    "a logger's hook": (NOTHING + "@hookimpl\ndef on_step(): pass", "implements hooks that do not exist: on_step"),
    "wrong arguments": (NOTHING + "@hookimpl\ndef components(register): return []", "register"),
    "no hook": ("def components(): return []", "implements no hook"),
    "old API": ("LDMKIT_API = 0", "written for plugin API 0; this ldmkit has 1"),
    "hook raises": (NOTHING + "@hookimpl\ndef components(): return 1 / 0", "ZeroDivisionError"),
    "not components": (NOTHING + "@hookimpl\ndef components(): return ['text']", "must return Components"),
    "unknown kind": (
        NOTHING + "@hookimpl\ndef components(): return [Component('conds', 'a', 'b.c:D', '')]",
        "there is no kind of part 'conds'; did you mean 'cond'?",
    ),
    "target without class": (
        NOTHING + "@hookimpl\ndef components(): return [Component('cond', 'a', 'os.system', '')]",
        "'os.system' is not 'package.module:Class'",
    ),
    "same part twice": (
        NOTHING + "@hookimpl\ndef components(): return [Component('cond', 'a', 'b.c:D', '')] * 2",
        "provides cond 'a' twice",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plugin_fails_alone_and_says_why(case: str, install: Install, hook: Hook) -> None:
    module, error = BAD[case]
    install("bad-one", module)
    install("good-one", hook("good_one"))
    assert plugin("bad-one").status == "failed"
    assert error in plugin("bad-one").error
    assert "\n" not in plugin("bad-one").error
    assert plugin("good-one").status == "ok"


def test_a_class_in_place_of_a_module_is_refused_when_it_is_loaded(install: Install) -> None:
    install("bad-one", "class Plugin: pass", target="bad_one:Plugin")
    assert "names the class Plugin" in plugin("bad-one").error


def test_an_instance_can_be_a_plugin(install: Install) -> None:
    module = NOTHING + "class Plugin:\n    @hookimpl\n    def components(self): return []\nplugin = Plugin()"
    install("good-one", module, target="good_one:plugin")
    assert plugin("good-one").status == "ok"


ANNOUNCED = {"group": "ldmkit.cond", "entry": "made-up", "target": "good_one:Part"}


def test_an_entry_point_of_a_kind_is_a_part_and_nothing_is_imported_to_know_of_it(install: Install) -> None:
    site = install("good-one", "raise ValueError", **ANNOUNCED, files={"conf/cond/made-up.yaml": "name: made-up"})
    found = plugin("good-one")
    assert (found.name, found.label, found.version, found.status) == ("good-one", "good-one", "1.0", "ok")
    assert [(part.kind, part.name, part.target) for part in found.components] == [("cond", "made-up", "good_one:Part")]
    assert found.config_dir == site / "good_one" / "conf"
    assert "good_one" not in sys.modules


def test_the_class_of_an_entry_point_is_imported_when_it_is_asked_for(install: Install) -> None:
    install("good-one", "class Part: pass", **ANNOUNCED)
    assert registry().part("cond", "made-up").__name__ == "Part"


def test_a_package_whose_entry_points_are_parts_is_one_plugin(install: Install) -> None:
    site = install("good-one", "", **ANNOUNCED, files={"conf/cond/made-up.yaml": "name: made-up"})
    (site / "good_one-1.0.dist-info" / "entry_points.txt").write_text(
        "[ldmkit.cond]\nmade-up = good_one:Part\nother = good_one.other:Part\n[ldmkit.data]\nthird = good_one:Third\n"
    )
    found = plugin("good-one")
    assert sorted(part.name for part in found.components) == ["made-up", "other", "third"]
    assert [found.kind for found, _ in registry().components() if found.name == "third"] == ["data"]
    assert registry().clashes() == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"group": "ldmkit.conds"}, "there is no kind of part 'conds'; did you mean 'cond'?"),
        ({"target": "good_one"}, "'good_one' is not 'package.module:Class'"),
        ({"target": "no_such_module_anywhere:Part"}, "No module named 'no_such_module_anywhere'"),
    ],
)
def test_a_bad_entry_point_of_a_kind_fails_alone(change: dict[str, str], error: str, install: Install) -> None:
    install("bad-one", "", **{**ANNOUNCED, **change})
    assert plugin("bad-one").status == "failed"
    assert error in plugin("bad-one").error
    assert {found.status for found in discover().plugins if found.distribution == "ldmkit"} == {"ok"}


def test_a_part_that_cannot_be_imported_costs_those_who_ask_for_it(install: Install) -> None:
    install("bad-one", "import no_such_module_anywhere", **{**ANNOUNCED, "target": "bad_one:Part"})
    assert plugin("bad-one").status == "ok"
    with pytest.raises(
        LdmkitError, match=r"cond 'made-up' of bad-one 1.0 cannot be imported from bad_one:Part: Module"
    ):
        registry().part("cond", "made-up")


def test_a_hook_that_is_to_go_warns_who_implements_it_and_works(
    install: Install, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later:
        @hookspec(warn_on_impl=DeprecationWarning("components goes in 0.4; name parts by entry points"))
        def components(self) -> list[Component]: ...

    install("old-one", hook("old_one"))
    monkeypatch.setattr("ldmkit.registry.loading.PluginSpec", Later)
    with pytest.warns(DeprecationWarning, match="components goes in 0.4; name parts by entry points"):
        assert plugin("old-one").status == "ok"


def test_ctrl_c_while_loading_is_not_swallowed(install: Install) -> None:
    install("bad-one", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover()


def test_what_a_plugin_prints_does_not_reach_stdout(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("loud-one", "print('hello')\n" + NOTHING + "@hookimpl\ndef components(): return []")
    assert plugin("loud-one").status == "ok"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["its-entry", "bad-one"])
def test_a_disabled_plugin_is_not_even_imported(name: str, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("bad-one", "raise ValueError('imported')", entry="its-entry")
    monkeypatch.setenv("LDMKIT_DISABLE", f"another, {name}")
    assert plugin("bad-one").status == "disabled"


def test_a_plugin_of_entry_points_is_disabled_by_its_distribution(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good-one", "", **ANNOUNCED)
    monkeypatch.setenv("LDMKIT_DISABLE", "good-one")
    assert (plugin("good-one").status, plugin("good-one").components) == ("disabled", ())


def test_a_malformed_distribution_costs_nobody_anything(install: Install, hook: Hook) -> None:
    site = install("good-one", hook("good_one"))
    (site / "torn-1.0.dist-info").mkdir()
    (site / "torn-1.0.dist-info" / "entry_points.txt").write_text("[ldmkit\n= = =\nno sense")
    (site / "bare-1.0.dist-info").mkdir()
    (site / "bare-1.0.dist-info" / "entry_points.txt").write_text("[ldmkit]\nbare = good_one\n")
    assert plugin("good-one").status == "ok"


def test_of_two_distributions_with_one_name_the_importable_one_counts(
    install: Install, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("good-one", hook("good_one"), version="1.0")
    shadowed = tmp_path / "behind" / "good_one-0.5.dist-info"
    shadowed.mkdir(parents=True)
    (shadowed / "METADATA").write_text("Metadata-Version: 2.1\nName: good-one\nVersion: 0.5\n")
    (shadowed / "entry_points.txt").write_text("[ldmkit]\ngood-one = good_one\n")
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path / "behind")])
    assert plugin("good-one").version == "1.0"


def test_lookup_says_the_nearest_name_and_which_plugins_failed(install: Install) -> None:
    install("bad-one", "import no_such_module_anywhere")
    with pytest.raises(ConfigError, match=r"no plugin provides cond 'txt'; did you mean 'text'\? There is: .*bad-one"):
        registry().lookup("cond", "txt")
    with pytest.raises(ConfigError, match="there is no kind of part 'conds'; did you mean 'cond'"):
        registry().lookup("conds", "text")


def test_two_packages_with_one_name_clash_only_when_it_is_asked_for(install: Install, hook: Hook) -> None:
    install("one", hook("one"))
    install("two", hook("two"))
    assert plugin("one").status == plugin("two").status == "ok"
    assert registry().lookup("cond", "text")[1].distribution == "ldmkit"
    with pytest.raises(ConfigError) as error:
        registry().lookup("cond", "made-up")
    assert str(error.value) == (
        "cond 'made-up' is provided by more than one package: one 1.0 and two 1.0; "
        "leave one out with LDMKIT_DISABLE=one or LDMKIT_DISABLE=two"
    )


def test_disabling_one_of_two_packages_ends_their_clash(
    install: Install, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", hook("one"))
    install("two", hook("two"))
    monkeypatch.setenv("LDMKIT_DISABLE", "one")
    registry.cache_clear()
    assert registry().lookup("cond", "made-up")[1].distribution == "two"
    assert registry().clashes() == []


def test_a_clash_of_entry_names_is_told_apart_by_distribution(install: Install, hook: Hook) -> None:
    install("one", hook("one"), entry="same")
    install("two", hook("two"), entry="same")
    (line,) = registry().clashes()
    assert "LDMKIT_DISABLE=one or LDMKIT_DISABLE=two" in line


def test_option_files_that_clash_are_listed(install: Install, hook: Hook) -> None:
    install("one", hook("one", name="one"), files={"conf/cond/text.yaml": "name: one"})
    (line,) = registry().clashes()
    assert "the option file cond/text.yaml" in line
    assert "LDMKIT_DISABLE=one" in line


def test_the_order_of_installation_changes_nothing(install: Install, hook: Hook) -> None:
    install("zed", hook("zed", name="z"))
    install("abc", hook("abc", name="a"))
    names = [plugin.distribution for plugin in discover().plugins]
    assert names == sorted(names)


def test_a_part_that_cannot_be_imported_names_its_package(install: Install, hook: Hook) -> None:
    install("one", hook("one"), files={"part.py": "import no_such_module_anywhere"})
    with pytest.raises(LdmkitError, match=r"cond 'made-up' of one 1\.0 cannot be imported from one\.part:Part: Module"):
        registry().part("cond", "made-up")


def test_a_target_that_is_not_a_class_is_refused(install: Install, hook: Hook) -> None:
    install("one", hook("one"), files={"part.py": "def Part(config): pass"})
    with pytest.raises(LdmkitError, match="is not a class"):
        registry().part("cond", "made-up")


def test_the_kernels_own_options_are_where_hydra_is_told() -> None:
    assert (kernel_conf() / "config.yaml").is_file()
