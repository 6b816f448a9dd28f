"""The five origin systems against their golden numbers, in float32 and float64, and proof that mistakes are found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from origin_replay import OriginReplay, samples, stats
from origins import ORIGINS
from torch.nn.functional import conv2d, conv_transpose2d

from ganzoo.engine.game import Game
from ganzoo_plugins.architectures import dcgan_tutorial
from ganzoo_plugins.layers.keras import BatchNorm, SameConv2d, SameConvTranspose2d

FLOATS = {torch.float32: "float32", torch.float64: "float64"}


def near(actual: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=what)


def tolerance(replay: OriginReplay, float32: float, float64: float) -> float:
    return float32 if replay.dtype == torch.float32 else float64


def trained(replay: OriginReplay, names: list[str]) -> list[str]:
    """Names of weights that can be compared: in float32, biases that a batch norm cancels change by rounding only."""
    skipped = replay.origin.cancelled if replay.dtype == torch.float32 else ()
    return [name for name in names if "/moving_" not in name and name not in skipped]


def outputs(replay: OriginReplay) -> None:
    """Both networks before the first step and after it."""
    for name, value in replay.outputs.items():
        if "bn_after" in name:
            continue
        expected = replay.golden(name)
        after = tolerance(replay, 5e-5, 1e-6) if name.startswith("step1/") else tolerance(replay, 5e-6, 1e-7)
        near(value[: len(expected)], expected, after, name)


def losses(replay: OriginReplay) -> None:
    """Losses and accuracy of the first step, from the engine's running means."""
    for name, parts in replay.origin.scalars.items():
        expected = np.mean([replay.golden(f"loss/{part}") for part in parts])
        near(replay.scalars[0][name], expected, tolerance(replay, 1e-5, 1e-6), name)


def gradients(replay: OriginReplay) -> None:
    """Gradients of every update of the first step, relative to the largest of their network."""
    assert len(replay.gradients) == len(replay.origin.updates)
    for update, found in zip(replay.origin.updates, replay.gradients, strict=True):
        for network in {name[0] for name in found}:
            largest = max(np.abs(value).max() for name, value in found.items() if name[0] == network)
            prefix = f"{replay.origin.prefix}f64/grad1/{update}:{network}/"
            assert sum(name[0] == network for name in found) == sum(
                name.startswith(prefix) for name in replay.origin.golden
            )
            for name in (name for name in found if name[0] == network):
                expected = replay.golden(f"grad1/{update}:{name}#samples")
                near(samples(found[name]), expected, largest * tolerance(replay, 2e-5, 1e-6), f"{update} {name}")


def weights(replay: OriginReplay) -> None:
    """Weights after every update of the first step: samples of each, their mean, and sums over all of it."""
    for after, found in zip(replay.origin.after, replay.weights, strict=True):
        if not after:
            continue
        errors = []
        for name in trained(replay, list(found)):
            expected = replay.golden(f"{after}/{name}#samples")
            near(samples(found[name]), expected, tolerance(replay, 2e-5, 1e-6), f"{after} {name}")
            errors.append(np.abs(samples(found[name]) - expected))
            sums = slice(0, 2)
            room = 1e-12 + found[name].size * tolerance(replay, 1e-7, 5e-8)
            near(stats(found[name])[sums], replay.golden(f"{after}/{name}#stats")[sums], room, f"{after} sum {name}")
        assert np.concatenate(errors).mean() < 1e-8, after


def moving_statistics(replay: OriginReplay) -> None:
    """Moving statistics after one forward in training mode, and after the first step."""
    found = {name: value for name, value in replay.outputs.items() if "bn_after" in name}
    found |= {f"step1/{name}": value for name, value in replay.weights[-1].items() if "/moving_" in name}
    for name, value in found.items():
        near(samples(value), replay.golden(f"{name}#samples"), tolerance(replay, 5e-7, 1e-8), name)


CHECKS = (outputs, losses, gradients, weights, moving_statistics)


CASES = [
    pytest.param(
        (origin, dtype),
        id=f"{name}, {word}",
        # twenty seconds, for a variant that is not the default recipe
        marks=[pytest.mark.slow] if (name, word) == ("dcgan-atienza, Keras 2.15", "float64") else [],
    )
    for name, origin in ORIGINS.items()
    for dtype, word in FLOATS.items()
]


@pytest.fixture(scope="module", params=CASES)
def replay(request: pytest.FixtureRequest) -> OriginReplay:
    return OriginReplay(*request.param)


def test_weights_and_inputs_are_the_recorded_ones(replay: OriginReplay) -> None:
    assert replay.init_sha256 == replay.origin.init_sha256
    assert replay.inputs_sha256 == replay.origin.inputs_sha256


@pytest.mark.parametrize("check", CHECKS)
def test_first_step(replay: OriginReplay, check: Callable[[OriginReplay], None]) -> None:
    check(replay)


