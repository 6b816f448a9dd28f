"""Write docs/fidelity.md: how far members are from the recorded numbers of the official programs, in both precisions.

    python benchmarks/fidelity_table.py           make fidelity

The numbers are those that tests/plugins/test_fidelity.py holds below their bounds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
_BEGIN = """# Fidelity

How far the members are from the official programs. `make fidelity` writes this page.

## Recorded numbers

The recordings in `tests/golden/modern/` hold numbers that the official code computed; weights, inputs and random draws
are redrawn from a seed. Here the engine of ganzoo trained with them. An error is the largest difference from a recorded
number, relative to the largest recorded number of the same tensor or, for gradients and weights, of a group of tensors.
A test holds every error below 1e-9 in float64. In float32 it may be 1e-6, and four times what the official code's own
float32 is off from its float64; it is compared with the official float32 where that was recorded.

| member | recording | compared | float64 | float32 |
| --- | --- | --- | --- | --- |
"""
_NOTES = """
A dash: not measured. The schedules are numbers of Python, in float64. In float32 a weight of config F whose gradient is
3e-10 moves by a tenth of the learning rate, and takes a feature over the corner of a LeakyReLU: so only the first step
is compared, and each of its phases begins with the weights of float64.

## Differences that were silent

The first version differed from the published programs in these points and did not say so. Mended: the bare name, or the
published recipe, now does what the program does. Stated: it does not, and the description of the part says so
(`ganzoo show NAME`). Runs recorded before keep their meaning.

| part | the program | here | | held by |
| --- | --- | --- | --- | --- |
"""


def rows(fixture: Any) -> list[str]:
    """The lines of a recording: one for each group of numbers."""
    from official_numbers import by_group

    exact = by_group(fixture.measure(torch.float64))
    single = by_group(fixture.measure(torch.float32)) if fixture.single else {}
    return [
        f"| `{fixture.member}` | {fixture.recording} | {group} | {_text(error)} | {_text(single.get(group))} |"
        for group, error in exact.items()
    ]


def _text(error: float | None) -> str:
    return "-" if error is None else f"{error:.0e}" if error else "0"


def main() -> None:
    """Measure every recording, and write the page."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fidelity import FIXTURES
    from silent_differences import difference_lines

    lines = [line for fixture in FIXTURES for line in rows(fixture)]
    page = _BEGIN + "\n".join(lines) + "\n" + _NOTES + "\n".join(difference_lines()) + "\n"
    (ROOT / "docs" / "fidelity.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
