"""Train StyleGAN2 with the engine on the recorded weights, images and draws of the official program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from official_numbers import Recording
from origin_replay import default_dtype
from torch import Tensor, nn

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

NAMES = ("config-f-32", "cifar-cond-32")
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
        #: (step, phase) -> sum of the losses of the phase, without the factor of their intervals
        self.losses: dict[tuple[int, str], Tensor] = {}
        for loss in self.game.losses:
            self._record_loss(loss)
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

    def _record_loss(self, loss: ganzoo.Loss) -> None:
        for role in ("discriminator", "generator"):
            original: Callable[[Round], Tensor] = getattr(loss, role)

            def recorded(round: Round, original: Callable[[Round], Tensor] = original) -> Tensor:
                value, key = original(round), (self.steps, self.phase)
                if value.requires_grad:
                    self.losses[key] = self.losses.get(key, torch.zeros(())) + value.detach()
                return value

            vars(loss)[role] = recorded

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


# --- errors -----------------------------------------------------------------------------------------------------------


def outputs(replay: Replay) -> dict[str, float]:
    """Errors of what both networks compute with the recorded weights, by name."""
    generator: Any = replay.game.generator.eval()
    discriminator: Any = replay.game.discriminator.train()
    latents, images = replay.inputs["z_fixed"], replay.inputs["x_fixed"]
    labels = replay.inputs.get("y_fixed", torch.zeros(8, dtype=torch.int64))
    features: dict[str, Tensor] = {}
    hooks = [
        *(
            _keep(block, f"G{r}", features)
            for r, block in zip((4, 8, 16, 32), generator.synthesis.blocks(), strict=True)
        ),
        *(_keep(getattr(discriminator, f"b{r}"), f"D{r}", features) for r in (32, 16, 8)),
    ]
    with torch.no_grad():
        styles = generator.styles(latents, labels)
        found = {"w": styles[:, 0], "w_truncated": generator.truncated(styles[:2], 0.7, 4)}
        drawn = generator(latents, labels)
        blocks = {f"block/{name}": value for name, value in features.items() if name[0] == "G"}
        found |= {"img_const": drawn[:2], "img_const_eval": drawn, "d_logit_g": discriminator(drawn, labels)}
        generator.noise = "none"
        found["img_none_eval"] = generator(latents, labels)
        generator.noise = "random"
        found["d_logit_x"] = discriminator(images, labels)
        blocks |= {f"block/{name}": value for name, value in features.items() if name[0] == "D"}
        if discriminator.mapping is not None:
            found["d_cmap"] = discriminator.mapping(None, labels[:2])
        found["mbstd_channel"] = networks.group_deviation(features["D8"], replay.config["mbstd"])
    for hook in hooks:
        hook.remove()
    return {key: replay.recording.error(key, value) for key, value in (found | blocks).items()}


def _keep(module: nn.Module, name: str, features: dict[str, Tensor]) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, tuple):
            features[f"{name}_x"], features[f"{name}_img"] = output
        else:
            features[name] = output

    return module.register_forward_hook(keep)


def gradients(replay: Replay) -> dict[str, float]:
    """Errors of the gradients of all phases of the first step, relative to the largest gradient of the phase."""
    replay.run(1)
    errors = {}
    for phase in replay.gradients:
        names = replay.recording.names(f"grad0:{phase}/")
        scale = max(map(replay.recording.largest, names))
        own = replay.gradients[phase]
        assert {name.partition("/")[2] for name in names} <= own.keys()
        errors |= {n: replay.recording.error(n, own[n.partition("/")[2]], 1e-3 * scale) for n in names}
    assert errors
    return errors


def steps(replay: Replay) -> dict[str, float]:
    """Errors of logits, penalties, weights and averages of three steps, and of the average after five."""
    errors: dict[str, float] = {}
    for step in range(5):
        replay.run(step + 1)
        if step == 0:
            for letter, network in (("G", replay.game.generator), ("D", replay.game.discriminator)):
                errors |= _errors_of(replay, f"after0:{letter}/", network)
        if step < 3:
            errors[f"step{step}/w_avg"] = replay.recording.error(
                f"step{step}/w_avg", replay.game.generator.get_buffer("mapping.w_avg")
            )
            for phase in PHASES:
                if (step, phase) not in replay.losses:
                    continue  # no loss with an interval is due
                errors |= _loss_error(replay, step, phase)
                if phase == "Greg":
                    continue
                for side, logits in replay.rounds[step, phase].computed_logits.items():
                    name = f"step{step}/{phase}/Loss_scores_{side[:-1]}"
                    errors[name] = replay.recording.error(name, logits, 1.0)
    return errors | _errors_of(replay, "ema4:G/", replay.game.ema.network)


def _loss_error(replay: Replay, step: int, phase: str) -> dict[str, float]:
    """The error of the loss of a phase: the program keeps that of each image, or the mean of each part of the batch."""
    name = f"step{step}/{phase}/Loss_{phase[0]}_{'reg' if phase.endswith('reg') else 'loss'}"
    expected = float(replay.recording.values[replay.recording.prefix + name].astype("float64").mean())
    return {name: abs(float(replay.losses[step, phase]) - expected) / max(1.0, abs(expected))}


def _errors_of(replay: Replay, prefix: str, network: nn.Module) -> dict[str, float]:
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    names = replay.recording.names(prefix)
    assert names
    return {name: replay.recording.error(name, tensors[name[len(prefix) :]], 1.0) for name in names}


CHECKS: dict[str, Callable[[Replay], dict[str, float]]] = {"outputs": outputs, "gradients": gradients, "steps": steps}


def measured(name: str, dtype: torch.dtype) -> dict[str, float]:
    """The error of each recorded value, relative to the largest number of its tensor or phase.

    In float32 the weights of config F after an update are those of float64: one of them has a gradient of 3e-10. Adam
    moves it by a tenth of the learning rate there, which takes a feature over the corner of a LeakyReLU. So the steps
    after the first are not compared.
    """
    config_f = name == "config-f-32" and dtype == torch.float32
    with pytest.MonkeyPatch.context() as patch:
        weights = None
        if config_f:
            precise = Replay(name, torch.float64, patch)
            precise.run(1)
            weights = precise.weights_after
        replay = Replay(name, dtype, patch, weights_after=weights)
        found = outputs(replay) | gradients(replay)
        return found if config_f else found | steps(replay)
