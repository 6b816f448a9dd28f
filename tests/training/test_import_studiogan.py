"""Checkpoints of PyTorch-StudioGAN become runs of biggan, sngan and sngan-projection; others are refused by name."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_pickles
import pytest
import torch
from helpers import ZOO, read_foreign_files_here
from official_studiogan import Discriminator, Generator, used, write
from torch import Tensor, nn

import ganzoo
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.results.load import load_generator
from ganzoo.storage import foreign
from ganzoo.storage.tensors import tensors_from_bytes

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Read foreign files in this process: starting one takes seconds. One test has the process with its limits."""
    if "in_a_process_of_its_own" in request.node.name:
        return
    read_foreign_files_here(monkeypatch)


def equal(channels: int, count: int = 3) -> list[tuple[int, int]]:
    return [(channels, channels)] * count


#: architecture, generator, discriminator, and the options that the import finds
NETWORKS: dict[str, tuple[str, Callable[[], nn.Module], Callable[[], nn.Module], dict[str, Any]]] = {
    "biggan-32": (
        "biggan",
        lambda: Generator("big", equal(16), 16, attention=1),
        lambda: Discriminator([8] * 4, 2, attention=0),
        {"width": 4, "discriminator_width": 2, "latent_dim": 16, "shared": 6, "attention": 16, "program": "studiogan"},
    ),
    "biggan-32-beside": (
        "biggan",
        lambda: Generator("big", equal(16), 16, attention=1, beside=True),
        lambda: Discriminator([8] * 4, 2, attention=0, beside=True),
        {"attention": 16},
    ),
    "biggan-64": (
        "biggan",
        lambda: Generator("big", [(32, 16), (16, 8), (8, 4), (4, 2)], 10),
        lambda: Discriminator([2, 4, 8, 16, 32], 4),
        {"width": 2, "discriminator_width": 2, "latent_dim": 10, "attention": 0},
    ),
    "sngan": (
        "sngan",
        lambda: Generator("plain", equal(8), 5),
        lambda: Discriminator([6] * 4, 2, classes=0),
        {"generator_width": 8, "width": 6, "latent_dim": 5, "program": "studiogan"},
    ),
    "sngan-projection": (
        "sngan-projection",
        lambda: Generator("tables", equal(8), 5),
        lambda: Discriminator([6] * 4, 2),
        {"generator_width": 8, "width": 6, "latent_dim": 5, "program": "studiogan"},
    ),
}


def exactness(name: str) -> float:
    """Scales of classes are stored without the 1 that is added to them, here with it: in float32, that rounds."""
    return 1e-6 if name == "sngan-projection" else 1e-12


def made(name: str) -> tuple[nn.Module, nn.Module, Tensor, Tensor, Tensor]:
    """(generator, discriminator, latents, labels, images) of the program, after use."""
    torch.manual_seed(3)
    _, generator, discriminator, options = NETWORKS[name]
    latent = options.get("latent_dim", 16)
    latents, labels = torch.randn(6, latent), torch.tensor([0, 1, 2, 0, 1, 2])
    one = used(generator(), latents, labels)
    images = one(latents, labels).detach()
    return one, used(discriminator(), images, labels), latents, labels, images


@pytest.mark.parametrize("name", NETWORKS)
def test_imported_networks_are_those_of_the_program(name: str, tmp_path: Path) -> None:
    architecture, *_, options = NETWORKS[name]
    generator, discriminator, latents, labels, images = made(name)
    average = NETWORKS[name][1]().eval()
    average.load_state_dict(generator.state_dict())
    with torch.no_grad():
        average.bn4.weight.mul_(1.5)  # type: ignore[union-attr,operator]
    files = write(tmp_path, generator, discriminator, average)
    run = ganzoo.import_checkpoint(files, architecture, out=tmp_path / "run", dataset="cifar10")
    assert run.environment["initial_weights"]["networks"] == ["generator", "discriminator", "average"]
    chosen = run.recipe.architecture
    assert chosen is not None
    assert {key: chosen.options[key] for key in options} == options
    shown = load_generator(run.path, ZOO, CPU).network.double()
    flat, _ = tensors_from_bytes((run.path / "initial.safetensors").read_bytes())
    spec = ganzoo.ImageSpec(**run.environment["images"])
    networks = [network.double().eval() for network in ZOO.build("architectures", chosen).networks(spec)]
    for network, owner in zip(networks, ("generator", "discriminator"), strict=True):
        network.load_state_dict({n.partition("/")[2]: v for n, v in flat.items() if n.startswith(f"{owner}/")})
    with torch.no_grad():
        z, x = latents.double(), images.double()
        for ours, theirs in ((shown, average), (networks[0], generator)):
            expected = theirs.double()(z, labels)
            assert (ours(z, labels) - expected).abs().max() < exactness(name)
        logits = networks[1](x, labels).squeeze(1)
        assert (logits - discriminator.double()(x, labels)).abs().max() < 1e-10 * logits.abs().max()


