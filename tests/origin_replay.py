"""Run five steps of the engine with the recorded weights, images and latents of an origin system.

It calls `train_step`, not `run_step`, because images and latents are recorded, not drawn from a seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from origins import Origin
from torch import Tensor, nn

import ganzoo
from ganzoo.contract.options import resolve
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.step import train_step
from ganzoo_plugins.layers.keras import BatchNorm
from ganzoo_plugins.losses.nonsaturating import NonSaturating
from ganzoo_plugins.optimizers.adam import Adam
from ganzoo_plugins.optimizers.keras import KerasAdam, KerasRMSprop

BATCH = 8
_PARTS = {"nonsaturating": NonSaturating, "adam": Adam, "keras-adam": KerasAdam, "keras-rmsprop": KerasRMSprop}
_VARIABLES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


class RecordedLatents(ganzoo.Architecture):
    """An architecture whose latents were recorded."""

    def __init__(self, architecture: ganzoo.Architecture, latents: Iterator[Tensor]) -> None:
        self.architecture, self.queue = architecture, latents

    def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
        return self.architecture.networks(images)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        return next(self.queue)


class OriginReplay:
    """A game of one origin, trained on its recorded inputs; `mistake` changes the game before the first step."""

    def __init__(
        self,
        origin: Origin,
        dtype: torch.dtype,
        changes: Mapping[str, Any] | None = None,
        mistake: Callable[[Game], None] = lambda game: None,
        latents: tuple[str, ...] = (),
    ) -> None:
        self.origin, self.dtype = origin, dtype
        with default_dtype(dtype):
            self.game = _make_game(
                origin, {**origin.changes, **(changes or {})}, self._latents(latents or origin.latents)
            )
        self.init_sha256 = set_weights(self.game, origin)
        self.inputs, self.inputs_sha256 = draw_inputs(origin, origin.architecture().value_range)
        mistake(self.game)
        #: gradients and weights of each update of the first step, in the order of the updates
        self.gradients: list[dict[str, np.ndarray]] = []
        self.weights: list[dict[str, np.ndarray]] = []
        for player in self.game.players.values():
            player.optimizer.register_step_post_hook(lambda *_, player=player: self._record(player))
        self.outputs = self._before()
        #: the engine's running means of each step so far
        self.scalars: list[dict[str, float]] = []
        self.run_until(1)
        self.outputs |= {f"step1/{name}": value for name, value in self.inference().items() if name != "d_logit_g"}

    def run_until(self, steps: int) -> None:
        """Run steps on their recorded inputs until this many are done."""
        while (index := len(self.scalars)) < steps:
            reals = self._tensor("x")[index].permute(0, 3, 1, 2)
            with default_dtype(self.dtype):
                train_step(self.game, [Batch(reals, torch.zeros(BATCH, dtype=torch.int64))] * self.game.minibatches)
            self.scalars.append(self.game.running_means.read())

    @property
    def now(self) -> dict[str, np.ndarray]:
        """Weights and moving statistics in Keras's layout."""
        return {name: to_keras(value.detach()).numpy().copy() for name, value in tensors(self.game).items()}

    def golden(self, name: str) -> np.ndarray:
        """The recorded values with this name, in the same precision."""
        kind = "f32" if self.dtype == torch.float32 else "f64"
        return self.origin.golden[f"{self.origin.prefix}{kind}/{name}"]

    def inference(self) -> dict[str, np.ndarray]:
        """The outputs of both networks for the fixed inputs, in inference mode."""
        labels = torch.zeros(BATCH, dtype=torch.int64)
        generator, discriminator = self.game.generator.eval(), self.game.discriminator.eval()
        with torch.no_grad():
            fakes = generator(self._tensor("z_fixed"), labels)
            logits = [discriminator(x, labels) for x in (self._tensor("x_fixed").permute(0, 3, 1, 2), fakes)]
        discriminator.train()
        return {"g_infer": nhwc(fakes), "d_logit_x": logits[0].numpy(), "d_logit_g": logits[1].numpy()}

    def _before(self) -> dict[str, np.ndarray]:
        outputs = self.inference()
        kept = {name: value.clone() for name, value in self.game.generator.named_buffers()}
        with torch.no_grad():
            labels = torch.zeros(BATCH, dtype=torch.int64)
            outputs["g_train"] = nhwc(self.game.generator.train()(self._tensor("z_fixed"), labels))
            moving = {name: value for name, value in self.now.items() if "/moving_" in name}
            outputs |= {f"bn_after_train_forward/{name}": value for name, value in moving.items()}
            for name, value in self.game.generator.named_buffers():
                value.copy_(kept[name])
        return outputs

    def _record(self, player: Any) -> None:
        if self.scalars:
            return
        own = {id(parameter): parameter.grad for parameter in player.parameters}
        named = tensors(self.game, parameters=True)
        gradients = {name: to_keras(own[id(p)]) for name, p in named.items() if id(p) in own}
        self.gradients.append({name: value.numpy().copy() for name, value in gradients.items()})
        self.weights.append(self.now)

    def _latents(self, names: tuple[str, ...]) -> Iterator[Tensor]:
        while True:
            for name in names:
                yield self._tensor("z_g" if name == "-" else name)[len(self.scalars)]

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.inputs[name]).to(self.dtype)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build networks and draw random numbers with this default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _make_game(origin: Origin, changes: Mapping[str, Any], latents: Iterator[Tensor]) -> Game:
    """The game of the published recipe with these changes."""
    architecture = origin.architecture()
    recipe = type(architecture).recipe.merged(changes)
    generator_optimizer = _part(recipe.generator_optimizer)
    shared = recipe.discriminator_optimizer is None
    return Game(
        RecordedLatents(architecture, latents),
        ganzoo.ImageSpec(1, 28, 28),
        [_part(loss) for loss in recipe.losses],
        [],
        generator_optimizer,
        generator_optimizer if shared else _part(recipe.discriminator_optimizer),
        recipe,
        torch.device("cpu"),
    )


