"""Several ranks: two processes are like one with twice the batch, and end together, also when one of them fails.

Most processes are forked from one that has imported everything; some are started by torchrun, as a user does.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import kills
import numpy as np
import pytest
import sklearn.datasets  # noqa: F401  (joblib tries whether it can write when it is imported)
import tiny
import torch
import two_process_games
from kills import together
from PIL import Image

import ganzoo
import ganzoo_plugins.datasets.digits
import ganzoo_plugins.losses.nonsaturating
import ganzoo_plugins.optimizers.adam  # noqa: F401
from ganzoo import Amount, Choice
from ganzoo.cli import cli
from ganzoo.registry.recipes import plan
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.testing.kit import ExaminedPart
from ganzoo.testing.training_checks import two_processes_are_one
from ganzoo.training.train import resume, start

PATIENCE = 60.0
TINY = [f"{tiny.__file__}:Tiny", "digits:size=8", "-o", "dropout=0"]


# --- the same numbers ---


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, torch.Tensor]]]:
    """The states of the games after training in one process, and in each of two."""
    folder = tmp_path_factory.mktemp("states")
    assert together(lambda rank: two_process_games.train_all(folder / "alone"), 1) == [0]
    assert together(lambda rank: two_process_games.train_all(folder / str(rank)), 2) == [0, 0]
    return [torch.load(folder / name) for name in ("alone", "0", "1")]


@pytest.mark.parametrize("name", [*two_process_games.GAMES, "batch norm"])
def test_two_ranks_are_one_of_twice_the_batch(name: str, states: list[dict[str, dict[str, torch.Tensor]]]) -> None:
    """Weights, moving statistics, optimisers, averages and meters; and both ranks have the same, to the last bit."""
    alone, first, second = (games[name] for games in states)
    assert alone.keys() == first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    # a bias before batch norm has no gradient but rounding, which Adam makes larger: hence so much room near 0
    far = {key: (alone[key] - first[key]).abs().max() for key in alone if not _near(alone[key], first[key], key)}
    assert far == {}


def _near(first: torch.Tensor, second: torch.Tensor, key: str) -> bool:
    # accuracies are float32, and their means over several turns are rounded in another order
    return torch.allclose(first, second, rtol=1e-8, atol=1e-7 if key == "meter/sums" else 1e-9)


def test_every_architecture_is_compared() -> None:
    assert set(two_process_games.SMALL) == set(kills.ZOO.names("architectures"))


def test_the_kit_compares_batch_norm_and_says_where_it_cannot() -> None:
    assert two_processes_are_one(ExaminedPart.of(tiny.Tiny, options={"dropout": 0.0})) == ""
    assert "statistics of its own images" in two_processes_are_one(
        ExaminedPart.of(two_process_games.Centred, options={"dropout": 0.0})
    )


# --- the same files ---


def recipe(**changes: object) -> two_process_games.ganzoo.Recipe:
    # an eps that keeps rounding as small as it is
    adam = {f"{role}_optimizer": "adam:eps=1e-3" for role in ("generator", "discriminator")}
    fields = {"subset": "first 40", "ema_half_life": 50, "length": "12 steps", **adam, **changes}
    return plan(kills.ZOO, Choice(f"{tiny.__file__}:Tiny", {"dropout": 0}), Choice("digits", {"size": 8}), None, fields)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert together(lambda rank: start(recipe(), out, kills.ZOO, kills.CPU, note=_quiet), 1) == [0]
    return out


def _quiet(text: str) -> None:
    pass


def left(out: Path) -> tuple[dict[str, np.ndarray], list[str], list[dict[str, float]]]:
    """The numbers of a run at its end, its files but the checkpoints of other moments, and its lines."""
    saved = checkpoints.load_latest(out / "checkpoints")
    assert saved is not None
    numbers = {name: value.double().numpy() for name, value in saved.tensors.items()}
    for picture in (out / "samples").iterdir():
        numbers[picture.name] = np.asarray(Image.open(picture), dtype=float) / 255
    files = [str(path.relative_to(out)) for path in out.rglob("*") if "checkpoints" not in path.parts]
    lines = Run.open(out).lines("stats.jsonl")
    return numbers, sorted(files), [{key: line[key] for key in line if "second" not in key} for line in lines]


def assert_alike(first: Path, second: Path, ends: Sequence[str] = ()) -> None:
    """Assert that the numbers of two runs agree; only the second has the grid and generator of each of the `ends`."""
    numbers, files, lines = left(first)
    others, other_files, other_lines = left(second)
    kept = {f"{folder}/{end}" for end in ends for folder in ("samples", "generators")}
    assert {file.rpartition(".")[0] for file in set(other_files) - set(files)} == kept
    assert set(files) <= set(other_files)
    others = {name: value for name, value in others.items() if name.rpartition(".")[0] not in ends}
    assert numbers.keys() == others.keys()
    for name, value in numbers.items():
        np.testing.assert_allclose(others[name], value, atol=0.01 if name.endswith(".png") else 1e-5, err_msg=name)
    assert lines == [pytest.approx(line, abs=1e-4) for line in other_lines]


def test_torchrun_leaves_what_one_process_leaves(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (tmp_path / "recipe.toml").write_text(recipe().to_toml())
    arguments = ["train", *TINY, "--recipe", str(tmp_path / "recipe.toml"), "--out", str(out)]
    with torchrun(arguments, tmp_path) as (launcher, output):
        assert launcher.wait(3 * PATIENCE) == 0, output.read_text()
    assert output.read_text().count("Trained.") == 1
    assert output.read_text().count("100%") == 1
    assert_alike(alone, out)


def test_other_numbers_of_ranks_go_on_with_a_run(alone: Path, tmp_path: Path) -> None:
    """2, then 1, then 2: the same images in the same order; and only the first process writes."""
    out, notes = tmp_path / "run", tmp_path / "notes"

    def note(text: str) -> None:
        with open(notes, "a") as file:
            file.write(f"{os.environ['WORLD_SIZE']} {text}\n")

    def begin(rank: int) -> None:
        only_the_first_writes(rank)
        start(recipe(length="5 steps"), out, kills.ZOO, kills.CPU, note=note)

    def go_on(steps: int) -> Callable[[int], None]:
        def job(rank: int) -> None:
            only_the_first_writes(rank)
            resume(out, kills.ZOO, length=Amount(steps, "steps"), note=note)

        return job

    assert together(begin, 2) == [0, 0]
    assert together(go_on(9), 1) == [0]
    assert together(go_on(12), 2) == [0, 0]
    assert re.fullmatch(
        r"1 Resumed with .*\(2 then, 1 now\): the numbers are no longer the same bit for bit\.\n", notes.read_text()
    )
    # the ends after 5 and 9 steps, in images
    assert_alike(alone, out, ["000000072", "000000120"])


def only_the_first_writes(rank: int) -> None:
    """From now on no file can grow in another process."""
    if rank:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


# --- the same end ---


@pytest.mark.parametrize(
    ("arguments", "environment", "speaker", "words", "status"),
    [
        ([*TINY, "--batch-size", "7"], {}, 0, "Batches of 7 cannot be shared evenly by 2 processes", 2),
        (
            [f"{two_process_games.__file__}:Refusing", "digits:size=8"],
            {"GANZOO_TEST_REFUSES": "1"},
            1,
            "There is no room",
            1,
        ),
        ([*TINY, "-e", f"{tiny.__file__}:Brightness", "--best-by", "taste"], {}, 0, "--best-by 'taste' is not", 2),
    ],
    ids=["both refuse", "the other refuses", "the one that writes refuses"],
)
def test_what_one_refuses_ends_all_with_one_sentence(
    arguments: list[str], environment: Mapping[str, str], speaker: int, words: str, status: int, tmp_path: Path
) -> None:
    def job(rank: int) -> None:
        os.environ |= environment
        sys.stdout = sys.stderr = open(tmp_path / f"output{rank}", "w", buffering=1)  # noqa: SIM115
        try:
            cli(["train", *arguments, "--out", str(tmp_path / "run")], prog_name="ganzoo")
        except SystemExit as end:
            os._exit(int(end.code or 0))

    assert together(job, 2) == [status, status]
    outputs = [(tmp_path / f"output{rank}").read_text() for rank in range(2)]
    assert outputs[1 - speaker] == ""
    assert re.fullmatch(rf"Error: {re.escape(words)}.*\n", outputs[speaker])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_ends_when_a_rank_is_killed(rank: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    often = ["--tick-every", "5", "--samples-every", "5", "--checkpoint-every", "5"]
    arguments = ["train", *TINY, "--steps", "100000", *often, "--out", str(out)]
    with torchrun(arguments, tmp_path) as (launcher, output):
        deadline = time.monotonic() + 3 * PATIENCE
        while not any(out.glob("checkpoints/[0-9]*0/MANIFEST.json")):
            assert launcher.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        victims = {_rank_of(int(child)): int(child) for child in children}
        os.kill(victims[rank], signal.SIGKILL)
        assert launcher.wait(PATIENCE) == 1
    said = output.read_text()
    assert said.count("Another process of this training has ended") == 1, said
    assert f'File "{Path(ganzoo.__file__).parent}' not in said  # no traceback of ours beside torchrun's own
    assert (out / "lock").exists() == (rank == 0)
    saved = checkpoints.load_latest(out / "checkpoints")
    assert saved is not None
    assert saved.notes == []


def _rank_of(process: int) -> int:
    variables = dict(line.partition("=")[::2] for line in Path(f"/proc/{process}/environ").read_text().split("\0"))
    return int(variables.get("RANK", -1))


@contextmanager
def torchrun(arguments: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`torchrun --nproc-per-node 2 -m ganzoo ...` on its way, and the file of all it says."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), "-m", "ganzoo"]
    output = folder / "output.txt"
    with open(output, "w") as file:
        process = subprocess.Popen(
            [sys.executable, *launch, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        yield process, output
    finally:
        process.terminate()  # which ends its processes too
        process.wait()
