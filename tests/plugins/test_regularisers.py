"""LeCam, consistency and top-k against numbers of the official programs, and against formulas written once more."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from helpers import ganzoo
from torch import Tensor, nn
from torch.nn import functional as F

import ganzoo as package
from ganzoo.contract.options import resolve
from ganzoo.storage import checkpoints
from ganzoo_plugins.losses.hinge import Hinge
from ganzoo_plugins.losses.least_squares import LeastSquares
from ganzoo_plugins.losses.minimax import Minimax
from ganzoo_plugins.losses.nonsaturating import NonSaturating
from ganzoo_plugins.losses.wasserstein import Wasserstein
from ganzoo_plugins.penalties.consistency import BCR, CR, ZCR, flipped_and_shifted
from ganzoo_plugins.penalties.lecam import LeCam

GOLDEN = Path(__file__).parents[1] / "golden" / "modern"


def fixed_round(reals: Tensor, fakes: Tensor) -> package.Round:
    """A round with these logits."""
    count = len(fakes)
    return package.Round(
        torch.zeros(count, 1, 2, 2, dtype=fakes.dtype),
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count, 3, dtype=fakes.dtype),
        lambda latents, labels: torch.ones(count, 1, 2, 2, dtype=fakes.dtype),
        lambda images, labels: fakes if images.detach().any() else reals,
    )


# --- LeCam ---


def test_lecam_is_that_of_the_official_program() -> None:
    """Moving means, penalty and gradients before, at and after the start (3 there), in float64."""
    golden = json.loads((GOLDEN / "lecam.json").read_text())["iterations"]
    loss = LeCam(weight=0.3, decay=0.9, start=3).double()
    for row in golden:
        loss.advance(row["itr"])
        reals, fakes = (
            torch.tensor(row[name], dtype=torch.float64, requires_grad=True) for name in ("d_real", "d_fake")
        )
        value = loss.discriminator(fixed_round(reals, fakes))
        assert loss.anchors.tolist() == pytest.approx([row["ema_D_real"], row["ema_D_fake"]], rel=1e-7)
        assert value.item() == pytest.approx(0.3 * row["lecam"], rel=1e-7)
        gradients = torch.autograd.grad(value, (reals, fakes), materialize_grads=True)
        for found, name in zip(gradients, ("grad_real", "grad_fake"), strict=True):
            assert found.tolist() == pytest.approx([0.3 * number for number in row[name]], rel=1e-6, abs=1e-12)


def test_lecam_without_a_start_counts_at_once() -> None:
    reals, fakes = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])  # means 1 and 0
    value = LeCam(weight=2.0).discriminator(fixed_round(reals.requires_grad_(), fakes.requires_grad_()))
    assert value.item() == pytest.approx(2 * ((4 + 0) / 2 + (4 + 0) / 2))


def test_the_moving_means_are_in_the_checkpoint(tmp_path: Path) -> None:
    arguments = ["train", "mlp-vanilla", "digits:size=8", "-o", "width=8", "--tick-every", 1, "-q"]
    arguments += ["--loss", "hinge:top_k=1 -> 0.5 by 64", "--loss", "lecam:start=16", "--loss", "bcr", "--loss", "zcr"]
    for name, steps in (("whole", 4), ("parts", 2)):
        result = ganzoo(*arguments, "--steps", steps, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    assert ganzoo("resume", tmp_path / "parts", "--steps", 4, "-q").exit_code == 0
    whole, parts = (checkpoints.load_latest(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    assert all(torch.equal(value, parts.tensors[name]) for name, value in whole.tensors.items())
    assert whole.tensors["loss1/anchors"].abs().min() > 0


# --- consistency ---


class Networks:
    """Two small smooth networks with classes, and a round of them that counts the calls."""

    def __init__(self, count: int = 5) -> None:
        torch.manual_seed(1)
        self.weights, self.classes = torch.randn(2 * 9 * 9, requires_grad=True), torch.randn(3)
        self.generator = nn.Linear(4, 2 * 9 * 9)
        self.reals, self.latents = torch.randn(count, 2, 9, 9), torch.randn(count, 4)
        self.labels, self.fake_labels = torch.arange(count) % 3, torch.arange(count) % 2
        self.round = package.Round(
            *(self.reals, self.labels, self.latents, self.generate, self.discriminate), fake_labels=self.fake_labels
        )

    def generate(self, latents: Tensor, labels: Tensor) -> Tensor:
        return torch.tanh(self.generator(latents) + self.classes[labels][:, None]).view(-1, 2, 9, 9)

    def discriminate(self, images: Tensor, labels: Tensor) -> Tensor:
        return torch.sin(images.flatten(1) @ self.weights) + self.classes[labels] * images.mean((1, 2, 3))


def by_hand(images: Tensor) -> Tensor:
    """Flips and shifts image by image: pad by reflection, and cut a window out. Draws the same numbers."""
    count, _, height, width = images.shape
    mirrored = (torch.rand(count, 1, 1, 1) < 0.5).flatten().tolist()
    shifts = [torch.randint(-(size // 8), size // 8 + 1, (count, 1)).flatten().tolist() for size in (height, width)]
    changed = []
    for image, mirror, down, across in zip(images, mirrored, *shifts, strict=True):
        flipped = torch.stack([image[..., width - 1 - x] for x in range(width)], -1) if mirror else image
        padded = F.pad(flipped[None], (width // 8, width // 8, height // 8, height // 8), mode="reflect")[0]
        top, left = height // 8 + down, width // 8 + across
        changed.append(padded[:, top : top + height, left : left + width])
    return torch.stack(changed)


@pytest.mark.parametrize("size", [(9, 9), (32, 17), (4, 4)])
def test_images_are_flipped_and_shifted(size: tuple[int, int]) -> None:
    images = torch.randn(40, 3, *size)
    torch.manual_seed(7)
    found = flipped_and_shifted(images)
    torch.manual_seed(7)
    torch.testing.assert_close(found, by_hand(images), rtol=0, atol=0)
    assert not torch.equal(found, images)


def test_consistency_of_reals_and_fakes() -> None:
    made = Networks()
    for loss, strengths in ((CR(weight=3.0), (3.0, 0.0)), (BCR(real=2.0, fake=5.0), (2.0, 5.0))):
        torch.manual_seed(3)
        value = loss.discriminator(made.round)
        torch.manual_seed(3)
        fakes = made.generate(made.latents, made.fake_labels).detach()
        sides = [(fakes, made.fake_labels, strengths[1])] if strengths[1] else []  # they are changed first
        expected = torch.stack(
            [
                strength * (made.discriminate(x, y) - made.discriminate(by_hand(x), y)).square().mean()
                for x, y, strength in [*sides, (made.reals, made.labels, strengths[0])]
            ]
        ).sum()
        torch.testing.assert_close(value, expected)
        mine, theirs = (torch.autograd.grad(each, made.weights, retain_graph=True)[0] for each in (value, expected))
        torch.testing.assert_close(mine, theirs)
        assert loss.generator(made.round).item() == 0
        assert value > 1e-3


def test_latent_consistency() -> None:
    made, loss = Networks(), ZCR(discriminator_weight=20.0, generator_weight=0.5, noise=0.05)
    torch.manual_seed(3)
    values = loss.discriminator(made.round), loss.generator(made.round)
    torch.manual_seed(3)
    close = [made.latents + 0.05 * torch.randn(5, 4) for _ in range(2)]
    images, (first, second) = (
        made.generate(made.latents, made.fake_labels),
        (made.generate(z, made.fake_labels) for z in close),
    )
    logits, other = (made.discriminate(each, made.fake_labels) for each in (images, first))
    expected = 20 * (logits - other).square().mean(), -0.5 * (images - second).square().mean()
    for mine, theirs, weights in zip(values, expected, (made.weights, made.generator.weight), strict=True):
        torch.testing.assert_close(mine, theirs)
        gradients = [torch.autograd.grad(each, weights, retain_graph=True)[0] for each in (mine, theirs)]
        torch.testing.assert_close(*gradients)
    assert values[1] < 0


# --- top-k ---


def test_top_k_is_that_of_studiogan() -> None:
    golden = json.loads((GOLDEN / "top-k.json").read_text())
    logits = torch.tensor(golden["d_fake"], dtype=torch.float64)
    value = Hinge(top_k=5 / 8).generator(fixed_round(logits, logits))
    assert value.item() == pytest.approx(golden["top-k"]["hinge generator loss of k 5"], rel=1e-12)


FORMULAS = {
    Hinge: lambda x: -x,
    Wasserstein: lambda x: -x,
    LeastSquares: lambda x: (x - 1) ** 2 / 2,
    Minimax: lambda x: math.log(1 - 1 / (1 + math.exp(-x))),
    NonSaturating: lambda x: math.log(1 + math.exp(-x)),
}


@pytest.mark.parametrize("loss", FORMULAS)
def test_top_k_of_every_loss(loss: type[package.Loss]) -> None:
    """Of 7 images with two logits each, 0.5 are the 3 of the largest mean; the others get no gradient."""
    logits = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    best = sorted(range(7), key=lambda i: -logits[i].sum().item())[:3]
    value = loss(top_k=0.5).generator(fixed_round(logits, logits))
    assert value.item() == pytest.approx(sum(FORMULAS[loss](x) for i in best for x in logits[i].tolist()) / 6, rel=1e-9)
    (gradient,) = torch.autograd.grad(value, logits)
    assert sorted(gradient.abs().sum(1).nonzero().flatten().tolist()) == sorted(best)
    whole = loss(top_k=1.0).generator(fixed_round(logits, logits))
    torch.testing.assert_close(loss(top_k=torch.ones(())).generator(fixed_round(logits, logits)), whole)
    assert loss(top_k=0.01).generator(fixed_round(logits, logits)).isfinite()


@pytest.mark.parametrize("share", ["0", "-1", "1.5", "nan"])
def test_a_share_outside_its_bounds_is_refused(share: str) -> None:
    with pytest.raises(package.UsageError, match="top_k"):
        resolve(Hinge, {"top_k": share}, "loss")
