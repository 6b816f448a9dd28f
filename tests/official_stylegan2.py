"""Train StyleGAN2 with the engine on the recorded weights, images and draws of the official program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from official_numbers import Recording
from origin_replay import default_dtype
from torch import Tensor

import ganzoo
from ganzoo import Choice, Recipe, Round
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.player import Turn
from ganzoo.engine.step import train_step
from ganzoo.registry.zoo import zoo
from ganzoo_plugins.architectures import _stylegan2_networks as networks
from ganzoo_plugins.architectures.stylegan2 import StyleGAN2, _settings
from ganzoo_plugins.layers import equalised
from ganzoo_plugins.penalties import path_length

PHASES = ("Gmain", "Greg", "Dmain", "Dreg")


class RoundOfOwnLabels(Round):
    """A round whose fakes have labels of their own, as in the official program."""

    fake_labels: Tensor

    @property
    def fakes(self) -> Tensor:
        labels, self.labels = self.labels, self.fake_labels
        fakes = super().fakes
        self.labels = labels
        return fakes

    @property
    def fake_logits(self) -> Tensor:
        if self._fake_logits is None:
            self._fake_logits = self._discriminate(self.fakes, self.fake_labels)
        return self._fake_logits


class Replay:
    """A game of one recording; `mistake` changes it before the first step, `changes` its recipe."""

    def __init__(
        self,
        name: str,
        dtype: torch.dtype,
        monkeypatch: pytest.MonkeyPatch,
        mistake: Callable[[Any], None] = lambda replay: None,
        weights_after: Mapping[str, Mapping[str, Tensor]] | None = None,
        **changes: Any,
    ) -> None:
        self.recording = Recording(f"stylegan2/{name}", dtype)
        self.config = self.recording.manifest["config"]
        self.inputs, self.random = self.recording.draws("inputs"), self.recording.draws("random")
        self.phase, self.steps = "", 0
        self.queue: Iterator[Tensor] = iter(())
        #: phase -> weights after its update in the first step, which replace those of this replay
        self.given = weights_after or {}
        #: (step, phase) -> round; phase -> gradients, and weights, of the first step by name
        self.rounds: dict[tuple[int, str], Round] = {}
        self.gradients: dict[str, dict[str, Tensor]] = {}
        self.weights_after: dict[str, dict[str, Tensor]] = {}
        with default_dtype(dtype):
            self.game = self._make_game(changes)
        self.weights = self.recording.draws("weights")
        for network, letter in ((self.game.generator, "G"), (self.game.discriminator, "D")):
            own = {key[2:]: value for key, value in self.weights.items() if key[0] == letter}
            network.load_state_dict(own)
        self.game.ema.network.load_state_dict(self.game.generator.state_dict())
        for module, function, words in (
            (networks, "second_latents", "like"),
            (equalised, "noise_maps", "noise"),
            (path_length, "path_noise", "like"),
        ):
            monkeypatch.setattr(module, function, lambda *_, words=words: self._next(words))
        monkeypatch.setattr(networks, "mixed_rows", self._mixed_rows)
        for player in self.game.players.values():
            if dtype == torch.float64:
                player.optimizer = _precise_adam(player.optimizer)
            player.optimizer.register_step_post_hook(lambda *_, player=player: self._record(player))
        self._round, self.game.round = self.game.round, self._recorded_round  # type: ignore[method-assign]
        mistake(self)

    def _make_game(self, changes: dict[str, Any]) -> Game:
        config = self.config
        architecture = StyleGAN2(
            channel_base=config["channel_base"],
            channel_max=config["channel_max"],
            latent_dim=config["z"],
            style_dim=config["w"],
            mapping_layers=config["mapping"],
            residual=config["architecture"] == "resnet",
            group=config["mbstd"],
            classes=bool(config["c"]),
            style_mixing=config["mix"],
            clamp=config["conv_clamp"] or 0.0,
        )
        half_life = round(config["ema_kimg"] * 1000)
        settings = _settings(
            config["lr"],
            config["r1_gamma"],
            8,
            half_life,
            1000,
            paths=bool(config["pl"]),
            ramp=config["ema_rampup"] or 0.0,
        )
        recipe = Recipe.from_dict({**settings, **changes})
        parts = zoo()
        return Game(
            architecture,
            ganzoo.ImageSpec(3, config["res"], config["res"], 10),
            [parts.build("losses", loss) for loss in recipe.losses],
            [],
            parts.build("optimizers", recipe.generator_optimizer),
            parts.build("optimizers", recipe.discriminator_optimizer or Choice("adam")),
            recipe,
            torch.device("cpu"),
        )

    def run(self, steps: int) -> None:
        """Train until so many steps are done."""
        while self.steps < steps:
            reals = self.inputs[f"x{self.steps}"]
            labels = self.inputs.get(f"y_x{self.steps}", torch.zeros(8, dtype=torch.int64))
            self.game.advance(8 * self.steps, self.steps)
            with default_dtype(self.recording.dtype):
                train_step(self.game, [Batch(reals, labels)])
            assert next(self.queue, None) is None, "a recorded draw was not used"
            self.steps += 1

    def _recorded_round(self, turn: Turn, batch: Batch, reused: Round | None = None) -> Round:
        """The round of a turn with the latents and labels of its phase."""
        role = "G" if turn.updates_generator else "D"
        self.phase = f"{role}{'reg' if turn.lazy else 'main'}"
        place, prefix = PHASES.index(self.phase), f"step{self.steps}/{self.phase}/"
        assert next(self.queue, None) is None, "a recorded draw was not used"
        self.queue = iter([(key, value) for key, value in self.random.items() if key.startswith(prefix)])
        round = self._round(turn, batch, reused)
        round.latents = self.inputs[f"z{self.steps}"][place]
        round.__class__ = RoundOfOwnLabels
        drawn = self.inputs.get(f"y_z{self.steps}")
        round.fake_labels = batch.labels if drawn is None else drawn[place]
        if turn.updates_generator and drawn is not None:
            round.labels = round.fake_labels
        self.rounds[self.steps, self.phase] = round
        return round

    def _next(self, words: str) -> Tensor:
        key, values = next(self.queue)
        assert words in key, (words, key)
        return values

    def _mixed_rows(self, latents: Tensor, rows: int, probability: float) -> Tensor:
        cut, drawn = self._next("cutoff"), self._next("uniform")
        return torch.arange(rows) >= (int(cut) if drawn < probability else rows)

    def _record(self, player: Any) -> None:
        if self.steps:
            return
        named = {key.partition(".")[2]: p for key, p in zip(player.names, player.parameters, strict=True)}
        self.gradients[self.phase] = {key: p.grad.detach().clone() for key, p in named.items()}
        self.weights_after[self.phase] = {key: p.detach().clone() for key, p in named.items()}
        with torch.no_grad():
            for key, value in self.given.get(self.phase, {}).items():
                named[key].copy_(value)


def _precise_adam(optimizer: torch.optim.Optimizer) -> torch.optim.Adam:
    """The same Adam with its learning rate in float64: the fused kernel takes float32, whose rounding is 3e-8."""
    (group,) = optimizer.param_groups
    assert not group["weight_decay"]
    rate = group["lr"].double()
    return torch.optim.Adam(group["params"], lr=rate, betas=group["betas"], eps=group["eps"], foreach=False)
