"""What the bits depend on beside the recipe: written down, compared on resuming, and said where it is another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kills
import pytest
import torch

from ganzoo import Amount
from ganzoo.assembly import assemble, environment
from ganzoo.train import resume, start

#: item -> what it is changed to in the run's environment.json, as if that had been so
CHANGES: dict[str, Any] = {
    "versions": {"torch": "1.0"},
    "device": "cuda:0",
    "device_name": "an abacus",
    "instructions": "AVX1024",
    "threads": 97,
    "memory_format": "channels_last",
    "capture": True,
    "compile": ["generator"],
    "world_size": 8,
    "parts": {},
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    out = tmp_path_factory.mktemp("environment") / "run"
    quick = {"length": "2 steps", "evaluators": (), "samples_every": "100 steps"}
    start(kills.recipe().merged(quick), out, kills.ZOO, kills.CPU, note=lambda text: None)
    return out


def notes_of(run: Path, steps: int) -> list[str]:
    notes: list[str] = []
    resume(run, kills.ZOO, "cpu", Amount(steps, "steps"), note=notes.append)
    return notes


def test_each_item_that_is_another_is_said(stopped):
    file = stopped / "environment.json"
    facts = json.loads(file.read_text())
    assert notes_of(stopped, 3) == []
    for steps, (item, other) in enumerate(CHANGES.items(), start=4):
        assert facts[item] != other
        file.write_text(json.dumps({**facts, item: other}))
        (note,) = notes_of(stopped, steps)
        assert note.startswith(f"Resumed with another {item} ({other} then, {facts[item]} now)")
        assert note.endswith("no longer the same bit for bit.")
    # what an earlier version did not write down cannot be said to be another
    file.write_text(json.dumps({key: value for key, value in facts.items() if key not in ("instructions", "capture")}))
    assert notes_of(stopped, steps + 1) == []
    file.write_text(json.dumps(facts))


def test_what_is_written_down_is_what_is(stopped):
    facts = json.loads((stopped / "environment.json").read_text())
    now = environment(assemble(kills.recipe(), kills.ZOO, kills.CPU), kills.ZOO)
    assert facts["threads"] == torch.get_num_threads()
    assert facts["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert (facts["memory_format"], facts["capture"], facts["world_size"]) == ("contiguous_format", False, 1)
    half = assemble(kills.recipe().merged({"precision": "bf16"}), kills.ZOO, kills.CPU)
    assert environment(half, kills.ZOO)["memory_format"] == "channels_last"
    assert CHANGES.keys() <= now.keys()
