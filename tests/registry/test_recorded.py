"""A run uses the parts that it was trained with: those of the recorded distribution, not others of the same name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import SMALL_DIGITS

from ganzoo import Choice, Dataset, GanzooError, ImageSpec, UsageError
from ganzoo.registry.recipes import plan
from ganzoo.registry.recorded import recorded_zoo, with_class_order
from ganzoo.registry.zoo import Zoo
from ganzoo.results.evaluate import evaluate
from ganzoo.results.load import load_generator
from ganzoo.storage.run import Run
from ganzoo.training.replay import replay
from ganzoo.training.train import resume, start

CPU = torch.device("cpu")
MODULE = """
import torch
import ganzoo
from tiny import Tiny

class Net(Tiny):
    origin = "{origin}"

class Soft(ganzoo.SeparableLoss):
    origin = "{origin}"
    def on_reals(self, logits): return (1 - logits).relu().mean()
    def on_fakes(self, logits): return (1 + logits).relu().mean()
    def generator(self, round): return -round.fake_logits.mean()
"""


class Site:
    """A folder of installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, version: str = "1.0", parts: tuple[str, ...] = ("net", "soft")) -> None:
        module = f"recorded_{name.replace('-', '_')}"
        (self.path / f"{module}.py").write_text(MODULE.format(origin=name))
        info = self.path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = {
            "net": f"[ganzoo.architectures]\nnet = {module}:Net\n",
            "soft": f"[ganzoo.losses]\nsoft = {module}:Soft\n",
        }
        (info / "entry_points.txt").write_text("".join(points[part] for part in parts))

    def remove(self, name: str) -> None:
        for info in self.path.glob(f"recorded_{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(info)

    def zoo(self) -> Zoo:
        return Zoo([*distributions(name="torch-ganzoo"), *distributions(path=[str(self.path)])])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield Site(folder)
    for name in [name for name in sys.modules if name.startswith("recorded_")]:
        del sys.modules[name]


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Path:
    """A run of the architecture `net` and the loss `soft` of the distribution gz-one, by their short names."""
    site.install("gz-one")
    zoo = site.zoo()
    fields = {"losses": ("soft",), "length": "4 steps", "checkpoint_every": "2 steps", "batch_size": 16}
    start(plan(zoo, Choice("net"), SMALL_DIGITS, None, fields), tmp_path / "run", zoo, CPU, note=lambda text: None)
    return tmp_path / "run"


def uses(run: Path, zoo: Zoo) -> dict[str, Any]:
    """What each way to open the run does with it, by its name."""
    return {
        "sample": lambda: load_generator(run, zoo, CPU),
        "evaluate": lambda: evaluate(run, zoo, CPU, [Choice("sliced-wasserstein")], samples=300),
        "resume": lambda: resume(run, zoo, "cpu", note=lambda text: None),
        "replay": lambda: replay(run, zoo, 3, "cpu"),
    }


@pytest.mark.parametrize("use", ["sample", "evaluate", "resume", "replay"])
def test_another_distribution_of_the_same_name_is_not_used(site, run, use):
    site.remove("gz-one")
    site.install("gz-two")
    with pytest.raises(GanzooError, match=r"gz-one/(net|soft) 1\.0, and it is not installed: pip install gz-one==1"):
        uses(run, site.zoo())[use]()


@pytest.mark.parametrize("use", ["sample", "evaluate", "replay"])
def test_a_run_is_not_locked_by_a_second_distribution_of_the_same_name(site, run, use):
    site.install("gz-two")
    with pytest.raises(UsageError, match="is the name of 2 losses"):
        site.zoo().find("losses", "soft")
    uses(run, site.zoo())[use]()
    assert type(load_generator(run, site.zoo(), CPU).architecture).origin == "gz-one"


def test_a_run_is_resumed_with_its_own_parts(site, run):
    before = (run / "recipe.json").read_bytes()
    site.install("gz-two")
    notes: list[str] = []
    with pytest.raises(UsageError, match="already trained"):
        resume(run, site.zoo(), "cpu", note=notes.append)
    from ganzoo.contract.choice import Amount

    resume(run, site.zoo(), "cpu", Amount(6, "steps"), note=notes.append)
    assert not [note for note in notes if "another" in note], notes
    assert json.loads(before)["losses"] == json.loads((run / "recipe.json").read_bytes())["losses"]


def test_another_version_of_the_recorded_distribution_is_used_and_named(site, run):
    from ganzoo.contract.choice import Amount

    site.remove("gz-one")
    site.install("gz-one", "2.0")
    notes: list[str] = []
    load_generator(run, site.zoo(), CPU)
    resume(run, site.zoo(), "cpu", Amount(6, "steps"), note=notes.append)
    assert [note for note in notes if "gz-one/soft 1.0 then, gz-one/soft 2.0 now" in note]


def test_a_version_without_the_part_and_a_disabled_distribution_are_named(site, run, monkeypatch):
    site.remove("gz-one")
    site.install("gz-one", "2.0", parts=("soft",))
    with pytest.raises(GanzooError, match=r"gz-one 2\.0 does not have it: pip install gz-one==1\.0$"):
        load_generator(run, site.zoo(), CPU)
    monkeypatch.setenv("GANZOO_DISABLE", "gz-one")
    with pytest.raises(GanzooError, match="GANZOO_DISABLE leaves gz-one out"):
        load_generator(run, site.zoo(), CPU)


def test_a_full_id_in_the_recipe_gets_the_same_sentence(site, run):
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["architecture"]["name"] = "gz_one/net"
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert type(load_generator(run, site.zoo(), CPU).architecture).origin == "gz-one"
    site.remove("gz-one")
    with pytest.raises(GanzooError, match=r"pip install gz-one==1\.0"):
        load_generator(run, site.zoo(), CPU)


def test_a_run_without_recorded_parts_is_opened_by_its_names(site, run):
    facts = json.loads((run / "environment.json").read_text())
    del facts["parts"], facts["sha256"]
    (run / "environment.json").write_text(json.dumps(facts))
    load_generator(run, site.zoo(), CPU)


def test_names_of_distributions_are_compared_as_package_indexes_do(site):
    site.install("gz-one")
    zoo = site.zoo()
    assert {zoo.find("losses", name).id for name in ("soft", "gz-one/soft", "gz_one/soft", "GZ.One/soft")} == {
        "gz-one/soft"
    }


class Numbers(Dataset):
    """One image a class, of the brightness of its label; the classes in the order of this release."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.class_names = names
        self.spec = ImageSpec(1, 8, 8, len(names))

    def __len__(self) -> int:
        return len(self.class_names)

    def read(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return indices.to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8), indices


def test_classes_keep_the_numbers_that_the_run_recorded():
    dataset = with_class_order(Numbers(("1", "2", "10")), ["1", "10", "2"])
    images, labels = dataset.read(torch.arange(3))
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert labels.tolist() == [0, 2, 1]
    assert dataset.class_names == ("1", "10", "2")
    same = Numbers(("a", "b"))
    for names in (["a", "b"], ["a", "c"], ["a", "b", "c"], ["a", "a"], []):
        assert with_class_order(same, names) is same


def test_the_zoo_of_a_run_shares_what_was_loaded(site, run):
    zoo = site.zoo()
    one = recorded_zoo(Run.open(run), zoo)
    assert one.load("losses", Choice("soft")) is zoo.load("losses", Choice("soft"))
    assert tiny.__name__ in sys.modules
