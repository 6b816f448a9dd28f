"""Runs the blocks of a Markdown page in the order of the page, in one folder, as a reader would who follows it.

* ```` ```python ```` blocks run in this process, and share their names. One that begins with a comment such as
  `# my_gan.py` is also written to the file of that name, as the reader does; several of one name make one file.
* ```` ```bash ```` blocks are commands, one a line. `ganzoo` runs in this process; a block with a pipe, a variable or
  another feature of the shell is run by bash, where `ganzoo`, `make`, `pip` and so on are this file. A training runs
  twice: as it is written, with --dry-run, and then truly, with eight small pictures (see `_train`). A run, a benchmark
  or images of another program that a command names, and no command before it has made, are made first.
* `make TARGET`, `pip install`, `git clone`, `torchrun`, `python benchmarks/...` and servers such as `tensorboard` are
  checked and not run (see `_CHECKED`).
* ```` ```json ```` and ```` ```toml ```` blocks are parsed.
* A block after `<!-- skip: next "reason" -->` does not run.
* Every other word after the backticks is refused, and so is none: `text` is for what is no command.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

import click
import numpy as np
from click.testing import CliRunner
from PIL import Image

import ganzoo
from ganzoo.api.studies import study_of
from ganzoo.cli import cli
from ganzoo.experiments.grid import plan_study
from ganzoo.experiments.tune import request_of
from ganzoo.registry.zoo import zoo

ROOT = Path(__file__).parents[1]
#: pages whose commands and examples run
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "ganzoo-hello" / "README.md"]
#: languages of blocks that are only shown
SHOWN = {"text", "css", "html", "latex", "csv", "yaml", "{toctree}", "{eval-rst}"}
#: an epoch is one step of eight pictures
TINY = {"--batch-size": "8", "--subset": "first 8", "--samples": "100"}
_SHELL = re.compile(r"(?<!\|)\|(?!\|)|[;<$`]|&&|^eval |\bfor ")
#: commands that run until they are stopped, or time steps for long: their arguments are checked
_SERVERS = {"serve", "explore", "watch", "recommend"}
#: a run that a page names: runs/a, runs/cgan-digits
_RUN = re.compile(r"runs/[\w.-]+")


@dataclass
class Followed:
    """What became of a page."""

    #: names of its Python blocks
    names: dict[str, Any] = field(default_factory=dict)
    #: each command that ran, with what it printed to stdout
    outputs: list[tuple[str, str]] = field(default_factory=list)
    #: why blocks did not run
    skipped: list[str] = field(default_factory=list)


def follow(page: Path, folder: Path) -> Followed:
    """Run all blocks of a page in an empty folder. Raises AssertionError, with the line, for one that fails."""
    from sybil import Sybil
    from sybil.evaluators.python import PythonEvaluator
    from sybil.parsers.markdown import CodeBlockParser, SkipParser

    followed = Followed()
    known = {
        "python": PythonEvaluator(),
        "bash": lambda example: _run_block(str(example.parsed), folder, followed),
        "json": lambda example: json.loads(example.parsed) and None,
        "toml": lambda example: tomllib.loads(example.parsed) and None,
    }
    parsers = [CodeBlockParser(language, evaluate) for language, evaluate in known.items()]
    document = Sybil(parsers=[SkipParser(), *parsers]).parse(page)
    _write_files(page, folder)
    with chdir(folder), _small_api():
        for example in document.examples():
            try:
                example.evaluate()
            except SkipTest as reason:
                followed.skipped.append(f"{page.name}:{example.line}: {reason}")
            except AssertionError as error:
                raise AssertionError(f"{page.relative_to(ROOT)}, line {example.line}: {error}") from error
    followed.names = document.namespace
    return followed


@contextmanager
def _small_api() -> Iterator[None]:
    """Let `ganzoo.train` train on eight pictures, and scores draw few, where an example does not say otherwise."""
    train, evaluate = ganzoo.train, ganzoo.TrainedRun.evaluate

    @functools.wraps(train)
    def small_train(*parts: Any, **keywords: Any) -> Any:
        # a wrong keyword is an example of an error
        few = {"batch_size": 8, "subset": "first 8"} if "epochs" in keywords else {}
        return train(*parts, **{**few, **keywords})

    @functools.wraps(evaluate)
    def small_evaluate(run: Any, *evaluators: Any, **keywords: Any) -> Any:
        return evaluate(run, *evaluators, **{"samples": int(TINY["--samples"]), **keywords})

    with patch.object(ganzoo, "train", small_train), patch.object(ganzoo.TrainedRun, "evaluate", small_evaluate):
        yield


def fences(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of each block between backticks on a page."""
    for block in re.finditer(r"^ *(`{3,})([^\n`]*)\n(.*?)^ *\1 *$", page.read_text(encoding="utf-8"), re.M | re.S):
        yield block[2].strip(), block[3]