def _part(choice: ganzoo.Choice) -> Any:
    return _PARTS[choice.name](**resolve(_PARTS[choice.name], choice.options, choice.name))


def tensors(game: Game, parameters: bool = False) -> dict[str, Tensor]:
    """Every weight and moving statistic under its Keras name, in Keras order."""
    named = {}
    for net, network in (("G", game.generator), ("D", game.discriminator)):
        layers = dict(network.named_modules())
        source = dict(network.named_parameters()) if parameters else network.state_dict()
        for key, value in source.items():
            layer, _, name = key.rpartition(".")
            keras = _VARIABLES if isinstance(layers[layer], BatchNorm) else {"weight": "kernel", "bias": "bias"}
            named[f"{net}/{layer}/{keras[name]}"] = value
    return named


def to_keras(tensor: Tensor) -> Tensor:
    """A weight in Keras's layout: dense (in, out), convolved (kh, kw, in, out), transposed (kh, kw, out, in)."""
    return tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T if tensor.ndim == 2 else tensor


def nhwc(images: Tensor) -> np.ndarray:
    """Images in Keras's layout."""
    return images.permute(0, 2, 3, 1).numpy().copy()


def set_weights(game: Game, origin: Origin) -> str:
    """Write the seeded initial weights; return the sha256 of their float32 bytes."""
    random, digest = np.random.RandomState(origin.seed), hashlib.sha256()
    bounds = {"bias": (-0.05, 0.05), "gamma": (0.8, 1.2), "beta": (-0.1, 0.1), "moving_mean": (-0.1, 0.1)}
    for name, tensor in tensors(game).items():
        keras, variable = to_keras(tensor), name.rpartition("/")[2]
        shape = tuple(keras.shape)
        limit = np.sqrt(6 / (np.prod(shape[:-2]) * sum(shape[-2:])))
        if variable == "kernel" and origin.normal_kernels:
            values = random.normal(0, np.sqrt(2 / shape[0]), shape)
        elif variable == "kernel":
            values = random.uniform(-limit, limit, shape)
        else:
            values = random.uniform(*bounds.get(variable, (0.8, 1.2)), shape)
        digest.update(values.astype(np.float32).tobytes())
        keras.copy_(torch.from_numpy(values.astype(np.float32)))
    return digest.hexdigest()


def draw_inputs(origin: Origin, value_range: tuple[float, float]) -> tuple[dict[str, np.ndarray], str]:
    """The recorded latents and images, and the sha256 of their float32 bytes."""
    random, digest, inputs = np.random.RandomState(origin.seed + 1), hashlib.sha256(), {}
    shapes = {
        "z_fixed": (8, 100),
        "x_fixed": (8, 28, 28, 1),
        "z_d": (5, 8, 100),
        "x": (5, 8, 28, 28, 1),
        "z_g": (5, 8, 100),
    }
    for name, shape in shapes.items():
        if name.startswith("x"):
            values = random.uniform(*value_range, shape)
        else:
            values = random.standard_normal(shape) if origin.normal_latents else random.uniform(-1, 1, shape)
        inputs[name] = values.astype(np.float32)
        digest.update(inputs[name].tobytes())
    return inputs, digest.hexdigest()


def samples(values: np.ndarray) -> np.ndarray:
    """64 entries, spread evenly over the flattened array."""
    return values.reshape(-1)[np.unique(np.round(np.linspace(0, values.size - 1, 64))).astype(np.int64)]


def stats(values: np.ndarray) -> np.ndarray:
    """Sum, sum of absolute values, L2 norm, minimum and maximum."""
    values = values.astype(np.float64)
    return np.array([values.sum(), np.abs(values).sum(), np.sqrt((values**2).sum()), values.min(), values.max()])
