"""ganzoo plugins new: write the files of a plugin that can be published."""

from __future__ import annotations

import keyword
import re
import shlex
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from string import Template

import click

import ganzoo
from ganzoo.cli.output import log
from ganzoo.cli.parameters import KindParam
from ganzoo.contract.errors import UsageError
from ganzoo.contract.hooks import KINDS

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: the first command to try with each kind; digits needs no download
_COMMANDS = {
    "architectures": "ganzoo train {name} digits --epochs 1",
    "datasets": "ganzoo train mlp-vanilla {name} --epochs 1",
    "losses": "ganzoo train mlp-vanilla digits --epochs 1 --loss {name}",
    "optimizers": "ganzoo train mlp-vanilla digits --epochs 1 --generator-optimizer {name}",
    "augmentations": "ganzoo train mlp-vanilla digits --epochs 1 --augmentation {name}",
    "observers": "ganzoo train mlp-vanilla digits --epochs 1 --observer {name}",
    "launchers": "ganzoo benchmark -a mlp-vanilla -d digits --seeds 0 --epochs 1 --launcher {name}",
    "evaluators": "ganzoo evaluate RUN -e {name}",
    "extractors": "ganzoo show {name}",
}
#: names that would make `ganzoo_NAME` a package of this project
_TAKEN = ("plugins",)


@click.command(short_help="Write the files of a new plugin.")
@click.argument("name")
@click.argument("where", required=False, type=click.Path(path_type=Path))
@click.option("--kind", "group", type=KindParam(), required=True, help="What the plugin adds, such as loss.")
def new(name: str, where: Path | None, group: str) -> None:
    """Write the files of a new plugin NAME into the folder WHERE (`ganzoo-NAME`). No existing file is overwritten.

    \b
      ganzoo plugins new soft-margin --kind loss
      ganzoo plugins new my-gan ~/code/my-gan --kind architecture

    The files are a pyproject.toml, one module with a part that works, a test of one line and a README. Their paths are
    printed.
    """
    kind = KINDS[group].lower()
    if not _NAME.fullmatch(name) or name in _TAKEN:
        reason = "is the name of a package of ganzoo's own" if name in _TAKEN else "cannot be the name of a part"
        raise UsageError(
            f"{name!r} {reason}: write words of a-z and 0-9 with single dashes between, such as my-{kind}."
        )
    folder = where or Path(f"ganzoo-{name}")
    files = {folder / file: text for file, text in _files(name, group).items()}
    if taken := [path for path in files if path.exists()]:
        raise UsageError(f"{taken[0]} is there already, and nothing is overwritten: name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        click.echo(path)
    _log_next_steps(name, group, folder)


def _log_next_steps(name: str, group: str, folder: Path) -> None:
    from ganzoo.registry.zoo import zoo

    part = name
    if others := [other.id for other in zoo().components(group) if other.name == name]:
        part = f"ganzoo-{name}/{name}"
        log(f"{others[0]} has the same short name: where both are installed, write {part}.")
    log("Next:")
    for command in (
        f"pip install -e {shlex.quote(str(folder))}",
        f"ganzoo plugins check {part}",
        f"pytest {shlex.quote(str(folder))}",
        _COMMANDS[group].format(name=part),
    ):
        log(f"  {command}")


def _files(name: str, group: str) -> dict[str, str]:
    """The text of each file by its path in the folder."""
    identifier, kind = name.replace("-", "_"), KINDS[group].lower()
    values = {
        "name": name,
        "kind": kind,
        "article": "An" if kind[0] in "aeo" else "A",
        "article_small": "an" if kind[0] in "aeo" else "a",
        "group": group,
        "identifier": identifier,
        "distribution": f"ganzoo-{name}",
        "module": f"ganzoo_{identifier}",
        "class_name": _class_name(name, kind),
        "versions": _versions(version("torch-ganzoo")),
        "api": str(ganzoo.API_VERSION),
        "command": _COMMANDS[group].format(name=name),
    }
    templates = {
        "pyproject.toml": "pyproject.toml",
        f"ganzoo_{identifier}.py": f"{kind}.py",
        f"test_ganzoo_{identifier}.py": "test.py",
        "README.md": "README.md",
    }
    folder = resources.files("ganzoo.cli") / "templates"
    return {
        file: Template((folder / f"{template}.in").read_text(encoding="utf-8")).substitute(values)
        for file, template in templates.items()
    }


def _class_name(name: str, kind: str) -> str:
    """`SoftMargin` for `soft-margin`; the kind comes first where that is no Python name: `Loss3d` for `3d`."""
    camel = "".join(word.capitalize() for word in name.split("-"))
    return camel if camel.isidentifier() and not keyword.iskeyword(camel) else kind.capitalize() + camel


def _versions(installed: str) -> str:
    """The compatible versions of torch-ganzoo: `>=0.1,<0.2` for 0.1.7, `>=1.2,<2` for 1.2.3."""
    major, minor = (int(number) for number in re.findall(r"\d+", installed)[:2])
    return f">={major}.{minor},<{major + 1}" if major else f">=0.{minor},<0.{minor + 1}"
