"""Gradient accumulation needs parts that treat each image of a batch by itself. This is measured before the first step.

A network is called on a batch, and on the same batch with its last image replaced, with the same random numbers: the
outputs for the other images must not change. A loss must be a mean over the images: for halves a, a' and b, b' of a
batch, L(a, b) + L(a', b') - L(a, b') - L(a', b) is 0. And it must not change its buffers, as it would in each part.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Loss
from ganzoo.contract.errors import UsageError
from ganzoo.contract.images import to_range
from ganzoo.contract.round import Round
from ganzoo.engine import seeds
from ganzoo.registry.contract_checks import CheckedPart
from ganzoo.registry.source import file_of
from ganzoo.registry.zoo import Zoo
from ganzoo.training.build import TrainingSetup

#: images of a batch on which the networks are called, and the losses computed
_IMAGES, _IMAGES_OF_A_LOSS = 4, 8
#: outputs of a network, and values of a loss, that differ by a smaller share are the same but for rounding
_SAME_OUTPUTS, _SAME_LOSSES = 1e-5, 1e-4
_LATENT_DIM = 8
#: a coupling may not show with the first random numbers: that of the largest logits needs them in both halves
_DRAWS = 3
_ROLES = ("discriminator", "generator")


def refuse_coupled_parts(setup: TrainingSetup, zoo: Zoo) -> None:
    """Raise UsageError for the first network or loss with which accumulated gradients would be other ones.

    Everything runs on copies and with random states of its own.
    """
    with seeds.aside(setup.recipe.seed, "coupling"):
        for role, inputs, labels in _inputs(setup):
            if where := coupling_of(getattr(setup.game, role), inputs, labels):
                raise _refused(
                    setup,
                    f"the {role} computes the images of a batch together: its output for one of them depends on the "
                    f"others, by {where}, and each part would have statistics of its own",
                )
        for choice, loss in zip(setup.recipe.losses, setup.game.losses, strict=True):
            title = zoo.title("losses", choice)
            with CheckedPart(title, file_of(zoo.load("losses", choice)))("the check for accumulation"):
                reason = why_no_mean(loss, setup)
            if reason:
                raise _refused(setup, f"{title} {reason}")


def _refused(setup: TrainingSetup, reason: str) -> UsageError:
    return UsageError(
        f"accumulate={setup.recipe.accumulate} would be another training: {reason}. Leave out --accumulate, or choose "
        f"another part."
    )


def _inputs(setup: TrainingSetup) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(network, its inputs of one batch and one image more, the labels of the batch) for both networks."""
    architecture, spec, device = copy.deepcopy(setup.architecture), setup.dataset.spec, setup.device
    labels = torch.randint(spec.classes, (_IMAGES,), device=device)
    yield "generator", architecture.latents(_IMAGES + 1, torch.Generator(device)), labels
    noise = torch.randint(256, (_IMAGES + 1, spec.channels, spec.height, spec.width), device=device)
    yield "discriminator", to_range(noise.to(torch.uint8), architecture.value_range), labels


# --- networks ---


def coupling_of(network: nn.Module, inputs: Tensor, labels: Tensor) -> str:
    """The innermost module in which the outputs of one image depend on another image; empty where there is none.

    `inputs` are those of the batch of `labels`, and one more, which replaces the last of the batch.
    """
    count = len(labels)
    replaced = torch.cat([inputs[: count - 1], inputs[count:]])
    disturbed = _disturbed(network)
    first, second = (_calls(copy.deepcopy(disturbed), batch, labels) for batch in (inputs[:count], replaced))
    if _same(first[-1][2], second[-1][2]):
        return ""
    for (name, before, after), (_, other_before, other_after) in zip(first, second, strict=False):
        if _same(before, other_before) and not _same(after, other_after):
            return name
    return first[-1][0]


@torch.no_grad()
def _disturbed(network: nn.Module) -> nn.Module:
    """A copy with other weights: layers that begin with weights of 0 would hide what they are given."""
    network = copy.deepcopy(network).train()
    for parameter in network.parameters():
        scale = parameter.std(correction=0) if parameter.is_floating_point() else 0
        parameter.add_((0.1 * scale + 0.02) * torch.randn_like(parameter))
    return network


