"""Checks of a loss or a penalty, on the kit's own small networks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Loss
from ganzoo.contract.round import BOTH_SIDES, Round
from ganzoo.engine import seeds
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped, labels_for, require
from ganzoo.testing.play import captured_is_eager, resumes_bit_for_bit
from ganzoo.testing.tiny import SPEC, Linear

ROLES = ("discriminator", "generator")
_COUNT = 8


class _Stage:
    """Both small networks and what is shown to them."""

    def __init__(self, device: str = "cpu") -> None:
        seeds.reseed(0, "stage")
        generator, discriminator = Linear().networks(SPEC)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.reals = (torch.rand(_COUNT, SPEC.channels, SPEC.height, SPEC.width) * 2 - 1).to(device)
        self.labels = labels_for(SPEC, _COUNT).to(device)
        self.latents = torch.randn(_COUNT, 4).to(device)

    def round(self, sides: frozenset[str] = BOTH_SIDES, factor: float = 0.0) -> Round:
        """A round of these; with a `factor`, its logits reach that far."""

        def discriminate(images: Tensor, labels: Tensor) -> Tensor:
            logits: Tensor = self.discriminator(images, labels)
            return logits * (factor / logits.detach().abs().max()) if factor else logits

        return Round(self.reals, self.labels, self.latents, self.generator, discriminate, sides)

    def network(self, role: str) -> nn.Module:
        """The network of a player."""
        found: nn.Module = getattr(self, role)
        return found


def _cost(loss: Loss, role: str, round: Round, seed: int = 0) -> Tensor:
    """What a round costs a player, all random state set by `seed`."""
    seeds.reseed(seed, "cost")
    cost: Tensor = getattr(loss, role)(round)
    return cost


def _fixed(real: Tensor | float, fake: Tensor | float) -> Round:
    """A round in which the discriminator says these logits, of reals in [0, 1] and fakes below 0."""
    reals = torch.rand(_COUNT, 1, 4, 4)
    shape = torch.zeros(_COUNT, 1)

    def discriminate(images: Tensor, labels: Tensor) -> Tensor:
        real_ones = (images.detach().mean((1, 2, 3)) > 0).float()[:, None]
        said = real_ones * (shape + real) + (1 - real_ones) * (shape + fake)
        return said + 0 * images.flatten(1).sum(1, keepdim=True)

    latents = torch.zeros(_COUNT, 4)
    return Round(
        reals, torch.zeros(_COUNT, dtype=torch.int64), latents, lambda z, y: reals.detach() - 1.001, discriminate
    )


def _gradients(cost: Tensor, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    if not cost.requires_grad:
        return []
    given = torch.autograd.grad(cost, list(parameters), allow_unused=True, retain_graph=True)
    return [gradient for gradient in given if gradient is not None]


def costs_are_scalars(part: ExaminedPart) -> None:
    """Both costs are finite float32 scalars, and at least one of them depends on the round."""
    stage, loss = _Stage(), part.build()
    says_something = False
    for role in ROLES:
        cost = _cost(loss, role, stage.round())
        require(isinstance(cost, Tensor), f"The {role}'s cost is a {type(cost).__name__}, not a tensor.")
        require(cost.shape == (), f"The {role}'s cost has shape {tuple(cost.shape)}; average or sum it to a scalar.")
        require(cost.dtype == torch.float32, f"The {role}'s cost is {cost.dtype}, not float32.")
        require(cost.isfinite(), f"The {role}'s cost of an ordinary round is {cost.item()}.")
        says_something |= any(gradient.any() for gradient in _gradients(cost, stage.network(role).parameters()))
    require(says_something, "It has no gradient for either player: it says nothing to anybody.")


def finite_at_extreme_logits(part: ExaminedPart) -> None:
    """Costs and gradients are finite where logits reach 10,000, of either sign: no log of a sigmoid."""
    for factor in (1e4, -1e4):
        stage, loss = _Stage(), part.build()
        for role in ROLES:
            cost = _cost(loss, role, stage.round(factor=factor))
            finite = cost.isfinite() and all(
                g.isfinite().all() for g in _gradients(cost, stage.network(role).parameters())
            )
            told = f"The {role}'s cost is {cost.item():.3g}, or its gradient not finite, at logits of {factor:.0f}."
            require(finite, told)


def gradient_reaches_the_player(part: ExaminedPart) -> None:
    """A cost that changes with a player's weights has a gradient there: nothing is detached on the way."""
    stage, loss = _Stage(), part.build()
    for role in ROLES:
        network = stage.network(role)
        cost = _cost(loss, role, stage.round())
        reached = any(gradient.any() for gradient in _gradients(cost, network.parameters()))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.5)
        moved = not torch.isclose(_cost(part.build(), role, stage.round()), cost, rtol=1e-4)
        require(reached or not moved, f"The {role}'s cost changes with its weights and gives them no gradient.")


