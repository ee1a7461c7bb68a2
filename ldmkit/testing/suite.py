"""What every suite has: its part, built small as the kernel builds it, and the checks that fit parts of any kind."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ldmkit.errors import ConfigError
from ldmkit.models import build_part, seeded
from ldmkit.registry.components import MULTIPLE
from ldmkit.registry.composing import compose
from ldmkit.registry.discovery import registry
from ldmkit.registry.schema import typed
from ldmkit.testing.process import changed_by_import, untouched


class Suite:
    """Checks of one part, which ``option`` names: the option file of its group, as in ``ldmkit run cond=OPTION``.

    ``overrides`` are further overrides of the run, for a part that needs more than its option file says. Every check
    is a method ``test_*`` without arguments that raises AssertionError, or SkipTest where it does not apply; pytest
    finds them in a subclass called ``Test...``.
    """

    kind: ClassVar[str]
    protocol: ClassVar[type[Any]] = object
    option: ClassVar[str]
    overrides: ClassVar[Sequence[str]] = ()
    _config: ClassVar[dict[str, Any]]

    @classmethod
    def config(cls) -> dict[str, Any]:
        """The run's config with ``scale=smoke`` and the option."""
        if "_config" not in vars(cls):
            choice = f"{cls.kind}=[{cls.option}]" if cls.kind in MULTIPLE else f"{cls.kind}={cls.option}"
            cls._config = compose(["scale=smoke", choice, *cls.overrides])
        return copy.deepcopy(cls._config)

    @classmethod
    def node(cls) -> dict[str, Any]:
        """The part's own node of the config."""
        node: dict[str, Any] = cls.config()[cls.kind]
        return node[cls.option] if cls.kind in MULTIPLE else node

    @classmethod
    def part_class(cls) -> type[Any]:
        """The class that is registered under the option's name."""
        return registry().part(cls.kind, cls.node()["name"])

    def runtime(self) -> dict[str, Any]:
        """What the kernel passes to parts of this kind beside their config."""
        return {}

    def part(self, changes: Mapping[str, Any] | None = None, **runtime: Any) -> Any:
        """The part, built anew, with ``changes`` to keys of its config and to what the kernel passes to it."""
        with seeded(self.config()["seed"], self.kind):
            return build_part(self.kind, {**self.node(), **(changes or {})}, **{**self.runtime(), **runtime})

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
        targets = {component.target.partition(":")[0]: None for component, _ in registry().components()}
        module = self.part_class().__module__
        got = changed_by_import((*targets, *{module: None}.keys() - targets.keys()))[module]
        assert not got, f"expected the import of {module} to change nothing, but it changed: {', '.join(got)}"


def refusal(error: type[Exception], action: Callable[[], Any]) -> str:
    """Return what ``error``, which ``action`` has to raise, says; AssertionError when it raises none or another."""
    try:
        got = action()
    except error as raised:
        return str(raised)
    except Exception as other:
        raise AssertionError(f"expected {error.__name__}, got {type(other).__name__}: {other}") from other
    raise AssertionError(f"expected {error.__name__}, got {got!r}")
