"""Make the golden run of this version. This is done once for each release, and not repeated.

    python tests/make_golden_run.py

Every later version must open, resume and sample it (test_golden_run.py). Its architecture is one with a name, because a
run of an architecture in a file contains the path of that file.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from ganzoo import Choice
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.results.sample import SampleRequest, sample
from ganzoo.training.train import start

GOLDEN = Path(__file__).parent / "golden"
ARCHITECTURE = Choice("mlp-vanilla", {"width": 12, "latent_dim": 8})
CHANGES = {
    "losses": ("nonsaturating", "r1"),
    "batch_size": 16,
    "length": "8 steps",
    "tick_every": "2 steps",
    "samples_every": "4 steps",
    "checkpoint_every": "4 steps",
    "ema_half_life": 64,
    "grid": "2x3",
}


def make(out: Path) -> None:
    """Train a run of 8 steps in `out`, and save samples of it beside it."""
    zoo, cpu = Zoo(), torch.device("cpu")
    start(plan(zoo, ARCHITECTURE, Choice("digits", {"size": 8}), None, CHANGES), out, zoo, cpu)
    sample(out, zoo, cpu, SampleRequest(out=out.parent / f"{out.name}.npy", seed=3))
    environment = json.loads((out / "environment.json").read_text())
    environment["platform"] = "Linux"  # without the version of the kernel
    (out / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")


if __name__ == "__main__":
    target = GOLDEN / f"checkpoint-{version('torch-ganzoo')}"
    if target.exists():
        sys.exit(f"{target} exists already; the golden run of a released version is not made again.")
    torch.set_num_threads(1)
    make(target)
