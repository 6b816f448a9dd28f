"""Write docs/fidelity.md: how far members are from the recorded numbers of the official programs, in both precisions.

    python benchmarks/fidelity_table.py

The numbers are those that the parity tests measure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
_BEGIN = """# Fidelity

How far the members are from the official programs. The recordings in `tests/golden/modern/` hold numbers that the
official code computed; weights, inputs and random draws are redrawn from a seed. Here the engine of ganzoo trained with
them: an error is the largest difference from a recorded number, relative to the largest recorded number of the same
tensor (gradients: of the same network). `make fidelity` writes this page.

| member | recording | compared | float64 | float32 |
| --- | --- | --- | --- | --- |
"""


def rows(member: str, names: tuple[str, ...], measured: Callable[..., Mapping[str, float]]) -> list[str]:
    """The lines of a member: one for each recording and group of numbers."""
    found = []
    for name in names:
        exact, single = (measured(name, dtype) for dtype in (torch.float64, torch.float32))
        found += [f"| `{member}` | {name} | {group} | {exact[group]:.0e} | {single[group]:.0e} |" for group in exact]
    return found


def main() -> None:
    """Measure every member, and write the page."""
    sys.path.insert(0, str(ROOT / "tests"))
    import official_r3gan

    lines = rows("r3gan", official_r3gan.NAMES, official_r3gan.measured)
    (ROOT / "docs" / "fidelity.md").write_text(_BEGIN + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
