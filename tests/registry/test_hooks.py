"""Every hook is heard with all of its arguments. tests/test_reference.py keeps their documentation true."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from ldmkit.registry.hooks import RunSpec, hookimpl, hookspec
from ldmkit.run import Loggers


def hooks(spec: type[Any]) -> dict[str, list[str]]:
    found = inspect.getmembers(spec, inspect.isfunction)
    return {name: list(inspect.signature(call).parameters)[1:] for name, call in found if not name.startswith("_")}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "on_start": {"config": {"seed": 0}, "directory": Path("run")},
    "on_stage": {"stage": "denoiser", "steps": 3, "reused": False},
    "on_step": {"stage": "denoiser", "step": 1, "metrics": {"loss": 1.0}},
    "on_sample": {
        "stage": "denoiser",
        "step": 1,
        "images": torch.zeros(1, 3, 2, 2),
        "captions": ["a"],
        "path": Path("grid.png"),
    },
    "on_metrics": {"section": "prompt", "metrics": {"all": 1.0}},
    "on_checkpoint": {"stage": "denoiser", "step": 1, "path": Path("step-1")},
    "on_end": {"error": None},
}


@pytest.mark.parametrize("name", sorted(hooks(RunSpec)))
def test_a_logger_hears_the_hook_with_every_argument(name: str) -> None:
    heard: list[dict[str, Any]] = []

    class Listener:
        @hookimpl
        def on_start(self, config: Any, directory: Any) -> None:
            heard.append({"config": config, "directory": directory})

        @hookimpl
        def on_stage(self, stage: Any, steps: Any, reused: Any) -> None:
            heard.append({"stage": stage, "steps": steps, "reused": reused})

        @hookimpl
        def on_step(self, stage: Any, step: Any, metrics: Any) -> None:
            heard.append({"stage": stage, "step": step, "metrics": metrics})

        @hookimpl
        def on_sample(self, stage: Any, step: Any, images: Any, captions: Any, path: Any) -> None:
            heard.append({"stage": stage, "step": step, "images": images, "captions": captions, "path": path})

        @hookimpl
        def on_metrics(self, section: Any, metrics: Any) -> None:
            heard.append({"section": section, "metrics": metrics})

        @hookimpl
        def on_checkpoint(self, stage: Any, step: Any, path: Any) -> None:
            heard.append({"stage": stage, "step": step, "path": path})

        @hookimpl
        def on_end(self, error: Any) -> None:
            heard.append({"error": error})

    loggers = Loggers({})
    loggers._manager.register(Listener(), "listener")
    if name == "on_end":
        loggers.end(None)
    else:
        getattr(loggers, name)(**ARGUMENTS[name])
    assert heard == [ARGUMENTS[name]]


def test_every_logger_hears_the_end_although_one_fails_at_it(caplog: pytest.LogCaptureFixture) -> None:
    heard = []

    class Failing:
        @hookimpl
        def on_end(self) -> None:
            raise OSError("no space")

    class Listening:
        @hookimpl
        def on_end(self, error: BaseException | None) -> None:
            heard.append(error)

    loggers, error = Loggers({}), KeyboardInterrupt()
    for name, listener in (("first", Listening()), ("failing", Failing()), ("last", Listening())):
        loggers._manager.register(listener, name)
    loggers.end(error)
    assert heard == [error, error]
    assert "logger 'failing' failed in on_end" in caplog.text


def test_a_hook_of_a_logger_that_is_to_go_warns_who_implements_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(RunSpec):
        @hookspec(warn_on_impl=DeprecationWarning("on_step goes in 0.4; implement on_stage"))
        def on_step(self, stage: str, step: int) -> None: ...

        @hookspec(warn_on_impl_args={"reused": DeprecationWarning("reused goes in 0.4")})
        def on_stage(self, stage: str, reused: bool) -> None: ...

    class Old:
        @hookimpl
        def on_step(self, step: int) -> None: ...

        @hookimpl
        def on_stage(self, reused: bool) -> None: ...

    monkeypatch.setattr("ldmkit.run.RunSpec", Later)
    monkeypatch.setattr("ldmkit.run.build_part", lambda kind, node, where: Old())
    with pytest.warns(DeprecationWarning, match="goes in 0.4") as warned:
        Loggers({"old": {}})
    assert {str(warning.message) for warning in warned} == {
        "on_step goes in 0.4; implement on_stage",
        "reused goes in 0.4",
    }
    assert {warning.filename for warning in warned} == {__file__}
