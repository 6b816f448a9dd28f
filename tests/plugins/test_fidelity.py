"""Every recording of an official program: errors below their bounds, and a line for each in docs/fidelity.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fidelity import FIXTURES, Fixture
from official_numbers import FOLDER, by_group

PAGE = (Path(__file__).parents[2] / "docs" / "fidelity.md").read_text(encoding="utf-8")
#: recordings that other tests compare with: test_published_parity.py the spread of initial weights, which are random,
#: test_regularisers.py the penalty of LeCam and the losses of the k best fakes
OTHERS = {"init-stats", "lecam", "top-k"}
CASES = [
    (fixture, dtype)
    for fixture in FIXTURES
    for dtype in (torch.float64, torch.float32)
    if fixture.single or dtype == torch.float64
]


@pytest.mark.parametrize(("fixture", "dtype"), CASES, ids=[f"{fixture}, {str(dtype)[6:]}" for fixture, dtype in CASES])
def test_it_computes_what_the_official_program_does(fixture: Fixture, dtype: torch.dtype) -> None:
    errors = fixture.measure(dtype)
    beyond = {name: error for name, error in errors.items() if not error <= fixture.bound(name, dtype)}
    assert not beyond, {name: (error, fixture.bound(name, dtype)) for name, error in beyond.items()}
    lines = {f"| `{fixture.member}` | {fixture.recording} | {group} |" for group in by_group(errors)}
    assert not {line for line in lines if line not in PAGE}, "run `make fidelity`"


def test_every_recording_is_compared() -> None:
    recorded = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.json")}
    assert {fixture.recording.partition(",")[0] for fixture in FIXTURES} == recorded - OTHERS
