"""Losses and penalties against their formulas, their gradients, and the forwards that they need."""

import math

import pytest
import torch
from torch import nn

import ganzoo
from ganzoo.contract.options import resolve
from ganzoo_plugins.losses.hinge import Hinge
from ganzoo_plugins.losses.least_squares import LeastSquares
from ganzoo_plugins.losses.minimax import Minimax
from ganzoo_plugins.losses.nonsaturating import NonSaturating
from ganzoo_plugins.losses.relativistic import Relativistic
from ganzoo_plugins.losses.wasserstein import Wasserstein
from ganzoo_plugins.penalties.gradient_penalty import GradientPenalty
from ganzoo_plugins.penalties.zero_centred import R1, R2

LOSSES = [NonSaturating, Minimax, Hinge, LeastSquares, Wasserstein, Relativistic]
SEPARABLE = LOSSES[:-1]
PENALTIES = [R1, R2, GradientPenalty]


class FixedRound:
    """A round with given logits for reals and fakes, and a count of the draws of fakes."""

    def __init__(self, real_logits, fake_logits, sides=("reals", "fakes")):
        self.logits = {"reals": torch.as_tensor(real_logits), "fakes": torch.as_tensor(fake_logits)}
        for logits in self.logits.values():
            logits.requires_grad_()
        self.drawn = 0
        count = len(self.logits["reals"])
        self.round = ganzoo.Round(
            torch.zeros(count, 1, 2, 2),
            torch.zeros(count, dtype=torch.int64),
            torch.zeros(count, 3),
            self.generate,
            self.discriminate,
            frozenset(sides),
        )

    def generate(self, latents, labels):
        self.drawn += 1
        return torch.ones(len(latents), 1, 2, 2)

    def discriminate(self, images, labels):
        return self.logits["fakes" if images.detach().any() else "reals"]


def cross_entropy(logit, target):
    """Binary cross-entropy as in a textbook, in double precision."""
    probability = 1 / (1 + math.exp(-logit))
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


def mean(function, values):
    return sum(map(function, values)) / len(values)


REALS, FAKES = [2.0, -0.5, 0.25], [-1.5, 0.5, 3.0]
TO_ONE, TO_ZERO = (lambda x: cross_entropy(x, 1)), (lambda x: cross_entropy(x, 0))
CLOSED_FORMS = {
    NonSaturating: (mean(TO_ONE, REALS) + mean(TO_ZERO, FAKES), mean(TO_ONE, FAKES)),
    Minimax: (mean(TO_ONE, REALS) + mean(TO_ZERO, FAKES), -mean(TO_ZERO, FAKES)),
    Hinge: ((0 + 1.5 + 0.75) / 3 + (0 + 1.5 + 4) / 3, -2 / 3),
    LeastSquares: ((1 + 2.25 + 0.5625) / 6 + (2.25 + 0.25 + 9) / 6, (6.25 + 0.25 + 4) / 6),
    Wasserstein: (2 / 3 - 1.75 / 3, -2 / 3),
    Relativistic: (mean(TO_ONE, [3.5, -1.0, -2.75]), mean(TO_ONE, [-3.5, 1.0, 2.75])),
}


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1, 1)])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_follow_the_formula(loss, shape):
    fixed = FixedRound(torch.tensor(REALS).reshape(shape), torch.tensor(FAKES).reshape(shape))
    values = loss().discriminator(fixed.round), loss().generator(fixed.round)
    assert [value.shape for value in values] == [(), ()]
    assert [value.item() for value in values] == pytest.approx(CLOSED_FORMS[loss], abs=1e-6)


def test_several_logits_of_an_image_are_averaged():
    fixed = FixedRound([[2.0, 0.0], [-0.5, 1.0]], [[-1.5, 1.0], [0.5, 3.0]])
    value = NonSaturating().discriminator(fixed.round).item()
    assert value == pytest.approx(mean(TO_ONE, [2, 0, -0.5, 1]) + mean(TO_ZERO, [-1.5, 1, 0.5, 3]), abs=1e-6)


def test_reduction_mean_is_one_mean_over_both_sides():
    loss, fixed = NonSaturating(reduction="mean"), FixedRound(REALS, FAKES)
    together = sum(map(TO_ONE, REALS)) + sum(map(TO_ZERO, FAKES))
    assert loss.discriminator(fixed.round).item() == pytest.approx(together / 6, abs=1e-6)
    assert loss.generator(fixed.round).item() == pytest.approx(mean(TO_ONE, FAKES), abs=1e-6)


