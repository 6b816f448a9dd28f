"""What the documents say is so: examples run, commands exist, hooks have the signatures that are written down."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ganzoo.cli import cli
from ganzoo.contract.hooks import RunHooks

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "plugins.md").read_text()
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
SMALL = ["--steps", "2", "--batch-size", "4", "-q"]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """my_parts.py with every example of the guide, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_parts.py").write_text("\n\n".join(BLOCKS))
    return tmp_path


def run(command: str, *more: str) -> str:
    result = CliRunner().invoke(cli, [*shlex.split(command)[1:], *more])
    assert result.exit_code == 0, f"{command}: {result.output}"
    return result.stdout.strip()


def _guide_commands(verb: str) -> list[str]:
    return re.findall(rf"^`(ganzoo {verb} [^`]*)`$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("command", _guide_commands("train"))
def test_every_example_of_the_guide_trains(command: str, parts: Path) -> None:
    small = command.replace(" digits", " digits:size=8").replace("dcgan-tutorial ", "dcgan-tutorial -o width=4 ")
    out = Path(run(small, *SMALL))
    assert (out / "stats.jsonl").read_text()
    if "Diary" in command:
        assert len((out / "diary.txt").read_text().splitlines()) == 2


def test_the_evaluator_of_the_guide_scores(parts: Path) -> None:
    out = run("ganzoo train mlp-vanilla digits", *SMALL)
    (command,) = _guide_commands("evaluate")
    assert "logit-shift" in run(command.replace("runs/a", out), "--samples", "20")


def test_the_guide_has_an_example_of_every_kind() -> None:
    bases = {base for block in BLOCKS for base in re.findall(r"\(ganzoo\.(\w+)\):", block)}
    assert bases == {"Architecture", "SeparableLoss", "Dataset", "Augmentation", "Optimizer", "Evaluator", "Observer"}


def test_every_hook_is_documented_with_its_signature() -> None:
    for name, hook in vars(RunHooks).items():
        if name.startswith("on_"):
            arguments = ", ".join(list(inspect.signature(hook).parameters)[1:])
            assert f"`{name}({arguments})`" in GUIDE


def test_the_commands_of_the_readme_exist() -> None:
    commands = re.findall(r"^(ganzoo .+?)(?:\s{2,}#.*)?$", README, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        if words[0] == "train" and "image-folder" not in command:
            dry = run(f"ganzoo {shlex.join(words)}", "--dry-run")
            assert dry.startswith("architecture")
        else:
            assert words[0] in cli.list_commands(None)  # type: ignore[arg-type]
    targets = re.findall(r"^make ([\w-]+)", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_lists_every_architecture_and_dataset() -> None:
    from ganzoo.zoo import Zoo

    for kind in ("architectures", "datasets"):
        for name in Zoo().names(kind):
            assert f"`{name}" in README, name
