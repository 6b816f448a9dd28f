"""ADA: mistakes that the recorded numbers show, what the transformations do, the controller, and bad input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers import ZOO
from official_augmentations import ADA_CASES, ada_errors
from official_numbers import ReadingRefused, Recording
from torch import Tensor
from torch.nn.functional import interpolate

import ganzoo
from ganzoo import Choice
from ganzoo.engine.step import run_step, train_step
from ganzoo.registry.recipes import plan
from ganzoo.training.build import TrainingSetup, build_setup
from ganzoo_plugins.augmentations import _pipe, _warp
from ganzoo_plugins.augmentations.ada import ADA

NAMES = [*ADA_CASES]


@pytest.mark.parametrize("name", NAMES[:5])
def test_the_way_without_reading_margins_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_warp, "reads_margins", lambda images: False)
    assert max(ada_errors(name, torch.float64, monkeypatch).values()) < 1e-9


BGC, FULL, R3GAN = NAMES[0], NAMES[3], NAMES[4]


def _changed(function: Callable[..., Tensor], change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda *arguments: change(function(*arguments))


MISTAKES: dict[str, tuple[Any, str, Any, str]] = {
    "turned to the other side": (_pipe, "rotation", lambda angle: _warp.rotation(-angle), BGC),
    "moved to the other side": (_pipe, "translation", lambda x, y: _warp.translation(-x, -y), BGC),
    "low-pass filter reversed": (_warp, "_double", lambda images, taps, f=_warp._double: f(images, taps.flip(0)), BGC),
    "half the margins": (_warp, "_margins", _changed(_warp._margins, lambda margins: (margins / 2).ceil()), BGC),
    "hue turned to the other side": (
        _pipe,
        "_rotated_around_grey",
        lambda angle, *more, f=_pipe._rotated_around_grey: f(-angle, *more),
        BGC,
    ),
    "bands in the other order": (_pipe, "_ENERGY", _pipe._ENERGY[::-1], FULL),
    "values and decisions in the other order": (
        _pipe.Pipe,
        "_chosen",
        lambda self, name, values, neutral, images, p: values.where(
            _pipe.uniform(images).view(-1, *(1,) * (values.ndim - 1)) >= self.shares[name] * p,
            torch.full_like(values, neutral),
        ),
        R3GAN,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, wrong, name = MISTAKES[mistake]
    monkeypatch.setattr(owner, attribute, wrong)
    assert max(ada_errors(name, torch.float64, monkeypatch).values()) > 1e-4


# --- what the transformations do --------------------------------------------------------------------------------------


def test_the_filters_of_the_bands_are_those_of_the_program_and_add_up() -> None:
    manifest = Recording("ada/pipe", torch.float64).manifest
    torch.testing.assert_close(_pipe.filter_bank(), torch.tensor(manifest["Hz_fbank"]).double(), atol=1e-7, rtol=0)
    assert torch.equal(_warp.low_pass(), torch.tensor(manifest["Hz_geom"]))
    whole = torch.zeros(43, dtype=torch.float64)
    whole[21] = 1
    assert torch.equal(_pipe.filter_bank().sum(dim=0), whole)


def test_with_strength_zero_nothing_changes() -> None:
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(ADA(pipe="bgcfnc")(images), images, atol=2e-5, rtol=0)


def _nearest(changed: Tensor, candidates: list[Tensor]) -> Tensor:
    """(N,): which of the candidates (N, C, H, W) each image is, up to the filter, which is not symmetric."""
    distances = torch.stack([(changed - candidate).abs().flatten(1).amax(1) for candidate in candidates])
    assert distances.amin(0).max() < 0.05
    return distances.argmin(0)


def test_about_half_of_the_images_are_flipped_and_a_quarter_turned_each_way() -> None:
    images = interpolate(torch.rand(200, 1, 3, 3), size=16, mode="bicubic")
    flipped = _nearest(ADA(pipe="xflip", mode="fixed", p=1)(images), [images, images.flip(-1)])
    assert 70 < flipped.sum() < 130
    quarters = [torch.rot90(images, k, (2, 3)) for k in range(4)]
    turned = _nearest(ADA(pipe="rotate90", mode="fixed", p=1)(images), quarters)
    assert turned.bincount(minlength=4).min() > 25


def test_sampling_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    grid = torch.rand(2, 3, 5, 2, dtype=torch.float64) * 2.4 - 1.2
    assert torch.autograd.gradcheck(lambda x: _warp.sample(x, grid), images)
    assert torch.autograd.gradgradcheck(lambda x: _warp.sample(x, grid).pow(3), images)


def test_a_share_lowers_the_probability() -> None:
    images = torch.zeros(2000, 3, 2, 2)
    changed = ADA(pipe="brightness*0.25", mode="fixed", p=0.8)(images)
    assert (changed != 0).flatten(1).any(1).double().mean() == pytest.approx(0.2, abs=0.03)


# --- the controller ---------------------------------------------------------------------------------------------------


def _expected(steps: Iterator[Tensor], batch: int, target: float, speed: float, interval: int) -> list[float]:
    """The strength before each step, as the program's loop computes it: at the end of iterations 0, 4, 8, ..."""
    p, signs, strengths = 0.0, [], []
    for iteration, logits in enumerate(steps):
        strengths.append(p)
        signs += logits.sign().flatten().tolist()
        if iteration % interval == 0:
            p = max(0.0, p + math.copysign(1, sum(signs) / len(signs) - target) * batch * interval / speed)
            signs = []
    return strengths


