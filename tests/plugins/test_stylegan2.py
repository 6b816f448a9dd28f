"""StyleGAN2: mistakes that the recorded numbers show, parameter counts, sizes, truncation, and what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ZOO
from helpers import ganzoo as command
from official_numbers import ReadingRefused
from official_stylegan2 import CHECKS, Replay
from small_architectures import parameter_count
from torch import Tensor

import ganzoo
from ganzoo import Choice
from ganzoo.engine.step import run_step, train_step
from ganzoo.registry.recipes import plan
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo_plugins.architectures import _stylegan2_networks as networks
from ganzoo_plugins.architectures.stylegan2 import StyleGAN2
from ganzoo_plugins.layers import equalised
from ganzoo_plugins.penalties import path_length

F64 = torch.float64
SMALL = {"channel_base": 64, "channel_max": 8, "latent_dim": 8, "style_dim": 8, "mapping_layers": 2}


# --- mistakes ---------------------------------------------------------------------------------------------------------


def _first_conv(replay: Replay) -> Any:
    return replay.game.generator.get_submodule("synthesis.b8.conv0")


def _set(owner: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(owner, name, value)


def _blocks(replay: Replay) -> list[Any]:
    discriminator: Any = replay.game.discriminator
    return [discriminator.b32, discriminator.b16, discriminator.b8]


def _contiguous_groups(features: Tensor, group: int) -> Tensor:
    groups = features.reshape(len(features) // group, group, -1)
    return ((groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=1)).repeat_interleave(group)


def _style_scaled(replay: Replay) -> None:
    """Demodulation hides it, except for the 1e-8 and the gradients of the weights."""
    with torch.no_grad():
        for block in replay.game.generator.get_submodule("synthesis").blocks()[1:]:
            block.torgb.scale = 1.0


MISTAKES: dict[str, tuple[str, str, Callable[[Replay], None], dict[str, Any]]] = {
    "images without 1 / sqrt(inputs)": ("config-f-32", "outputs", _style_scaled, {}),
    "gains of the residual blocks missing": (
        "config-f-32",
        "outputs",
        lambda replay: [_set(block.conv1, gain=1.0) for block in _blocks(replay)] and None,
        {},
    ),
    "biases of the mapping not multiplied": (
        "config-f-32",
        "outputs",
        lambda replay: _set(replay.game.generator.get_submodule("mapping.fc0"), rate=1.0),
        {},
    ),
    "the discriminator first": ("config-f-32", "gradients", lambda replay: None, {"turns": "D,D.lazy,G,G.lazy"}),
    "beta2 not raised to r": (
        "cifar-cond-32",
        "steps",
        lambda replay: None,
        {"generator_optimizer": "adam:lr=0.002,beta1=0,beta2=0.99"},
    ),
    "no ramp": ("cifar-cond-32", "steps", lambda replay: None, {"ema_ramp": 0.0}),
    "gamma in place of half of it": (
        "config-f-32",
        "gradients",
        lambda replay: None,
        {"losses": ["nonsaturating", "r1:gamma=20,every=16", "path-length:every=4"]},
    ),
    "the penalty without its interval": (
        "config-f-32",
        "gradients",
        lambda replay: _set(replay.game.losses[2], weight=0.5),
        {},
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, check, change, changes = MISTAKES[mistake]
    assert max(CHECKS[check](Replay(name, F64, monkeypatch, change, **changes)).values()) > 1e-5


@pytest.mark.parametrize(
    ("owner", "function", "wrong", "check"),
    [
        (networks, "group_deviation", _contiguous_groups, "outputs"),
        (equalised, "clamped", lambda features, limit: features.clamp(-0.5, 0.5), "outputs"),
        (
            path_length,
            "sum_over_processes",
            lambda mean: (mean.detach(), 1),  # a without its gradient
            "gradients",
        ),
    ],
)
def test_a_mistake_in_a_function_is_found(
    owner: Any, function: str, wrong: Callable[..., Any], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay("config-f-32", F64, monkeypatch)
    monkeypatch.setattr(owner, function, wrong)
    assert max(CHECKS[check](replay).values()) > 1e-5


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size", "generator", "mapping", "discriminator", "rows"),
    [
        ({}, 1024, 30_370_060, 2_101_248, 29_012_513, 18),
        ({}, 512, 30_276_583, 2_101_248, 28_982_849, 16),
        ({"channel_base": 16_384}, 256, 24_767_458, 2_101_248, 24_001_089, 14),
        ({"channel_base": 16_384, "mapping_layers": 2}, 256, 23_191_522, 525_312, 24_001_089, 14),
        ({"mapping_layers": 2, "residual": False}, 32, 19_947_539, 525_312, 20_720_641, 8),
        ({"mapping_layers": 2, "residual": False, "classes": True}, 32, 20_215_315, 793_088, 23_089_664, 8),
    ],
)
def test_parameters_of_the_published_networks(
    options: dict[str, Any], size: int, generator: int, mapping: int, discriminator: int, rows: int
) -> None:
    with torch.device("meta"):
        made, judge = StyleGAN2(**options).networks(ganzoo.ImageSpec(3, size, size, 10))
    counts = [parameter_count(network) for network in (made, made.get_submodule("mapping"), judge)]
    assert counts == [generator, mapping, discriminator]
    assert made.get_submodule("synthesis").rows == rows


@pytest.mark.parametrize(
    ("size", "batch", "gamma", "base", "half_life"),
    [(32, 32, 0.0064, 16_384, 10_000), (256, 16, 0.8192, 16_384, 5000), (1024, 4, 52.4288, 32_768, 1250)],
)
def test_the_automatic_recipes(size: int, batch: int, gamma: float, base: int, half_life: int) -> None:
    recipe = StyleGAN2.recipe.merged(StyleGAN2.recipes[f"auto-{size}"])
    assert (recipe.batch_size, recipe.ema_half_life, recipe.ema_ramp) == (batch, half_life, 0.05)
    assert recipe.architecture is not None
    assert ZOO.build("architectures", recipe.architecture).channel_base == base
    assert float(recipe.losses[1].options["gamma"]) == pytest.approx(gamma)
    rate = 0.002 if size == 1024 else 0.0025
    assert float(recipe.generator_optimizer.options["lr"]) == pytest.approx(rate * 0.8)
    assert float(recipe.generator_optimizer.options["beta2"]) == pytest.approx(0.99**0.8)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (28, 28), (32, 64), (2048, 2048)])
def test_other_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(ganzoo.RefusedSpec, match="squares of 8"):
        StyleGAN2(**SMALL).networks(ganzoo.ImageSpec(3, height, width))


# --- in a training ----------------------------------------------------------------------------------------------------


def _setup(options: str = "", **changes: Any) -> TrainingSetup:
    small = ",".join(f"{key}={value}" for key, value in SMALL.items())
    name = f"stylegan2:{small}{options}"
    recipe = plan(ZOO, Choice.parse(name), Choice.parse("digits:size=16"), None, {"batch_size": 8, **changes})
    return build_setup(recipe, ZOO, torch.device("cpu"))


def test_resumes_bit_for_bit_with_penalties_mixing_and_augmentation() -> None:
    whole, first, second = (_setup(augmentations=["ada:speed=500"], ema_ramp=0.05) for _ in range(3))
    for setup, steps in ((whole, range(9)), (first, range(5))):
        for step in steps:
            run_step(setup.game, setup.feed, 0, step)
    second.game.restore({name: value.clone() for name, value in first.game.state().items()})
    for step in range(5, 9):
        run_step(second.game, second.feed, 0, step)
    found = second.game.state()
    assert all(torch.equal(value, found[name]) for name, value in whole.game.state().items())
    assert found["loss2/mean"] > 0
    assert found["generator/mapping.w_avg"].any()


def test_a_step_reads_nothing_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be recorded as a CUDA graph, in steps with and without penalties."""
    monkeypatch.setattr("ganzoo_plugins.augmentations._warp.reads_margins", lambda images: False)
    setup = _setup(augmentations=["ada"])
    batches = setup.feed.fill(0)
    with ReadingRefused():
        for step in (0, 1):
            setup.game.advance(8 * step, step)
            train_step(setup.game, batches)