def test_label_smoothing_changes_reals_only():
    loss, fixed = NonSaturating(label_smoothing=0.1), FixedRound(REALS, FAKES)
    expected = mean(lambda x: cross_entropy(x, 0.9), REALS) + mean(TO_ZERO, FAKES)
    assert loss.discriminator(fixed.round).item() == pytest.approx(expected, abs=1e-6)
    assert loss.generator(fixed.round).item() == pytest.approx(mean(TO_ONE, FAKES), abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (NonSaturating, {"label_smoothing": "0.6"}),
        (NonSaturating, {"reduction": "half"}),
        (R1, {"gamma": "-1"}),
        (R2, {"gamma": "nan"}),
        (GradientPenalty, {"weight": "-0.1"}),
    ],
)
def test_options_are_bounded(loss, given):
    with pytest.raises(ganzoo.UsageError):
        resolve(loss, given, "loss")


@pytest.mark.parametrize("loss", [*LOSSES, *PENALTIES])
def test_defaults_are_the_options(loss):
    assert isinstance(loss(**resolve(loss, {}, "loss")), ganzoo.Loss)


def test_options_are_converted_to_their_types():
    assert resolve(NonSaturating, {"label_smoothing": "0.1"}, "loss") == {"reduction": "sum", "label_smoothing": 0.1}
    assert resolve(GradientPenalty, {"target": "0"}, "loss") == {"weight": 10.0, "target": 0.0, "eps": 0.0}


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_have_the_right_sign(loss):
    fixed = FixedRound([0.3, -0.2], [0.4, 0.6])  # between the targets and within the margins of all losses
    reals, fakes = fixed.logits.values()
    for_reals, for_fakes = torch.autograd.grad(loss().discriminator(fixed.round), [reals, fakes])
    assert (for_reals < 0).all()
    assert (for_fakes > 0).all()
    (for_generator,) = torch.autograd.grad(loss().generator(fixed.round), [fakes])
    assert (for_generator < 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_finite_at_extreme_logits(loss):
    extremes = [1e4, -1e4, 1e4, -1e4]
    fixed = FixedRound(extremes, [*extremes[::-1]])
    for value in (loss().discriminator(fixed.round), loss().generator(fixed.round)):
        gradients = torch.autograd.grad(value, list(fixed.logits.values()), materialize_grads=True)
        assert value.dtype == torch.float32
        assert all(torch.isfinite(value).all() for value in (value, *gradients))


def test_a_confident_wrong_logit_has_a_gradient():
    """Where log(sigmoid) underflows, the slope of the cross-entropy is still 1."""
    fixed = FixedRound([-1e4], [1e4])
    value = NonSaturating().discriminator(fixed.round)
    assert value.item() == 2e4
    assert [slope.item() for slope in torch.autograd.grad(value, list(fixed.logits.values()))] == [-1, 1]


# --- forwards that are computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_the_generator_needs_the_logits_of_fakes_only_unless_relativistic(loss):
    fixed = FixedRound(REALS, FAKES)
    loss().generator(fixed.round)
    assert set(fixed.round.computed_logits) == ({"reals", "fakes"} if loss is Relativistic else {"fakes"})


@pytest.mark.parametrize("side", ["reals", "fakes"])
@pytest.mark.parametrize("loss", SEPARABLE)
def test_a_separable_loss_works_on_one_side_alone(loss, side):
    fixed = FixedRound(REALS, FAKES, sides=[side])
    alone = loss().discriminator(fixed.round)
    assert set(fixed.round.computed_logits) == {side}
    assert alone == getattr(loss(), f"on_{side}")(fixed.logits[side])


def test_the_two_sides_add_up():
    for loss in SEPARABLE:
        both, *sides = (
            loss().discriminator(FixedRound(REALS, FAKES, sides=names).round)
            for names in (["reals", "fakes"], ["reals"], ["fakes"])
        )
        assert both.item() == pytest.approx(sum(side.item() for side in sides), abs=1e-6)


def test_which_losses_are_separable():
    assert all(loss.separable for loss in SEPARABLE)
    assert not any(loss.separable for loss in [Relativistic, *PENALTIES])


# --- penalties -------------------------------------------------------------------------------------------------------


class Discriminator(nn.Module):
    """logit = (w . x)^power / power, whose gradient is (w . x)^(power - 1) w. It records its inputs."""

    def __init__(self, power, weights):
        super().__init__()
        self.power = power
        self.weights = nn.Parameter(weights)
        self.seen = []

    def forward(self, images, labels):
        self.seen.append(images)
        return (images * self.weights).sum(dim=(1, 2, 3)) ** self.power / self.power


class SmallRound:
    """A round of a small discriminator with fixed reals and fakes."""

    def __init__(self, power=1, count=5, scale=1.0):
        random = torch.Generator().manual_seed(3)
        self.reals, self.fakes = (torch.randn(count, 2, 3, 3, generator=random) for _ in range(2))
        self.discriminator = Discriminator(power, scale * torch.randn(2, 3, 3, generator=random))
        self.drawn = 0
        labels = torch.zeros(count, dtype=torch.int64)
        self.round = ganzoo.Round(self.reals, labels, torch.zeros(count, 4), self.generate, self.discriminator)

    def generate(self, latents, labels):
        self.drawn += 1
        return self.fakes.clone()

    def gradient(self, value):
        return torch.autograd.grad(value, self.discriminator.weights)[0]


@pytest.mark.parametrize("penalty", [R1, R2])
def test_zero_centred_penalty_of_a_linear_discriminator(penalty):
    small = SmallRound()
    weights = small.discriminator.weights
    value = penalty(gamma=3.0).discriminator(small.round)
    torch.testing.assert_close(value, 1.5 * weights.square().sum())
    torch.testing.assert_close(small.gradient(value), 3.0 * weights.detach())


@pytest.mark.parametrize(("penalty", "side"), [(R1, "reals"), (R2, "fakes")])
def test_zero_centred_penalty_is_a_mean_over_its_own_side(penalty, side):
    small = SmallRound(power=2)
    weights = small.discriminator.weights
    products = (getattr(small, side) * weights).sum(dim=(1, 2, 3))  # the gradient at x is (w . x) w
    expected = 0.5 * (products.square() * weights.square().sum()).mean()
    value = penalty().discriminator(small.round)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(small.gradient(value), torch.autograd.grad(expected, weights)[0])


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_gradient_penalty_of_a_linear_discriminator(scale):
    small = SmallRound(scale=scale)
    weights = small.discriminator.weights
    expected = 4.0 * (weights.norm() - 0.5).square()
    value = GradientPenalty(weight=4.0, target=0.5).discriminator(small.round)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(small.gradient(value), torch.autograd.grad(expected, weights)[0])


def test_gradient_penalty_is_taken_between_reals_and_fakes():
    torch.manual_seed(0)
    small = SmallRound(power=2, count=200)
    value = GradientPenalty().discriminator(small.round)
    (points,) = small.discriminator.seen
    lines = small.reals - small.fakes
    shares = ((points - small.fakes) * lines).sum(dim=(1, 2, 3)) / lines.square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(points.detach(), small.fakes + shares.detach()[:, None, None, None] * lines)
    assert 0 <= shares.min() < 0.05  # a random share for each image
    assert 0.95 < shares.max() <= 1
    weights = small.discriminator.weights
    norms = (points.detach() * weights).sum(dim=(1, 2, 3)).abs() * weights.norm()
    torch.testing.assert_close(value, 10 * (norms - 1).square().mean())


def test_a_flat_discriminator_gets_finite_gradients():
    """The norm is not differentiable at a gradient of zero; it must not give NaN."""
    for penalty in (R1(), R2(), GradientPenalty()):
        small = SmallRound(scale=0.0)
        assert torch.isfinite(small.gradient(penalty.discriminator(small.round))).all()


def test_penalties_share_the_forward_of_the_loss():
    small = SmallRound(power=2)
    values = [loss.discriminator(small.round) for loss in (NonSaturating(), R1(), R2())]
    reals, fakes = small.discriminator.seen
    assert reals is small.round.reals
    assert fakes is small.round.fakes
    assert small.drawn == 1
    assert torch.isfinite(small.gradient(torch.stack(values).sum())).all()


def test_r1_never_draws_fakes():
    small = SmallRound()
    R1().discriminator(small.round)
    assert small.drawn == 0
    assert set(small.round.computed_logits) == {"reals"}


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_generator_has_no_penalty(penalty):
    small = SmallRound()
    value = penalty().generator(small.round)
    assert (value.item(), value.shape, value.dtype, value.device) == (0.0, (), torch.float32, small.reals.device)
    assert not value.requires_grad
    assert small.drawn == 0
    assert not small.discriminator.seen


def test_r2_trains_only_the_discriminator_with_fakes_drawn_without_a_graph():
    """In the discriminator's turn fakes are drawn without gradients; R2 still needs the gradient at the fakes."""
    generator = nn.Linear(4, 18)
    discriminator = Discriminator(2, torch.ones(2, 3, 3))

    def generate(latents, labels):
        with torch.no_grad():
            return generator(latents).reshape(-1, 2, 3, 3)

    labels = torch.zeros(5, dtype=torch.int64)
    round = ganzoo.Round(torch.zeros(5, 2, 3, 3), labels, torch.randn(5, 4), generate, discriminator)
    R2().discriminator(round).backward()
    assert discriminator.weights.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize("penalty", PENALTIES)
def test_penalties_are_float32_where_the_network_is_not(penalty):
    """The engine computes the network in bfloat16 under autocast and returns float32 logits."""
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, 1))

    def discriminate(images, labels):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            return network(images).float()

    images, labels = torch.randn(2, 5, 2, 3, 3), torch.zeros(5, dtype=torch.int64)
    round = ganzoo.Round(images[0], labels, torch.zeros(5, 4), lambda *_: images[1].clone(), discriminate)
    value = penalty().discriminator(round)
    gradients = torch.autograd.grad(value, network[0].weight)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert gradients[0].abs().sum() > 0