def test_five_steps(replay: OriginReplay) -> None:
    """Against the float64 numbers, in both precisions; float32 may drift as far as TensorFlow's own float32 does."""
    origin = replay.origin
    replay.run_until(5)
    most, mean, loss = origin.drift if replay.dtype == torch.float32 else (1e-6, 1e-7, 1e-5)
    errors = []
    for name, value in replay.now.items():
        assert np.isfinite(value).all(), name
        expected = origin.golden[f"{origin.prefix}f64/step5/{name}#samples"]
        if "/moving_" in name:
            near(samples(value), expected, 4 * most, name)
        elif name not in origin.cancelled or replay.dtype == torch.float64:
            near(samples(value), expected, most, name)
            errors.append(np.abs(samples(value) - expected))
    assert np.concatenate(errors).mean() < mean
    for ours, theirs in zip(replay.scalars, origin.golden[f"{origin.prefix}f64/losses5"], strict=True):
        near(ours["discriminator_loss"], theirs[:-1].mean(), loss, "discriminator_loss")
        near(ours["generator_loss"], theirs[-1], loss, "generator_loss")


def batch_norms(game: Game, **values: float | str) -> None:
    for module in game.generator.modules():
        if isinstance(module, BatchNorm):
            for name, value in values.items():
                setattr(module, name, value)


def momentum_not_inverted(game: Game) -> None:
    for module in game.generator.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 1 - module.momentum


ADAM = {
    "generator_optimizer": "adam:lr=1e-4,beta1=0.9,beta2=0.999,eps=1e-7",
    "discriminator_optimizer": "adam:lr=1e-4,beta1=0.9,beta2=0.999,eps=1e-7",
}
RMSPROP = {"generator_optimizer": "keras-rmsprop:lr=1e-4,decay=3e-8,eps=1e-8"}
SEPARATE = {"discriminator_optimizer": "keras-adam:lr=2e-4,beta1=0.5,beta2=0.999,eps=1e-7"}
MISTAKES = {
    "a: Adam with eps added to the corrected root": ("dcgan-tutorial", {"changes": ADAM}, weights),
    "a: the generator is updated after the discriminator": (
        "dcgan-tutorial",
        {"changes": {"turns": "D,G"}, "latents": ("z_g", "z_g")},
        gradients,
    ),
    "a: batch norm with PyTorch's eps": (
        "dcgan-tutorial",
        {"mistake": lambda game: batch_norms(game, eps=1e-5)},
        outputs,
    ),
    "a: corrected variance after Dense": (
        "dcgan-tutorial",
        {"mistake": lambda game: batch_norms(game, moving_variance="corrected")},
        moving_statistics,
    ),
    "c1: the discriminator is frozen": ("dcgan-atienza, Keras 2.0.4", {"changes": {"turns": "D,G"}}, weights),
    "c1: fakes of a generator in training mode": (
        "dcgan-atienza, Keras 2.0.4",
        {"changes": {"generator_mode_for_discriminator": "training"}},
        moving_statistics,
    ),
    "c2: momentum not inverted": ("dcgan-atienza-book", {"mistake": momentum_not_inverted}, moving_statistics),
    "c2: variance of the population": (
        "dcgan-atienza-book",
        {"mistake": lambda game: batch_norms(game, moving_variance="population")},
        moving_statistics,
    ),
    "c2: fakes of a generator in training mode": (
        "dcgan-atienza-book",
        {"changes": {"generator_mode_for_discriminator": "training"}},
        gradients,
    ),
    "c2: RMSprop with eps 1e-8": ("dcgan-atienza-book", {"changes": RMSPROP}, weights),
    "d: one Adam for each network": ("mlp-keras-gan", {"changes": SEPARATE}, weights),
    "d: corrected variance": (
        "mlp-keras-gan",
        {"mistake": lambda game: batch_norms(game, moving_variance="corrected")},
        moving_statistics,
    ),
    "b: Adam with eps added to the corrected root": (
        "mlp-vanilla",
        {"changes": {"generator_optimizer": "adam:lr=1e-3,beta1=0.9,beta2=0.999,eps=1e-8"}},
        weights,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    name, wrong, check = MISTAKES[mistake]
    with pytest.raises(AssertionError):
        check(OriginReplay(ORIGINS[name], torch.float32, **wrong))


WRONG_LAYOUTS = {
    # the size is right, but the image is shifted by one pixel
    "symmetric padding": (
        SameConv2d,
        "forward",
        lambda layer, images: conv2d(images, layer.weight, layer.bias, layer.stride, 2),
    ),
    "symmetric cropping": (
        SameConvTranspose2d,
        "forward",
        lambda layer, images: conv_transpose2d(
            images, layer.weight, layer.bias, layer.stride, 2, output_padding=layer.stride[0] - 1
        ),
    ),
    "flattened as C, H, W": (dcgan_tutorial, "flatten", lambda images: images.flatten(1)),
    "reshaped as C, H, W": (
        dcgan_tutorial,
        "unflatten",
        lambda values, height, width: values.unflatten(1, (-1, height, width)),
    ),
}


@pytest.mark.parametrize("layout", WRONG_LAYOUTS)
def test_a_wrong_layout_is_found(monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    owner, name, wrong = WRONG_LAYOUTS[layout]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        outputs(OriginReplay(ORIGINS["dcgan-tutorial"], torch.float32))
