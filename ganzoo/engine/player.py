"""Players and turns: which networks are updated together, by which optimiser, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Loss, Optimizer
from ganzoo.contract.errors import UsageError
from ganzoo.contract.round import Round


class Player:
    """One or two networks, the optimiser that updates them, and the losses it minimises."""

    def __init__(self, role: str, networks: dict[str, nn.Module], optimizer: Optimizer, losses: Sequence[Loss]) -> None:
        #: "discriminator" or "generator": the method of each loss that is this player's
        self.role = role
        named = [(f"{prefix}.{name}", p) for prefix, net in networks.items() for name, p in net.named_parameters()]
        named = [(name, parameter) for name, parameter in named if parameter.requires_grad]  # not frozen
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.component = optimizer
        self.optimizer = optimizer.build(self.parameters)
        self._losses = losses

    def loss(self, round: Round, due: Sequence[Loss] | None = None) -> Tensor:
        """The player's loss of a round: the sum over the losses of the recipe; a scalar, float32 for float32 networks.

        `due` are the losses of this step, where not all are; each is multiplied by its interval. Raises UsageError
        where the sum has no gradient.
        """
        total = self.lazy_loss(round, self._losses if due is None else due)
        if total is None:
            every = "" if due is None or len(due) == len(self._losses) else " in every step (every=1)"
            raise UsageError(f"No loss of the recipe trains the {self.role}{every}: add one, such as nonsaturating.")
        return total

    def lazy_loss(self, round: Round, due: Sequence[Loss]) -> Tensor | None:
        """The sum of the losses `due`, each times its interval; None where it has no gradient."""
        terms = [getattr(loss, self.role)(round) for loss in due]
        terms = [term * loss.every if loss.every > 1 else term for term, loss in zip(terms, due, strict=True)]
        total = torch.stack(terms).sum() if terms else None
        return total if total is not None and total.requires_grad else None

    def update(self, gradients: Sequence[Tensor]) -> None:
        """One step of the optimiser with `gradients`, in the order of `parameters`."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # autograd.grad returns gradients in any memory layout; fused optimisers need that of the parameter
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        self.optimizer.step()

    def set_learning_rate(self, images_seen: int) -> None:
        """Set the scheduled learning rate in place, outside of what a CUDA graph records."""
        for group in self.optimizer.param_groups:
            group["lr"].fill_(self.component.scheduled_learning_rate(images_seen))

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """The optimiser's tensors, each under the name of its parameter."""
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for key, value in self.optimizer.state[parameter].items():
                yield f"{name}/{key}", value

    def create_state(self) -> None:
        """Create the state of the optimiser now, instead of at its first step. The networks do not change.

        Use it only before a saved state is copied over it: this is not the state at the start of a training.
        """
        if all(self.optimizer.state[parameter] for parameter in self.parameters):
            return
        changed = [*self.parameters, *self.component.buffers()]
        before = [value.detach().clone() for value in changed]
        self.update([torch.zeros_like(parameter) for parameter in self.parameters])
        with torch.no_grad():
            for value, old in zip(changed, before, strict=True):
                value.copy_(old)


def freeze_first_layers(network: nn.Module, count: int) -> None:
    """Let the first `count` layers with parameters stay as they are. Raises UsageError where no layer would be left."""
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        # a weight with spectral norm is in a module of its own, below the layer
        layer = name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
        layers.setdefault(layer, []).append(parameter)
    if count and count >= len(layers):
        raise UsageError(f"freeze_d={count} leaves no layer to train: the discriminator has {len(layers)}.")
    for parameters in list(layers.values())[:count]:
        for parameter in parameters:
            parameter.requires_grad_(False)


@dataclass(frozen=True)
class Turn:
    """The players that are updated together, on one round.

    `sides` are the images the discriminator is trained on, reals, fakes or both; `minibatch` is the index of the
    round's minibatch in the step.
    """

    players: tuple[Player, ...]
    sides: frozenset[str]
    minibatch: int
    #: whether the next turn uses the fakes of this one
    reused: bool = False
    #: whether its losses are those with an interval
    lazy: bool = False

    @property
    def updates_generator(self) -> bool:
        """Whether the generator is updated, and so needs gradients."""
        return any(player.role == "generator" for player in self.players)