@pytest.mark.parametrize("name", ["biggan-32", "sngan-projection"])
def test_the_first_step_in_training_mode_is_that_of_the_program(name: str, tmp_path: Path) -> None:
    """The power iteration goes on from the same vectors, in the same order."""
    architecture = NETWORKS[name][0]
    generator, discriminator, latents, labels, images = made(name)
    run = ganzoo.import_checkpoint(
        write(tmp_path, generator, discriminator), architecture, out=tmp_path / "run", dataset="cifar10"
    )
    chosen = run.recipe.architecture
    assert chosen is not None
    flat, _ = tensors_from_bytes((run.path / "initial.safetensors").read_bytes())
    ours = ZOO.build("architectures", chosen).networks(ganzoo.ImageSpec(**run.environment["images"]))
    for network, owner in zip(ours, ("generator", "discriminator"), strict=True):
        network.load_state_dict({n.partition("/")[2]: v for n, v in flat.items() if n.startswith(f"{owner}/")})
    with torch.no_grad():
        for _ in range(2):
            found = ours[0].double().train()(latents.double(), labels)
            expected = generator.double().train()(latents.double(), labels)
            assert (found - expected).abs().max() < max(1e-10, exactness(name))
            found = ours[1].double().train()(images.double(), labels).squeeze(1)
            expected = discriminator.double().train()(images.double(), labels)
            assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The numbers of numpy in D's file are read as data."""
    generator, discriminator, *_ = made("sngan")
    files = write(tmp_path, generator, discriminator)
    read = foreign.read_foreign(files[1])
    assert read.values["best_fid"] == 4.2
    assert read.values["lecam_emas/D_fake"] == -0.1
    assert torch.equal(read.below("state_dict")["linear1.bias"], discriminator.state_dict()["linear1.bias"])


# --- what does not fit ------------------------------------------------------------------------------------------


def saved(path: Path, state: dict[str, Any]) -> Path:
    torch.save({"state_dict": state, "optimizer": None}, path)
    return path