def test_the_strength_follows_the_signs_of_the_logits_of_reals() -> None:
    torch.manual_seed(0)
    logits = [torch.randn(8, 1) + (1.5 if 20 <= step < 60 else -0.5) for step in range(100)]
    ada, found = ADA(speed=1000), []
    for step, values in enumerate(logits):
        ada.advance(8 * step)
        found.append(float(ada.strength))
        ada.observe(values)
        if step % 16 == 0:  # the reals of R1 count too
            ada.observe(values)
    doubled = (torch.cat([v, v]) if step % 16 == 0 else v for step, v in enumerate(logits))
    assert found == pytest.approx(_expected(doubled, 8, 0.6, 1000, 4), abs=1e-6)
    assert max(found) > 0.2
    assert min(found) == 0
    assert found[-1] < 0.1


def test_advancing_twice_to_the_same_image_changes_nothing() -> None:
    ada = ADA(speed=100)
    ada.advance(0)
    ada.observe(torch.ones(8))
    ada.advance(8)
    once = {name: value.clone() for name, value in ada.named_buffers()}
    ada.advance(8)
    assert all(torch.equal(value, once[name]) for name, value in ada.named_buffers())
    assert once["strength"] > 0


def test_a_fixed_strength_does_not_change() -> None:
    ada = ADA(mode="fixed", p=0.3)
    for step in range(10):
        ada.advance(8 * step)
        ada.observe(torch.ones(8))
    assert float(ada.strength) == pytest.approx(0.3)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipe", "shape", "message"),
    [
        ("filter", (2, 3, 16, 16), "at least 22 pixels"),
        ("color", (2, 2, 16, 16), "1 or 3 channels"),
    ],
)
def test_images_that_a_transformation_cannot_change(pipe: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ganzoo.GanzooError, match=message):
        ADA(pipe=pipe, mode="fixed", p=1)(torch.zeros(shape))


@pytest.mark.parametrize("pipe", ["", "bgcx", "xflip+xflip", "xflip*", "xflip*-1", "hue,xflip"])
def test_other_names_of_transformations_are_refused(pipe: str) -> None:
    with pytest.raises(ganzoo.UsageError, match="names no transformations"):
        ADA(pipe=pipe)


# --- in a training ----------------------------------------------------------------------------------------------------


def test_a_schedule_of_the_strength() -> None:
    setup = _setup("ada:mode=fixed,p=0 -> 0.5 by 320")
    (ada,) = setup.game.augmentations
    found = []
    for step in range(50):
        setup.game.advance(8 * step, step)
        found.append(float(ada.p))
    assert found[0] == 0
    assert found[20] == pytest.approx(0.25, abs=1e-6)
    assert found[-1] == 0.5


def test_a_strength_does_not_adapt_and_follow_a_schedule() -> None:
    setup = _setup("ada:p=0 -> 0.5 by 320")
    with pytest.raises(ganzoo.UsageError, match="mode=fixed"):
        run_step(setup.game, setup.feed, 0, 0)


def test_a_step_reads_nothing_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be recorded as one graph. On a CPU, where nothing is waited for, it reads the margins."""
    setup = _setup("ada:pipe=bgcfnc,interval=1", size=24)
    monkeypatch.setattr(_warp, "reads_margins", lambda images: False)
    with ReadingRefused():
        for step in range(2):
            setup.game.advance(8 * step, step)
            train_step(setup.game, [setup.feed.fill(0)[0]])


def test_the_controller_is_resumed_exactly() -> None:
    whole, first, second = (_setup("ada:speed=200,target=0,interval=2") for _ in range(3))
    for setup, steps in ((whole, range(12)), (first, range(5))):
        for step in steps:
            run_step(setup.game, setup.feed, 0, step)
    second.game.restore({name: value.clone() for name, value in first.game.state().items()})
    for step in range(5, 12):
        run_step(second.game, second.feed, 0, step)
    found = second.game.state()
    assert all(torch.equal(value, found[name]) for name, value in whole.game.state().items())
    assert found["augmentation0/strength"] > 0


def _setup(augmentation: str, size: int = 16) -> TrainingSetup:
    changes = {"augmentations": [augmentation], "losses": ["nonsaturating", "r1"], "turns": "D,G", "batch_size": 8}
    recipe = plan(ZOO, Choice.parse("dcgan:width=4"), Choice.parse(f"digits:size={size}"), None, changes)
    return build_setup(recipe, ZOO, torch.device("cpu"))
