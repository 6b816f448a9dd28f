"""What the documents say is so: examples run, commands exist, signatures and checks are those that are written down.

The tables that are taken from the code are written anew by

    PYTHONPATH=tests python tests/project/test_docs.py
"""

from __future__ import annotations

import hashlib
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from public_signatures import public_signatures

import ganzoo
from ganzoo.cli import cli
from ganzoo.contract.hooks import KINDS, RunHooks
from ganzoo.testing import checks

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "plugins.md").read_text()
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """my_parts.py with every example of the guide, in the working directory, and a mirror of the archive it needs."""
    monkeypatch.chdir(tmp_path)
    mirror = tmp_path / "mirror"
    (mirror / "textures").mkdir(parents=True)
    pixels = hashlib.shake_256(b"squares").digest(100 * 8 * 8)
    np.save(mirror / "textures" / "textures.npy", np.frombuffer(pixels, np.uint8).reshape(100, 1, 8, 8))
    monkeypatch.setenv("GANZOO_MIRROR", str(mirror))
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("GANZOO_OFFLINE", raising=False)
    (tmp_path / "my_parts.py").write_text("\n\n".join(BLOCKS))
    return tmp_path


def run(command: str, *more: str) -> str:
    result = CliRunner().invoke(cli, [*shlex.split(command)[1:], *more])
    assert result.exit_code == 0, f"{command}: {result.output}"
    return result.stdout.strip()


def test_the_guide_has_an_example_of_every_kind() -> None:
    bases = {base for block in BLOCKS for base in re.findall(r"\(ganzoo\.(\w+)\):", block)}
    kinds = {"SeparableLoss" if base == "Loss" else base for base in KINDS.values()}
    assert bases == kinds


def test_every_hook_is_documented_with_its_signature() -> None:
    for name, hook in vars(RunHooks).items():
        if name.startswith("on_"):
            names = list(inspect.signature(hook).parameters)[1:]
            arguments = ", ".join(argument for argument in names if argument != "moment")  # an old name
            assert f"`{name}({arguments})`" in GUIDE


@pytest.mark.slow
@pytest.mark.parametrize("name", re.findall(r"class (\w+)\(ganzoo\.", GUIDE))
def test_every_example_passes_the_kit(name: str, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_DATA", str(parts / "mirror"))  # the kit downloads nothing
    run(f"ganzoo plugins check {parts}/my_parts.py:{name}")


def reference() -> str:
    """Every base class, every hook and the types of their arguments, as they are in the code."""
    signatures = public_signatures()
    lines: list[str] = []
    for owner in [
        *KINDS.values(),
        "SeparableLoss",
        "Round",
        "Score",
        "Origin",
        "ImageSpec",
        "TrainingProgress",
        "RunView",
        "Job",
        "EndedJob",
        "LaunchRequest",
        "Archive",
        "Component",
        "Command",
        "Pretrained",
    ]:
        members = {name: words for name, words in signatures.items() if name.startswith(f"{owner}.")}
        lines.append(f"{owner}: {signatures[owner]}".replace("typing.", ""))
        for name, words in members.items():
            plain = re.sub(r"^((?:abstract )?(?:\w+ )?)\(self(?:, )?", r"\1(", words)
            member = name.removeprefix(f"{owner}.")
            mark, bracket, rest = plain.partition("(")
            signature = f"{mark}{member}({rest}" if bracket and words[0] in "(aso" and " -> " in words else ""
            lines.append(f"    {signature or f'{member}: {words}'}")
        lines.append("")
    hooks = {name: words for name, words in signatures.items() if name.startswith("hook ")}
    lines += [f"{name}({words.removeprefix('(self, ').removeprefix('(self')}" for name, words in hooks.items()]
    return "```text\n" + "\n".join(lines) + "\n```"


def kit() -> str:
    """What the kit checks, by kind."""
    rows = ["| kind | check | what it asks |", "| --- | --- | --- |"]
    shared = set.intersection(*(set(members) for members in checks().values()))
    for kind, members in checks().items():
        own = {name: line for name, line in members.items() if name not in shared}
        if kind == next(iter(checks())):
            rows += [f"| all | `{name}` | {line} |" for name, line in members.items() if name in shared]
        rows += [f"| {kind} | `{name}` | {line} |" for name, line in own.items()]
    return "\n".join(rows)


WRITTEN = {"reference": reference, "kit": kit}
_SECTION = "(<!-- {}: written by tests/project/test_docs.py -->\n)(.*?)(<!-- end -->)"


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_taken_from_the_code_is_as_it_is_there(name: str) -> None:
    (section,) = re.findall(_SECTION.format(name), GUIDE, re.DOTALL)
    assert section[1] == WRITTEN[name]() + "\n", "run: PYTHONPATH=tests python tests/project/test_docs.py"


def test_the_directory_names_the_example() -> None:
    directory = (ROOT / "docs" / "directory.md").read_text()
    project = tomllib.loads((ROOT / "examples" / "ganzoo-hello" / "pyproject.toml").read_text())["project"]
    assert f"`{project['name']}`" in directory
    for parts in project["entry-points"].values():
        assert all(f"`{name}`" in directory for name in parts)


def test_the_version_of_the_contract_is_the_one_told() -> None:
    stability = (ROOT / "docs" / "stability.md").read_text()
    assert f"`ganzoo.API_VERSION`, now {ganzoo.API_VERSION}." in stability
    assert f"`ganzoo_api = {ganzoo.API_VERSION}`" in GUIDE


def test_the_readme_has_the_command_that_ci_uses() -> None:
    assert re.search(r"^make demo\b", README, re.MULTILINE)
    assert re.search(r"^make test\b", README, re.MULTILINE)
    assert len(re.findall(r"^ganzoo ", README, re.MULTILINE)) >= 8


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_page_of_parts_lists_every_architecture_and_dataset() -> None:
    parts = (ROOT / "docs" / "parts.md").read_text()
    from ganzoo.registry.zoo import Zoo

    for kind in ("architectures", "datasets"):
        for name in Zoo().names(kind):
            assert f"`{name}" in parts, name


if __name__ == "__main__":
    for section, write in WRITTEN.items():
        written = write() + "\n"
        GUIDE = re.sub(
            _SECTION.format(section), lambda match, text=written: match[1] + text + match[3], GUIDE, flags=re.DOTALL
        )
    (ROOT / "docs" / "plugins.md").write_text(GUIDE)
