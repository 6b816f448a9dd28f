"""ganzoo runs: the list and the states, what is removed and what is refused, and archives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ganzoo
from terminal import ganzoo_in_terminal

import ganzoo as api
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.results import archive
from ganzoo.results.archive import archive_runs
from ganzoo.results.runs import age_in_words, find_runs, remove_run, size_in_words
from ganzoo.storage.lock import Lock

TRAIN = ("train", "mlp-vanilla", "digits:size=8", "--steps", 4, "--batch-size", 8, "--tick-every", 2, "-q")
SCORED = ("-e", "sliced-wasserstein", "--samples", 16, "--score-every", 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and one like that of a benchmark."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (("a", SCORED), ("bench/runs/b", ())):
        done = ganzoo(*TRAIN, *more, "--out", folder / name)
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def states(folder: Path) -> dict[str, str]:
    return {Path(run["run"]).name: run["state"] for run in api.runs(folder)}


def cut(run: Path, steps: int = 2) -> None:
    """Leave a run as a crash after so many steps would."""
    lines = (run / "stats.jsonl").read_text().splitlines(keepends=True)
    (run / "stats.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= steps))


def test_the_list_as_json(trained: Path) -> None:
    shown = ganzoo("runs", trained, "--json")
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.stdout)
    assert (facts["schema"], facts["command"], facts["path"]) == (1, "runs", str(trained))
    a, b = facts["runs"]
    assert (a["run"], b["run"]) == (str(trained / "a"), str(trained / "bench/runs/b"))
    assert (a["state"], a["architecture"], a["dataset"], a["length"]) == (
        "finished",
        "mlp-vanilla",
        "digits",
        "4 steps",
    )
    assert (a["step"], a["share"], a["seed"]) == (4, 1.0, 0)
    assert a["score"]["score"] == "sliced-wasserstein"
    assert b["score"] is None
    assert a["bytes"] == sum(file.stat().st_size for file in (trained / "a").rglob("*") if file.is_file())
    assert facts["runs"] == list(api.runs(trained))
    assert "sliced-wasserstein" in api.runs(trained)._repr_html_()


def test_the_table_filters_and_sorts(folder: Path) -> None:
    cut(folder / "bench/runs/b")
    shutil.rmtree(folder / "bench/runs/b/checkpoints")  # they are beyond
    shown = ganzoo("runs", folder)
    assert "| 2 of 4 steps |" in shown.stdout
    assert "interrupted" in shown.stdout
    assert "bench" not in ganzoo("runs", folder, "--state", "finished").stdout
    assert "No such run" in ganzoo("runs", folder, "-a", "dcgan*").stderr
    assert ganzoo("runs", "-d", "digi", folder).stdout.count("mlp-vanilla") == 2
    for sort, first in (("size", "a"), ("path", "a"), ("length", "a"), ("score", "a"), ("state", "a")):
        assert Path(api.runs(folder, sort=sort)[0]["run"]).name == first, sort
    os.utime(folder / "a" / "stats.jsonl", (1e9, 1e9))
    for file in (folder / "a").rglob("*"):
        os.utime(file, (1e9, 1e9))
    assert Path(api.runs(folder, sort="age")[0]["run"]).name == "b"
    with pytest.raises(UsageError, match="Did you mean 'finished'"):
        api.runs(folder, state="finish")
    assert ganzoo("runs", folder / "none").exit_code == 2


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_table_fits_a_terminal(trained: Path, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    status, text = ganzoo_in_terminal("runs", columns=columns)
    assert status == 0, text
    assert all(len(line) <= columns for line in text.splitlines())
    assert text.count("4 steps") == 2
    assert ("mlp-vanilla" in text) == (columns == 200)  # narrower ones have fewer columns


def test_the_folder_that_is_meant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert "| runs/a " in ganzoo("runs").stdout
    monkeypatch.chdir(folder)
    assert "| a " in ganzoo("runs").stdout


def test_the_states(folder: Path) -> None:
    a = folder / "a"
    for name in ("cut", "training", "diverged", "damaged", "headless", "broken", "killed", "longer"):
        shutil.copytree(a, folder / name)
    for name in ("cut", "training", "diverged"):
        cut(folder / name)
    (folder / "diverged" / "diagnosis.json").write_text('{"step": 3, "noticed_at_step": 4}')
    (folder / "damaged" / "recipe.json").write_text("{")
    (folder / "headless" / "recipe.json").unlink()
    cut(folder / "broken")
    for file in (folder / "broken" / "checkpoints").glob("*/state.safetensors"):
        file.write_bytes(b"short")
    (folder / "killed" / "lock").write_text('{"pid": 1, "host": "x"}')  # half of a lock: its process is gone
    recipe = json.loads((folder / "longer" / "recipe.json").read_text())
    (folder / "longer" / "recipe.json").write_text(json.dumps({**recipe, "length": "9 steps"}))
    lock = Lock(folder / "training")
    try:
        found = states(folder)
    finally:
        lock.release()
    assert found == {
        "a": "finished",
        "b": "finished",
        "cut": "interrupted",
        "training": "training",
        "diverged": "diverged",
        "damaged": "damaged",
        "headless": "damaged",
        "broken": "damaged",
        "killed": "interrupted",
        "longer": "interrupted",
    }
    shown = ganzoo("runs", folder)
    assert f"{folder / 'damaged'} is damaged: " in shown.stderr
    assert f"{folder / 'diverged'} has diverged: in step 3" in shown.stderr


def test_links_and_hidden_folders_are_not_searched(folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to(folder / "a")
    shutil.copytree(folder / "a", folder / ".hidden")
    shutil.copytree(folder / "a", folder / "1/2/3/4/5")
    assert [run.name for run in find_runs(folder)] == ["a", "b"]
    assert [run.name for run in find_runs(folder / "link")] == ["link"]


def test_a_removal_asks(folder: Path) -> None:
    a = folder / "a"
    (a / "notes.txt").write_text("mine")
    refused = ganzoo("runs", "rm", a)  # no answer
    assert refused.exit_code == 1
    assert f"{a} also holds what no training has written: notes.txt." in refused.stderr
    assert f"Remove {a} (" in refused.stderr
    assert a.exists()
    both = ganzoo("runs", "rm", a, folder / "bench/runs/b", "--yes", "--json")
    assert both.exit_code == 0, both.output
    assert json.loads(both.stdout)["command"] == "runs rm"
    assert states(folder) == {}
    assert not a.exists()


def test_what_is_not_removed(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "precious"
    other.mkdir()
    (other / "file").write_text("x")
    (folder / "link").symlink_to(folder / "a")
    for path, words in ((other, "holds no run"), (folder / "link", "is a link"), (tmp_path / "none", "holds no run")):
        refused = ganzoo("runs", "rm", path, folder / "bench/runs/b", "--yes")
        assert refused.exit_code == 2
        assert words in refused.output
    lock = Lock(folder / "a")
    refused = ganzoo("runs", "rm", folder / "bench/runs/b", folder / "a", "--yes")
    lock.release()
    assert refused.exit_code == 1
    assert "is being written by process" in refused.output
    assert len(states(folder)) == 2  # each is checked before the first is removed
    (folder / "a" / "samples" / "outside").symlink_to(other)
    (folder / "a" / "inside").symlink_to(other)
    remove_run(folder / "a")
    assert (other / "file").read_text() == "x"
    assert not (folder / "a").exists()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz or .zip file. Python 3.11.2 has no filters yet, later versions warn without one."""
    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") and archive.suffix == ".gz" else {}
    shutil.unpack_archive(archive, folder, **safe)


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_an_archive_holds_the_run(folder: Path, tmp_path: Path, suffix: str) -> None:
    a, out = folder / "a", tmp_path / f"x{suffix}"
    (a / "link").symlink_to(tmp_path)
    (a / ".hidden").write_text("x")
    (a / "lock").write_text("{}")
    done = ganzoo("runs", "archive", a, "-o", out, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert f"Left out: {a / 'link'} is a link." in done.stderr
    assert facts["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    inside = tmp_path / "unpacked"
    unpack(out, inside)
    files = {file.relative_to(inside): file.read_bytes() for file in inside.rglob("*") if file.is_file()}
    assert len(files) == facts["files"]
    left_out = ("link", ".hidden", "lock")
    assert files == {
        Path("a") / file.relative_to(a): file.read_bytes()
        for file in a.rglob("*")
        if file.is_file() and file.name not in left_out
    }
    assert states(inside) == {"a": "finished"}
    assert "age" in ganzoo("runs", inside).stdout
    resumed = ganzoo("resume", inside / "a", "--steps", 5, "-q")
    assert resumed.exit_code == 0, resumed.output


def test_an_archive_without_checkpoints_of_two_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ganzoo("runs", "archive", folder / "a", folder / "bench/runs/b", "--light")
    assert done.exit_code == 0, done.output
    assert done.stdout == "runs.tar.gz\n"
    with tarfile.open("runs.tar.gz") as found:
        names = found.getnames()
    assert {name.partition("/")[0] for name in names} == {"a", "b"}
    assert not any("checkpoints" in name for name in names)
    unpack(Path("runs.tar.gz"), Path("unpacked"))
    assert ganzoo("sample", "unpacked/a", "-n", 4, "-o", "x.png").exit_code == 0


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_the_same_run_makes_the_same_archive(folder: Path, tmp_path: Path, suffix: str) -> None:
    again = tmp_path / "elsewhere" / "a"
    for file in (folder / "a").rglob("*"):  # a copy with other times, made in another order
        if file.is_file():
            target = again / file.relative_to(folder / "a")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
            target.chmod(0o600)
    first, second = (archive_runs([run], tmp_path / f"{n}{suffix}") for n, run in enumerate((folder / "a", again)))
    assert first["sha256"] == second["sha256"]


def test_archives_that_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there.zip").write_text("")
    shutil.copytree(folder / "a", tmp_path / "a")
    wrong = [
        ([folder / "a"], tmp_path / "x.rar", "must end in .tar.gz or .zip"),
        ([folder / "a"], tmp_path / "there.zip", "exists already"),
        ([folder / "a"], tmp_path / "none" / "x.zip", "there is no directory"),
        ([folder / "a"], folder / "a" / "x.zip", "lies in the run itself"),
        ([folder / "a", tmp_path / "a"], tmp_path / "x.zip", "Two of the runs are called 'a'"),
        ([folder], tmp_path / "x.zip", "holds no run"),
    ]
    for runs, out, words in wrong:
        with pytest.raises(UsageError, match=words):
            archive_runs(runs, out)
    lock = Lock(folder / "a")
    with pytest.raises(GanzooError, match="is being written by process"):
        archive_runs([folder / "a"], tmp_path / "x.zip")
    lock.release()
    assert not list(tmp_path.glob("*x.*"))


def test_an_archive_is_verified(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = archive._read_zip

    def damaged(path: Path) -> Iterator[tuple[str, object]]:
        with zipfile.ZipFile(path) as found:
            names = found.namelist()
        yield from ((name, file) for name, file in real(path) if name != names[0])

    monkeypatch.setattr(archive, "_read_zip", damaged)
    with pytest.raises(GanzooError, match="does not hold what was written"):
        archive_runs([folder / "a"], tmp_path / "x.zip")
    stats = folder / "a" / "stats.jsonl"

    def changing(path: Path) -> Iterator[tuple[str, object]]:
        stats.write_text("")
        yield from real(path)

    monkeypatch.setattr(archive, "_read_zip", changing)
    with pytest.raises(GanzooError, match=r"stats\.jsonl has changed while it was archived"):
        archive_runs([folder / "a"], tmp_path / "x.zip")
    assert not list(tmp_path.glob("*x.zip*"))


def test_words() -> None:
    assert [size_in_words(n) for n in (5, 4_200, 12_000_000, 3_400_000_000)] == ["5 B", "4.2 kB", "12 MB", "3.4 GB"]
    assert age_in_words(None) == ""
    assert age_in_words(315_532_800) == ""  # the time of files of an archive
