"""Losses and penalties against their formulas, and what they cost."""

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


class Table:
    """A game of looked-up answers: logits by side, and a count of who was asked for what."""

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
    """The textbook form, in double precision."""
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
def test_costs_follow_the_formula(loss, shape):
    table = Table(torch.tensor(REALS).reshape(shape), torch.tensor(FAKES).reshape(shape))
    costs = loss().discriminator(table.round), loss().generator(table.round)
    assert [cost.shape for cost in costs] == [(), ()]
    assert [cost.item() for cost in costs] == pytest.approx(CLOSED_FORMS[loss], abs=1e-6)


def test_several_logits_of_an_image_count_as_a_mean():
    table = Table([[2.0, 0.0], [-0.5, 1.0]], [[-1.5, 1.0], [0.5, 3.0]])
    cost = NonSaturating().discriminator(table.round).item()
    assert cost == pytest.approx(mean(TO_ONE, [2, 0, -0.5, 1]) + mean(TO_ZERO, [-1.5, 1, 0.5, 3]), abs=1e-6)


def test_reduction_mean_is_one_mean_over_both_sides():
    loss, table = NonSaturating(reduction="mean"), Table(REALS, FAKES)
    together = sum(map(TO_ONE, REALS)) + sum(map(TO_ZERO, FAKES))
    assert loss.discriminator(table.round).item() == pytest.approx(together / 6, abs=1e-6)
    assert loss.generator(table.round).item() == pytest.approx(mean(TO_ONE, FAKES), abs=1e-6)


def test_label_smoothing_touches_reals_only():
    loss, table = NonSaturating(label_smoothing=0.1), Table(REALS, FAKES)
    expected = mean(lambda x: cross_entropy(x, 0.9), REALS) + mean(TO_ZERO, FAKES)
    assert loss.discriminator(table.round).item() == pytest.approx(expected, abs=1e-6)
    assert loss.generator(table.round).item() == pytest.approx(mean(TO_ONE, FAKES), abs=1e-6)


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


