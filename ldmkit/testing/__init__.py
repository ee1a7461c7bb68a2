"""The conformance kit: what every part of a kind must do, as tests that a part's author gets with two lines.

    from ldmkit.testing import ConditionerSuite

    class TestPalette(ConditionerSuite):
        component = "palette"

pytest then checks the part that ``cond=palette`` names, built small (``scale=smoke``) as the kernel builds it. The kit
itself needs no pytest: :func:`check` runs a suite anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from unittest import SkipTest

from ldmkit.testing.conditioner import ConditionerSuite
from ldmkit.testing.data_source import DataSourceSuite
from ldmkit.testing.denoiser import DenoiserSuite
from ldmkit.testing.first_stage import FirstStageSuite
from ldmkit.testing.guidance import GuidanceSuite
from ldmkit.testing.logger import LoggerSuite
from ldmkit.testing.loss import LossSuite
from ldmkit.testing.metric import MetricSuite
from ldmkit.testing.objective import ObjectiveSuite
from ldmkit.testing.sampler import SamplerSuite
from ldmkit.testing.suite import Suite
from ldmkit.testing.task import TaskSuite

__all__ = [
    "SUITES",
    "ConditionerSuite",
    "DataSourceSuite",
    "DenoiserSuite",
    "FirstStageSuite",
    "GuidanceSuite",
    "LoggerSuite",
    "LossSuite",
    "MetricSuite",
    "ObjectiveSuite",
    "SamplerSuite",
    "Suite",
    "TaskSuite",
    "check",
    "checks",
]

SUITES: dict[str, type[Suite]] = {
    suite.kind: suite
    for suite in (
        FirstStageSuite,
        LossSuite,
        ConditionerSuite,
        DenoiserSuite,
        ObjectiveSuite,
        GuidanceSuite,
        SamplerSuite,
        DataSourceSuite,
        MetricSuite,
        LoggerSuite,
        TaskSuite,
    )
}
"""The suite of each kind of part."""


def checks(suite: type[Suite]) -> list[str]:
    """Names of the checks of ``suite``, in their order: those of every part first."""
    classes = (each for each in reversed(suite.__mro__))
    return list(dict.fromkeys(name for each in classes for name in vars(each) if name.startswith("test_")))


def check(suite: type[Suite]) -> Iterator[tuple[str, str, str]]:
    """Run every check of ``suite``: yield its name, ``passed``, ``skipped`` or ``failed``, and why, in one line."""
    for name in checks(suite):
        try:
            getattr(suite(), name)()
        except SkipTest as reason:
            yield name, "skipped", str(reason)
        except (Exception, SystemExit) as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            yield name, "failed", f"{kind}{error}"
        else:
            yield name, "passed", ""
