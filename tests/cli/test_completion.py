"""Completion: runs, saved generators, options and recipes of the chosen architecture, parts; in a real bash too."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from ganzoo.cli import cli
from ganzoo.cli.bash_completion import Bash
from ganzoo.cli.completion import moment_items, run_items


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs, the second one of a benchmark, and pictures; it is the working directory."""
    for number, name in enumerate(("runs/a", "runs/bench/runs/b")):
        run = tmp_path / name
        (run / "generators").mkdir(parents=True)
        (run / "recipe.json").write_text("{}")
        (run / "stats.jsonl").write_text("")
        os.utime(run / "stats.jsonl", (1e9 + number, 1e9 + number))
    for images in (0, 500, 12_000):
        (tmp_path / "runs/a/generators" / f"{images:09d}.safetensors").write_text("")
    (tmp_path / "runs/a/scores.jsonl").write_text("")
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def items(line: str | list[str]) -> list[CompletionItem]:
    """The completions at the end of a command line, or of its words, as zsh and fish ask for them."""
    *words, incomplete = line.split(" ") if isinstance(line, str) else line
    return ShellComplete(cli, {}, "ganzoo", "_GANZOO_COMPLETE").get_completions(words[1:], incomplete)


def values(line: str | list[str]) -> list[str]:
    return [item.value for item in items(line) if item.type == "plain"]


def test_runs_the_newest_first(folder: Path) -> None:
    assert values("ganzoo sample ") == ["runs/bench/runs/b", "runs/a"]
    assert values("ganzoo resume runs/a") == ["runs/a"]
    assert values(["ganzoo", "evaluate", f"{folder}/runs/b"]) == [f"{folder}/runs/bench/runs/b"]
    assert values("ganzoo replay ./runs/") == ["./runs/bench/runs/b", "./runs/a"]
    assert values("ganzoo runs rm runs/a ru") == ["runs/bench/runs/b", "runs/a"]
    (nothing,) = items("ganzoo sample pho")
    assert nothing.type == "dir"


def test_a_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert values("ganzoo sample ~/runs/a") == ["~/runs/a"]


def test_a_folder_with_many_folders_is_not_searched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(600):
        (tmp_path / f"{number:03d}").mkdir()
    (tmp_path / "599" / "recipe.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert [item.type for item in run_items("")] == ["dir"]


def test_moments_of_the_run_that_is_typed(folder: Path) -> None:
    assert values("ganzoo sample runs/a --at ") == ["best", "12000", "500", "0"]
    assert values("ganzoo evaluate runs/a --at 1") == ["12000"]
    assert values("ganzoo sample runs/bench/runs/b --at ") == []
    assert [item.value for item in moment_items(None, "")] == ["best"]


def test_options_of_the_architecture_that_is_typed() -> None:
    assert values("ganzoo train dcgan-tutorial digits -o ")[:3] == ["latent_dim=", "width=", "dropout="]
    assert values("ganzoo train dcgan-tutorial digits -o wid") == ["width="]
    (width,) = items("ganzoo train dcgan-tutorial digits -o wid")
    assert width.help == "channels of the narrowest layer"
    assert "dataset.size=" in values("ganzoo train dcgan-tutorial digits -o data")
    assert values("ganzoo train dcgan-tutorial:") == [
        f"dcgan-tutorial:{name}=" for name in ("latent_dim", "width", "dropout")
    ]
    assert values("ganzoo train dcgan-tutorial:width=3,dr") == ["dcgan-tutorial:width=3,dropout="]
    assert values("ganzoo train no-such digits -o ") == ["dataset.size="]


def test_values_of_options(folder: Path) -> None:
    assert values("ganzoo train dcgan image-folder:crop=") == ["image-folder:crop=true", "image-folder:crop=false"]
    assert values("ganzoo train dcgan image-folder:channels=") == ["image-folder:channels=1", "image-folder:channels=3"]
    assert values("ganzoo train dcgan image-folder") == ["image-folder:path="]
    assert values("ganzoo train dcgan image-folder:path=pho") == ["image-folder:path=photos/"]
    assert values("ganzoo train dcgan image-folder:path=photos/") == ["image-folder:path=photos/cats/"]
    assert values("ganzoo train dcgan ./photos -o dataset.cr") == ["dataset.crop="]
    (own,) = items("ganzoo train dcgan ./pho")
    assert own.type == "dir"


def test_options_of_a_class_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import no_such_library\nfrom ganzoo_plugins.losses.hinge import Hinge\n"
        "class Base(Other):\n    recipes = {'one': {}, 'two': {}}\n"
        "    def __init__(self, *, depth: int = 3, mode: Literal['a', 'b'] = 'a'): ...\n"
        "class Mine(Base):\n    recipes = {'three': {}}\n"
    )
    assert values(["ganzoo", "train", f"{file}:Mine", "digits", "-o", ""])[:2] == ["depth=", "mode="]
    assert values(["ganzoo", "train", f"{file}:Mine", "digits", "-o", "mode="]) == ["mode=a", "mode=b"]
    assert values(["ganzoo", "train", f"{file}:Mine", "digits", "--recipe", ""]) == ["three"]
    file.write_text("class Mine(:")
    assert values(["ganzoo", "train", f"{file}:Mine", "digits", "-o", "wid"]) == []


