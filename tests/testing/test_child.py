"""The process beside this one, in which the kit imports, builds and calls parts."""

from __future__ import annotations

import os
from unittest import SkipTest

import pytest

from ldmkit.testing import MetricSuite
from ldmkit.testing.child import Child, base_and_attributes


def test_an_import_that_fails_is_told_and_costs_itself_alone() -> None:
    with Child() as other:
        found = other.imports(["no_such_module", "this"])
        assert found["no_such_module"].error == "ModuleNotFoundError: No module named 'no_such_module'"
        assert (found["this"].error, found["this"].changed) == ("", ["standard output"])
        with pytest.raises(AssertionError, match="expected another process to go on, but it ended"):
            other.ask(os._exit, 3)


def test_what_an_author_says_of_a_suite_goes_along_and_methods_cannot() -> None:
    class Mine(MetricSuite):
        component = "psnr"

        def test_more(self) -> None: ...

    assert base_and_attributes(Mine()) == (MetricSuite, {"component": "psnr"})

    class Other(Mine):
        overrides = ("seed=1",)

        def source(self) -> None: ...

    with pytest.raises(SkipTest, match="methods of its own: source"):
        base_and_attributes(Other())