def test_path_length_needs_styles() -> None:
    recipe = plan(
        ZOO,
        Choice.parse("dcgan:width=4"),
        Choice.parse("digits:size=16"),
        None,
        {"losses": ["nonsaturating", "path-length"], "turns": "G,D", "batch_size": 4},
    )
    setup = build_setup(recipe, ZOO, torch.device("cpu"))
    with pytest.raises(ganzoo.UsageError, match="a generator with styles"):
        run_step(setup.game, setup.feed, 0, 0)


def done(*words: str) -> None:
    result = command(*words)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("style") / "run"
    options = [word for key, value in SMALL.items() for word in ("-o", f"{key}={value}")]
    done("train", "stylegan2", "digits", *options, "--steps", "3", "--batch-size", "8", "--out", str(path), "-q")
    return path


def test_truncation_pulls_styles_towards_their_mean(run: Path, tmp_path: Path) -> None:
    drawn = {}
    for truncation in ("", "1", "0.5", "0.001"):
        words = ["--truncation", truncation] if truncation else []
        out = tmp_path / f"a{truncation}.npy"
        done("sample", str(run), "-n", "8", "-o", str(out), *words)
        drawn[truncation] = np.load(out).astype(int)
    assert np.array_equal(drawn[""], drawn["1"])
    spread = {key: np.ptp(values, axis=0).mean() for key, values in drawn.items()}
    assert spread["1"] > spread["0.5"] > spread["0.001"]
    assert spread["0.001"] < 1


def test_export_to_onnx(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    done("export", str(run), "-o", str(tmp_path / "made"), "--format", "onnx")
    assert (tmp_path / "made").is_dir()
