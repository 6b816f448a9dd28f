"""The conformance kit: every check finds its mutant and no other, and all parts of the zoo pass all checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from large_sets import picture, samples, write_parquet, write_tar
from mutants import ALSO, GOOD, MUTANTS
from PIL import Image
from ray_cluster import ray_cluster

import ganzoo.testing
from ganzoo.cli import cli
from ganzoo.contract.errors import UsageError
from ganzoo.contract.hooks import KINDS
from ganzoo.registry.zoo import zoo
from ganzoo.testing.architectures import compiles_without_a_break
from ganzoo.testing.catalogue import CHECKS
from ganzoo.testing.kit import ExaminedPart, Outcome, examine
from ganzoo.testing.process import restoring_process

ALL_CHECKS = [(kind, check.__name__) for kind, members in CHECKS.items() for check in members]


def outcomes(part: ExaminedPart) -> dict[str, Outcome]:
    return {check.__name__: examine(part, check) for check in CHECKS[part.kind]}


def failures(found: dict[str, Outcome]) -> dict[str, str]:
    return {name: outcome.reason for name, outcome in found.items() if outcome.state == "failed"}


# --- the kit itself ---


def test_every_check_has_its_mutant() -> None:
    assert {kind: set(members) for kind, members in MUTANTS.items()} == {
        kind: {check.__name__ for check in members} for kind, members in CHECKS.items()
    }
    assert set(CHECKS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_part_passes_every_check(kind: str) -> None:
    assert not failures(outcomes(ExaminedPart.of(GOOD[kind])))


@pytest.mark.parametrize(("kind", "check"), ALL_CHECKS)
def test_a_mutant_fails_its_check_and_no_other(kind: str, check: str) -> None:
    found = outcomes(ExaminedPart(kind, MUTANTS[kind][check], {"split": "train"} if kind == "datasets" else {}))
    if found[check].state == "skipped":
        pytest.skip(found[check].reason)
    failed = failures(found)
    assert set(failed) == {check} | ALSO.get((kind, check), set()), failed
    assert len(failed[check]) > 20  # a sentence


def test_every_check_says_what_it_checks() -> None:
    listed = ganzoo.testing.checks()
    assert {kind: list(members) for kind, members in listed.items()} == {
        kind: [check.__name__ for check in members] for kind, members in CHECKS.items()
    }
    for members in listed.values():
        assert all(line.endswith(".") for line in members.values())


def test_importing_a_part_must_not_change_the_process(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text(
        "import torch, ganzoo\n"
        "torch.set_default_dtype(torch.float64)\n"
        "print('hello')\n"
        "class Loud(ganzoo.Augmentation):\n"
        "    '''Inverts images.'''\n"
        "    def forward(self, images):\n"
        "        return -images\n"
    )
    with restoring_process():
        failed = failures(outcomes(ExaminedPart.of(f"{file}:Loud")))
    assert torch.get_default_dtype() == torch.float32
    assert "default dtype" in failed["leaves_the_process_as_it_was"]
    assert "'hello'" in failed["leaves_the_process_as_it_was"]


def test_checks_use_no_network_and_restore_the_process() -> None:
    before = dict(os.environ), torch.get_num_threads(), torch.get_rng_state()
    found = outcomes(ExaminedPart("datasets", MUTANTS["datasets"]["missing_data_is_explained"], {}))
    assert "network" in found["missing_data_is_explained"].reason
    assert (dict(os.environ), torch.get_num_threads()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_conformance_is_a_test_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text(
        "import torch, ganzoo\n"
        "class Mirror(ganzoo.Augmentation):\n"
        "    '''Mirrors images.'''\n"
        "    def __init__(self, *, often: bool = True):\n"
        "        super().__init__()\n"
        "        self.often = often\n"
        "    def forward(self, images):\n"
        "        return images.flip(-1) if self.often else images\n"
    )
    (tmp_path / "test_mine.py").write_text(
        "import ganzoo.testing\n"
        "from my_parts import Mirror\n"
        "test_mirror = ganzoo.testing.conformance(Mirror)\n"
        "test_rarely = ganzoo.testing.conformance(Mirror, often=False)\n"
        f"test_place = ganzoo.testing.conformance({str(tmp_path / 'my_parts.py') + ':Mirror'!r})\n"
        "test_name = ganzoo.testing.conformance('hinge')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "1 failed" in done.stdout, done.stdout
    assert "test_rarely[images_are_changed]" in done.stdout
    assert "It returns all images unchanged." in done.stdout


# --- the command ---


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["plugins", *arguments])
    return result.exit_code, result.stdout + (result.stderr or "")


def test_check_prints_one_line_for_each_check() -> None:
    status, text = run("check", "hinge")
    assert status == 0, text
    for check in CHECKS["losses"]:
        assert any(line.split()[1:2] == [check.__name__] for line in text.splitlines()), check
    assert " 0 failed" in text


def test_check_of_a_file_examines_every_part_and_prints_reasons(tmp_path: Path) -> None:
    file = tmp_path / "parts.py"
    file.write_text((Path(__file__).parents[1] / "mutants" / "augmentations.py").read_text())
    status, text = run("check", f"{file}:Nothing", "--json")
    assert status == 1
    lines = json.loads(text[: text.rindex("}") + 1])["checks"]
    assert [line["check"] for line in lines if line["state"] == "failed"] == ["images_are_changed"]
    assert {"part", "kind", "check", "state", "reason", "seconds"} == set(lines[0])
    status, text = run("check", str(file))
    assert status == 1
    assert all(f":{name} (augmentations)" in text for name in ("Good", "Turning", "HostNoise"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hingee", "Did you mean 'hinge'"),
        ("./nowhere.py", "no file ./nowhere.py"),
        ("hinge:slope=2", "no option 'slope'"),
    ],
)
def test_check_of_an_unknown_part_is_an_error(name: str, words: str) -> None:
    status, text = run("check", name)
    assert status == 2
    assert words in text


def test_plugins_lists_distributions_and_its_commands() -> None:
    status, text = run()
    assert status == 0
    assert "| distribution" in text
    assert "torch-ganzoo" in text
    status, text = run("--json")
    assert "torch-ganzoo" in [plugin["distribution"] for plugin in json.loads(text)["plugins"]]
    status, text = run("--help")
    assert "check" in text
    assert "new" in text


def test_commands_import_torch_only_for_a_check() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom ganzoo.cli import cli\n"
        "for words in (['--help'], ['check', '--help'], ['new', '--help'], ['check', 'hingee'], ['--json']):\n"
        "    result = CliRunner().invoke(cli, ['plugins', *words])\n"
        "    assert result.exit_code in (0, 2), result.output\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_class_decides_the_kind() -> None:
    for kind, good in GOOD.items():
        assert ExaminedPart.of(good).kind == kind
    with pytest.raises(UsageError, match="is no part"):
        ExaminedPart.of(dict)


# --- the parts of the zoo ---


@pytest.fixture
def shared_cluster() -> Iterator[None]:
    """A cluster of this process, so that the checks of the launcher need not start one each."""
    with ray_cluster(4):
        yield


#: options that make a part small, so that its checks are quick
SMALL = {
    "dcgan": "width=8",
    "dcgan-pytorch": "width=8",
    "dcgan-tutorial": "width=4",
    "dcgan-atienza": "width=4",
    "dcgan-atienza-book": "width=4",
    "mlp-keras-gan": "width=16",
    "mlp-vanilla": "width=16",
    "infogan-nets": "width=4,units=16",
    "biggan": "width=2",
    "sngan": "width=8",
    "sngan-projection": "width=8",
    "wgan-gp": "width=8",
    "r3gan": "width=8,blocks=1",
    "stylegan2": "channel_base=64,channel_max=8,latent_dim=8,style_dim=8,mapping_layers=2",
    "began": "width=4,embedding=8,latent_dim=8",
    "cgan": "latent_dim=16",
    "kid": "subset_size=50,subsets=10",
    "kid-domain": "subset_size=50,subsets=10",
    "diversity": "pairs=50",
}
ARCHIVES = {"mnist", "fashion-mnist", "stacked-mnist"}


def _pictures(folder: Path) -> Path:
    """A folder with forty images of noise in two classes."""
    generator = np.random.default_rng(0)
    for index in range(40):
        path = folder / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    return folder


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in zoo().names(kind)])
def test_every_part_of_the_zoo_passes(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if name in ARCHIVES:
        monkeypatch.setenv("GANZOO_DATA", str(request.getfixturevalue("shared_data")))
    options = f":{SMALL[name]}" if name in SMALL else ""
    if kind == "launchers":
        options = {"slurm": ":cluster=local", "ray": ":threads=1"}.get(name, "")
        if name == "ray":
            request.getfixturevalue("shared_cluster")
    if name == "image-folder":
        options = f":path={_pictures(tmp_path)},test_share=0.3"
    if name == "npy":
        np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), dtype=np.uint8))
        options = f":path={tmp_path / 'a.npy'}"
    if name == "shards":
        write_tar(tmp_path / "a.tar", samples(40))
        options = f":path={tmp_path},test_share=0.3"
    if name == "huggingface":
        pytest.importorskip("datasets", reason="needs the extra huggingface")
        write_parquet(tmp_path / "a.parquet", [picture(number) for number in range(40)], {"label": [0, 1] * 20})
        options = f":path={tmp_path},test_share=0.3"
    found = outcomes(ExaminedPart.of(name + options, kind))
    assert not failures(found)
    skipped = {outcome.reason for outcome in found.values() if outcome.state == "skipped"}
    if sum(outcome.state == "ok" for outcome in found.values()) <= 4:
        pytest.skip(" ".join(sorted(skipped)))


# --- warnings ---


def test_a_warning_of_the_compiler_fails_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = torch.compile

    def warning_compiler(*arguments: Any, **options: Any) -> Any:
        warnings.warn("Guards may run slower on Python 3.13.0.", RuntimeWarning, stacklevel=1)
        return compiler(*arguments, **options)

    monkeypatch.setattr(torch, "compile", warning_compiler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = examine(ExaminedPart.of(GOOD["architectures"]), compiles_without_a_break)
    assert outcome.state == "ok", outcome.reason


@pytest.mark.parametrize(("module", "state"), [("torch.nn.functional", "ok"), ("torchless", "failed")])
def test_only_warnings_of_torch_itself_are_ignored(module: str, state: str) -> None:
    def check(part: ExaminedPart) -> None:
        warnings.warn_explicit("Not what it was.", UserWarning, "file.py", 1, module=module)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        outcome = examine(ExaminedPart.of(GOOD["losses"]), check)
        assert warnings.filters == before
    assert outcome.state == state, outcome.reason