def refused(path: Path, architecture: str, out: Path) -> str:
    with pytest.raises((UsageError, GanzooError)) as refusal:
        ganzoo.import_checkpoint(path, architecture, out=out, dataset="cifar10")
    text = str(refusal.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert not out.exists()
    return text


def test_networks_of_other_backbones_are_refused_by_name(tmp_path: Path) -> None:
    big, judge, *_ = made("biggan-32")
    plain, plain_judge, *_ = made("sngan")
    tables, projection, *_ = made("sngan-projection")
    weight = torch.ones(2, 2, 1, 1)
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({**big.state_dict(), "blocks.0.0.conv2d3.weight_orig": weight}, "biggan", "backbone is a deep one"),
        ({**big.state_dict(), "blocks.0.0.deconv0.weight": weight}, "biggan", "backbone is deep_conv"),
        ({**big.state_dict(), "info_mix_linear.weight": weight}, "biggan", "codes of InfoGAN"),
        ({**judge.state_dict(), "linear2.weight_orig": weight}, "biggan", "classifies the images"),
        ({**judge.state_dict(), "linear1.weight_orig": torch.ones(4, 8)}, "biggan", r"4 logits"),
        (_without(judge.state_dict(), "embedding"), "biggan", "does not use the classes by a projection"),
        (_plain(judge.state_dict()), "biggan", "no spectral norm"),
        (_plain(big.state_dict()), "biggan", "its generator has no spectral norm"),
        (_without(big.state_dict(), "bn4"), "biggan", "has no bn4.weight"),
        (_without(judge.state_dict(), "blocks.4"), "biggan", "3 blocks"),
        (plain.state_dict(), "biggan", "backbone resnet"),
        (big.state_dict(), "sngan", "it has attention"),
        (tables.state_dict(), "sngan", "its norms depend on the class"),
        (plain.state_dict(), "sngan-projection", "its norms do not depend on the class"),
        (projection.state_dict(), "sngan", "uses the classes by a projection"),
        (plain_judge.state_dict(), "sngan-projection", "does not use the classes by a projection"),
        (Generator("plain", equal(4, 4), 5).state_dict(), "sngan", "images of 64 pixels"),
        (Generator("big", equal(16), 16, attention=-1).state_dict(), "sngan", "import it as biggan"),
        (big.state_dict(), "r3gan", "R3GAN"),
        (big.state_dict(), "dcgan-pytorch", "no netG or netD"),
    ]
    for number, (state, architecture, words) in enumerate(cases):
        path = saved(tmp_path / f"model=G-{number}.pth", dict(state))
        text = refused(path, architecture, tmp_path / "run")
        assert words in text, (number, text)


def _without(state: dict[str, Any], start: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.startswith(start)}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The state of the network without spectral norm."""
    kept = {name: value for name, value in state.items() if not name.endswith(("weight_u", "weight_v"))}
    return {name.replace("weight_orig", "weight"): value for name, value in kept.items()}


def test_another_shape_is_named(tmp_path: Path) -> None:
    generator, discriminator, *_ = made("biggan-32")
    state = generator.state_dict()
    state["blocks.1.0.conv2d1.weight_orig"] = state["blocks.1.0.conv2d1.weight_orig"][:3]
    text = refused(saved(tmp_path / "model=G-a.pth", state), "biggan", tmp_path / "run")
    assert "does not fit this recipe" in text
    assert "conv1" in text
    files = write(tmp_path, generator, Discriminator([8] * 4, 2, attention=-1))
    with pytest.raises(UsageError, match="does not belong to the other files: option attention is 0"):
        ganzoo.import_checkpoint(files[:2], "biggan", out=tmp_path / "run", dataset="cifar10")
    assert discriminator is not None


class Hostile:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


def test_hostile_files_run_nothing(tmp_path: Path) -> None:
    import os
    import subprocess

    canary = tmp_path / "canary"
    touch = f"touch {canary}"
    attacks = [
        Hostile(os.system, touch),
        Hostile(eval, f"open({str(canary)!r}, 'w')"),
        Hostile(exec, f"open({str(canary)!r}, 'w')"),
        Hostile(subprocess.check_output, ["touch", str(canary)]),
        Hostile(open, str(canary), "w"),
        Hostile(os.mkdir, str(canary)),
        Hostile(getattr, "", "join"),
        Hostile(__import__, "os"),
        Hostile(pickle.loads, pickle.dumps(Hostile(os.system, touch))),
        Hostile(torch.load, str(canary)),
        Hostile(OrderedDict.fromkeys, ["a"]),
    ]
    generator, *_ = made("biggan-32")
    count = 0
    for attack in attacks:
        # beside the weights, as one of them, and as the value of numpy that the file of D has
        for place in ({"best_fid": attack}, {"state_dict": {**generator.state_dict(), "linear0.bias": attack}}):
            path = tmp_path / f"model=D-{count}.pth"
            torch.save({"state_dict": generator.state_dict(), "optimizer": None, **place}, path)
            text = refused(path, "biggan", tmp_path / "run")
            assert "refused" in text, text
            count += 1
    for name in hostile_pickles.GLOBALS[:6]:
        path = tmp_path / f"model=G-{count}.pth"
        path.write_bytes(hostile_pickles.called(name, touch))
        refused(path, "biggan", tmp_path / "run")
        count += 1
    assert count >= 25
    assert not canary.exists()
