"""Players: who moves which networks with which optimiser, and the turns in which they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Loss, Optimizer
from ganzoo.contract.errors import UsageError
from ganzoo.contract.round import Round


class Player:
    """Networks, the optimiser that moves them, and the cost they are moved by."""

    def __init__(self, role: str, networks: dict[str, nn.Module], optimizer: Optimizer, losses: Sequence[Loss]) -> None:
        #: "discriminator" or "generator": whose side of each loss this player pays
        self.role = role
        named = [(f"{prefix}.{name}", p) for prefix, net in networks.items() for name, p in net.named_parameters()]
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.component = optimizer
        self.optimizer = optimizer.build(self.parameters)
        self._losses = losses

    def loss(self, round: Round) -> Tensor:
        """What this round costs the player: its side of every loss, added; a scalar, float32 in float32 networks."""
        cost = torch.stack([getattr(loss, self.role)(round) for loss in self._losses]).sum()
        if not cost.requires_grad:
            raise UsageError(f"No loss of the recipe says anything to the {self.role}: add one, such as nonsaturating.")
        return cost

    def update(self, gradients: Sequence[Tensor]) -> None:
        """Move the networks against `gradients`, which take their parameters' memory layout first."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # autograd.grad keeps whatever strides backward left; fused optimisers need those of the parameter
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        self.optimizer.step()

    def set_learning_rate(self, images_seen: int) -> None:
        """Write the scheduled learning rate in place, outside anything captured."""
        for group in self.optimizer.param_groups:
            group["lr"].fill_(self.component.learning_rate(images_seen))

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """The optimiser's tensors under the names of their parameters."""
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for key, value in self.optimizer.state[parameter].items():
                yield f"{name}/{key}", value

    def create_state(self) -> None:
        """Let an optimiser that creates its state in its first step do so now; the networks stay as they are.

        Only to be overwritten: what a step leaves behind is not where a training begins.
        """
        if all(self.optimizer.state[parameter] for parameter in self.parameters):
            return
        moved = [*self.parameters, *self.component.buffers()]
        before = [value.detach().clone() for value in moved]
        self.update([torch.zeros_like(parameter) for parameter in self.parameters])
        with torch.no_grad():
            for value, old in zip(moved, before, strict=True):
                value.copy_(old)


@dataclass(frozen=True)
class Turn:
    """The players who move on one round, the side of it they are judged on, and the minibatch it is made of."""

    players: tuple[Player, ...]
    sides: frozenset[str]
    minibatch: int
    #: whether the turn after this one is judged on the fakes of this one
    reused: bool = False

    @property
    def moves_generator(self) -> bool:
        """Whether gradients must flow into the generator."""
        return any(player.role == "generator" for player in self.players)
