"""The game: two players, the turns of one step, and the one generic step that plays them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture, Augmentation, Loss, Optimizer
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.recipe import Recipe, parse_turns
from ganzoo.contract.round import BOTH_SIDES, Round
from ganzoo.engine import seeds
from ganzoo.engine.distributed import rank, world_size
from ganzoo.engine.ema import EMA
from ganzoo.engine.feed import Batch
from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.engine.player import Player, Turn
from ganzoo.engine.running_means import RunningMeans


class Game:
    """Both players, the turns of one step and the average of the generator, seated on a device."""

    def __init__(
        self,
        architecture: Architecture,
        images: ImageSpec,
        losses: Sequence[Loss],
        augmentations: Sequence[Augmentation],
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        seeds.reseed(recipe.seed, "networks")
        generator, discriminator = architecture.networks(images)
        self.architecture = architecture
        self.device = device
        self.batch_size = recipe.batch_size
        self.images = images
        self.generator: nn.Module = generator.to(device).to(memory_format=MEMORY_FORMAT)
        self.discriminator: nn.Module = discriminator.to(device).to(memory_format=MEMORY_FORMAT)
        #: what a step calls in their place: themselves, or what they were compiled to
        self.called: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        self.losses = [loss.to(device) for loss in losses]
        self.augmentations = [augmentation.to(device) for augmentation in augmentations]
        self.random = torch.Generator(device)
        self.training_fakes = recipe.discriminator_fakes == "training"
        self.replay_fakes = recipe.generator_fakes == "replayed"
        self.autocast = recipe.precision == "bf16"
        self.optimizers = {"generator": generator_optimizer.to(device)}
        if discriminator_optimizer is not generator_optimizer:
            self.optimizers["discriminator"] = discriminator_optimizer.to(device)
        self.players: dict[str, Player] = {}
        self.turns = self._build_turns(parse_turns(recipe.turns))
        self.ema = EMA(self.generator, recipe.average_half_life, recipe.batch_size * self.minibatches)
        self.running_means = RunningMeans(self._scalar_names(), device)

    def _build_turns(self, turns: list[list[str]]) -> list[Turn]:
        seated: list[Turn] = []
        minibatch, looked = 0, False
        for names in turns:
            sides = frozenset(name[2:] for name in names if name.startswith("D.")) or BOTH_SIDES
            if sides != BOTH_SIDES and (bad := [loss for loss in self.losses if not loss.separable]):
                raise UsageError(
                    f"The turn {'+'.join(names)} judges the discriminator on {'/'.join(sides)} alone, and the loss "
                    f"{type(bad[0]).__name__} needs both sides; write turns with D, such as 'D,G'."
                )
            # new reals for a second look of the discriminator; the other turns replay the minibatch they find
            if any(name in ("D", "D.reals") for name in names):
                minibatch, looked = minibatch + looked, True
            turn = Turn(tuple(self._player(name) for name in names), sides, minibatch)
            # nobody has moved the generator since, and the reals are the same
            if self.replay_fakes and turn.moves_generator and seated and not seated[-1].moves_generator:
                seated[-1] = replace(seated[-1], reused=seated[-1].minibatch == minibatch)
            seated.append(turn)
        if self.replay_fakes and not any(turn.reused for turn in seated):
            raise UsageError(
                f"generator_fakes is 'replayed', and no turn of {','.join(map('+'.join, turns))} moves the generator "
                f"right after the discriminator alone; write turns such as 'D,G', or leave generator_fakes 'fresh'."
            )
        return seated

    def _player(self, name: str) -> Player:
        key = name.split(".", maxsplit=1)[0]
        if key not in self.players:
            both = {"generator": self.generator, "discriminator": self.discriminator}
            role = "discriminator" if key == "D" else "generator"
            networks = both if key == "GD" else {role: both[role]}
            optimizer = self.optimizers.get(role, self.optimizers["generator"])
            self.players[key] = Player(role, networks, optimizer, self.losses)
        return self.players[key]

    def _scalar_names(self) -> tuple[str, ...]:
        roles = dict.fromkeys(player.role for turn in self.turns for player in turn.players)
        accuracy = ("discriminator_accuracy",) if "discriminator" in roles else ()
        return (*(f"{role}_loss" for role in roles), *accuracy)

    @property
    def minibatches(self) -> int:
        """How many minibatches of reals a step uses."""
        return self.turns[-1].minibatch + 1

    def latents(self, count: int) -> Tensor:
        """This rank's `count` latents (count, Z) of the ones all ranks draw together."""
        latents = self.architecture.latents(count * world_size(), self.random)
        return latents[rank() * count : (rank() + 1) * count] if world_size() > 1 else latents

    def round(self, turn: Turn, batch: Batch, reused: Round | None = None) -> Round:
        """What a turn is played on: this minibatch, and fakes for its labels; those of the `reused` round, if any."""

        def generate(latents: Tensor, labels: Tensor) -> Tensor:
            if reused is not None and self.training_fakes:  # in inference mode they are others
                return reused.fakes
            return self._generate(latents, labels, turn)

        latents = self.latents(len(batch.reals)) if reused is None else reused.latents
        return Round(batch.reals, batch.labels, latents, generate, self.discriminate, turn.sides)

    def _generate(self, latents: Tensor, labels: Tensor, turn: Turn) -> Tensor:
        training = turn.moves_generator or self.training_fakes
        # no graph unless the generator moves: thrift only, the numbers are the same
        with torch.set_grad_enabled(turn.moves_generator or (turn.reused and training)), self._precision():
            self.generator.train(training)
            fakes: Tensor = self.called["generator"](latents, labels).to(latents.dtype)
        expected = (len(latents), self.images.channels, self.images.height, self.images.width)
        if fakes.shape != expected:
            raise GanzooError(f"The generator drew images {tuple(fakes.shape)}; the dataset's are {expected}.")
        return fakes

    def discriminate(self, images: Tensor, labels: Tensor) -> Tensor:
        """Augment, then the discriminator: images (N, C, H, W) -> logits (N, ...) in the images' dtype."""
        for augmentation in self.augmentations:
            images = augmentation(images)
        with self._precision():
            logits: Tensor = self.called["discriminator"](images, labels).to(images.dtype)
        if not logits.ndim or len(logits) != len(images):
            raise GanzooError(f"The discriminator gave {tuple(logits.shape)} logits for {len(images)} images.")
        return logits

    @contextmanager
    def _precision(self) -> Iterator[None]:
        # the cache of cast weights would outlive a recorded step; casts are cheap
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False):
            yield

    @property
    def uncapturable(self) -> str:
        """Which part says of itself that no CUDA graph can hold its step, in words; empty where none does."""
        parts: list[tuple[str, Any]] = [("architecture", self.architecture)]
        parts += [("loss", loss) for loss in self.losses]
        parts += [("augmentation", augmentation) for augmentation in self.augmentations]
        parts += [("optimiser", optimizer) for optimizer in self.optimizers.values()]
        named = (f"the {kind} {type(part).__name__}" for kind, part in parts if not part.capturable)
        return next((f"{name} says that it cannot be captured" for name in named), "")

    def modules(self) -> dict[str, nn.Module]:
        """Every module whose tensors are state, by name."""
        named: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        if self.ema.network is not self.generator:
            named["average"] = self.ema.network
        named |= {f"loss{index}": loss for index, loss in enumerate(self.losses)}
        named |= {f"augmentation{index}": augmentation for index, augmentation in enumerate(self.augmentations)}
        named |= {f"{role}_optimizer": optimizer for role, optimizer in self.optimizers.items()}
        return named | {"meter": self.running_means}

    def reseed(self, seed: int, step: int) -> None:
        """Set all randomness of a step: the latents are those of all ranks together, the rest is each rank's own."""
        seeds.reseed(seed, "step", step, rank())
        self.random.manual_seed(seeds.derive(seed, "latents", step))

    def advance(self, images_seen: int) -> None:
        """Write every schedule in place before a step: learning rates, and whatever a part advances by itself."""
        for player in self.players.values():
            player.set_learning_rate(images_seen)
        for module in self.modules().values():
            if callable(advance := getattr(module, "advance", None)):
                advance(images_seen)

    def state(self) -> dict[str, Tensor]:
        """Every tensor the next step depends on, by name: modules with their buffers, and optimisers by parameter."""
        tensors = {
            f"{owner}/{name}": value
            for owner, module in self.modules().items()
            for name, value in (*module.named_parameters(), *module.named_buffers())
        }
        for key, player in self.players.items():
            tensors |= {f"player{key}/{name}": value for name, value in player.state()}
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Copy a saved `state` into this game, in place. Raises GanzooError, with nothing moved, for a misfit."""
        for key, player in self.players.items():
            if any(name.startswith(f"player{key}/") for name in tensors):
                player.create_state()
            else:
                player.optimizer.state.clear()  # saved before its first step
        mine = self.state()
        _refuse_misfit(mine, tensors)
        for name, value in mine.items():
            value.copy_(tensors[name])


def _refuse_misfit(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    differences = [f"{name} is missing" for name in mine if name not in theirs]
    differences += [f"{name} is not known here" for name in theirs if name not in mine]
    for name in mine.keys() & theirs.keys():
        expected, found = mine[name], theirs[name]
        if expected.shape != found.shape or expected.dtype != found.dtype:
            differences.append(
                f"{name} is {found.dtype} {tuple(found.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
            )
    if differences:
        shown = "; ".join(sorted(differences)[:5])
        raise GanzooError(f"The saved state does not fit this recipe in {len(differences)} places: {shown}.")