@torch.no_grad()
def _calls(network: nn.Module, inputs: Tensor, labels: Tensor) -> list[tuple[str, list[Tensor], list[Tensor]]]:
    """(module, inputs, outputs) of all calls of its modules, inner ones first, without those of the last image."""
    calls = []

    def rows(values: Any) -> list[Tensor]:
        tensors = values if isinstance(values, Sequence) else (values,)
        found = [value for value in tensors if isinstance(value, Tensor) and value.ndim and len(value) == len(inputs)]
        return [value[:-1].float().clone() for value in found]

    def watch(module: nn.Module, name: str) -> None:
        begun: list[list[Tensor]] = []
        named = f"{name} ({type(module).__name__})" if name else type(module).__name__
        # before the call: a layer may change its inputs in place
        module.register_forward_pre_hook(lambda _, given: begun.append(rows(given)))
        module.register_forward_hook(lambda _, given, output: calls.append((named, begun.pop(), rows(output))))

    for name, module in network.named_modules():
        watch(module, name)
    seeds.reseed("coupling")
    network(inputs, labels)
    return calls


def _same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(
        (a - b).nan_to_num().abs().max() <= _SAME_OUTPUTS * a.nan_to_num().abs().max() for a, b in pairs if a.numel()
    )


# --- losses ---


def why_no_mean(loss: Loss, setup: TrainingSetup) -> str:
    """Why a loss of a batch is not the mean of the losses of its parts, in words; empty where it is."""
    for role in _ROLES:
        for networks, moment in product([_SmoothNetworks(setup) for _ in range(_DRAWS)], (0, 1)):
            copies = [_at(loss, moment) for _ in networks.halves]
            values = [networks.value(each, role, *halves) for each, halves in zip(copies, networks.halves, strict=True)]
            if moved := next((name for each in copies for name in _moved(loss, each)), ""):
                return f"changes its state ({moved}) whenever it is computed, which would be once in each part"
            mixed = values[0] + values[1] - values[2] - values[3]
            if abs(mixed) > _SAME_LOSSES * max(map(abs, values)):
                return f"is no mean over the images of a batch: the loss of one image of the {role} depends on others"
    return ""


def _moved(before: Loss, after: Loss) -> list[str]:
    """The names of the buffers that have changed."""
    pairs = zip(before.named_buffers(), after.buffers(), strict=True)
    return [name for (name, old), new in pairs if not torch.equal(old, new)]


def _at(loss: Loss, moment: int) -> Loss:
    """A copy with its scheduled numbers as they are at the beginning (0) or at the end (1)."""
    loss = copy.deepcopy(loss)
    for name, schedule in loss.scheduled.items():
        vars(loss)[name] = torch.full_like(vars(loss)[name], schedule.final if moment else schedule.base)
    return loss


class _SmoothNetworks:
    """Two small networks that are far from linear, and the halves of batches of images and latents."""

    def __init__(self, setup: TrainingSetup) -> None:
        spec, self.device = setup.dataset.spec, setup.device
        self.shape = (spec.channels, spec.height, spec.width)
        self.draw = torch.randn(_LATENT_DIM, spec.pixels, device=self.device)
        self.look = torch.randn(spec.pixels, 16, device=self.device) * (2 / spec.pixels**0.5)
        self.judge = torch.randn(16, 1, device=self.device)
        #: four halves: a, b, a', b', of different contrast, as (reals, latents)
        made = [self._half(contrast) for contrast in (1.0, 0.5, 0.2, 0.9)]
        a, b, other_a, other_b = made
        self.halves = [(a, b), (other_a, other_b), (a, other_b), (other_a, b)]

    def _half(self, contrast: float) -> tuple[Tensor, Tensor]:
        count = _IMAGES_OF_A_LOSS // 2
        reals = contrast * torch.rand(count, *self.shape, device=self.device)
        return reals, contrast * torch.randn(count, _LATENT_DIM, device=self.device)

    def value(self, loss: Loss, role: str, *halves: tuple[Tensor, Tensor]) -> float:
        """The loss of a batch of two halves."""
        reals, latents = (torch.cat(both) for both in zip(*halves, strict=True))
        labels = torch.zeros(len(reals), dtype=torch.int64, device=self.device)
        seeds.reseed("coupling")
        round = Round(reals, labels, latents, self.generate, self.discriminate, generate_styled=self.styled)
        with torch.enable_grad():
            return float(getattr(loss, role)(round).detach())

    def styled(self, latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        styles = latents[:, None].detach().requires_grad_()
        return self.generate(styles[:, 0], labels), styles

    def generate(self, latents: Tensor, labels: Tensor) -> Tensor:
        return torch.sin(latents @ self.draw).view(-1, *self.shape).requires_grad_()

    def discriminate(self, images: Tensor, labels: Tensor) -> Tensor:
        return torch.tanh(images.flatten(1) @ self.look) @ self.judge
