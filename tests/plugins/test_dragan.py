"""DRAGAN's penalty against its formula and finite differences, and one-sided label smoothing of minimax."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.contract.options import resolve
from ganzoo_plugins.losses.minimax import Minimax
from ganzoo_plugins.losses.nonsaturating import NonSaturating
from ganzoo_plugins.penalties.dragan import DRAGAN


class RecordingDiscriminator(nn.Module):
    """A smooth discriminator in double precision that records its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(18, 5), nn.Tanh(), nn.Linear(5, 1)).double()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.seen.append(images)
        logits: Tensor = self.layers(images)
        return logits


def no_fakes(latents: Tensor, labels: Tensor) -> Tensor:
    raise AssertionError("DRAGAN uses reals only")


def make_round(count: int = 6) -> tuple[ganzoo.Round, RecordingDiscriminator, Tensor]:
    torch.manual_seed(1)
    reals, discriminator = 0.7 * torch.randn(count, 2, 3, 3, dtype=torch.float64) - 0.2, RecordingDiscriminator()
    labels = torch.zeros(count, dtype=torch.int64)
    return ganzoo.Round(reals, labels, torch.zeros(count, 4), no_fakes, discriminator), discriminator, reals


def slope_by_differences(discriminator: RecordingDiscriminator, point: Tensor) -> float:
    """The norm of the gradient at one image (C, H, W), by central differences of the logit."""
    step, total = 1e-5, 0.0
    for index in range(point.numel()):
        moved = torch.zeros(point.numel(), dtype=point.dtype)
        moved[index] = step
        shift = moved.view_as(point)[None]
        with torch.no_grad():
            ends = [discriminator.layers(point[None] + sign * shift).item() for sign in (1, -1)]
        total += ((ends[0] - ends[1]) / (2 * step)) ** 2
    return math.sqrt(total)


@pytest.mark.parametrize(("weight", "target"), [(10.0, 1.0), (4.0, 0.3)])
def test_the_penalty_follows_the_formula(weight: float, target: float) -> None:
    round, discriminator, _ = make_round()
    loss = DRAGAN(weight=weight, target=target).discriminator(round)
    (points,) = discriminator.seen
    slopes = [slope_by_differences(discriminator, point.detach()) for point in points]
    expected = weight * sum((slope - target) ** 2 for slope in slopes) / len(slopes)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_its_gradient_is_that_of_the_formula() -> None:
    """The gradient of the discriminator's weights, against finite differences of the penalty."""
    round, discriminator, _ = make_round()
    penalty, bias = DRAGAN(), discriminator.layers[1].bias

    def loss() -> Tensor:
        torch.manual_seed(5)  # the same points
        return penalty.discriminator(round)

    (gradient,) = torch.autograd.grad(loss(), bias)
    for index in range(len(bias)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                bias[index] += sign * 1e-5
            ends.append(loss().item())
            with torch.no_grad():
                bias[index] -= sign * 1e-5
        assert gradient[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-7)


def test_points_are_reals_plus_positive_noise() -> None:
    round, discriminator, reals = make_round(count=400)
    DRAGAN(noise=0.5).discriminator(round)
    (points,) = discriminator.seen
    perturbations = (points - reals).detach()
    limit = 0.5 * reals.std(correction=0).item()
    assert perturbations.min() >= 0
    assert 0.95 * limit < perturbations.max() <= limit
    # a share for each image, times noise for each pixel: both uniform, so their product has the mean of a quarter
    assert perturbations.mean().item() == pytest.approx(limit / 4, rel=0.1)
    largest = perturbations.flatten(1).amax(dim=1) / limit
    assert largest.min() < 0.1
    assert (perturbations.flatten(1).std(dim=1) > 0).all()


def test_without_noise_the_points_are_the_reals() -> None:
    round, discriminator, reals = make_round()
    DRAGAN(noise=0.0).discriminator(round)
    assert torch.equal(discriminator.seen[0].detach(), reals)


def test_a_flat_discriminator_gets_finite_gradients() -> None:
    round, discriminator, _ = make_round()
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.zero_()
    loss = DRAGAN().discriminator(round)
    assert loss.item() == 10
    gradients = torch.autograd.grad(loss, list(discriminator.parameters()), materialize_grads=True)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_generator_has_no_penalty() -> None:
    round, discriminator, _ = make_round()
    loss = DRAGAN().generator(round)
    assert (loss.item(), loss.shape, loss.requires_grad) == (0.0, (), False)
    assert not discriminator.seen
    assert not DRAGAN.separable


@pytest.mark.parametrize("given", [{"weight": "-1"}, {"target": "-1"}, {"noise": "-0.1"}])
def test_options_are_bounded(given: dict[str, str]) -> None:
    with pytest.raises(ganzoo.UsageError):
        resolve(DRAGAN, given, "dragan")


# --- label smoothing ----------------------------------------------------------------------------------------------


def test_smoothing_of_minimax_changes_reals_only() -> None:
    logits = torch.tensor([2.0, -0.5, 0.25], dtype=torch.float64)
    probability = torch.sigmoid(logits)
    expected = -(0.9 * probability.log() + 0.1 * (1 - probability).log()).mean()
    smoothed, plain = Minimax(label_smoothing=0.1), Minimax()
    torch.testing.assert_close(smoothed.on_reals(logits), expected)
    assert torch.equal(smoothed.on_fakes(logits), plain.on_fakes(logits))
    assert torch.equal(smoothed.on_reals(logits), NonSaturating(label_smoothing=0.1).on_reals(logits))
    labels = torch.zeros(3, dtype=torch.int64)
    pictures = torch.zeros(3, 1, 1, 1, dtype=torch.float64)
    losses = {
        loss.generator(ganzoo.Round(pictures, labels, labels, lambda *_: pictures, lambda *_: logits)).item()
        for loss in (smoothed, plain)
    }
    assert len(losses) == 1


def test_smoothing_is_off_by_default_and_bounded() -> None:
    logits = torch.tensor([3.0, -1.0])
    assert resolve(Minimax, {}, "minimax") == {"label_smoothing": 0.0}
    assert torch.equal(Minimax().on_reals(logits), torch.nn.functional.softplus(-logits).mean())
    with pytest.raises(ganzoo.UsageError):
        resolve(Minimax, {"label_smoothing": "0.6"}, "minimax")
