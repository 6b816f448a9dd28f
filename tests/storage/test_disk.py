"""A disk that is full, read-only, or not what it seems: nothing half-written has a final name, what was there stays."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner
from PIL import Image

from ganzoo import Choice, GanzooError
from ganzoo.cli import cli
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.storage import checkpoints
from ganzoo.storage.files import naming, write_atomically
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import tensors_from_bytes
from ganzoo.training.train import start

CPU = torch.device("cpu")
ARCHITECTURE = f"{tiny.__file__}:Tiny"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", path], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def state(step: int, floats: int = 100_000) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((floats,), float(step))}


def whole(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, all of which must be good."""
    steps = []
    for path in sorted(folder.iterdir()):
        tensors, meta = checkpoints.load(path)
        assert torch.equal(tensors["weight"], torch.full_like(tensors["weight"], meta["step"]))
        steps.append(meta["step"])
    return steps


@pytest.fixture
def folder(small: Path) -> Path:
    """Two checkpoints of 0.4 MiB."""
    for step in (1, 2):
        checkpoints.save(small / "checkpoints", str(step), state(step), {"step": step})
    return small / "checkpoints"


def test_a_checkpoint_without_room_is_not_begun(folder: Path) -> None:
    with pytest.raises(GanzooError, match=r"No room for a checkpoint in .*: it needs 3 MiB, 2 MiB are free; make room"):
        checkpoints.save(folder, "3", state(3, 700_000), {"step": 3})
    assert whole(folder) == [1, 2]


def test_a_disk_that_fills_up_meanwhile_costs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else was quicker: the room that was there when it was looked for is gone when it is written."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 10**9))
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpoints.save(folder, "3", state(3, 700_000), {"step": 3})
    assert caught.value.errno == errno.ENOSPC
    assert whole(folder) == [1, 2], "nor is anything left of the attempt"
    (folder.parent / "recipe.json").write_bytes(b"{}")
    with pytest.raises(OSError, match="No space left on device"):
        write_atomically(folder.parent / "recipe.json", bytes(3 << 20))
    assert (folder.parent / "recipe.json").read_bytes() == b"{}"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["checkpoints", "recipe.json"]
    checkpoints.save(folder, "3", state(3), {"step": 3})
    assert whole(folder) == [2, 3]


def check_run(run: Path) -> None:
    """Whatever has a final name is whole."""
    for picture in (run / "samples").glob("[0-9]*"):
        with Image.open(picture) as image:
            image.load()
    for generator in (run / "generators").glob("[0-9]*"):
        tensors_from_bytes(generator.read_bytes())
    for kept in (run / "checkpoints").glob("[0-9]*"):
        checkpoints.load(kept)
    lines = (run / "stats.jsonl").read_bytes().splitlines()
    for line in lines[:-1]:  # the last one may be torn, and is passed over
        json.loads(line)
    Run.open(run)


def test_a_training_on_a_full_disk_ends_with_a_sentence_and_can_be_resumed(small: Path) -> None:
    """A checkpoint of this run is 0.7 MiB, and there is room for three and a few pictures."""
    run, filler = small / "run", small / "filler"
    filler.write_bytes(bytes(700_000))
    recipe = ["--steps", "12", "--checkpoint-every", "2 steps", "--tick-every", "1 steps", "-o", "width=400", "-q"]
    command = ["train", ARCHITECTURE, "digits:size=8", "--out", str(run), *recipe]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 1, result.output
    assert re.search(r"^Error: .*(No room|No space left)", result.stderr, re.MULTILINE), result.stderr
    check_run(run)
    saved = checkpoints.load_latest(run / "checkpoints")
    assert saved is not None
    assert saved.notes == []
    assert saved.meta["step"] >= 2
    filler.unlink()
    for grid in (run / "generators").glob("*"):
        grid.unlink()  # as a person makes room
    result = CliRunner().invoke(cli, ["resume", str(run), "-q", "--steps", str(saved.meta["step"] + 2)])
    assert result.exit_code == 0, result.output
    check_run(run)


_LIMITED = """
import resource, sys
from pathlib import Path
import torch
from ganzoo.storage import checkpoints, files
folder = Path(sys.argv[1])
checkpoints.save(folder, "1", {"w": torch.zeros(10)}, {"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for action in (
    lambda: checkpoints.save(folder, "2", {"w": torch.zeros(100_000)}, {"step": 2}),
    lambda: files.write_atomically(folder / "file", bytes(200_000)),
):
    try:
        action()
    except OSError as error:
        print(error.strerror)
print(sorted(path.name for path in folder.iterdir()), checkpoints.load_latest(folder).meta["step"])
"""


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _LIMITED, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["File too large", "File too large", "['1'] 1"], done.stderr


# --- places where nothing can be written ---


