"""Snapshots of R3GAN and StyleGAN2-ADA, which pickle whole networks, become runs that draw the recorded images."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ZOO, read_foreign_files_here
from helpers import ganzoo as command
from official_files import state
from official_pickles import write_r3gan, write_stylegan2
from official_r3gan import official_names
from published import Published, samples
from torch import Tensor, nn

import ganzoo
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.results.load import load_generator
from ganzoo.storage import checkpoints
from ganzoo.storage.tensors import tensors_from_bytes

CPU = torch.device("cpu")
#: fixture -> architecture, writer, name of the recorded images, options and dataset that the import finds
FORMATS: dict[str, tuple[str, Callable[..., list[Path]], str, dict[str, Any], str]] = {
    "r3gan/uncond-32": (
        *("r3gan", write_r3gan, "g_fixed"),
        {"width": 16, "latent_dim": 16, "labels": False, "bf16_stages": 0},
        "image-folder:path=flowers-32,size=32",
    ),
    "r3gan/cond-16": (
        *("r3gan", write_r3gan, "g_fixed"),
        {"widths": "32x2+16", "groups": "4+2x2", "blocks": "2+1+2", "latent_dim": 16, "embedding": 16, "labels": True},
        "image-folder:path=flowers-32,size=16",
    ),
    "stylegan2/config-f-32": (
        *("stylegan2", write_stylegan2, "img_const_eval"),
        {"channel_base": 512, "channel_max": 32, "mapping_layers": 8, "residual": True, "group": 4, "clamp": 0.0},
        "image-folder:path=images,size=32",
    ),
    "stylegan2/cifar-cond-32": (
        *("stylegan2", write_stylegan2, "img_const_eval"),
        {"channel_base": 512, "channel_max": 32, "mapping_layers": 2, "residual": False, "classes": True},
        "cifar10",
    ),
}


@pytest.fixture(autouse=True)
def same_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Read foreign files in this process: starting one takes seconds. One test has the process with its limits."""
    if request.node.name.startswith("test_in_a_process_of_its_own"):
        return
    read_foreign_files_here(monkeypatch)


def by_hand(network: nn.Module, fixture: Published, architecture: str, letter: str) -> nn.Module:
    """One of our networks with the recorded weights, without the reader of files."""
    weights = state(fixture, letter)
    if architecture == "stylegan2":
        network.load_state_dict(weights)
        return network.eval()
    named = dict(official_names(network, fixture.manifest["config"]["blocks"][::-1], letter))
    assert {name.partition("/")[2] for name in named} == weights.keys()
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(weights[name.partition("/")[2]].reshape(parameter.shape))
    return network.eval()


def inputs_of(fixture: Published) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, labels and reals for which the program's numbers were recorded."""
    drawn = {name: torch.from_numpy(value) for name, value in fixture.draw("inputs").items()}
    latents = drawn["z_fixed"]
    return latents, drawn.get("y_fixed", torch.zeros(len(latents), dtype=torch.int64)), drawn["x_fixed"]


