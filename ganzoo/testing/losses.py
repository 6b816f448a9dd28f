"""Checks of a loss or a penalty, on the kit's own small networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Loss
from ganzoo.contract.round import BOTH_SIDES, Round
from ganzoo.engine import seeds
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped, labels_for, require
from ganzoo.testing.small_game import captured_is_eager, resumes_bit_for_bit
from ganzoo.testing.small_parts import SPEC, LinearGAN

ROLES = ("discriminator", "generator")
_COUNT = 8


class _Inputs:
    """Two small networks, 8 real images with labels, and 8 latents."""

    def __init__(self, device: str = "cpu") -> None:
        seeds.reseed(0, "stage")
        generator, discriminator = LinearGAN().networks(SPEC)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.reals = (torch.rand(_COUNT, SPEC.channels, SPEC.height, SPEC.width) * 2 - 1).to(device)
        self.labels = labels_for(SPEC, _COUNT).to(device)
        self.latents = torch.randn(_COUNT, 4).to(device)

    def round(self, sides: frozenset[str] = BOTH_SIDES, factor: float = 0.0) -> Round:
        """A round of these tensors; with a `factor`, logits are scaled so that the largest is `factor` or -`factor`."""

        def discriminate(images: Tensor, labels: Tensor) -> Tensor:
            logits: Tensor = self.discriminator(images, labels)
            return logits * (factor / logits.detach().abs().max()) if factor else logits

        def styled(latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            generator: Any = self.generator
            styles = generator.styles(latents, labels)
            return generator.images(styles), styles

        return Round(self.reals, self.labels, self.latents, self.generator, discriminate, sides, styled)

    def network(self, role: str) -> nn.Module:
        """The network with this role."""
        found: nn.Module = getattr(self, role)
        return found


def _evaluate(loss: Loss, role: str, round: Round, seed: int = 0) -> Tensor:
    """The loss of a player in this round, with all random state set by `seed`."""
    seeds.reseed(seed, "cost")
    value: Tensor = getattr(loss, role)(round)
    return value


def _fixed(real: Tensor | float, fake: Tensor | float) -> Round:
    """A round with a fixed discriminator: the logit of every real image is `real`, that of every fake is `fake`.

    It recognises fakes by their mean, which is below 0; reals are in [0, 1].
    """
    reals = torch.rand(_COUNT, 1, 4, 4)
    shape = torch.zeros(_COUNT, 1)

    def discriminate(images: Tensor, labels: Tensor) -> Tensor:
        real_ones = (images.detach().mean((1, 2, 3)) > 0).float()[:, None]
        logits = real_ones * (shape + real) + (1 - real_ones) * (shape + fake)
        return logits + 0 * images.flatten(1).sum(1, keepdim=True)

    def styled(latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        styles = latents[:, None].requires_grad_()
        return reals.detach()[: len(latents)] - 1.001 + 0 * styles.sum(), styles

    inputs = reals, torch.zeros(_COUNT, dtype=torch.int64), torch.zeros(_COUNT, 4)
    return Round(*inputs, lambda z, y: reals.detach() - 1.001, discriminate, generate_styled=styled)


def _gradients(value: Tensor, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """The gradients of a scalar for the parameters that it depends on; empty if it has no gradient."""
    if not value.requires_grad:
        return []
    gradients = torch.autograd.grad(value, list(parameters), allow_unused=True, retain_graph=True)
    return [gradient for gradient in gradients if gradient is not None]


def losses_are_scalars(part: ExaminedPart) -> None:
    """Both losses are finite float32 scalars, and at least one of them has a gradient."""
    inputs, loss = _Inputs(), part.build()
    has_gradient = False
    for role in ROLES:
        value = _evaluate(loss, role, inputs.round())
        require(isinstance(value, Tensor), f"The {role}'s loss is a {type(value).__name__}, not a tensor.")
        require(value.shape == (), f"The {role}'s loss has shape {tuple(value.shape)}; average or sum it to a scalar.")
        require(value.dtype == torch.float32, f"The {role}'s loss is {value.dtype}, not float32.")
        require(value.isfinite(), f"The {role}'s loss of an ordinary round is {value.item()}.")
        has_gradient |= any(gradient.any() for gradient in _gradients(value, inputs.network(role).parameters()))
    require(has_gradient, "It has no gradient for either player: nothing would be trained.")


def finite_at_extreme_logits(part: ExaminedPart) -> None:
    """Losses and gradients are finite at logits of +10,000 and -10,000: use softplus, not the log of a sigmoid."""
    for factor in (1e4, -1e4):
        inputs, loss = _Inputs(), part.build()
        for role in ROLES:
            value = _evaluate(loss, role, inputs.round(factor=factor))
            finite = value.isfinite() and all(
                g.isfinite().all() for g in _gradients(value, inputs.network(role).parameters())
            )
            problem = (
                f"The {role}'s loss is {value.item():.3g}, or its gradient is not finite, at logits of {factor:.0f}."
            )
            require(finite, problem)


def gradient_reaches_the_player(part: ExaminedPart) -> None:
    """A loss that changes with a player's weights has a gradient there: nothing is detached on the way."""
    inputs, loss = _Inputs(), part.build()
    for role in ROLES:
        network = inputs.network(role)
        value = _evaluate(loss, role, inputs.round())
        reached = any(gradient.any() for gradient in _gradients(value, network.parameters()))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.5)
        moved = not torch.isclose(_evaluate(part.build(), role, inputs.round()), value, rtol=1e-4)
        require(reached or not moved, f"The {role}'s loss changes with its weights, but has no gradient for them.")