def refused(*command: str) -> str:
    """What is said by a command that must fail before anything is trained."""
    result = CliRunner().invoke(cli, list(command))
    assert result.exit_code in (1, 2), result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def test_a_read_only_folder_is_named(small: Path) -> None:
    """root may write where modes forbid it, but not where the file system does."""
    run = small / "run"
    zoo = Zoo()
    start(plan(zoo, Choice(ARCHITECTURE), Choice("digits", {"size": 8})), run, zoo, CPU)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    out = ["train", ARCHITECTURE, "digits:size=8", "--out"]
    assert "Read-only file system" in refused(*out, str(small / "new"))
    assert "Read-only file system" in refused("resume", str(run), "--steps", "12")
    assert f"{run} cannot be written" in refused("sample", str(run))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    out = ["train", ARCHITECTURE, "digits:size=8", "--out"]
    assert f"{tmp_path / 'file'} is a file" in refused(*out, str(tmp_path / "file"))
    assert "Not a directory" in refused(*out, str(tmp_path / "file" / "run"))
    for link in ("link", "circle"):
        assert str(tmp_path / link) in refused(*out, str(tmp_path / link))
    assert "holds no run" in refused("resume", str(tmp_path / "file"))
    assert "holds no run" in refused("sample", str(tmp_path / "link"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circle", "file", "link"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write where modes forbid it")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused("train", ARCHITECTURE, "digits:size=8", "--out", str(tmp_path / "new"))


# --- the machine around it ---


def test_a_clock_that_jumps_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order is that of the images seen: what was saved last by the clock is not the newest because of it."""
    now = [1e9]
    monkeypatch.setattr("time.time", lambda: now[0])
    for step, jump in ((1, 0), (2, -86_400), (3, 86_400), (4, -200_000)):
        now[0] += jump
        path = checkpoints.save(tmp_path, str(step), state(step), {"step": step})
        os.utime(path, (now[0], now[0]))
    assert whole(tmp_path) == [3, 4]
    found = checkpoints.load_latest(tmp_path)
    assert found is not None
    assert found.meta["step"] == 4


def ascii_locale(python: str = sys.executable) -> tuple[dict[str, str], str]:
    """Variables that set the ASCII locale, or none and the reason if Python itself does not start with them.

    Until version 3.12, Python reads the .pth files of an environment in the encoding of the locale. They name the
    folder of the project, which may have other letters than those of ASCII.
    """
    variables = {"LC_ALL": "C"}
    found = subprocess.run([python, "-c", "pass"], env=variables, capture_output=True, text=True, errors="replace")
    if found.returncode == 0:
        return variables, ""
    last = found.stderr.strip().rpartition("\n")[2]
    return {}, f"not tested in an ASCII locale, in which Python itself does not start from {python!a}: {last}"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="this Python reads .pth files as UTF-8 in every locale")
def test_an_ascii_locale_in_which_python_does_not_start_is_named(tmp_path: Path) -> None:
    environment = tmp_path / "é"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    assert ascii_locale(str(python)) == ({"LC_ALL": "C"}, "")
    (site,) = environment.glob("lib/python3*/site-packages")
    (site / "project.pth").write_text(f"{tmp_path}/é\n", encoding="utf-8")
    variables, reason = ascii_locale(str(python))
    assert variables == {}
    assert reason.startswith("not tested in an ASCII locale, in which Python itself does not start from '/")
    assert "can't decode byte 0xc3" in reason


def test_an_environment_full_of_traps_is_passed_by(tmp_path: Path) -> None:
    """Job variables are no commands, a home is not needed, ASCII is enough, stdin may be closed."""
    locale, reason = ascii_locale()
    run = shutil.copytree(Path(__file__).parents[1] / "golden" / "checkpoint-0.1.0", tmp_path / "run é")
    trap = f"1; touch {tmp_path}/canary"
    variables = (
        "SLURM_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
        "PBS_JOBID",
        "MASTER_ADDR",
        "MASTER_PORT",
        "GANZOO_TYPO",
        "PAGER",
    )
    environment = {
        **dict.fromkeys(variables, trap),
        **locale,
        **{"PATH": os.environ["PATH"], "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "COLUMNS": "x"},
        **{"http_proxy": "http://127.0.0.1:9", "GANZOO_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
    }
    command = f"exec {shlex.quote(sys.executable)} -m ganzoo sample 'run é' <&-"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (run / "sample-0.png").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run é"]
    if reason:  # all the other traps were passed by
        pytest.skip(reason)


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "scores.jsonl"))) as caught:
        write_atomically(tmp_path / "scores.jsonl", b"x")
    assert caught.value.filename == str(tmp_path / "scores.jsonl")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left on device") as caught, naming(tmp_path / "stats.jsonl"):
        full(0)
    assert caught.value.filename == str(tmp_path / "stats.jsonl")
