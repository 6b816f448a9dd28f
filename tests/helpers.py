"""Helpers of many tests: the command line, in this process or a new one, and small recipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner, Result

from ganzoo import Choice, GanzooError, Recipe
from ganzoo.cli import cli
from ganzoo.experiments.grid import Trial, plan_study
from ganzoo.experiments.study import Study
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.results.request import SampleRequest
from ganzoo.results.sample import sample as draw_samples
from ganzoo.storage import foreign
from ganzoo.storage.tensors import tensors_from_bytes, tensors_to_bytes

ZOO = Zoo()
#: 8x8 images, so that a step takes milliseconds
SMALL_DIGITS = Choice("digits", {"size": 8})


def ganzoo(*arguments: object) -> Result:
    """The result of `ganzoo ARGUMENTS...`, run in this process; .output holds stdout and stderr."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="ganzoo")


def ganzoo_process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The result of `python -m ganzoo ARGUMENTS...` in a process of its own, with these environment variables set."""
    command = [sys.executable, "-m", "ganzoo", *map(str, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)


def tiny_recipe(architecture: str = "Tiny", options: dict[str, Any] | None = None, **fields: Any) -> Recipe:
    """The complete recipe of an architecture of tests/tiny.py on small digits, with these fields changed."""
    return plan(ZOO, Choice(f"{tiny.__file__}:{architecture}", options or {}), SMALL_DIGITS, None, fields)


def plan_trials(
    zoo: Zoo,
    architectures: Sequence[Choice],
    datasets: Sequence[Choice],
    evaluators: Sequence[Choice],
    seeds: Sequence[int],
    named: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Trial]:
    """The trials of a study without axes. `named` is a recipe file or variant, `changes` are fields of the recipes."""
    texts, fields = ",".join(map(str, seeds)), dict(changes or {})
    return plan_study(zoo, Study(list(architectures), list(datasets), list(evaluators), texts, named, fields))


def read_foreign_files_here(patch: pytest.MonkeyPatch) -> None:
    """Checkpoints of other programs are read in this process: to start the one with limits takes seconds."""

    def read(path: Path, result: Path, classes: tuple[str, ...] = ()) -> object:
        facts = foreign._answer_within(path, result, classes)
        if "refused" in facts:
            raise GanzooError(f"{path} is refused: {facts['refused']}.")
        return json.loads(json.dumps(facts))  # as the other process sends them

    patch.setattr(foreign, "_read_apart", read)


def change_environment(run: Path, **facts: Any) -> None:
    """Set entries of a run's environment.json, which is left without its digest, as by hand or by version 0.1."""
    file = run / "environment.json"
    known = json.loads(file.read_text())
    known.pop("sha256", None)
    file.write_text(json.dumps({**known, **facts}))


def forget_recipe(run: Path) -> None:
    """Leave a run's generators and environment.json without the recipe, as version 0.1 wrote them."""
    for file in (run / "generators").glob("*.safetensors"):
        tensors, metadata = tensors_from_bytes(file.read_bytes())
        file.write_bytes(tensors_to_bytes(tensors, {"images": metadata["images"]}))
    known = json.loads((run / "environment.json").read_text())
    known.pop("recipe", None)
    known.pop("sha256", None)
    (run / "environment.json").write_text(json.dumps(known))


def sample(
    run: Path,
    zoo: Zoo,
    device: torch.device,
    out: Path | None = None,
    *,
    label: int | str | None = None,
    animate: bool | str = False,
    **fields: Any,
) -> Path:
    """`ganzoo.results.sample.sample` with the fields of its request; `animate=True` is a GIF, `label` one class."""
    classes = {} if label is None else {"classes": (label,)}
    suffix = ".gif" if animate is True else animate or ""
    return draw_samples(run, zoo, device, SampleRequest(out=out, animate=suffix, **classes, **fields))