def error(found: Tensor, fixture: Published, name: str) -> float:
    """The largest difference from a recorded value, relative to its largest number."""
    values = found.numpy()
    expected = fixture.numbers.get(name)
    if expected is None:
        expected, values = fixture.numbers[f"{name}#samples"], samples(values)
    return float(np.abs(values.reshape(expected.shape) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", FORMATS)
def test_imported_networks_are_the_official_ones(name: str, tmp_path: Path) -> None:
    architecture, write, recorded, options, dataset = FORMATS[name]
    fixture = Published(name)
    run = ganzoo.import_checkpoint(write(fixture, tmp_path), architecture, out=tmp_path / "run")
    assert run.environment["initial_weights"]["networks"] == ["generator", "discriminator", "average"]
    chosen = run.recipe.architecture
    assert chosen is not None
    assert {key: chosen.options[key] for key in options} == options
    assert run.recipe.dataset is not None
    expected_dataset = ganzoo.Choice.parse(dataset)
    assert run.recipe.dataset.name == expected_dataset.name
    assert int(expected_dataset.options.get("size", 0)) == run.recipe.dataset.options["size"]
    folder = Path(str(run.recipe.dataset.options.get("path", ""))).name
    assert folder == expected_dataset.options.get("path", "")
    latents, labels, reals = inputs_of(fixture)
    networks = ZOO.build("architectures", chosen).networks(ganzoo.ImageSpec(**run.environment["images"]))
    expected = [by_hand(net, fixture, architecture, letter) for net, letter in zip(networks, "GD", strict=True)]
    flat, _ = tensors_from_bytes((run.path / "initial.safetensors").read_bytes())
    imported = ZOO.build("architectures", chosen).networks(ganzoo.ImageSpec(**run.environment["images"]))[1].eval()
    imported.load_state_dict({n.partition("/")[2]: v for n, v in flat.items() if n.startswith("discriminator/")})
    with torch.no_grad():
        images = load_generator(run.path, ZOO, CPU).network(latents, labels)
        assert torch.equal(images, expected[0](latents, labels))
        assert torch.equal(imported(reals, labels), expected[1](reals, labels))
    # the program's numbers are float64; its own float32 differs from them by up to 6e-7 of the largest
    assert error(images, fixture, recorded) < 1e-6
    assert len(run.sample(4, seed=1)) == 4


def test_what_a_snapshot_says_beside_its_weights(tmp_path: Path) -> None:
    (path,) = write_r3gan(Published("r3gan/uncond-32"), tmp_path, bfloat16=2)
    run = ganzoo.import_checkpoint(path, "r3gan", out=tmp_path / "a")
    assert run.recipe.architecture is not None
    assert run.recipe.architecture.options["bf16_stages"] == 2
    (path,) = write_stylegan2(Published("stylegan2/config-f-32"), tmp_path, clamp=256)
    run = ganzoo.import_checkpoint(path, "stylegan2:low_precision=0", out=tmp_path / "b", dataset="cifar10")
    assert run.recipe.architecture is not None
    assert (run.recipe.architecture.options["clamp"], run.recipe.architecture.options["low_precision"]) == (256, 0)
    assert run.recipe.dataset is not None
    assert run.recipe.dataset.name == "cifar10"


@pytest.mark.parametrize("name", ["r3gan/cond-16", "stylegan2/cifar-cond-32"])
def test_in_a_process_of_its_own_nothing_in_the_file_is_run(name: str, tmp_path: Path) -> None:
    architecture, write, *_ = FORMATS[name]
    canary = tmp_path / "canary"
    more = {"source": f"open({str(canary)!r}, 'w')"} if architecture == "stylegan2" else {}
    (path,) = write(Published(name), tmp_path, **more)
    found = command("import", path, "--as", architecture, "--dataset", "digits", "--out", tmp_path / "run", "--json")
    facts = json.loads(found.stdout)
    assert facts["networks"] == ["generator", "discriminator", "average"]
    assert not canary.exists()
    (listed,) = ganzoo.runs(tmp_path, state="imported")
    assert listed["run"] == str(tmp_path / "run")


def test_a_training_goes_on_from_a_snapshot(tmp_path: Path) -> None:
    np.save(tmp_path / "photos.npy", np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8))
    fixture = Published("stylegan2/config-f-32")
    (path,) = write_stylegan2(fixture, tmp_path)
    spec = "stylegan2:channel_base=512,channel_max=32,latent_dim=16,style_dim=16,clamp=0"
    run = ganzoo.train(
        *(spec, f"npy:path={tmp_path / 'photos.npy'}"),
        out=tmp_path / "run",
        start_from=path,
        batch_size=4,
        steps=1,
        quiet=True,
        generator_optimizer="adam:lr=0",
        freeze_d=2,
    )
    (saved,) = [checkpoints.load(folder)[0] for folder in (run.path / "checkpoints").iterdir()]
    name = "synthesis.b32.conv1.weight"
    assert torch.equal(saved[f"generator/{name}"], state(fixture, "G")[name])
    frozen = [
        name
        for name in ("b32.fromrgb.weight", "b32.conv1.weight", "b4.out.weight")
        if torch.equal(saved[f"discriminator/{name}"], state(fixture, "D")[name])
    ]
    assert frozen[:1] == ["b32.fromrgb.weight"]
    assert "b4.out.weight" not in frozen


# --- what is refused --------------------------------------------------------------------------------------------


def renamed(path: Path, old: bytes, new: bytes) -> Path:
    """A copy of a file with a name in it replaced by one of the same length."""
    assert len(old) == len(new)
    data = path.read_bytes()
    assert old in data
    changed = path.with_name("changed.pkl")
    changed.write_bytes(data.replace(old, new))
    return changed


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("name", ["r3gan/cond-16", "stylegan2/cifar-cond-32"])
def test_files_that_are_not_whole_or_of_another_program(name: str, tmp_path: Path) -> None:
    architecture, write, *_ = FORMATS[name]
    (path,) = write(Published(name), tmp_path)
    other, out = {"r3gan": "stylegan2", "stylegan2": "r3gan"}[architecture], tmp_path / "run"
    data = path.read_bytes()
    for length in (0, 2, 1000, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pkl").write_bytes(data[:length])
        with pytest.raises(GanzooError, match="is refused") as refusal:
            ganzoo.import_checkpoint(tmp_path / "cut.pkl", architecture, out=out)
        one_sentence(refusal.value)
    with pytest.raises(GanzooError) as refusal:
        ganzoo.import_checkpoint(path, other, out=out)
    assert "no network-snapshot of R3GAN" in one_sentence(refusal.value) or "is refused" in str(refusal.value)
    with pytest.raises(UsageError, match="does not fit this recipe") as refusal:
        ganzoo.import_checkpoint(path, f"{architecture}:latent_dim=8", out=out)
    one_sentence(refusal.value)
    missing = {"r3gan": (b"NonLinearity2", b"NonLinearityX"), "stylegan2": (b"noise_strength", b"noise_strXngth")}
    with pytest.raises(UsageError, match="no") as refusal:
        ganzoo.import_checkpoint(renamed(path, *missing[architecture]), architecture, out=out)
    one_sentence(refusal.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("r3gan/uncond-32", b"LinearLayer2", b"LinearLayerX", "no whole network of R3GAN"),
        ("r3gan/uncond-32", b"MainLayers", b"SomeLayers", "no whole network of R3GAN"),
        ("r3gan/uncond-32", b"AggregationLayer", b"AggregationStuff", "no whole network of R3GAN"),
        ("stylegan2/config-f-32", b"synthesis", b"synthesiX", "no whole network of StyleGAN2-ADA"),
        ("stylegan2/config-f-32", b"fc0", b"fcX", "no whole network of StyleGAN2-ADA"),
        ("stylegan2/config-f-32", b"fromrgb", b"fromXgb", "no whole network of StyleGAN2-ADA"),
        ("stylegan2/config-f-32", b"b16", b"b17", "blocks of 4, 8, 17, 32 pixels"),
    ],
)
def test_networks_with_other_layers(name: str, old: bytes, new: bytes, words: str, tmp_path: Path) -> None:
    architecture, write, *_ = FORMATS[name]
    (path,) = write(Published(name), tmp_path)
    with pytest.raises(UsageError, match=words) as refusal:
        ganzoo.import_checkpoint(renamed(path, old, new), architecture, out=tmp_path / "run")
    one_sentence(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_snapshot_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    for name in ("r3gan/uncond-32", "stylegan2/config-f-32"):
        architecture, write, *_ = FORMATS[name]
        (path,) = write(Published(name), tmp_path)
        canary = tmp_path / "canary"
        hostile = b"cos\nsystem\n" + pickle.dumps(f"touch {canary}", 0)[:-1] + b"\x85R0."
        for place, data in (("end", path.read_bytes()[:-1] + hostile), ("start", hostile[:-1] + path.read_bytes())):
            (tmp_path / "hostile.pkl").write_bytes(data)
            with pytest.raises(GanzooError, match="is refused") as refusal:
                ganzoo.import_checkpoint(tmp_path / "hostile.pkl", architecture, out=tmp_path / place)
            one_sentence(refusal.value)
            assert not canary.exists()


def test_a_snapshot_of_other_colours_or_size_is_refused_where_it_starts_a_training(tmp_path: Path) -> None:
    np.save(tmp_path / "photos.npy", np.zeros((16, 16, 16, 3), dtype=np.uint8))
    (path,) = write_r3gan(Published("r3gan/uncond-32"), tmp_path)
    with pytest.raises(UsageError, match="does not fit this recipe") as refusal:
        ganzoo.train(
            *("r3gan:width=16,latent_dim=16", f"npy:path={tmp_path / 'photos.npy'}"),
            out=tmp_path / "run",
            start_from=path,
            batch_size=4,
            steps=1,
            quiet=True,
        )
    one_sentence(refusal.value)
    assert not (tmp_path / "run").exists()