def test_options_arrive_typed():
    assert resolve(NonSaturating, {"label_smoothing": "0.1"}, "loss") == {"reduction": "sum", "label_smoothing": 0.1}
    assert resolve(GradientPenalty, {"target": "0"}, "loss") == {"weight": 10.0, "target": 0.0}


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_each_player_is_pushed_its_own_way(loss):
    table = Table([0.3, -0.2], [0.4, 0.6])  # all between the targets, and within the margins
    reals, fakes = table.logits.values()
    for_reals, for_fakes = torch.autograd.grad(loss().discriminator(table.round), [reals, fakes])
    assert (for_reals < 0).all()
    assert (for_fakes > 0).all()
    (for_generator,) = torch.autograd.grad(loss().generator(table.round), [fakes])
    assert (for_generator < 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_finite_at_extreme_logits(loss):
    extremes = [1e4, -1e4, 1e4, -1e4]
    table = Table(extremes, [*extremes[::-1]])
    for cost in (loss().discriminator(table.round), loss().generator(table.round)):
        gradients = torch.autograd.grad(cost, list(table.logits.values()), materialize_grads=True)
        assert cost.dtype == torch.float32
        assert all(torch.isfinite(value).all() for value in (cost, *gradients))


def test_a_sure_wrong_answer_still_teaches():
    """Where log(sigmoid) has run out of digits, the slope of the cross-entropy is still 1."""
    table = Table([-1e4], [1e4])
    cost = NonSaturating().discriminator(table.round)
    assert cost.item() == 2e4
    assert [slope.item() for slope in torch.autograd.grad(cost, list(table.logits.values()))] == [-1, 1]


# --- what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_the_generator_asks_for_fakes_only_unless_it_compares(loss):
    table = Table(REALS, FAKES)
    loss().generator(table.round)
    assert set(table.round.computed_logits) == ({"reals", "fakes"} if loss is Relativistic else {"fakes"})


@pytest.mark.parametrize("side", ["reals", "fakes"])
@pytest.mark.parametrize("loss", SEPARABLE)
def test_a_separable_loss_judges_one_side_alone(loss, side):
    table = Table(REALS, FAKES, sides=[side])
    alone = loss().discriminator(table.round)
    assert set(table.round.computed_logits) == {side}
    assert alone == getattr(loss(), f"on_{side}")(table.logits[side])


def test_the_two_sides_add_up():
    for loss in SEPARABLE:
        both, *sides = (
            loss().discriminator(Table(REALS, FAKES, sides=names).round)
            for names in (["reals", "fakes"], ["reals"], ["fakes"])
        )
        assert both.item() == pytest.approx(sum(side.item() for side in sides), abs=1e-6)


def test_who_is_separable():
    assert all(loss.separable for loss in SEPARABLE)
    assert not any(loss.separable for loss in [Relativistic, *PENALTIES])


# --- penalties -------------------------------------------------------------------------------------------------------


class Discriminator(nn.Module):
    """logit = (w . x)^power / power, whose gradient is (w . x)^(power - 1) w; remembers what it was shown."""

    def __init__(self, power, weights):
        super().__init__()
        self.power = power
        self.weights = nn.Parameter(weights)
        self.seen = []

    def forward(self, images, labels):
        self.seen.append(images)
        return (images * self.weights).sum(dim=(1, 2, 3)) ** self.power / self.power


class Played:
    """A round of a small real discriminator against fixed fakes."""

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

    def gradient(self, cost):
        return torch.autograd.grad(cost, self.discriminator.weights)[0]


@pytest.mark.parametrize("penalty", [R1, R2])
def test_zero_centred_penalty_of_a_linear_discriminator(penalty):
    played = Played()
    weights = played.discriminator.weights
    cost = penalty(gamma=3.0).discriminator(played.round)
    torch.testing.assert_close(cost, 1.5 * weights.square().sum())
    torch.testing.assert_close(played.gradient(cost), 3.0 * weights.detach())


@pytest.mark.parametrize(("penalty", "side"), [(R1, "reals"), (R2, "fakes")])
def test_zero_centred_penalty_is_a_mean_over_its_own_side(penalty, side):
    played = Played(power=2)
    weights = played.discriminator.weights
    answers = (getattr(played, side) * weights).sum(dim=(1, 2, 3))  # the gradient at x is (w . x) w
    expected = 0.5 * (answers.square() * weights.square().sum()).mean()
    cost = penalty().discriminator(played.round)
    torch.testing.assert_close(cost, expected)
    torch.testing.assert_close(played.gradient(cost), torch.autograd.grad(expected, weights)[0])


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_gradient_penalty_of_a_linear_discriminator(scale):
    played = Played(scale=scale)
    weights = played.discriminator.weights
    expected = 4.0 * (weights.norm() - 0.5).square()
    cost = GradientPenalty(weight=4.0, target=0.5).discriminator(played.round)
    torch.testing.assert_close(cost, expected)
    torch.testing.assert_close(played.gradient(cost), torch.autograd.grad(expected, weights)[0])


def test_gradient_penalty_looks_between_reals_and_fakes():
    torch.manual_seed(0)
    played = Played(power=2, count=200)
    cost = GradientPenalty().discriminator(played.round)
    (points,) = played.discriminator.seen
    lines = played.reals - played.fakes
    shares = ((points - played.fakes) * lines).sum(dim=(1, 2, 3)) / lines.square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(points.detach(), played.fakes + shares.detach()[:, None, None, None] * lines)
    assert 0 <= shares.min() < 0.05  # each image draws its own share
    assert 0.95 < shares.max() <= 1
    weights = played.discriminator.weights
    norms = (points.detach() * weights).sum(dim=(1, 2, 3)).abs() * weights.norm()
    torch.testing.assert_close(cost, 10 * (norms - 1).square().mean())


def test_a_flat_discriminator_gets_finite_gradients():
    """The norm of a zero gradient has a corner; it must not give NaN."""
    for penalty in (R1(), R2(), GradientPenalty()):
        played = Played(scale=0.0)
        assert torch.isfinite(played.gradient(penalty.discriminator(played.round))).all()


def test_penalties_share_the_forward_of_the_loss():
    played = Played(power=2)
    costs = [loss.discriminator(played.round) for loss in (NonSaturating(), R1(), R2())]
    shown_reals, shown_fakes = played.discriminator.seen
    assert shown_reals is played.round.reals
    assert shown_fakes is played.round.fakes
    assert played.drawn == 1
    assert torch.isfinite(played.gradient(torch.stack(costs).sum())).all()


def test_r1_never_draws_fakes():
    played = Played()
    R1().discriminator(played.round)
    assert played.drawn == 0
    assert set(played.round.computed_logits) == {"reals"}


@pytest.mark.parametrize("penalty", PENALTIES)
def test_penalties_cost_the_generator_nothing(penalty):
    played = Played()
    cost = penalty().generator(played.round)
    assert (cost.item(), cost.shape, cost.dtype, cost.device) == (0.0, (), torch.float32, played.reals.device)
    assert not cost.requires_grad
    assert played.drawn == 0
    assert not played.discriminator.seen


def test_r2_reaches_only_the_discriminator_of_fakes_drawn_without_a_graph():
    """In the discriminator's turn fakes are drawn without gradients; R2 differentiates by them all the same."""
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
    """The engine computes the network in bfloat16 under autocast and hands out float32 logits."""
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, 1))

    def discriminate(images, labels):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            return network(images).float()

    images, labels = torch.randn(2, 5, 2, 3, 3), torch.zeros(5, dtype=torch.int64)
    round = ganzoo.Round(images[0], labels, torch.zeros(5, 4), lambda *_: images[1].clone(), discriminate)
    cost = penalty().discriminator(round)
    gradients = torch.autograd.grad(cost, network[0].weight)
    assert cost.dtype == torch.float32
    assert torch.isfinite(cost)
    assert gradients[0].abs().sum() > 0
