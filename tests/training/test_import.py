"""Official checkpoints become runs, and trainings start from weights: of an import, of a run, of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ganzoo as command
from helpers import read_foreign_files_here
from official_files import state, write_biggan, write_mimicry, write_plain
from published import Published

import ganzoo
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.registry.zoo import zoo
from ganzoo.results.load import load_generator
from ganzoo.storage import checkpoints

CPU = torch.device("cpu")
#: fixture -> architecture, and what writes its files
FORMATS: dict[str, tuple[str, Callable[[Published, Path], list[Path]]]] = {
    "sngan/mimicry-sngan-32": ("sngan", write_mimicry),
    "sngan-projection/mimicry-cgan-pd-32": ("sngan-projection", write_mimicry),
    "wgan-gp/mimicry-wgan-gp-32": ("wgan-gp", write_mimicry),
    "dcgan/pytorch-examples-64": ("dcgan-pytorch", write_plain),
    "biggan/cifar-32": ("biggan", write_biggan),
    "biggan/imagenet-options-32": ("biggan", write_biggan),
}


@pytest.fixture(autouse=True)
def same_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Read foreign files in this process: starting one takes seconds. tests/storage has the limits and the refusals."""
    if "in_a_process" in request.keywords:
        return
    read_foreign_files_here(monkeypatch)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of noise in colour."""
    path = tmp_path_factory.mktemp("photos") / "photos.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3), dtype=np.uint8))
    return f"npy:path={path}"


@pytest.mark.parametrize("name", FORMATS)
def test_an_imported_generator_draws_the_images_of_the_official_one(name: str, tmp_path: Path) -> None:
    architecture, write = FORMATS[name]
    fixture = Published(name)
    run = ganzoo.import_checkpoint(write(fixture, tmp_path), architecture, out=tmp_path / "run")
    trained = load_generator(run.path, zoo(), CPU)
    inputs = fixture.draw("inputs")
    latents = torch.from_numpy(inputs["z_fixed"]).flatten(1)
    labels = torch.from_numpy(inputs["y_fixed"]) if trained.architecture.conditional else torch.zeros(4).long()
    with torch.no_grad():
        images = trained.network(latents, labels).numpy()
        exact = trained.network.double()(latents.double(), labels).numpy()
    expected = fixture.numbers["g_infer"]
    # float64, as the program's numbers are; its own float32 of mimicry's networks differs from them by 2.2e-6
    assert np.abs(exact[: len(expected)] - expected).max() < 1e-6
    assert np.abs(images[: len(expected)] - expected).max() < (4e-6 if "mimicry" in name else 1e-6)
    assert run.environment["initial_weights"]["networks"][:2] == ["generator", "discriminator"]
    assert run.progress.step == 0
    assert len(run.sample(4, seed=1)) == 4


@pytest.mark.parametrize("name", ["sngan/mimicry-sngan-32"])
def test_an_imported_run_is_used_like_any_other(name: str, tmp_path: Path, photos: str) -> None:
    architecture, write = FORMATS[name]
    fixture = Published(name)
    files = write(fixture, tmp_path)
    found = command("import", *files, "--as", architecture, "--dataset", photos, "--out", tmp_path / "run", "--json")
    facts = json.loads(found.stdout)
    assert facts["networks"] == ["generator", "discriminator"]
    run = ganzoo.load(tmp_path / "run")
    # scores, against the images of the dataset
    (line,) = run.evaluate("sliced-wasserstein", samples=16)
    assert line["value"] > 0
    # a training that is resumed starts from the weights: at a learning rate of 0 they stay
    still = {"generator_optimizer.lr": 0.0, "discriminator_optimizer.lr": 0.0, "batch_size": 4}
    ganzoo.resume(run, steps=1, set=still, quiet=True)
    (saved,) = [checkpoints.load(path)[0] for path in (run.path / "checkpoints").iterdir()]
    official = state(fixture, "G")
    assert torch.equal(saved["generator/dense.weight"], official["l1.weight"])
    assert torch.equal(
        saved["discriminator/features.blocks.1.conv1.parametrizations.weight.original"],
        state(fixture, "D")["block2.c1.weight_orig"],
    )
    assert (run.path / "initial.safetensors").is_file()


def test_a_generator_alone_is_enough_and_a_discriminator_is_not(tmp_path: Path) -> None:
    files = write_plain(Published("dcgan/pytorch-examples-64"), tmp_path)
    run = ganzoo.import_checkpoint(files[0], "dcgan-pytorch", out=tmp_path / "a")
    assert run.environment["initial_weights"]["networks"] == ["generator"]
    with pytest.raises(UsageError, match="no generator in it"):
        ganzoo.import_checkpoint(files[1], "dcgan-pytorch", out=tmp_path / "b")
    with pytest.raises(UsageError, match="holds a generator, and another file does too"):
        ganzoo.import_checkpoint([files[0], files[0]], "dcgan-pytorch", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    conditional = write_mimicry(Published("sngan-projection/mimicry-cgan-pd-32"), tmp_path)
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=r"does not fit this recipe.*generator has no blocks\.0\.bn1\.bias there"):
        ganzoo.import_checkpoint(conditional[0], "sngan", out=out)
    with pytest.raises(UsageError, match="MLPVanilla knows no files of another program"):
        ganzoo.import_checkpoint(conditional[0], "mlp-vanilla", out=out)
    with pytest.raises(UsageError, match=r"dense\.weight is 256x16 there and 256x8 here"):
        ganzoo.import_checkpoint(conditional[0], "sngan-projection:latent_dim=8", out=out)
    with pytest.raises(UsageError, match="no netG or netD of the PyTorch examples"):
        ganzoo.import_checkpoint(conditional[0], "dcgan-pytorch", out=out)
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="its tensors are a"):
        ganzoo.import_checkpoint(tmp_path / "a.pth", "sngan", out=out)
    weights = state(Published("sngan-projection/mimicry-cgan-pd-32"), "G")
    weights["c5.weight"][0] = torch.nan
    torch.save(weights, tmp_path / "nan.pth")
    with pytest.raises(GanzooError, match=r"conv\.weight"):
        ganzoo.import_checkpoint(tmp_path / "nan.pth", "sngan-projection", out=out)
    data = conditional[0].read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(GanzooError, match="is refused"):
        ganzoo.import_checkpoint(tmp_path / "cut.pth", "sngan-projection", out=out)
    assert not out.exists()


def test_files_of_two_trainings_are_refused(tmp_path: Path) -> None:
    files = write_mimicry(Published("sngan-projection/mimicry-cgan-pd-32"), tmp_path)
    weights = state(Published("sngan-projection/mimicry-cgan-pd-32"), "D")
    weights["l_y.weight"] = weights["l_y.weight"][:4]
    torch.save(weights, files[1])
    with pytest.raises(UsageError, match="images' classes is 4 in it and 10 in them"):
        ganzoo.import_checkpoint(files, "sngan-projection", out=tmp_path / "run")


# --- a training that starts from weights ------------------------------------------------------------------------

TINY = {"options": {"dataset.size": 8}, "batch_size": 16, "quiet": True, "steps": 2, "ema_half_life": 100}
STILL = {"generator_optimizer": "adam:lr=0", "discriminator_optimizer": "adam:lr=0"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> ganzoo.TrainedRun:
    return ganzoo.train("mlp-vanilla", "digits", out=tmp_path_factory.mktemp("trained") / "run", **TINY)


def newest(run: ganzoo.TrainedRun) -> dict[str, torch.Tensor]:
    saved = checkpoints.load_latest(run.path / "checkpoints")
    assert saved is not None
    return saved.tensors


def test_a_training_starts_from_a_run(trained: ganzoo.TrainedRun, tmp_path: Path) -> None:
    run = ganzoo.train("mlp-vanilla", "digits", out=tmp_path / "run", start_from=trained.path, seed=7, **TINY, **STILL)
    before, after = newest(trained), newest(run)
    for name in before:
        if name.startswith(("generator/", "discriminator/")):
            assert torch.equal(before[name], after[name]), name
    assert any(
        not torch.equal(before[name], before[name.replace("average/", "generator/")])
        for name in before
        if name.startswith("average/")
    )
    facts = run.environment["initial_weights"]
    assert facts["from"] == str(trained.path)
    assert facts["step"] == 2
    assert facts["networks"] == ["generator", "discriminator", "average"]
    # the run does not need the other one any more: its first step can be replayed, and it can be resumed
    assert ganzoo.resume(run, steps=3, quiet=True).progress.step == 3


def test_the_steps_after_a_start_are_replayed_alike(trained: ganzoo.TrainedRun, tmp_path: Path) -> None:
    more = {**TINY, "checkpoint_every": "1 steps"}
    run = ganzoo.train("mlp-vanilla", "digits", out=tmp_path / "run", start_from=trained.path, **more)
    found = json.loads(command("replay", run.path, "--step", "1", "--json").stdout)
    assert found["same_as_checkpoint"] is True


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"options": {"width": 7, "dataset.size": 8}},
            r"--from .* does not fit this recipe .it is of mlp-vanilla.*there and",
        ),
        ({"options": {"dataset.size": 16}}, "does not fit this recipe"),
        ({"start_from": "nowhere"}, "no such run or file"),
    ],
)
def test_other_weights_are_refused(trained: ganzoo.TrainedRun, tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ganzoo.train("mlp-vanilla", "digits", out=tmp_path / "run", **{**TINY, "start_from": trained.path, **changes})
    assert not (tmp_path / "run").exists()


def test_a_training_starts_from_an_official_file(tmp_path: Path, photos: str) -> None:
    files = write_mimicry(Published("wgan-gp/mimicry-wgan-gp-32"), tmp_path)
    found = command(
        *("train", "wgan-gp:width=16,latent_dim=16,program=mimicry", photos, "--from", files[0], "--batch-size", 4),
        *("--steps", 1, "--turns", "D,G", "--out", tmp_path / "run"),
    )
    assert "it has no discriminator, so that one starts anew" in found.stderr
    assert ganzoo.load(tmp_path / "run").environment["initial_weights"]["networks"] == ["generator"]


def test_frozen_layers_stay(tmp_path: Path) -> None:
    run = ganzoo.train("mlp-vanilla", "digits", out=tmp_path / "run", freeze_d=1, **TINY)
    first, last = ganzoo.train("mlp-vanilla", "digits", out=tmp_path / "other", **{**TINY, **STILL}), newest(run)
    start = newest(first)
    names = sorted(name for name in start if name.startswith("discriminator/"))  # a file has them in any order
    assert [name for name in names if torch.equal(start[name], last[name])] == names[:2]  # those of the first layer
    assert not any(name.startswith("playerD/") and names[0].partition("/")[2] in name for name in last)
    assert run.recipe.freeze_d == 1
    assert ganzoo.resume(run, steps=3, quiet=True).progress.step == 3
    with pytest.raises(UsageError, match="freeze_d cannot change within a run"):
        ganzoo.resume(run, steps=4, quiet=True, set={"freeze_d": 0})
    with pytest.raises(UsageError, match="leaves no layer to train: the discriminator has 2"):
        ganzoo.train("mlp-vanilla", "digits", out=tmp_path / "third", freeze_d=2, **TINY)


def test_a_recipe_without_frozen_layers_is_written_as_before() -> None:
    assert "freeze_d" not in ganzoo.Recipe().to_dict()
    assert ganzoo.Recipe(freeze_d=2).to_dict()["freeze_d"] == 2
