"""Game: the training state, and the forward pass of one turn of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture, Augmentation, Loss, Optimizer
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.images import ImageSpec
from ganzoo.contract.recipe import Recipe, parse_preprocessing, parse_turns
from ganzoo.contract.round import BOTH_SIDES, Round
from ganzoo.engine import seeds
from ganzoo.engine.accumulation import images_of_a_part
from ganzoo.engine.distributed import rank, share_of_this_rank, world_size
from ganzoo.engine.ema import EMA
from ganzoo.engine.feed import Batch
from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.engine.player import Player, Turn, freeze_first_layers
from ganzoo.engine.preprocessing import preprocessed
from ganzoo.engine.running_means import RunningMeans
from ganzoo.engine.same_tensors import require_same_tensors
from ganzoo.engine.schedules import ScheduledNumbers


class Game:
    """The training state on one device: networks, optimisers, losses, augmentations and the generator's EMA.

    `turns` are the updates of one step, in order; `ganzoo.engine.step.train_step` does them. The networks are
    initialised from the recipe's seed. Raises UsageError if the turns do not fit the losses or `reuse_fakes`.
    """

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
        #: the gradients of a turn are computed over parts of so many images of its minibatch
        self.part_size = images_of_a_part(recipe)
        self.images = images
        self.generator: nn.Module = generator.to(device).to(memory_format=MEMORY_FORMAT)
        self.discriminator: nn.Module = discriminator.to(device).to(memory_format=MEMORY_FORMAT)
        freeze_first_layers(self.discriminator, recipe.freeze_d)
        #: the networks that a step calls: `generator` and `discriminator`, or their compiled forms
        self.called: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        self.losses = [loss.to(device) for loss in losses]
        self.augmentations = [augmentation.to(device) for augmentation in augmentations]
        #: random generator of the latents
        self.random = torch.Generator(device)
        self._always_training_mode = recipe.generator_mode_for_discriminator == "training"
        self._reuse_fakes = recipe.reuse_fakes
        self._preprocessing = parse_preprocessing(recipe.preprocessing)
        self._joint_forward = recipe.joint_forward
        self._own_labels = recipe.fake_labels == "uniform"
        self.autocast = recipe.precision == "bf16"
        self.optimizers = {"generator": generator_optimizer.to(device)}
        if discriminator_optimizer is not generator_optimizer:
            self.optimizers["discriminator"] = discriminator_optimizer.to(device)
        #: numbers of the parts that follow a schedule
        self.scheduled = ScheduledNumbers([*self.losses, *self.augmentations, *self.optimizers.values()], device)
        #: the number of the step, from 0; losses with an interval are computed in some steps only
        self.step = 0
        self.players: dict[str, Player] = {}
        self.turns = self._build_turns(parse_turns(recipe.turns))
        self.ema = EMA.of_recipe(self.generator, recipe)
        self.running_means = RunningMeans(self._scalar_names(), device)

    def _build_turns(self, turns: list[list[str]]) -> list[Turn]:
        built: list[Turn] = []
        minibatch, reals_used = 0, False
        for names in turns:
            sides = frozenset(name[2:] for name in names if name in ("D.reals", "D.fakes")) or BOTH_SIDES
            lazy = names[0].endswith(".lazy")
            if lazy and all(loss.every == 1 for loss in self.losses):
                raise UsageError(
                    f"The turn {'+'.join(names)} is for losses with an interval, and no loss of the recipe has one; "
                    f"write for example r1:every=16."
                )
            if sides != BOTH_SIDES and (inseparable := [loss for loss in self.losses if not loss.separable]):
                raise UsageError(
                    f"The turn {'+'.join(names)} trains the discriminator on {'/'.join(sides)} alone, and the loss "
                    f"{type(inseparable[0]).__name__} needs both sides; write turns with D, such as 'D,G'."
                )
            # each turn that trains the discriminator on reals has its own minibatch, and so has G.new; other turns use
            # that of the turn before
            if any(name in ("D", "D.reals", "G.new") for name in names):
                minibatch, reals_used = minibatch + reals_used, True
            turn = Turn(tuple(self._player(name) for name in names), sides, minibatch, lazy=lazy)
            # the fakes of the turn before can be reused if the generator and the minibatch are the same
            if self._reuse_fakes and turn.updates_generator and built and not built[-1].updates_generator:
                built[-1] = replace(built[-1], reused=built[-1].minibatch == minibatch)
            built.append(turn)
        if self._reuse_fakes and not any(turn.reused for turn in built):
            raise UsageError(
                f"reuse_fakes is true, and no turn of {','.join(map('+'.join, turns))} trains the generator right "
                f"after the discriminator alone; write turns such as 'D,G', or set reuse_fakes to false."
            )
        return built

    def _player(self, name: str) -> Player:
        key = name.split(".", maxsplit=1)[0]
        if key not in self.players:
            both = {"generator": self.generator, "discriminator": self.discriminator}
            role = "discriminator" if key == "D" else "generator"
            networks = both if key == "GD" else {role: both[role]}
            optimizer = self.optimizers.get(role, self.optimizers["generator"])
            self.players[key] = Player(role, networks, optimizer, self.losses)
        return self.players[key]

    def due_losses(self, turn: Turn, player: Player) -> list[Loss]:
        """The losses that a player of a turn minimises in this step.

        A loss with an interval is due in the steps whose number is a multiple of it: in the turn `D.lazy` or `G.lazy`
        of its player where the recipe has one, otherwise together with the other losses.
        """
        due = [loss for loss in self.losses if self.step % loss.every == 0]
        if turn.lazy:
            return [loss for loss in due if loss.every > 1]
        of_their_own = any(other.lazy and player in other.players for other in self.turns)
        return [loss for loss in due if loss.every == 1] if of_their_own else due

    @property
    def due_key(self) -> tuple[bool, ...]:
        """For each loss with an interval, whether it is due in this step: what a recorded step depends on."""
        return tuple(self.step % loss.every == 0 for loss in self.losses if loss.every > 1)

    def _scalar_names(self) -> tuple[str, ...]:
        roles = dict.fromkeys(player.role for turn in self.turns if not turn.lazy for player in turn.players)
        accuracy = ("discriminator_accuracy",) if "discriminator" in roles else ()
        return (*(f"{role}_loss" for role in roles), *accuracy)

    @property
    def minibatches(self) -> int:
        """Number of minibatches of reals in a step."""
        return self.turns[-1].minibatch + 1

    def latents(self, count: int) -> Tensor:
        """`count` latents (count, Z) for this rank: every rank draws those of all ranks, and takes its part."""
        return share_of_this_rank(self.architecture.latents(count * world_size(), self.random), count)

    def _fake_labels(self, labels: Tensor) -> Tensor:
        """The classes of the fakes of a round: those of its reals, or drawn as latents are."""
        if not self._own_labels:
            return labels
        count = len(labels)
        size = (count * world_size(),)
        drawn = torch.randint(self.images.classes, size, generator=self.random, device=self.random.device)
        return share_of_this_rank(drawn, count)

    def preprocess(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The minibatches of a step with their reals changed as the recipe says; the tensors of the feed stay."""
        return preprocessed(batches, self._preprocessing, self.architecture.value_range)

    def round(self, turn: Turn, batch: Batch, reused: Round | None = None) -> Round:
        """The round of a turn: a minibatch, and fakes of new latents and labels, or of those of `reused`."""

        def generate(latents: Tensor, labels: Tensor) -> Tensor:
            # with inference mode for the discriminator, the fakes of that round are not those of training mode
            if reused is not None and latents is reused.latents and self._always_training_mode:
                return reused.fakes
            return self._generate(latents, labels, turn)

        latents = self.latents(len(batch.reals)) if reused is None else reused.latents
        fake_labels = self._fake_labels(batch.labels) if reused is None else reused.fake_labels
        styled = self._generate_styled if hasattr(self.generator, "styles") else None
        joint = self._joint_forward and not turn.updates_generator
        return Round(
            *(batch.reals, batch.labels, latents, generate, self.discriminate),
            *(turn.sides, styled, joint, fake_labels),
        )

    def _generate_styled(self, latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(images, styles) of latents, with gradients; the plain network, as its methods are not compiled."""
        network: Any = self.generator.train()
        with self._precision():
            styles = network.styles(latents, labels)
            return network.images(styles).to(latents.dtype), styles

    def _generate(self, latents: Tensor, labels: Tensor, turn: Turn) -> Tensor:
        training = turn.updates_generator or self._always_training_mode
        # no autograd graph if no gradient of the generator is needed: the fakes are the same without it
        with torch.set_grad_enabled(turn.updates_generator or (turn.reused and training)), self._precision():
            self.generator.train(training)
            fakes: Tensor = self.called["generator"](latents, labels).to(latents.dtype)
        expected = (len(latents), self.images.channels, self.images.height, self.images.width)
        if fakes.shape != expected:
            raise GanzooError(f"The generator returned images {tuple(fakes.shape)}, not {expected} as in the dataset.")
        return fakes

    def discriminate(self, images: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, ...), in the images' dtype, of images (N, C, H, W) after the augmentations, and labels (N,)."""
        for augmentation in self.augmentations:
            images = augmentation(images)
        with self._precision():
            logits: Tensor = self.called["discriminator"](images, labels).to(images.dtype)
        if not logits.ndim or len(logits) != len(images):
            raise GanzooError(f"The discriminator returned logits {tuple(logits.shape)} for {len(images)} images.")
        return logits

    def observe(self, logits: Mapping[str, Tensor]) -> None:
        """Pass the logits of the reals, if a turn of the discriminator computed them, to the augmentations."""
        if "reals" in logits:
            for augmentation in self.augmentations:
                augmentation.observe(logits["reals"])

    @contextmanager
    def _precision(self) -> Iterator[None]:
        # no cache: cast weights in it would outlive a recorded CUDA graph, and casting is cheap
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False):
            yield

    @property
    def uncapturable(self) -> str:
        """Why no CUDA graph can be recorded: the first part with `capturable = False`; empty if there is none."""
        parts: list[tuple[str, Any]] = [("architecture", self.architecture)]
        parts += [("loss", loss) for loss in self.losses]
        parts += [("augmentation", augmentation) for augmentation in self.augmentations]
        parts += [("optimiser", optimizer) for optimizer in self.optimizers.values()]
        named = (f"the {kind} {type(part).__name__}" for kind, part in parts if not part.capturable)
        return next((f"{name} has capturable = False" for name in named), "")

    def modules(self) -> dict[str, nn.Module]:
        """All modules whose tensors are part of the state, by the name they have in checkpoints."""
        named: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        if self.ema.network is not self.generator:
            named["average"] = self.ema.network
        named |= {f"loss{index}": loss for index, loss in enumerate(self.losses)}
        named |= {f"augmentation{index}": augmentation for index, augmentation in enumerate(self.augmentations)}
        named |= {f"{role}_optimizer": optimizer for role, optimizer in self.optimizers.items()}
        return named | {"meter": self.running_means}

    def reseed(self, seed: int, step: int) -> None:
        """Seed all random generators for a step: that of the latents equally on all ranks, the others differently."""
        seeds.reseed(seed, "step", step, rank())
        self.random.manual_seed(seeds.derive(seed, "latents", step))

    def set_length(self, images: int) -> None:
        """Pass the number of real images that the run will have seen at its end to parts with a method `set_length`."""
        self.scheduled.set_length(images)
        self.ema.set_length(images)
        for module in self.modules().values():
            if callable(set_length := getattr(module, "set_length", None)):
                set_length(images)

    def advance(self, images_seen: int, step: int = 0) -> None:
        """Before step number `step`, from 0: write learning rates and other scheduled numbers.

        `advance(images_seen)` is called of the parts that have this method.
        """
        self.step = step
        self.scheduled.advance(images_seen)
        self.ema.advance(images_seen)
        for player in self.players.values():
            player.set_learning_rate(images_seen)
        for module in self.modules().values():
            if callable(advance := getattr(module, "advance", None)):
                advance(images_seen)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name: parameters, buffers, and the state of optimisers."""
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
        """Copy a saved `state` into this game, in place.

        Raises GanzooError, before a network is changed, where names, shapes or types differ.
        """
        for key, player in self.players.items():
            if any(name.startswith(f"player{key}/") for name in tensors):
                player.create_state()
            else:
                player.optimizer.state.clear()  # the state was saved before the first step
        own_state = self.state()
        require_same_tensors(own_state, tensors)
        for name, value in own_state.items():
            value.copy_(tensors[name])