def separable_terms_add_up(part: ExaminedPart) -> None:
    """With `separable = True` the discriminator's loss of a round is the loss of its reals plus that of its fakes."""
    if not part.component.separable:
        raise Skipped("it declares separable = False")
    inputs = _Inputs()
    whole, reals, fakes = (
        _evaluate(part.build(), "discriminator", inputs.round(frozenset(sides)))
        for sides in (("reals", "fakes"), ("reals",), ("fakes",))
    )
    alike = torch.isclose(whole, reals + fakes, rtol=1e-4, atol=1e-6)
    require(
        alike, f"The loss of a round is {whole:.5g}, of its reals alone {reals:.5g}, of its fakes alone {fakes:.5g}."
    )


def generator_loss_rewards_realism(part: ExaminedPart) -> None:
    """The generator's loss falls as the logits of its fakes rise from -3 to -1."""
    losses = [_evaluate(part.build(), "generator", _fixed(2.0, fake)).item() for fake in (-3.0, -2.0, -1.0)]
    if len(set(losses)) == 1:
        raise Skipped("its loss of the generator does not depend on the logits themselves")
    require(losses[0] > losses[1] > losses[2], f"At logits of -3, -2, -1 the generator's losses are {losses}.")


def discriminator_loss_rewards_accuracy(part: ExaminedPart) -> None:
    """The discriminator's loss is lower where reals have higher logits than fakes than where they have lower ones."""
    if not _evaluate(part.build(), "generator", _Inputs().round()).requires_grad:
        raise Skipped("it is a penalty: it does not train the generator")
    # all below 0: some losses expect logits of one sign
    right, wrong = (
        _evaluate(part.build(), "discriminator", _fixed(*logits)).item() for logits in ((-1.0, -3.0), (-3.0, -1.0))
    )
    if right == wrong:
        raise Skipped("its loss of the discriminator does not depend on the logits themselves")
    require(
        right < wrong, f"The discriminator's loss is {right:.4g} where it is right and {wrong:.4g} where it is wrong."
    )


def order_does_not_matter(part: ExaminedPart) -> None:
    """The losses do not depend on the order of the images in the batch."""
    inputs = _Inputs()
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    if any(not _is_deterministic(part, inputs, role) for role in ROLES):
        raise Skipped("it draws random numbers for each image")
    for role in ROLES:
        first = _evaluate(part.build(), role, inputs.round())
        shuffled = _Inputs()
        shuffled.reals, shuffled.labels = inputs.reals[order], inputs.labels[order]
        shuffled.latents = inputs.latents[order]
        alike = torch.isclose(first, _evaluate(part.build(), role, shuffled.round()), rtol=1e-4, atol=1e-6)
        require(alike, f"The {role}'s loss depends on the order of the images.")


def _is_deterministic(part: ExaminedPart, inputs: _Inputs, role: str) -> bool:
    """Whether a loss does not depend on the global random state."""
    return torch.equal(*(_evaluate(part.build(), role, inputs.round(), seed=seed) for seed in (0, 1)))


def round_is_left_alone(part: ExaminedPart) -> None:
    """It does not change the round's images, labels, latents or logits in place: other losses use them too."""
    inputs = _Inputs()
    for role in ROLES:
        round, loss = inputs.round(), part.build()
        tensors = {
            "reals": round.reals,
            "labels": round.labels,
            "latents": round.latents,
            "fakes": round.fakes,
            "real logits": round.real_logits,
            "fake logits": round.fake_logits,
        }
        kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        _evaluate(loss, role, round)
        changed = [name for name, tensor in tensors.items() if not torch.equal(tensor, kept[name])]
        require(not changed, f"The {role}'s loss changes the round's {', '.join(changed)} in place.")


def state_is_in_buffers(part: ExaminedPart) -> None:
    """All its state is in buffers: another object that loads them computes the same losses."""
    first, second, inputs = part.build(), part.build(), _Inputs()
    for step in range(3):
        _advance(first, 1000 * step)
        for role in ROLES:
            _evaluate(first, role, inputs.round())
    second.load_state_dict(first.state_dict())
    for role in ROLES:
        for loss in (first, second):
            _advance(loss, 3000)
        alike = torch.equal(_evaluate(first, role, inputs.round()), _evaluate(second, role, inputs.round()))
        require(alike, f"The {role}'s loss depends on state outside its buffers, which a resumed run would lose.")


def _advance(loss: Loss, images_seen: int) -> None:
    advance = getattr(loss, "advance", None)
    if callable(advance):
        advance(images_seen)


def runs_on_any_device(part: ExaminedPart) -> None:
    """Both losses can be computed on another device (`meta`, which every machine has): no `.item()`."""
    inputs = _Inputs("meta")
    loss = part.build().to("meta")
    for role in ROLES:
        try:
            value = _evaluate(loss, role, inputs.round())
        except Exception as error:
            words = str(error).strip().partition("\n")[0]
            raise Failed(f"On another device the {role}'s loss raises an error: {words[:200]}") from error
        stays = value.requires_grad and value.device.type != "meta"
        require(not stays, f"On another device the {role}'s loss is on {value.device}.")


CHECKS = (
    losses_are_scalars,
    finite_at_extreme_logits,
    gradient_reaches_the_player,
    separable_terms_add_up,
    generator_loss_rewards_realism,
    discriminator_loss_rewards_accuracy,
    order_does_not_matter,
    round_is_left_alone,
    state_is_in_buffers,
    runs_on_any_device,
    resumes_bit_for_bit,
    captured_is_eager,
)
