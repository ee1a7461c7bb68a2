"""What every suite has: its part, built small as the kernel builds it, and the checks that fit parts of any kind."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from ldmkit.errors import ConfigError
from ldmkit.models import build_part, seeded
from ldmkit.registry.components import MULTIPLE
from ldmkit.registry.composing import compose
from ldmkit.registry.discovery import registry
from ldmkit.registry.schema import typed
from ldmkit.testing.child import Child, Import, There, child
from ldmkit.testing.outputs import differing
from ldmkit.testing.process import untouched

IMPORT_SECONDS = 1.0
"""How long the import of a part's module may take, in seconds of one core, where torch and the kernel are imported."""


class Suite:
    """Checks of one part, which ``component`` names: its option file, as in ``ldmkit run cond=COMPONENT``.

    ``overrides`` are further overrides of the run, for a part that needs more than its option file says. Every check
    is a method ``test_*`` without arguments that raises AssertionError, or SkipTest where it does not apply; pytest
    finds them in a subclass called ``Test...``.
    """

    kind: ClassVar[str]
    protocol: ClassVar[type[Any]] = object
    component: ClassVar[str]
    overrides: ClassVar[Sequence[str]] = ()
    _config: ClassVar[dict[str, Any]]
    _elsewhere: ClassVar[tuple[dict[str, Any], There]]

    @classmethod
    def config(cls) -> dict[str, Any]:
        """The run's config with ``scale=smoke`` and the component."""
        if "_config" not in vars(cls):
            choice = f"{cls.kind}=[{cls.component}]" if cls.kind in MULTIPLE else f"{cls.kind}={cls.component}"
            cls._config = compose(["scale=smoke", choice, *cls.overrides])
        return copy.deepcopy(cls._config)

    @classmethod
    def node(cls) -> dict[str, Any]:
        """The part's own node of the config."""
        node: dict[str, Any] = cls.config()[cls.kind]
        return node[cls.component] if cls.kind in MULTIPLE else node

    @classmethod
    def part_class(cls) -> type[Any]:
        """The class that the option file names."""
        return registry().part(cls.kind, cls.node()["name"])

    @classmethod
    def option_file(cls) -> Path:
        """The YAML file of the component."""
        folders = [plugin.config_dir for plugin in registry().option_owners(cls.kind, cls.component)]
        (folder,) = [folder for folder in folders if folder is not None]
        return folder / cls.kind / f"{cls.component}.yaml"

    def runtime(self) -> dict[str, Any]:
        """What the kernel passes to parts of this kind beside their config."""
        return {}

    def part(self, changes: Mapping[str, Any] | None = None, **runtime: Any) -> Any:
        """The part, built anew, with ``changes`` to keys of its config and to what the kernel passes to it."""
        with seeded(self.config()["seed"], self.kind):
            return build_part(self.kind, {**self.node(), **(changes or {})}, **{**self.runtime(), **runtime})

    def found(self, part: Any) -> dict[str, Any]:
        """What ``part`` gives for the kit's own inputs, by name: what has to be the same again, bit for bit."""
        return {}

    def leave(self, directory: Path) -> dict[str, Any]:
        """Put into ``directory`` what another process needs beside the config; return what the part gives here."""
        return self.found(self.part())

    def take_up(self, directory: Path) -> dict[str, Any]:
        """What a part gives that is built anew and takes up what lies in ``directory``."""
        return self.found(self.part())

    def test_its_option_file_has_the_keys_of_its_config_in_their_order(self) -> None:
        expected, got = [field.name for field in dataclasses.fields(self.part_class().Config)], list(self.node())
        assert got == expected, f"expected the keys {expected} as in Config, got {got}"
        assert got[0] == "name", f"expected name to be the first key, got {got[0]}"

    def test_its_config_is_frozen_and_has_no_defaults(self) -> None:
        config = self.part_class().Config
        frozen = config.__dataclass_params__.frozen
        assert frozen, "expected Config to be a dataclass with frozen=True"
        empty = dataclasses.MISSING
        with_default = [f.name for f in dataclasses.fields(config) if (f.default, f.default_factory) != (empty, empty)]
        assert not with_default, f"expected no defaults, which belong into the option file, got one for {with_default}"

    def test_its_option_file_says_what_every_key_means(self) -> None:
        lines = self.option_file().read_text(encoding="utf-8").splitlines()
        values = [line for line in lines if re.match(r"\s*\w+:\s*[^\s#]", line) and not line.startswith("name:")]
        silent = [line.strip() for line in values if not re.search(r"\s#\s*\S", line)]
        assert not silent, f"expected a comment behind every key: what it is, its unit, its range; got none at {silent}"

    def test_its_config_is_the_same_after_json(self) -> None:
        config = self.part_class().Config
        before = typed(config, self.node(), "part")
        written = json.dumps(dataclasses.asdict(before), default=str, allow_nan=False)
        after = typed(config, json.loads(written), "part")
        assert after == before, f"expected the config that was written, {before}, got {after}"

    def test_a_misspelt_key_is_refused_and_the_right_one_named(self) -> None:
        node = self.node()
        key = list(node)[-1]
        wrong = key + key[-1]
        message = refusal(ConfigError, lambda: typed(self.part_class().Config, {**node, wrong: node.pop(key)}, "part"))
        named = f"'{wrong}'" in message and f"'{key}'" in message
        assert named, f"expected the message to name '{wrong}' and '{key}', got: {message}"

    def test_it_is_built_from_its_option_and_is_of_its_kind(self) -> None:
        part = self.part()
        expected = f"expected a {self.protocol.__name__}, got {type(part).__mro__}"
        assert isinstance(part, self.protocol), expected

    def test_building_it_leaves_the_process_as_it_was(self) -> None:
        self.part()  # what it imports late is imported now
        with untouched(during="building it"):
            self.part()

    def test_importing_its_module_leaves_the_process_as_it_was(self) -> None:
        module, got = self.part_class().__module__, self.imported()
        assert not got.error, f"expected to import {module} in a fresh interpreter, got {got.error}"
        expected = f"expected the import of {module} to change nothing, but it changed: {', '.join(got.changed)}"
        assert not got.changed, expected

    def test_importing_its_module_takes_less_than_a_second(self) -> None:
        module, seconds = self.part_class().__module__, self.imported().seconds
        if seconds >= IMPORT_SECONDS:  # another try, where nothing else was imported just before
            with Child() as other:
                seconds = other.imports([module])[module].seconds
        assert seconds < IMPORT_SECONDS, (
            f"expected to import {module} in less than {IMPORT_SECONDS:g} s of one core, "
            f"got {seconds:.2f} s; import what is heavy where it is used"
        )

    def test_a_deep_copy_gives_the_same(self) -> None:
        part = self.ready()
        other = copy.deepcopy(part)
        self.expect_same(self.found(part), self.found(other), "a deep copy")

    def test_a_new_process_gets_the_same_from_it(self) -> None:
        here, there = self.elsewhere()
        got = there.error or f"another {', '.join(differing(here, there.found))}"
        same = not there.error and not differing(here, there.found)
        assert same, f"expected a process that is started afresh to get the same, got {got}"

    def test_it_asks_no_network_and_writes_no_file_outside_temporary_ones(self) -> None:
        opened = self.elsewhere()[1].opened
        assert not opened, f"expected no connection, and no file but temporary ones, got: {'; '.join(opened)}"

    def ready(self) -> Any:
        """The part, ready to be called."""
        return self.part()

    def imported(self) -> Import:
        """What the import of the part's module did in a process of its own."""
        module = self.part_class().__module__
        return child().imports([module])[module]

    def elsewhere(self) -> tuple[dict[str, Any], There]:
        """What the part gives here, and in a process that is started afresh."""
        cls = type(self)
        if "_elsewhere" not in vars(cls):
            with TemporaryDirectory() as name:
                cls._elsewhere = self.leave(Path(name)), child().takes_up(self, Path(name))
        return cls._elsewhere

    def expect_same(self, expected: Mapping[str, Any], got: Mapping[str, Any], what: str) -> None:
        """Assert that ``what`` gives, bit for bit, what was ``expected``."""
        different = differing(expected, got)
        assert not different, f"expected {what} to give the same, got another {', '.join(different)}"


def refusal(error: type[Exception], action: Callable[[], Any]) -> str:
    """Return what ``error``, which ``action`` has to raise, says; AssertionError when it raises none or another."""
    try:
        got = action()
    except error as raised:
        return str(raised)
    except Exception as other:
        raise AssertionError(f"expected {error.__name__}, got {type(other).__name__}: {other}") from other
    raise AssertionError(f"expected {error.__name__}, got {got!r}")
