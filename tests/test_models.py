"""What a model is told while it is built."""

from __future__ import annotations

import pytest

import ldmkit


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["guidance.scale=2"], ["text"]),
        (["guidance.scale=2", "cond=[text,class]", "cond.class.dropout=0"], ["text", "class"]),
        (["guidance.scale={text: 1, class: 3}", "cond=[text,class]"], []),
        (["guidance.scale={text: 3, class: 1}", "cond=[text,class]"], ["text"]),
        (["guidance.scale=1"], []),
        (["guidance=none"], []),
    ],
)
def test_guidance_by_a_null_that_is_never_trained_is_said_in_one_line(
    overrides: list[str], named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    ldmkit.build(ldmkit.compose(["scale=smoke", "cond.text.dropout=0", *overrides]))
    said = [record.message for record in caplog.records if record.name == "ldmkit"]
    assert len(said) == bool(named)
    for line in said:
        assert f"compares with the null conditioning of {', '.join(named)}, which is not trained" in line
        assert line.endswith(" ".join(f"cond.{name}.dropout=0.1" for name in named) + ", or guidance=none")
