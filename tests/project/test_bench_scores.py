"""benchmarks/scores.py, in its tiny version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_measures_ours_and_torchmetrics_and_writes_the_results(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/scores.py", "--quick", "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "scores-cpu.json").read_text())
    variants = {"torchmetrics", "ours, fp32", "ours, bf16"}
    assert facts["features"]["seconds"].keys() == facts["grid"].keys() == variants
    assert facts["solve"]["relative_difference"] < 1e-6
    assert facts["domain"]["scores"] == {"fid-domain": 1, "5 evaluators": 8}
    for text in ("extrapolated", "ours, bf16", "scores/s", "times cheaper"):
        assert text in done.stdout
    plain, ours = (facts["grid"][name]["seconds"]["median"] for name in ("torchmetrics", "ours, fp32"))
    seconds = facts["features"]["seconds"]
    assert plain > 10_000 * max(min(seconds["torchmetrics"]), 1e-9)
    assert ours > 0
