"""Standing statistics: those of batch norm, recomputed over batches of generated images."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ZOO, ganzoo
from torch import Tensor, nn

import ganzoo as api
from ganzoo.contract.errors import UsageError
from ganzoo.engine import seeds
from ganzoo.engine.sampler import draw_latents
from ganzoo.results.latents import truncated
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo.results.standing import with_standing_statistics

CPU = torch.device("cpu")
#: the share of a batch in the moving statistics, of three implementations of batch norm
SHARES = {"biggan:width=2,latent_dim=8": 0.1, "dcgan-pytorch:width=2,latent_dim=4": 0.1, "dcgan:width=2": 0.1}
QUICK = {"options": {"dataset.size": 8}, "batch_size": 16, "steps": 2, "quiet": True, "ema_half_life": 100}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, api.TrainedRun]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        spec: api.train(spec, "digits", out=folder / spec.partition(":")[0], **QUICK)  # type: ignore[arg-type]
        for spec in (*SHARES, "mlp-vanilla")
    }


@pytest.fixture(scope="module")
def biggan(runs: dict[str, api.TrainedRun]) -> api.TrainedRun:
    return runs["biggan:width=2,latent_dim=8"]


def inputs(trained: TrainedGenerator, seed: int, number: int, truncation: float | None) -> tuple[Tensor, Tensor]:
    latents = draw_latents(trained.architecture, 16, CPU, seeds.derive(seed, "standing statistics", number))
    random = seeds.generator("cpu", seed, "standing classes", number)
    labels = torch.randint(trained.images.classes, (16,), generator=random)
    return latents if truncation is None else truncated(latents, truncation), labels


def moving(network: nn.Module, names: tuple[str, str]) -> dict[str, Tensor]:
    return {name: value for name, value in network.named_buffers() if name.rpartition(".")[2] in names}


def count_values(counts: dict[str, int], name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
    counts[name] = given[0].numel() // given[0].shape[1]


def by_the_layers(trained: TrainedGenerator, share: float, batches: int, seed: int, truncation: float | None) -> Any:
    """The mean of what each batch adds to moving statistics that are zero, which the layers compute themselves."""
    names = trained.architecture.batch_statistics
    totals: dict[str, Tensor] = {}
    for number in range(batches):
        network = copy.deepcopy(trained.network)
        counts: dict[str, int] = {}
        for name, module in network.named_modules():
            if names[0] in dict(module.named_buffers(recurse=False)):
                module.train()
                module.register_forward_pre_hook(functools.partial(count_values, counts, name))
        with torch.no_grad():
            for buffer in moving(network, names).values():
                buffer.zero_()
            network(*inputs(trained, seed, number, truncation))
        for name, value in moving(network, names).items():
            owner, _, last = name.rpartition(".")
            # the moving variance is that of the population times n / (n - 1)
            factor = (counts[owner] - 1) / counts[owner] if last == names[1] else 1
            totals[name] = totals.get(name, 0) + value.double() * factor / share / batches
    return totals


@pytest.mark.parametrize("spec", SHARES)
@pytest.mark.parametrize("truncation", [None, 0.5])
def test_they_are_the_means_over_the_batches(
    spec: str, truncation: float | None, runs: dict[str, api.TrainedRun]
) -> None:
    trained = load_generator(runs[spec].path, ZOO, CPU)
    before = copy.deepcopy(trained.network.state_dict())
    found = with_standing_statistics(trained, 3, 7, truncation)
    expected = by_the_layers(trained, SHARES[spec], 3, 7, truncation)
    assert expected
    own = moving(found.network, trained.architecture.batch_statistics)
    for name, value in expected.items():
        assert torch.allclose(own[name].double(), value, rtol=1e-5, atol=1e-7), name
    # nothing else differs, and the network that was given is as it was
    for name, value in found.network.state_dict().items():
        assert name in expected or name.endswith("num_batches_tracked") or torch.equal(value, before[name])
    assert all(torch.equal(value, before[name]) for name, value in trained.network.state_dict().items())
    assert not any(module.training for module in found.network.modules())


DRAWN = ("-n", 8, "--class", 3, "--seed", 1, "--standing-statistics", 4)


def digest(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_samples_depend_on_the_seed_and_say_how_they_were_drawn(biggan: api.TrainedRun, tmp_path: Path) -> None:
    before = digest(biggan.path)
    numbers = (None, 4, 4, 5)
    drawn = [biggan.sample(8, classes=3, seed=1, standing_statistics=n).tensor.numpy() for n in numbers]
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[1], drawn[2])
    assert not np.array_equal(drawn[1], drawn[3])
    out = tmp_path / "fakes.npz"
    result = ganzoo("sample", biggan.path, *DRAWN, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["standing_statistics"] == 4
    with np.load(out) as saved:
        assert saved["standing_statistics"].tolist() == [4, 16]
        assert np.array_equal(saved["images"].reshape(drawn[1].shape), drawn[1])
    assert digest(biggan.path) == before
    assert json.loads(ganzoo("sample", biggan.path, "--json").stdout)["standing_statistics"] is None
    named = ganzoo("sample", biggan.path, "--standing-statistics", 4, "--truncation", 0.7).stdout
    assert "sample-0-truncation-0.7-standing-4.png" in named
    walk = ganzoo("sample", biggan.path, "--interpolate", "--standing-statistics", 2, "-o", tmp_path / "walk.png")
    assert walk.exit_code == 0, walk.output


def test_scores_with_other_statistics_are_never_in_one_column(biggan: api.TrainedRun, tmp_path: Path) -> None:
    measure = {}
    digests = []
    for batches in (None, 2, 3):
        (line,) = biggan.evaluate("sliced-wasserstein", samples=32, standing_statistics=batches)
        digests.append(line["card"]["digest"])
        measure[batches] = line["card"]["measure"]
    assert len(set(digests)) == 3
    assert "standing_statistics" not in measure[None]
    assert measure[2]["standing_statistics"] == {"batches": 2, "batch_size": 16}
    # the numbers are those of the images: of a file of the same fakes
    (again,) = biggan.evaluate("sliced-wasserstein", samples=32, standing_statistics=2, save_fakes=tmp_path / "a.npy")
    (of_file,) = api.evaluate(tmp_path / "a.npy", "sliced-wasserstein", samples=32, against="digits:size=8")
    assert of_file["value"] == again["value"]
    kept = [line["card"]["digest"] for line in biggan.scores]
    assert kept == [*digests, digests[1]]
    report = ganzoo("report", biggan.path, "--format", "md", "-o", tmp_path / "report.md")
    assert report.exit_code == 0, report.output
    text = (tmp_path / "report.md").read_text()
    assert "standing statistics of 2 batches of 16" in text


def test_what_is_refused(runs: dict[str, api.TrainedRun], biggan: api.TrainedRun, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8), dtype=np.uint8))
    cases = [
        (("sample", runs["mlp-vanilla"].path, "--standing-statistics", 3), "mlp-vanilla has no batch norm"),
        (("evaluate", runs["mlp-vanilla"].path, "--standing-statistics", 3), "mlp-vanilla has no batch norm"),
        (("sample", biggan.path, "--standing-statistics", 0), "0' is not a whole number of at least 1"),
        (("sample", biggan.path, "--standing-statistics", "many"), "is not a whole number"),
        (("sample", biggan.path, "--standing-statistics", 10_001), "name a number of batches from 1 to 10000"),
        (("sample", biggan.path, "--gif", "--standing-statistics", 3), "shows the grids of the training as they are"),
        (
            ("evaluate", tmp_path / "a.npy", "--against", "digits:size=8", "--standing-statistics", 3),
            "leave out --standing-statistics",
        ),
        (("evaluate", "--calibrate", "digits", "--standing-statistics", 3), "--calibrate scores real images"),
    ]
    for words, text in cases:
        result = ganzoo(*words)
        assert result.exit_code == 2, (words, result.output)
        assert text in result.output.replace("\n", " "), (words, result.output)
    with pytest.raises(UsageError, match="from 1 to 10000"):
        biggan.evaluate("sliced-wasserstein", standing_statistics=0)