def separable_terms_add_up(part: ExaminedPart) -> None:
    """If it says `separable`: the discriminator's cost of a whole round is that of its reals plus that of its fakes."""
    if not part.component.separable:
        raise Skipped("it says separable = False")
    stage = _Stage()
    whole, reals, fakes = (
        _cost(part.build(), "discriminator", stage.round(frozenset(sides)))
        for sides in (("reals", "fakes"), ("reals",), ("fakes",))
    )
    alike = torch.isclose(whole, reals + fakes, rtol=1e-4, atol=1e-6)
    require(alike, f"A whole round costs {whole:.5g}, its reals {reals:.5g} and its fakes {fakes:.5g}.")


def generator_wants_to_look_real(part: ExaminedPart) -> None:
    """The generator's cost falls as its fakes are judged more real, while they are judged to be fakes."""
    costs = [_cost(part.build(), "generator", _fixed(2.0, fake)).item() for fake in (-3.0, -2.0, -1.0)]
    if len(set(costs)) == 1:
        raise Skipped("its cost for the generator does not depend on the logits themselves")
    require(costs[0] > costs[1] > costs[2], f"At logits of -3, -2, -1 the generator pays {costs}.")


def discriminator_wants_to_be_right(part: ExaminedPart) -> None:
    """The discriminator pays less for judging reals above fakes than for judging them below."""
    # below 0 alike, for discriminators whose logits are
    right, wrong = (
        _cost(part.build(), "discriminator", _fixed(*logits)).item() for logits in ((-1.0, -3.0), (-3.0, -1.0))
    )
    if right == wrong:
        raise Skipped("its cost for the discriminator does not depend on the logits themselves")
    require(right < wrong, f"The discriminator pays {right:.4g} for being right and {wrong:.4g} for being wrong.")


def order_does_not_matter(part: ExaminedPart) -> None:
    """The costs are those of a set: they do not depend on the order of the images in the batch."""
    stage = _Stage()
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    if any(not _seeded(part, stage, role) for role in ROLES):
        raise Skipped("it draws at random for each image")
    for role in ROLES:
        first = _cost(part.build(), role, stage.round())
        shuffled = _Stage()
        shuffled.reals, shuffled.labels = stage.reals[order], stage.labels[order]
        shuffled.latents = stage.latents[order]
        alike = torch.isclose(first, _cost(part.build(), role, shuffled.round()), rtol=1e-4, atol=1e-6)
        require(alike, f"The {role}'s cost depends on the order of the images.")


def _seeded(part: ExaminedPart, stage: _Stage, role: str) -> bool:
    """Whether a cost does not depend on the global random state."""
    return torch.equal(*(_cost(part.build(), role, stage.round(), seed=seed) for seed in (0, 1)))


def round_is_left_alone(part: ExaminedPart) -> None:
    """The round's images, labels, latents and logits are not changed in place: other losses look at them too."""
    stage = _Stage()
    for role in ROLES:
        round, loss = stage.round(), part.build()
        tensors = {
            "reals": round.reals,
            "labels": round.labels,
            "latents": round.latents,
            "fakes": round.fakes,
            "real logits": round.real_logits,
            "fake logits": round.fake_logits,
        }
        kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        _cost(loss, role, round)
        changed = [name for name, tensor in tensors.items() if not torch.equal(tensor, kept[name])]
        require(not changed, f"The {role}'s cost changes the round's {', '.join(changed)} in place.")


def memory_is_in_buffers(part: ExaminedPart) -> None:
    """All that a cost depends on beside the round and the global generators lies in buffers: another object goes on."""
    first, second, stage = part.build(), part.build(), _Stage()
    for step in range(3):
        _advance(first, 1000 * step)
        for role in ROLES:
            _cost(first, role, stage.round())
    second.load_state_dict(first.state_dict())
    for role in ROLES:
        for loss in (first, second):
            _advance(loss, 3000)
        alike = torch.equal(_cost(first, role, stage.round()), _cost(second, role, stage.round()))
        require(alike, f"The {role}'s cost depends on something that its buffers do not hold, and a crash would lose.")


def _advance(loss: Loss, images_seen: int) -> None:
    advance = getattr(loss, "advance", None)
    if callable(advance):
        advance(images_seen)


def runs_on_any_device(part: ExaminedPart) -> None:
    """On another device (`meta`, which every machine has) both costs can be had: no `.item()`, no tensor stays."""
    stage = _Stage("meta")
    loss = part.build().to("meta")
    for role in ROLES:
        try:
            cost = _cost(loss, role, stage.round())
        except Exception as error:
            words = str(error).strip().partition("\n")[0]
            raise Failed(f"On another device the {role}'s cost fails: {words[:200]}") from error
        stays = cost.requires_grad and cost.device.type != "meta"
        require(not stays, f"On another device the {role}'s cost lies on {cost.device}.")


CHECKS = (
    costs_are_scalars,
    finite_at_extreme_logits,
    gradient_reaches_the_player,
    separable_terms_add_up,
    generator_wants_to_look_real,
    discriminator_wants_to_be_right,
    order_does_not_matter,
    round_is_left_alone,
    memory_is_in_buffers,
    runs_on_any_device,
    resumes_bit_for_bit,
    captured_is_eager,
)
