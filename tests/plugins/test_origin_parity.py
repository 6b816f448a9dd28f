"""The five origin systems against their golden numbers, in float32 and float64, and that mistakes would be seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from origin_replay import Played, samples, stats
from origins import ORIGINS
from torch.nn.functional import conv2d, conv_transpose2d

from ganzoo.engine.game import Game
from ganzoo_plugins.architectures import dcgan_tutorial
from ganzoo_plugins.layers.keras import BatchNorm, SameConv2d, SameConvTranspose2d

FLOATS = {torch.float32: "float32", torch.float64: "float64"}


def near(actual: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=what)


def tolerance(played: Played, float32: float, float64: float) -> float:
    return float32 if played.dtype == torch.float32 else float64


def trained(played: Played, names: list[str]) -> list[str]:
    """Names of weights that can be compared: what a batch norm cancels moves by rounding noise alone in float32."""
    skipped = played.origin.cancelled if played.dtype == torch.float32 else ()
    return [name for name in names if "/moving_" not in name and name not in skipped]


def outputs(played: Played) -> None:
    """Both networks before the first step and after it."""
    for name, value in played.outputs.items():
        if "bn_after" in name:
            continue
        expected = played.golden(name)
        after = tolerance(played, 5e-5, 1e-6) if name.startswith("step1/") else tolerance(played, 5e-6, 1e-7)
        near(value[: len(expected)], expected, after, name)


def losses(played: Played) -> None:
    """Losses and accuracy of the first step, as the engine reports them."""
    for name, parts in played.origin.scalars.items():
        expected = np.mean([played.golden(f"loss/{part}") for part in parts])
        near(played.scalars[0][name], expected, tolerance(played, 1e-5, 1e-6), name)


def gradients(played: Played) -> None:
    """Gradients of every update of the first step, relative to the largest of their network."""
    assert len(played.gradients) == len(played.origin.updates)
    for update, found in zip(played.origin.updates, played.gradients, strict=True):
        for network in {name[0] for name in found}:
            largest = max(np.abs(value).max() for name, value in found.items() if name[0] == network)
            prefix = f"{played.origin.prefix}f64/grad1/{update}:{network}/"
            assert sum(name[0] == network for name in found) == sum(
                name.startswith(prefix) for name in played.origin.golden
            )
            for name in (name for name in found if name[0] == network):
                expected = played.golden(f"grad1/{update}:{name}#samples")
                near(samples(found[name]), expected, largest * tolerance(played, 2e-5, 1e-6), f"{update} {name}")


def weights(played: Played) -> None:
    """Weights after every update of the first step: samples of each, their mean, and sums over all of it."""
    for after, found in zip(played.origin.after, played.weights, strict=True):
        if not after:
            continue
        errors = []
        for name in trained(played, list(found)):
            expected = played.golden(f"{after}/{name}#samples")
            near(samples(found[name]), expected, tolerance(played, 2e-5, 1e-6), f"{after} {name}")
            errors.append(np.abs(samples(found[name]) - expected))
            sums = slice(0, 2)
            room = 1e-12 + found[name].size * tolerance(played, 1e-7, 5e-8)
            near(stats(found[name])[sums], played.golden(f"{after}/{name}#stats")[sums], room, f"{after} sum {name}")
        assert np.concatenate(errors).mean() < 1e-8, after


def moving_statistics(played: Played) -> None:
    """Moving statistics after one forward in training mode, and after the first step."""
    found = {name: value for name, value in played.outputs.items() if "bn_after" in name}
    found |= {f"step1/{name}": value for name, value in played.weights[-1].items() if "/moving_" in name}
    for name, value in found.items():
        near(samples(value), played.golden(f"{name}#samples"), tolerance(played, 5e-7, 1e-8), name)


CHECKS = (outputs, losses, gradients, weights, moving_statistics)


CASES = [
    pytest.param(
        (origin, dtype),
        id=f"{name}, {word}",
        # twenty seconds, for the reading of one network that is not its recipe
        marks=[pytest.mark.slow] if (name, word) == ("dcgan-atienza, Keras 2.15", "float64") else [],
    )
    for name, origin in ORIGINS.items()
    for dtype, word in FLOATS.items()
]


@pytest.fixture(scope="module", params=CASES)
def played(request: pytest.FixtureRequest) -> Played:
    return Played(*request.param)


def test_weights_and_inputs_are_the_recorded_ones(played: Played) -> None:
    assert played.init_sha256 == played.origin.init_sha256
    assert played.inputs_sha256 == played.origin.inputs_sha256


@pytest.mark.parametrize("check", CHECKS)
def test_first_step(played: Played, check: Callable[[Played], None]) -> None:
    check(played)


def test_five_steps(played: Played) -> None:
    """Against the float64 numbers, in both precisions; float32 drifts as far as TensorFlow's own does."""
    origin = played.origin
    played.play_until(5)
    most, mean, loss = origin.drift if played.dtype == torch.float32 else (1e-6, 1e-7, 1e-5)
    errors = []
    for name, value in played.now.items():
        assert np.isfinite(value).all(), name
        expected = origin.golden[f"{origin.prefix}f64/step5/{name}#samples"]
        if "/moving_" in name:
            near(samples(value), expected, 4 * most, name)
        elif name not in origin.cancelled or played.dtype == torch.float64:
            near(samples(value), expected, most, name)
            errors.append(np.abs(samples(value) - expected))
    assert np.concatenate(errors).mean() < mean
    for ours, theirs in zip(played.scalars, origin.golden[f"{origin.prefix}f64/losses5"], strict=True):
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
    "a: Adam with eps beside the corrected root": ("dcgan-tutorial", {"changes": ADAM}, weights),
    "a: the generator answers the new discriminator": (
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
    "d: an Adam for each player": ("mlp-keras-gan", {"changes": SEPARATE}, weights),
    "d: corrected variance": (
        "mlp-keras-gan",
        {"mistake": lambda game: batch_norms(game, moving_variance="corrected")},
        moving_statistics,
    ),
    "b: Adam with eps beside the corrected root": (
        "mlp-vanilla",
        {"changes": {"generator_optimizer": "adam:lr=1e-3,beta1=0.9,beta2=0.999,eps=1e-8"}},
        weights,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake: str) -> None:
    name, wrong, check = MISTAKES[mistake]
    with pytest.raises(AssertionError):
        check(Played(ORIGINS[name], torch.float32, **wrong))


WRONG_LAYOUTS = {
    # the size is right, the image one pixel off
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
def test_a_wrong_layout_is_seen(monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    owner, name, wrong = WRONG_LAYOUTS[layout]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        outputs(Played(ORIGINS["dcgan-tutorial"], torch.float32))
