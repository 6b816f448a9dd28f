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
from helpers import ZOO
from helpers import ganzoo as command
from official_files import state
from official_pickles import write_r3gan, write_stylegan2
from published import Published

import ganzoo
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.results.load import load_generator
from ganzoo.storage import checkpoints, foreign

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
    """Read foreign files in this process: starting one takes seconds. tests/storage has the limits and the refusals."""
    if "in_a_process" in request.keywords:
        return

    def read(path: Path, result: Path, classes: tuple[str, ...] = ()) -> object:
        facts = foreign._answer_within(path, result, classes)
        if "refused" in facts:
            raise GanzooError(f"{path} is refused: {facts['refused']}.")
        return json.loads(json.dumps(facts))

    monkeypatch.setattr(foreign, "_read_apart", read)


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """The networks that a run starts from."""
    return checkpoints.tensors_from_bytes((path / "initial.safetensors").read_bytes())[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FORMATS)
def test_an_imported_generator_draws_the_images_of_the_official_one(name: str, tmp_path: Path) -> None:
    architecture, write, recorded, options, dataset = FORMATS[name]
    fixture = Published(name)
    files = write(fixture, tmp_path)
    run = ganzoo.import_checkpoint(files, architecture, out=tmp_path / "run")
    assert run.environment["initial_weights"]["networks"] == ["generator", "discriminator", "average"]
    chosen = run.recipe.architecture
    assert chosen is not None
    assert {key: chosen.options[key] for key in options} == options
    assert str(run.recipe.dataset) == dataset or dataset == "cifar10"
    inputs = fixture.draw("inputs")
    latents = torch.from_numpy(inputs["z_fixed"])
    labels = torch.from_numpy(inputs["y_fixed"]) if "y_fixed" in inputs else torch.zeros(len(latents)).long()
    trained = load_generator(run.path, ZOO, CPU)
    with torch.no_grad():
        images = trained.network(latents, labels)
    # our network with the same weights, copied by hand, and the recorded images of the program
    made = ZOO.build("architectures", chosen)
    generator, discriminator = made.networks(ganzoo.ImageSpec(**run.environment["images"]))
    copy_by_shape(generator, state(fixture, "G"), architecture)
    generator.eval()
    with torch.no_grad():
        expected = generator(latents, labels)
    assert (images - expected).abs().max() == 0
    errors = relative(images.numpy(), fixture.numbers, recorded)
    assert errors < 1e-6, errors
    assert discriminator.state_dict().keys() <= {
        name.partition("/")[2] for name in tensors_of(run.path) if name.startswith("discriminator/")
    }
