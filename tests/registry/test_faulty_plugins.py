"""The zoo works whatever else is installed, and a broken plugin is named when it is used."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faulty
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from faulty import Fault

from ganzoo import Choice
from ganzoo.cli import cli
from ganzoo.contract.hooks import KINDS
from ganzoo.registry import guard
from ganzoo.registry import zoo as registry

SMALL = ("--steps", "2", "--batch-size", "4", "-q")
TRAIN = ("train", "mlp-vanilla", "digits:size=8", *SMALL)
EVALUATOR = """import ganzoo

class Part(ganzoo.Evaluator):
    '''Counts.'''

    layer = "pixels"
    scores = {"plain-count": ganzoo.Score("higher")}

    def __init__(self, *, through: str = "plain-pixels"):
        self.extractor = through

    def reset(self, dimensions, device):
        self.count = 0

    def update(self, features, labels, origin):
        self.count += len(features)

    def compute(self):
        return {"plain-count": float(self.count)}
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with every faulty distribution, on sys.path."""
    folder = tmp_path_factory.mktemp("shelf")
    for fault in (*faulty.ALL, faulty.TALKS, faulty.PLAIN):
        fault.install(folder)
    (folder / "faulty_plain_evaluator.py").write_text(EVALUATOR)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(guard, "SLOW_IMPORT", 0.25)
        registry.zoo.cache_clear()
        yield folder
    registry.zoo.cache_clear()
    for name in [name for name in sys.modules if name.startswith("faulty_")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def trained(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of healthy parts, trained while every faulty plugin was installed."""
    out = tmp_path_factory.mktemp("runs") / "healthy"
    result = call(*TRAIN, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def use(fault: Fault, trained: Path, out: Path) -> Result:
    """Run a command that uses the part."""
    whole = f"{fault.distribution}/{fault.name}"
    if fault.group == "evaluators":
        return call("evaluate", trained, "-e", whole, "--samples", 20)
    if fault.group == "extractors":
        return call("evaluate", trained, "-e", f"plain-count:through={whole}", "--samples", 20)
    arguments = {
        "architectures": ("train", whole, "digits:size=8"),
        "datasets": ("train", "mlp-vanilla", whole),
        "losses": (*TRAIN[:3], "--loss", whole),
        "augmentations": (*TRAIN[:3], "--augmentation", whole),
        "optimizers": (*TRAIN[:3], "--generator-optimizer", whole),
        "observers": (*TRAIN[:3], "--observer", whole),
    }[fault.group]
    result = call(*arguments, *SMALL, "--turns", "D,G", "--out", out)
    if fault.name == "raises-on-score":
        assert result.exit_code == 0, result.output
        return call("evaluate", out, "-e", "plain-count", "--samples", 20)
    return result


def check_message(fault: Fault, shelf: Path, text: str) -> None:
    """The text names distribution, version, part and cause, and file and line where there is one."""
    assert "Traceback" not in text
    assert fault.distribution in text
    assert f"{fault.distribution}/{fault.name}" in text or fault in (*faulty.MODULES, *faulty.CHANGES)
    assert "1.2.3" in text
    for text_part in fault.expected:
        assert text_part in text
    if fault.line():
        assert f"{shelf / fault.module}.py, line {fault.line()}" in text


@pytest.mark.parametrize("fault", faulty.NAMED, ids=lambda fault: fault.name)
def test_what_is_broken_is_named_when_it_is_met(fault: Fault, shelf: Path, trained: Path, tmp_path: Path) -> None:
    result = use(fault, trained, tmp_path / "out")
    assert result.exit_code == fault.status, result.output
    check_message(fault, shelf, result.stderr)
    if fault in faulty.FIRST_STEP:
        assert not (tmp_path / "out").exists()
    if fault.status == 0:
        assert result.stdout == f"{tmp_path / 'out'}\n"


def test_an_error_outside_of_plugins_is_blamed_on_none(shelf: Path) -> None:
    with pytest.raises(ValueError, match="invalid literal") as error:
        int("x")
    assert not registry.zoo().blame(error.value)


def test_what_an_observer_prints_goes_to_stderr(shelf: Path, trained: Path, tmp_path: Path) -> None:
    result = use(faulty.TALKS, trained, tmp_path / "out")
    assert result.stdout == f"{tmp_path / 'out'}\n"
    assert result.stderr == "said by a hook\n"


@pytest.mark.parametrize("fault", faulty.MODULES, ids=lambda fault: fault.name)
def test_what_shows_without_being_named_is_listed(fault: Fault, shelf: Path) -> None:
    result = call("list", "losses", "--json")
    assert result.exit_code == 0
    assert any(part["name"] == "hinge" for part in json.loads(result.stdout)["parts"])
    (line,) = [line for line in result.stderr.splitlines() if f"{fault.distribution} 1.2.3:" in line]
    check_message(fault, shelf, line)
    (plugin,) = [
        p for p in json.loads(call("plugins", "--json").stdout)["plugins"] if p["distribution"] == fault.distribution
    ]
    assert any(fault.expected[0] in error for error in plugin["errors"])


def process_state() -> dict[str, Any]:
    """Settings of the whole process."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "random": (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
        "signals": (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)),
        "directory": os.getcwd(),
        "environment": {key: os.environ.get(key) for key in ("PATH", "GANZOO_DATA", "GANZOO_FOO")},
    }


@pytest.mark.parametrize("fault", [f for f in faulty.CHANGES if f.group == "losses"], ids=lambda fault: fault.name)
def test_what_an_import_changes_is_really_put_back(fault: Fault, shelf: Path) -> None:
    sys.modules.pop(fault.module, None)
    notes: list[str] = []
    zoo = registry.Zoo(note=notes.append)
    before = process_state()
    zoo.build("losses", Choice(f"{fault.distribution}/{fault.name}"))
    assert process_state() == before
    assert [note for note in notes if f"Loss {fault.distribution}/{fault.name} 1.2.3 " in note]


def test_there_are_at_least_25() -> None:
    names = [fault.name for fault in faulty.ALL]
    assert len(names) == len(set(names)) >= 25


def test_every_hook_is_raised_in() -> None:
    from ganzoo.contract.hooks import RunHooks

    assert set(faulty.HOOKS) == {name for name in vars(RunHooks) if name.startswith("on_")}


def test_a_name_that_two_distributions_share(shelf: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        info = shelf / f"faulty_shared_{count}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: faulty-shared-{count}\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text("[ganzoo.losses]\nshared = x:Y\n")
    registry.zoo.cache_clear()
    result = call(*TRAIN, "--loss", "shared", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "faulty-shared-1/shared and faulty-shared-2/shared" in result.stderr


def test_all_else_works(shelf: Path, trained: Path) -> None:
    for kind in KINDS:
        assert json.loads(call("list", kind, "--json").stdout)["parts"]
    plugins = json.loads(call("plugins", "--json").stdout)["plugins"]
    assert {fault.distribution for fault in faulty.ALL} <= {plugin["distribution"] for plugin in plugins}
    assert not [p["errors"] for p in plugins if p["distribution"] == "faulty-plain-pixels" and p["errors"]]
    result = call("evaluate", trained, "-e", "plain-count", "--samples", 20, "--json")
    assert result.exit_code == 0, result.output
    assert "plain-count" in result.stdout


def test_what_is_installed_changes_no_number(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_DISABLE", ",".join(fault.distribution for fault in faulty.ALL))
    registry.zoo.cache_clear()
    call(*TRAIN, "--out", tmp_path / "out")
    registry.zoo.cache_clear()
    timed = ("seconds", "images_per_second", "crc")
    lines = [json.loads((run / "stats.jsonl").read_text()) for run in (trained, tmp_path / "out")]
    first, second = ({key: value for key, value in line.items() if key not in timed} for line in lines)
    assert first == second


def test_all_can_be_disabled(shelf: Path) -> None:
    """In a new process, where nothing has been imported yet."""
    everything = ",".join([*(fault.distribution for fault in faulty.ALL), "faulty-shared-1", "faulty-shared-2"])
    environment = {**os.environ, "PYTHONPATH": str(shelf), "GANZOO_DISABLE": everything}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "ganzoo", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return done.stdout

    plugins = {plugin["distribution"]: plugin for plugin in json.loads(run("plugins", "--json"))["plugins"]}
    assert all(plugins[fault.distribution]["disabled"] for fault in faulty.ALL)
    assert not any("faulty" in part["id"] for part in json.loads(run("list", "losses", "--json"))["parts"])