def test_recipes_of_the_architecture_that_is_typed() -> None:
    assert values("ganzoo train dcgan-tutorial digits --recipe home") == ["homework-mnist", "homework-fashion"]
    (file,) = items("ganzoo train dcgan-tutorial digits --recipe ./")
    assert file.type == "file"


def test_parts_of_any_kind() -> None:
    assert "dcgan-tutorial" in values("ganzoo show dc")
    assert values("ganzoo show hin") == ["hinge"]
    assert values("ganzoo runs ar") == ["archive"]
    assert {"runs", "resume", "replay"} <= set(values("ganzoo r"))


@pytest.mark.parametrize(
    ("words", "number", "expected"),
    [
        ("ganzoo\ntrain\ndcgan\nimage-folder\n:\ncrop\n=\n", 6, ["true", "false"]),
        ("ganzoo\ntrain\ndcgan\nimage-folder\n:\ncrop\n=\nt", 7, ["true"]),
        ("ganzoo\ntrain\ndcgan-tutorial\n:\nwid", 4, ["width="]),
        ("ganzoo\ntrain\ndcgan-tutorial\n:\n", 3, ["latent_dim=", "width=", "dropout="]),
        ("ganzoo\ntrain\ndcgan-tutorial:wid", 2, ["dcgan-tutorial:width="]),  # bash with other breaks
        ("ganzoo\ntrain\ndcgan-tutorial\n:\nwidth\n=\n32\ndigits\n-o\nwid", 9, ["width="]),
    ],
)
def test_words_that_bash_has_split(
    words: str, number: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(number))
    shown = Bash(cli, {}, "ganzoo", "_GANZOO_COMPLETE").complete().splitlines()
    assert shown == [f"plain,{value}" for value in expected]


def test_completion_imports_no_torch(folder: Path) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr));"
        "sys.argv = ['ganzoo']; from ganzoo.cli import main; main()"
    )
    for line in ("ganzoo sample ", "ganzoo train dcgan digits -o ", "ganzoo show d", "ganzoo sample runs/a --at "):
        words = line.split(" ")
        given = {"_GANZOO_COMPLETE": "bash_complete", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | given, capture_output=True, text=True)
        assert done.stdout.startswith("plain,"), (line, done.stderr)
        assert done.stderr.strip() == "False", line


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_in_a_real_bash(folder: Path) -> None:
    """The lines that a user sees after the tabulator, in an interactive bash."""
    # not `#!PYTHON`: the path of an interpreter may have a space, or be too long
    program = "import sys; sys.argv[0] = 'ganzoo'; from ganzoo.cli import main; main()"
    (folder / "ganzoo").write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-c", program])} "$@"\n')
    (folder / "ganzoo").chmod(0o755)
    script = subprocess.run(
        [folder / "ganzoo"],
        env=os.environ | {"_GANZOO_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    path = shlex.quote(str(folder))
    settings = f"PATH={path}:$PATH\nPS1='> '\nbind 'set enable-bracketed-paste off'\n"
    (folder / "rc").write_text(settings + script.stdout)
    terminal, theirs = pty.openpty()
    bash = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(theirs)

    def typed(keys: str, until: str) -> str:
        os.write(terminal, keys.encode())
        text, end = "", time.monotonic() + 60
        while not re.search(until, text) and time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                text += os.read(terminal, 4096).decode(errors="replace")
        return text

    try:
        typed("", "> $")
        assert re.search(r"image-folder:path=$", typed("ganzoo train dcgan image-f\t", r"path=$"))
        assert re.search(r"photos/$", typed("pho\t", r"photos/$"))
        typed("\x15", "")
        assert "sample runs/a " in typed("ganzoo sample runs/a\t", r"runs/a $")
        typed("\x15", "")
        assert "-o width=" in typed("ganzoo train dcgan-tutorial digits -o wid\t", r"width=$")
    finally:
        os.write(terminal, b"\x15exit\n")
        bash.wait(timeout=30)
        os.close(terminal)
