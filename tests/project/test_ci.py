"""The script of the CI, with a `make` that only says how it was called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
MAKE = """#!/bin/sh
echo "make: $1 | $PWD | $(id -u) | $HOME | $(cat file) | $(test -w . && echo writable)"
mkdir -p .venv/locked && touch .venv/.installed && chmod 500 .venv/locked
test "$1" != "$FAILS" || exit 7
"""

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None or not SCRIPT.exists(),
    reason="needs bash, and the script, which is not in the sdist",
)


class Project:
    """A checkout with one file and the script, and a folder for temporary files."""

    def __init__(self, root: Path) -> None:
        self.root, self.tools, self.tmp = root / "checkout", root / "tools", root / "tmp"
        for folder in (self.root / ".ci", self.tools, self.tmp):
            folder.mkdir(parents=True)
        self.tmp.chmod(0o777)
        shutil.copy(SCRIPT, self.root / ".ci" / "run")
        (self.root / "file").write_text("committed\n")
        (self.tools / "make").write_text(MAKE)
        (self.tools / "make").chmod(0o755)

    def git(self, *words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*")
        subprocess.run(["git", *who, *words], cwd=self.root, check=True, capture_output=True)

    def commit(self) -> None:
        if shutil.which("git") is None:
            pytest.skip("needs git")
        self.git("init", "--quiet")
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", "first")

    def run(self, fails: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "GANZOO_TEST_DATA"},
            **{"PATH": f"{self.tools}:{os.environ['PATH']}", "TMPDIR": str(self.tmp), "FAILS": fails, **variables},
        }
        return subprocess.run(
            [self.root / ".ci" / "run"], env=environment, cwd="/", capture_output=True, text=True, timeout=120
        )


@pytest.fixture
def project() -> Iterator[Project]:
    """In a folder that every user may enter: those of pytest are closed."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield Project(folder)
    shutil.rmtree(folder)


def calls(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """Target, folder, user, home, text of the file, and whether the folder can be written, of each call of make."""
    return [line.removeprefix("make: ").split(" | ") for line in done.stdout.splitlines() if line.startswith("make: ")]


def test_the_suite_runs_in_a_clone_of_the_projects_name_as_an_ordinary_user(project: Project) -> None:
    project.commit()
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert "ci: a clone of the commit" in done.stdout
    install, lint, test = calls(done)
    assert [call[0] for call in (install, lint, test)] == [".venv/.installed", "lint", "test"]
    assert int(install[2]) == os.geteuid()  # with the settings and the cache of the caller
    assert install[3] == os.environ["HOME"]
    for target, folder, user, home, text, writable in (lint, test):
        assert Path(folder).name == "ganzoo", target
        assert " " in Path(folder).parent.name
        assert Path(folder).is_relative_to(project.tmp)
        assert (text, writable) == ("committed", "writable")
        if os.geteuid() == 0 and "ci: as the user nobody" in done.stdout:
            assert int(user) != 0
            assert Path(home).is_relative_to(project.tmp)
        else:
            assert int(user) == os.geteuid()
            assert "ci: as " in done.stdout
    assert list(project.tmp.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_root_becomes_an_ordinary_user_and_the_checkout_keeps_its_owner(project: Project) -> None:
    project.commit()
    os.chown(project.root, 12345, 12345)  # git refuses a checkout of somebody else
    before = {path: path.lstat().st_uid for path in project.root.rglob("*")}
    done = project.run()
    if "the user nobody cannot run" in done.stdout:
        pytest.skip(done.stdout)
    assert "ci: a clone of the commit" in done.stdout
    assert {int(call[2]) for call in calls(done)[1:]} == {int(subprocess.check_output(["id", "-u", "nobody"]))}
    assert {path: path.lstat().st_uid for path in project.root.rglob("*")} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_where_root_cannot_become_another_user_it_says_so(project: Project) -> None:
    for name in ("setpriv", "runuser"):
        (project.tools / name).write_text("#!/bin/sh\nexit 1\n")
        (project.tools / name).chmod(0o755)
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ci: as root, because the user nobody cannot run \S+ here$", done.stdout, re.MULTILINE)
    assert [call[2] for call in calls(done)] == ["0", "0", "0"]


@pytest.mark.parametrize(("fails", "called"), [(".venv/.installed", 1), ("lint", 2), ("test", 3)])
def test_the_first_failure_ends_it_with_its_status_and_leaves_nothing(
    project: Project, fails: str, called: int
) -> None:
    done = project.run(fails)
    assert done.returncode == 7
    assert len(calls(done)) == called
    assert list(project.tmp.iterdir()) == []


def test_files_that_are_not_committed_are_tested_too(project: Project) -> None:
    project.commit()
    (project.root / "file").write_text("changed\n")
    (project.root / ".venv").mkdir()
    (project.root / ".venv" / "of the checkout").touch()
    done = project.run()
    assert "ci: a copy of the files" in done.stdout
    assert {call[4] for call in calls(done)} == {"changed"}
    assert (project.root / ".venv").is_dir()
    assert sorted(path.name for path in project.root.iterdir()) == [".ci", ".git", ".venv", "file"]


def test_a_checkout_without_git_is_enough(project: Project) -> None:
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert "ci: a copy of the files" in done.stdout
    assert {call[4] for call in calls(done)} == {"committed"}


def test_settings_of_pip_reach_the_installation_and_archives_reach_the_tests(project: Project) -> None:
    (project.root.parent / "archives" / "MNIST" / "raw").mkdir(parents=True)
    make = project.tools / "make"
    make.write_text(MAKE + 'echo "heard: $1 $PIP_INDEX_URL $GANZOO_TEST_DATA"\n')
    archives = str(project.root.parent / "archives")
    done = project.run(PIP_INDEX_URL="file:///a", GANZOO_TEST_DATA=archives)
    heard = re.findall(r"^heard: (.*)$", done.stdout, re.MULTILINE)
    assert heard == [f"{target} file:///a {archives}" for target in (".venv/.installed", "lint", "test")]
