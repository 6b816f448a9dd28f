"""Steps of `r3gan` with the recorded weights, inputs and schedules of the official program, and their errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from helpers import ZOO
from official_numbers import Recording
from torch import Tensor, nn

from ganzoo import Choice, ImageSpec, Recipe, Round
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.step import train_step
from ganzoo_plugins.architectures._r3gan_networks import Block, Doubling, Halving

NAMES = ("r3gan/uncond-32", "r3gan/cond-16")
STEPS = 5


def official_names(network: nn.Module, blocks: list[int], letter: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Official names of the parameters of one of our networks."""
    stage = layer = 0
    ends: dict[str, Any] = {}
    if letter == "G":
        ends = {"MainLayers.0.Layers.0.Basis": network.basis, "MainLayers.0.Layers.0.LinearLayer": network.linear}
        ends["AggregationLayer.Layer"], layer = network.aggregate, 1
    for module in network.layers:  # type: ignore[union-attr]
        prefix = f"{letter}/MainLayers.{stage}.Layers.{layer}"
        if isinstance(module, Block):
            for number, convolution in enumerate((module.conv1, module.conv2, module.conv3), 1):
                yield f"{prefix}.LinearLayer{number}.Layer.weight", convolution.weight
                if convolution.bias is not None:
                    yield f"{prefix}.NonLinearity{number}.Bias", convolution.bias
            layer += 1
        elif isinstance(module, Doubling):
            stage, layer = stage + (layer != 0), 1
        elif isinstance(module, Halving):
            stage, layer = stage + 1, 0
        elif letter == "G":
            stage, layer = stage + 1, 0
            yield f"G/MainLayers.{stage}.Layers.0.LinearLayer.Layer.weight", module.weight  # type: ignore[misc]
        else:
            yield f"D/MainLayers.{stage - 1}.Layers.{blocks[stage - 1]}.LinearLayer.Layer.weight", module.weight  # type: ignore[misc]
    if letter == "D":
        last = f"MainLayers.{stage}.Layers.{layer}"
        ends = {"ExtractionLayer.Layer": network.extract, f"{last}.Basis": network.basis}
        ends[f"{last}.LinearLayer"] = network.linear
    if network.embed is not None:
        ends["EmbeddingLayer"] = network.embed
    for name, module in ends.items():
        yield (
            (f"{letter}/{name}", module)
            if isinstance(module, nn.Parameter)
            else (
                f"{letter}/{name}.weight",
                module.weight,
            )
        )


def text(numbers: list[int]) -> str:
    return "+".join(map(str, numbers))