def commands_in_text(page: Path) -> Iterator[list[str]]:
    """The words of each command that stands in a sentence: `ganzoo sample RUN --gif`."""
    text = re.sub(r"^ *(`{3,}).*?^ *\1 *$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for code in re.findall(r"`(ganzoo [^`]*)`", text):
        yield shlex.split(code)


def check_words(words: list[str]) -> None:
    """Raise AssertionError unless the command of these words exists, and each of its options."""
    command: click.Command = cli
    context = click.Context(cli, info_name="ganzoo")
    for word in words[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            if word.isupper() or word.endswith("/NAME"):
                return
            found = command.get_command(context, word)
            assert found is not None, f"{shlex.join(words)}: there is no command {word!r}"
            command = found
        elif word.startswith("-") and not word[1:2].isdigit():
            names = {one for option in command.get_params(context) for one in (*option.opts, *option.secondary_opts)}
            assert word.partition("=")[0] in names, f"{shlex.join(words)}: there is no option {word}"


def _write_files(page: Path, folder: Path) -> None:
    """Write the files whose names blocks begin with, complete: a process reads a file of parts once."""
    for _, text in fences(page):
        if named := re.match(r"# ([\w-]+\.\w+)\n", text):
            file = folder / named[1]
            before = file.read_text(encoding="utf-8") + "\n\n" if file.exists() else ""
            file.write_text(before + text, encoding="utf-8")


def _run_block(text: str, folder: Path, followed: Followed) -> None:
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if any(_SHELL.search(re.sub(r"'[^']*'", "", line)) for line in lines):
        followed.outputs.append((text, _run_by_bash(text, folder)))
        return
    for line in lines:
        followed.outputs.append((line, _run_line(shlex.split(line, comments=True))))


def _run_line(words: list[str]) -> str:
    """One line: a command; COMMAND > FILE; COMMAND || COMMAND, of which the second runs if the first fails."""
    if ">" in words:
        at = words.index(">")
        Path(words[at + 1]).write_text(run_words(words[:at]))
        return ""
    if "||" in words:
        at = words.index("||")
        with suppress(AssertionError):
            return run_words(words[:at], make_runs=False)
        words = words[at + 1 :]
    return run_words(words)


def _run_by_bash(text: str, folder: Path) -> str:
    if re.search(r"\bjq\b", text) and shutil.which("jq") is None:
        raise SkipTest("jq is not installed")
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    for name in ("ganzoo", *_CHECKED.keys() - {"cd", "source", "."}):  # which the shell has itself
        (tools / name).write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {name} "$@"\n'
        )
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{text}{done.stdout}{done.stderr}"
    return done.stdout


def run_words(words: list[str], make_runs: bool = True) -> str:
    """Run one command of a page, given as its words, in the working directory, and return what it printed to stdout.

    A run that it names is made first where it is not there, unless `make_runs` is false.
    """
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words or words[0] == "export":
        return ""
    program, *rest = words
    if program in _CHECKED:
        _CHECKED[program](rest)
        return ""
    assert program == "ganzoo", f"say in tests/documented.py how `{shlex.join(words)}` is run"
    check_words(words)
    name = rest[0] if rest else ""
    if make_runs and name != "train":
        _make_missing(name, rest)
    printed = ""
    for short in _SHORTENED.get(name, lambda more: [more])(rest):
        if short[0] in _SERVERS:
            _parse(short)
        else:
            printed = _ganzoo(short)
    return printed


def _ganzoo(words: list[str]) -> str:
    result = CliRunner().invoke(cli, words, prog_name="ganzoo")
    unexpected = result.exception if not isinstance(result.exception, SystemExit) else ""
    assert result.exit_code == 0, f"ganzoo {shlex.join(words)}: {result.output}{unexpected!r}"
    return result.stdout


#: the words of a command without its --out -> a copy of what it wrote, for the next page that has it
_KEPT: dict[tuple[str, ...], Path] = {}


def _once(words: list[str], out: str) -> None:
    """Run a command that writes to `out`; a command that ran on another page is not run again, but copied."""
    key = tuple(words)
    if key not in _KEPT:
        _ganzoo([*words, "--out", out])
        _KEPT[key] = Path(tempfile.mkdtemp()) / "kept"
        shutil.copytree(out, _KEPT[key])
    elif not Path(out).exists():
        shutil.copytree(_KEPT[key], out)


def _parse(words: list[str]) -> None:
    """Raise AssertionError unless the command accepts these words."""
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None
    try:
        command.make_context(words[0], words[1:])
    except click.ClickException as error:
        raise AssertionError(f"ganzoo {shlex.join(words)}: {error.message}") from error


def _make_missing(name: str, words: list[str]) -> None:
    """Make what this command reads and is not there: runs, a benchmark, images of another program."""
    runs = _RUN.findall(" ".join(words))
    if name in ("report", "serve"):
        runs += ["runs/a"] if "runs" in words and not Path("runs").exists() else []
        if "benchmark" in words and not Path("benchmark").exists():
            list(_benchmark(["benchmark"]))
    for run in runs:
        if not Path(run).exists():
            _make_run(run)
    if name == "evaluate":
        for file in words:
            written = words[words.index(file) - 1] in ("--save-fakes", "-o", "--out")
            if not Path(file).exists() and not written and (file.endswith((".npy", ".npz")) or file == "fakes/"):
                _make_images(Path(file))


def _make_images(path: Path) -> None:
    """100 gray images of 28x28 pixels: an array, or a folder of PNGs."""
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), np.uint8)
    if path.suffix == ".npy":
        np.save(path, images)
    elif path.suffix == ".npz":
        np.savez(path, images=images)
    else:
        path.mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(path / f"{number:03}.png")


def _make_run(path: str) -> None:
    """A run in this directory: of the architecture that its name begins with, or of a small one."""
    names = sorted(zoo().names("architectures"), key=len, reverse=True)
    architecture = next((name for name in names if Path(path).name.startswith(f"{name}-")), "mlp-vanilla")
    _ganzoo(["train", architecture, "digits:size=28", *_flat(TINY), "--epochs", "2", "--out", path, "-q"])


def _flat(options: dict[str, str]) -> list[str]:
    return [word for pair in options.items() for word in pair]


def _split(words: list[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """The arguments of a command and its options with their values; words[0] is the command."""
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, words
    valued = {
        name
        for option in command.params
        if isinstance(option, click.Option) and not option.is_flag
        for name in option.opts
    }
    arguments, options = [], []
    rest = iter(words[1:])
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            arguments.append(word)
        elif word in valued:
            options.append((word, next(rest)))
        else:
            options.append((name, value if equals else None))
    return arguments, options


def _joined(command: str, arguments: list[str], options: list[tuple[str, str | None]]) -> list[str]:
    return [command, *arguments, *(word for pair in options for word in pair if word is not None)]


def _small_dataset(dataset: str) -> str:
    """Digits in place of a dataset that is downloaded, with the same options; another dataset as it is."""
    name, _, options = dataset.partition(":")
    sizes = {"mnist": 28, "fashion-mnist": 28, "kmnist": 28, "cifar10": 32, "stacked-mnist": 28, "digits": None}
    if name not in sizes:
        return dataset
    size = f"size={sizes[name]}" if sizes[name] and "size=" not in options else ""
    return ":".join(filter(None, ["digits", ",".join(filter(None, [size, options]))]))


def _small_length(option: str, value: str) -> str:
    """A fifth of the epochs, a thousandth of the steps, sixteen images."""
    if option == "--images":
        return "16"
    return str(max(1, int(value) // 5) if option == "--epochs" else max(2, int(value) // 1000))


def _small_options(options: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """Lengths, intervals, devices and evaluators as they can be afforded in a test."""
    small: list[tuple[str, str | None]] = []
    for name, value in options:
        if name in ("--epochs", "--steps", "--images"):
            small.append((name, _small_length(name, value or "")))
        elif name.endswith("-every"):
            small.append((name, "1"))
        elif name in ("-e", "--evaluator") and value in ("fid", "kid", "inception-score"):
            continue  # these need weights that are downloaded
        elif name not in ("--device", "--compile", *TINY):
            small.append((name, value))
    return small


def _train(words: list[str]) -> Iterator[list[str]]:
    """As it is written, with --dry-run; then with eight pictures, a batch an epoch, in the directory of that name."""
    yield [*words, "--dry-run"]
    (architecture, dataset), options = _split(words)
    given = {name for name, _ in options}
    if "--dry-run" in given:
        return
    length = [] if given & {"--epochs", "--steps", "--images"} else [("--epochs", "2")]
    out = [] if "--out" in given else [("--out", _default_directory(words))]
    tiny = [(name, value) for name, value in TINY.items() if name != "--samples" or given & {"-e", "--evaluator"}]
    quiet = [] if given & {"-q", "--quiet", "-v"} else [("-q", None)]
    small = [*_small_options(options), *length, *out, *tiny, *quiet]
    yield _joined("train", [architecture, _small_dataset(dataset)], small)


def _default_directory(words: list[str]) -> str:
    """The directory that this training makes if no --out names one."""
    from ganzoo.contract.recipe import Recipe
    from ganzoo.storage.run_directory import free_directory

    recipe = json.loads(_ganzoo([*words, "--dry-run", "--json"]))["recipe"]
    return str(free_directory(Recipe.from_dict(recipe), Path("runs")))


def _resume(words: list[str]) -> Iterator[list[str]]:
    """Without a length it goes on with what was interrupted. The runs of these tests are finished."""
    arguments, options = _split(words)
    recipe = Path(arguments[0]) / "recipe.json"
    length = []
    if recipe.exists() and not {name for name, _ in options} & {"--epochs", "--steps", "--images"}:
        number, unit = json.loads(recipe.read_text())["length"].split()
        length = [f"--{unit}", str(int(number) + 1)]
    yield [*_joined("resume", arguments, _small_options(options)), *length, "-q"]


def _evaluate(words: list[str]) -> Iterator[list[str]]:
    arguments, options = _split(words)
    small = [
        (name, _small_dataset(value or "") if name in ("--against", "--calibrate", "--other") else value)
        for name, value in _small_options(options)
    ]
    yield _joined("evaluate", arguments, [*small, ("--samples", TINY["--samples"])])


def _benchmark(words: list[str]) -> Iterator[list[str]]:
    """One training of a small architecture; the architectures, datasets and evaluators that are written must exist."""
    arguments, options = _split(words)
    for study in arguments:
        plan_study(zoo(), study_of(ROOT / study, {}))
    if ("--verify" in dict(options)) or ("--dry-run" in dict(options)):
        _parse(words)
        return iter(())
    assert dict(options).get("--launcher", "local").partition(":")[0] in (*zoo().names("launchers"), "./my_parts.py")
    for name, value in options:
        if name in ("-a", "--architecture", "-e", "--evaluator", "-d", "--dataset") and "/" not in (value or ""):
            kind = {"a": "architectures", "e": "evaluators", "d": "datasets"}[name.strip("-")[0]]
            pattern = (value or "").partition(":")[0]
            assert fnmatch.filter(zoo().names(kind), pattern), f"there is none of the {kind} named {pattern!r}"
    _once(_SMALL_BENCHMARK, dict(options).get("--out") or "benchmark")
    return iter(())


_SMALL_BENCHMARK = ["benchmark", "-a", "mlp-vanilla", "-d", "digits:size=8", "--seeds", "0", "--steps", "2"]
_SMALL_BENCHMARK += ["--samples", TINY["--samples"]]


def _merge(words: list[str]) -> Iterator[list[str]]:
    """The command itself; benchmarks that are not there are small ones."""
    for path in _split(words)[0]:
        if not Path(path).exists():
            _once(_SMALL_BENCHMARK, path)
    yield words


def _tune(words: list[str]) -> Iterator[list[str]]:
    """Nothing is trained; the study is checked. tests/experiments/test_tune.py runs searches."""
    _parse(words)
    for study in _split(words)[0]:
        request_of(zoo(), study_of(ROOT / study, {}), 0)
    return iter(())


def _speedrun(words: list[str]) -> Iterator[list[str]]:
    _parse(words)
    small = ["speedrun", "digits:size=8", "--target", "fid-domain<=1e9", "-a", "mlp-vanilla", "--seeds", "0", "-q"]
    _once(
        [*small, "--steps", "2", "--samples", "16", "--score-every", "1"],
        dict(_split(words)[1]).get("--out") or "speedrun",
    )
    return iter(())


def _data(words: list[str]) -> Iterator[list[str]]:
    if words[1:2] == ["list"]:
        yield words
        return
    yield [*words[:2], *(_small_dataset(word) for word in words[2:])]


def _demo(words: list[str]) -> Iterator[list[str]]:
    """It takes minutes and has tests of its own."""
    _parse(words)
    return iter(())


_SHORTENED: dict[str, Callable[[list[str]], Iterator[list[str]] | list[list[str]]]] = {
    "train": _train,
    "resume": _resume,
    "evaluate": _evaluate,
    "benchmark": _benchmark,
    "merge": _merge,
    "tune": _tune,
    "speedrun": _speedrun,
    "data": _data,
    "demo": _demo,
}


def _make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [word for word in words if "=" not in word]
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"the Makefile has no target {target!r}"


def _pip(words: list[str]) -> None:
    assert words[0] == "install", words
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words[1:]:
        named = re.fullmatch(r"(?:torch-ganzoo|\.)\[(.*)\]", word)
        for extra in named[1].split(",") if named else ():
            assert extra in extras, f"there is no extra {extra!r}"


def _torchrun(words: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    parsed = get_args_parser().parse_args(words)
    assert parsed.module
    assert parsed.training_script == "ganzoo"
    more = parsed.training_script_args
    if more[0] == "train":
        _ganzoo([*more, "--dry-run"])
    else:
        _parse(more)


def _python(words: list[str]) -> None:
    if words[:2] == ["-m", "venv"]:
        return
    if words[:2] == ["-m", "pip"]:
        return _pip(words[2:])
    script = ROOT / words[0]
    assert script.is_file(), f"there is no script {words[0]}"
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option.partition("=")[0]}"' in script.read_text(), f"{words[0]} has no option {option}"


#: programs that are not run, with what checks their arguments
_CHECKED: dict[str, Callable[[list[str]], None]] = {
    "make": _make,
    "pip": _pip,
    "torchrun": _torchrun,
    "python": _python,
    "python3": _python,
    "git": lambda words: None,
    "cd": lambda words: None,
    "source": lambda words: None,
    ".": lambda words: None,
    "ssh": lambda words: None,
    "tensorboard": lambda words: None,
    "mlflow": lambda words: None,
}

if __name__ == "__main__":
    sys.stdout.write(run_words(sys.argv[1:]))