class Replay:
    """The official run of one recording, done by the engine, in one precision."""

    def __init__(self, name: str, dtype: torch.dtype, turns: str = "D,G.new", **options: Any) -> None:
        self.recording = Recording(name, dtype)
        self.config: dict[str, Any] = self.recording.manifest["config"]
        #: name of a recorded value -> error
        self.errors: dict[str, float] = {}
        config, classes = self.config, self.config["classes"]
        #: the program counts one of the two minibatches of a step
        schedules = {
            key: f"{ends['base_value']!r} -> {ends['final_value']!r} by {int(2 * ends['total_nimg'])}"
            for key, ends in config["schedules"].items()
        }
        ends = config["schedules"]["ema_nimg"]
        half_life = f"0 -> {2 * ends['final_value']!r} by {int(2 * ends['total_nimg'])}"
        architecture = {"latent_dim": config["z"], "widths": text(config["widths"]), "groups": text(config["groups"])}
        architecture |= {
            "blocks": text(config["blocks"]),
            "labels": bool(classes),
            "embedding": config.get("g_embed", 64),
        }
        given = {"gamma": schedules["gamma"], "beta2": schedules["beta2"], "architecture": {}} | options
        adam = {"lr": schedules["lr"], "beta1": 0.0, "beta2": given["beta2"]}
        recipe = Recipe(turns=turns, batch_size=config["batch"], ema_half_life=half_life, ema_buffers="copied")
        size = 4 * 2 ** (len(config["widths"]) - 1)
        self.game = Game(
            ZOO.build("architectures", Choice("r3gan", architecture | given["architecture"])),
            ImageSpec(3, size, size, classes or 1),
            [ZOO.build("losses", Choice(loss)) for loss in ("relativistic",)]
            + [ZOO.build("losses", Choice(loss, {"gamma": given["gamma"]})) for loss in ("r1", "r2")],
            [],
            ZOO.build("optimizers", Choice("adam", adam)),
            ZOO.build("optimizers", Choice("adam", adam)),
            recipe,
            torch.device("cpu"),
        )
        weights, self.inputs = self.recording.draws("weights"), self.recording.draws("inputs")
        self.blocks = config["blocks"][::-1]
        self.named = {"G": dict(official_names(self.game.generator, self.blocks, "G"))}
        self.named["D"] = dict(official_names(self.game.discriminator, self.blocks, "D"))
        assert {*self.named["G"], *self.named["D"]} == {*weights}
        for letter, network in (("G", self.game.generator), ("D", self.game.discriminator)):
            assert len(self.named[letter]) == len([*network.parameters()])
            with torch.no_grad():
                for official, parameter in self.named[letter].items():
                    parameter.copy_(weights[official].reshape(parameter.shape))
        if self.game.ema.network is not self.game.generator:
            self.game.ema.network.load_state_dict(self.game.generator.state_dict())

    def note(self, name: str, value: Tensor, scale: float = 0.0) -> None:
        """Keep the error of a recorded value."""
        error = self.recording.error(name, value, scale)
        self.errors[name] = error if error == error else float("inf")  # noqa: PLR0124

    def labels(self, name: str) -> Tensor:
        return self.inputs.get(f"y_{name}", torch.zeros(self.config["batch"], dtype=torch.int64))

    def images(self) -> None:
        """Images, logits and the outputs of every stage for the fixed inputs."""
        game, labels = self.game, self.labels("fixed")
        features: dict[str, Tensor] = {}
        hooks = [
            module.register_forward_hook(lambda _, __, output, name=name: features.update({name: output}))
            for name, module in self.stages().items()
        ]
        fakes = game.generator(self.inputs["z_fixed"], labels)
        self.note("g_fixed", fakes)
        for name, images in (("d_logit_g", fakes), ("d_logit_x", self.inputs["x_fixed"])):
            self.note(name, game.discriminator(images, labels))
        for hook in hooks:
            hook.remove()
        for name, output in features.items():
            self.note(f"stage/{name}", output)

    def stages(self) -> dict[str, nn.Module]:
        """The modules whose outputs are those of the official stages: `G0` is the smallest size, `D0` the largest."""
        found: dict[str, nn.Module] = {"D_in": self.game.discriminator.extract}  # type: ignore[dict-item]
        layers: list[nn.Module] = [*self.game.generator.layers, nn.Identity()]  # type: ignore[misc]
        ends = [m for m, after in itertools.pairwise(layers) if isinstance(m, Block) and not isinstance(after, Block)]
        found |= {f"G{index}": module for index, module in enumerate(ends)}
        layers = [*self.game.discriminator.layers]  # type: ignore[misc]
        ends = [m for m, after in itertools.pairwise(layers) if isinstance(after, Block) and not isinstance(m, Block)]
        found |= {f"D{index}": module for index, module in enumerate(ends)}
        return found | {f"D{len(ends)}": self.game.discriminator.linear}  # type: ignore[dict-item]

    def steps(self, count: int = STEPS) -> None:
        """The recorded steps: losses and penalties, gradients of the first step, weights after it, the average."""
        game, batch = self.game, self.config["batch"]
        seen: dict[str, list[Any]] = {"D": [], "G": []}
        self._record(seen)
        for step in range(count):
            batches = [
                Batch(self.inputs[f"x_{turn}{step}"], self.labels(f"{turn}{step}"))
                for turn in ("d", "g")[: game.minibatches]
            ]
            drawn = iter([self.inputs[f"z_d{step}"], self.inputs[f"z_g{step}"]])
            vars(game.architecture)["latents"] = lambda count, random, drawn=drawn: next(drawn)
            seen["D"].clear()
            seen["G"].clear()
            game.advance(2 * batch * step, step)
            train_step(game, batches)
            if step < 3:
                self._compare_step(step, seen)
        if count == STEPS:
            averaged = dict(official_names(game.ema.network, self.blocks, "G"))
            for name in self.recording.names("ema4:"):
                self.note(name, averaged[name.removeprefix("ema4:")])

    def _record(self, seen: dict[str, list[Any]]) -> None:
        """Keep the terms of every loss, and the gradients that every update is given."""
        for loss in self.game.losses:
            for role, letter in (("discriminator", "D"), ("generator", "G")):
                original: Callable[[Round], Tensor] = getattr(loss, role)

                def recorded(round: Round, original: Any = original, letter: str = letter) -> Tensor:
                    value = original(round)
                    seen[letter] += [value.detach()] if value.requires_grad else []
                    return value

                vars(loss)[role] = recorded
        for letter, player in self.game.players.items():
            update = player.update

            def updated(gradients: Any, update: Any = update, letter: str = letter) -> None:
                seen[letter].append([gradient.clone() for gradient in gradients])
                update(gradients)

            player.update = updated  # type: ignore[method-assign]

    def _compare_step(self, step: int, seen: dict[str, list[Any]]) -> None:
        values, row = self.recording.values, self.recording.manifest["table_float64"][step]
        prefix = self.recording.prefix
        adversarial, r1, r2, *_ = seen["D"]
        half = row["gamma"] / 2
        mine = {"d_adversarial": adversarial, "r1": r1 / half, "r2": r2 / half, "g_adversarial": seen["G"][0]}
        for name, value in mine.items():
            expected = float(values[f"{prefix}step{step}/{name}"].astype("float64").mean())
            self.errors[f"step{step}/{name}"] = abs(float(value) / expected - 1)
        if step:
            return
        for letter in ("D", "G"):
            player = self.game.players[letter]
            gradients = dict(zip(map(id, player.parameters), seen[letter][-1], strict=True))
            named = self.named[letter]
            largest = max(self.recording.largest(f"grad0:{name}") for name in named)
            for name, parameter in named.items():
                self.note(f"grad0:{name}", gradients[id(parameter)], largest)
                self.note(f"after0:{name}", parameter, 1e-3)


def measured(name: str, dtype: torch.dtype, steps: int = STEPS, **changes: Any) -> dict[str, float]:
    """The error of each recorded value: gradients relative to the largest of the network, others to their largest."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        replay = Replay(name, dtype, **changes)
        replay.images()
        replay.steps(steps)
        return dict(replay.errors)
    finally:
        torch.set_default_dtype(before)
