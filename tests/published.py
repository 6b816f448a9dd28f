"""Run the engine with the recorded weights, images and draws of a published program, and compare with its numbers.

tests/golden/modern/README.md says what the files hold. Weights and inputs are drawn anew from a seed, and get their
places in our networks through `Architecture.read_foreign`, so a wrong mapping of names fails as well.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.contract.options import resolve
from ganzoo.contract.round import Round
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.step import train_step

GOLDEN = Path(__file__).parent / "golden" / "modern"
DTYPES = {"float64": torch.float64, "float32": torch.float32}


class Published:
    """A fixture: NAME.json, the manifest, and NAME.npz, the numbers of the official program in float64."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.manifest: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.numbers = {key.removeprefix("f64/"): file[key] for key in file.files}

    def draw(self, which: str) -> dict[str, np.ndarray]:
        """The arrays of a list of the manifest, drawn from its seed. Their bytes must have the recorded sha256."""
        rule = self.manifest[which]
        random, digest, drawn = np.random.RandomState(rule["seed"]), hashlib.sha256(), {}
        for array in rule["arrays"]:
            shape = tuple(array["shape"])
            if array["draw"] == "normal":
                values = (array["mean"] + array["std"] * random.standard_normal(shape)).astype(np.float32)
            elif array["draw"] == "uniform":
                values = random.uniform(array["low"], array["high"], shape).astype(np.float32)
            else:
                values = random.randint(array["low"], array["high"], shape).astype(np.int64)
            digest.update(np.ascontiguousarray(values).tobytes())
            drawn[array["name"]] = values
        assert digest.hexdigest() == rule["sha256"], f"{self.name}: {which} are not the recorded ones"
        for array in rule["arrays"]:
            then = array.get("then", "")
            if "divided by its norm" in then:
                whole = drawn[array["name"]].astype(np.float64)
                drawn[array["name"]] = whole / np.linalg.norm(whole)
            elif "first half of the columns" in then:
                drawn[array["name"]] = drawn[array["name"]].copy()
                drawn[array["name"]][:, : array["shape"][1] // 2] += 1
            elif then:
                raise AssertionError(f"{array['name']}: {then}")
        return drawn


def exact_vectors(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The singular vectors (u, v) of the largest singular value of (rows, -1), with a positive sum of u."""
    left, _, right = np.linalg.svd(weight.reshape(len(weight), -1).astype(np.float64), full_matrices=False)
    sign = 1 if left[:, 0].sum() >= 0 else -1
    return sign * left[:, 0], sign * right[0]


class Mapping64:
    """Where each number of the official tensors is in our networks: found by sending indices through the mapping."""

    def __init__(self, architecture: type[ganzoo.Architecture], official: Mapping[str, np.ndarray]) -> None:
        self.shapes = {name: value.shape for name, value in official.items()}
        self.places: dict[str, dict[str, Tensor]] = {}
        self.weights: list[ganzoo.ForeignWeights] = []
        self.starts, start = {}, 1
        for name, shape in self.shapes.items():
            self.starts[name] = start
            start += int(np.prod(shape))
        for network in ("G", "D"):
            tensors = {
                name.partition("/")[2].replace(".", "/"): torch.arange(
                    self.starts[name], self.starts[name] + int(np.prod(shape)), dtype=torch.float64
                ).reshape(shape)
                for name, shape in self.shapes.items()
                if name.startswith(network)
            }
            found = architecture.read_foreign(ganzoo.ForeignFile(Path(network), tensors))
            self.weights.append(found)
            self.places |= {
                key: dict(state)
                for key, state in (("generator", found.generator), ("discriminator", found.discriminator))
                if state is not None
            }

    def ours(self, network: str, official: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Our tensors of a network by name, from the official ones."""
        flat = np.concatenate([np.zeros(1), *(official[name].astype(np.float64).ravel() for name in self.shapes)])
        return {name: flat[index.to(torch.int64).numpy()] for name, index in self.places[network].items()}

    def official(self, network: str, ours: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Official tensors by name (such as G/l1.weight), from our tensors of a network; NaN where we have none."""
        flat = np.full(sum(int(np.prod(s)) for s in self.shapes.values()) + 1, np.nan)
        for name, index in self.places[network].items():
            if name in ours and index.dtype == torch.float64:
                flat[index.to(torch.int64).numpy().ravel()] = ours[name].detach().double().numpy().ravel()
        letter = {"generator": "G", "discriminator": "D"}[network]
        found = {}
        for name, shape in self.shapes.items():
            if name.startswith(letter):
                values = flat[self.starts[name] : self.starts[name] + int(np.prod(shape))].reshape(shape)
                if not np.isnan(values).any():
                    found[name] = values
        return found


@dataclass(frozen=True)
class Turn:
    """The recorded inputs of one update, and the groups that its gradients and its weights are compared with."""

    latents: str
    #: classes of the fakes; empty: those of the reals
    labels: str = ""
    #: reals and their classes, of a turn that looks at reals
    reals: str = ""
    classes: str = ""
    shares: str = ""
    group: str = ""
    after: str = ""


class PublishedReplay:
    """A game of a published fixture, trained on its recorded inputs; `mistake` changes the game before the first step.

    `options` are those of the architecture that do not follow from the shapes of the weights.
    """

    def __init__(
        self,
        fixture: Published,
        architecture: type[ganzoo.Architecture],
        changes: Mapping[str, Any],
        parts: Mapping[str, type],
        dtype: torch.dtype,
        mistake: Callable[[Game], None] = lambda game: None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.fixture, self.dtype = fixture, dtype
        self.weights, self.inputs = fixture.draw("weights"), fixture.draw("inputs")
        #: vectors of layers whose weights have no name of their own for it: those that the program's numbers have
        self._vector_names = {
            key.partition(":")[2].partition("#")[0] for key in fixture.numbers if key.startswith("after0:")
        }
        self.weights |= self._vectors(self.weights)
        self.mapping = Mapping64(architecture, self.weights)
        merged: dict[str, Any] = {}
        images: dict[str, int] = {}
        for found in self.mapping.weights:
            merged, images = merged | dict(found.options), images | dict(found.images)
        self.images = ganzoo.ImageSpec(**images)
        self.architecture = architecture(**{**merged, **(options or {})})
        self.parts = parts
        self.queue: list[Tensor] = []
        with default_dtype(dtype):
            self.game = self._game(type(self.architecture).recipe.merged(changes))
        self.set_weights(self.weights)
        if dtype == torch.float64:  # the engine keeps learning rates in float32, 1e-8 off
            for player in self.game.players.values():
                for group in player.optimizer.param_groups:
                    group["lr"] = player.component.lr
        mistake(self.game)
        #: errors relative to the largest number of their group, by the name of the group
        self.errors: dict[str, float] = {}

    def _vectors(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The exact singular vectors, under the official names of those that the weights do not hold."""
        found: dict[str, np.ndarray] = {}
        for name, value in weights.items():
            if name.endswith("weight_orig"):
                found[name.replace("_orig", "_u")], found[name.replace("_orig", "_v")] = exact_vectors(value)
            elif (vector := name.removesuffix("weight") + "u0") in self._vector_names:
                found[vector] = exact_vectors(value)[0][None]
            elif (vector := name.removesuffix("W") + "u") in self._vector_names:
                # the program in Chainer keeps u alone
                left, right = exact_vectors(value)
                found |= {vector: left[None], name.removesuffix("W") + "v": right[None]}
        return found

    def _part(self, choice: ganzoo.Choice) -> Any:
        return self.parts[choice.name](**resolve(self.parts[choice.name], choice.options, choice.name))

    def _game(self, recipe: ganzoo.Recipe) -> Game:
        replay = self

        class Recorded(ganzoo.Architecture):
            def networks(self, images: ganzoo.ImageSpec) -> tuple[nn.Module, nn.Module]:
                return replay.architecture.networks(images)

            def latents(self, count: int, generator: torch.Generator) -> Tensor:
                return replay.queue.pop(0)

        assert recipe.discriminator_optimizer is not None
        return Game(
            Recorded(),
            self.images,
            [self._part(loss) for loss in recipe.losses],
            [],
            self._part(recipe.generator_optimizer),
            self._part(recipe.discriminator_optimizer),
            recipe,
            torch.device("cpu"),
        )

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.game.generator, "discriminator": self.game.discriminator}

    @torch.no_grad()
    def set_weights(self, official: Mapping[str, np.ndarray]) -> None:
        """Copy official weights into our networks, all of them."""
        for name, network in self.networks.items():
            ours = {
                key: torch.from_numpy(np.asarray(value)) for key, value in self.mapping.ours(name, official).items()
            }
            network.load_state_dict(ours)

    def tensor(self, name: str) -> Tensor:
        """An input of the fixture; floats in the precision of the replay."""
        values = torch.from_numpy(self.inputs[name])
        return values.to(self.dtype) if values.is_floating_point() else values

    def labels(self, name: str, count: int) -> Tensor:
        """The classes of an input; zeros where the fixture has none or the networks have no classes."""
        known = name in self.inputs and self.images.classes > 1
        return self.tensor(name) if known else torch.zeros(count, dtype=torch.int64)

    def latents(self, name: str) -> Tensor:
        """Latents of the fixture, (N, Z)."""
        return self.tensor(name).flatten(1)

    def batch(self, reals: str, labels: str) -> Batch:
        """A minibatch of the fixture."""
        images = self.tensor(reals)
        return Batch(images, self.labels(labels, len(images)))

    # --- comparing ----------------------------------------------------------------------------------------------

    def compare(self, group: str, found: Mapping[str, np.ndarray]) -> None:
        """Compare tensors with the recorded ones of these names; the error is relative to the group's largest."""
        golden = {name: self.fixture.numbers.get(name, self.fixture.numbers.get(f"{name}#samples")) for name in found}
        assert all(value is not None for value in golden.values()), [n for n, v in golden.items() if v is None]
        cancelled = self.fixture.manifest["cancelled"]["parameters"] if self.dtype == torch.float32 else ()
        kept = [name for name in found if not any(name.endswith(end) for end in cancelled)]
        largest = max(float(np.abs(golden[name]).max()) for name in kept)
        for name in kept:
            values = found[name].astype(np.float64)
            if name not in self.fixture.numbers:
                values = samples(values)
            assert values.shape == golden[name].shape, (name, values.shape, golden[name].shape)
            error = float(np.abs(values - golden[name]).max()) / largest
            self.errors[group] = max(error if error == error else math.inf, self.errors.get(group, 0.0))  # noqa: PLR0124

    @torch.no_grad()
    def compare_outputs(self) -> None:
        """The images and logits before the first step, in inference and in training mode, and moving statistics."""
        game = self.game
        kept = {name: {k: v.clone() for k, v in net.state_dict().items()} for name, net in self.networks.items()}
        latents, reals = self.latents("z_fixed"), self.tensor("x_fixed")
        labels = self.labels("y_fixed", len(latents))
        fakes = game.generator.eval()(latents, labels)
        first = self.fixture.numbers["g_infer"].shape[0]
        self.compare("g_infer", {"g_infer": fakes[:first].numpy()})
        self.compare("g_infer_all", {"g_infer_all": fakes.numpy()})
        game.discriminator.eval()
        found = {"d_logit_x": game.discriminator(reals, labels), "d_logit_g": game.discriminator(fakes, labels)}
        for name, logits in found.items():
            if name in self.fixture.numbers or f"{name}#samples" in self.fixture.numbers:
                self.compare(name, {name: logits.numpy().reshape(self._shape(name, logits))})
        trained = game.generator.train()(latents, labels)
        if "g_train" in self.fixture.numbers:
            self.compare("g_train", {"g_train": trained[: self.fixture.numbers["g_train"].shape[0]].numpy()})
        self.compare("g_train_all", {"g_train_all": trained.numpy()})
        moved = {
            f"bn_after_train_forward/{name}": value
            for name, value in self.mapping.official("generator", game.generator.state_dict()).items()
            if any(word in name for word in ("running_", "stored_", "avg_"))
        }
        self.compare("bn_after_train_forward", moved)
        for name, network in self.networks.items():
            network.load_state_dict(kept[name])
            network.train()

    def _shape(self, name: str, logits: Tensor) -> tuple[int, ...]:
        golden = self.fixture.numbers.get(name)
        return golden.shape if golden is not None else tuple(logits.shape)

    def gradients(self, game_turn: str, gradients: Mapping[str, Tensor]) -> None:
        """Compare gradients of a network ("generator", ...) by our names with the group `game_turn`."""
        network = "generator" if game_turn.partition(":")[2].startswith("G") else "discriminator"
        found = self.mapping.official(network, gradients)
        self.compare(game_turn, {self._name(game_turn, name): value for name, value in found.items()})

    def state(self, group: str, network: str, skipped: tuple[str, ...] = ()) -> None:
        """Compare the weights and buffers of a network, or of the average, with the group, such as after0:G."""
        module = self.game.ema.network if network == "average" else self.networks[network]
        official = self.mapping.official("generator" if network == "average" else network, module.state_dict())
        found = {self._name(group, name): value for name, value in official.items()}
        known = {name for key in self.fixture.numbers for name in [key.partition("#")[0]]}
        self.compare(group, {n: v for n, v in found.items() if n in known and not n.endswith(skipped)})

    # --- training -----------------------------------------------------------------------------------------------

    def train_first_step(self, turns: Sequence[Turn]) -> None:
        """One step of the engine: its rounds take the inputs of `turns` in place of drawn ones, and are compared."""
        waiting, updates = list(turns), [turn for turn in turns if turn.group]
        game, seen = self.game, {}

        def round_of(turn: Any, batch: Batch, reused: Round | None = None) -> Round:
            mine = waiting.pop(0)
            self.queue[:] = [self.latents(mine.latents)]
            base = Game.round(game, turn, batch, reused)
            labels = self.labels(mine.labels, len(batch.reals)) if mine.labels else batch.labels

            return Round(
                *(batch.reals, batch.labels, base.latents, base._generate, game.discriminate, base.sides),
                joint=base.joint,
                fake_labels=labels,
            )

        def record(player: Any) -> None:
            update = updates.pop(0)
            if not any(name.startswith(f"{update.group}/") for name in self.fixture.numbers):
                return
            names = {name.partition(".")[2]: p.grad for name, p in zip(player.names, player.parameters, strict=True)}
            if update.group not in seen:
                seen[update.group] = True
                self.gradients(update.group, names)
                if update.after:
                    self.state(update.after, player.role, ("sv0", "_u", "_v"))

        hooks = [p.optimizer.register_step_post_hook(lambda *_, p=p: record(p)) for p in game.players.values()]
        shares = [self.tensor(turn.shares)[:, :, None, None] for turn in turns if turn.shares]
        batches = [self.batch(turn.reals, turn.classes) for turn in turns if turn.reals]
        drawn = torch.rand
        game.round = round_of  # type: ignore[method-assign]
        torch.rand = lambda *_, **__: shares.pop(0)  # type: ignore[assignment]
        try:
            with default_dtype(self.dtype):
                train_step(game, batches)
        finally:
            torch.rand = drawn
            for hook in hooks:
                hook.remove()
        assert not waiting
        assert not shares

    def losses(self, skipped: tuple[str, ...] = ()) -> None:
        """Compare the mean losses of the step with those of the manifest's table."""
        means, table = self.game.running_means.read(), self.fixture.manifest["table_float64"]
        rows = [row for row in table if row["step"] == 0]
        found: dict[str, list[float]] = {"discriminator_loss": [], "generator_loss": []}
        for row in rows:
            parts = [value for key, value in row.items() if key.startswith(("errD", "D_loss", "loss_dis"))]
            found["discriminator_loss"] += [sum(parts)] if parts else []
            found["generator_loss"] += [v for key, v in row.items() if key.startswith(("errG", "G_loss", "loss_gen"))]
        for name, values in found.items():
            if name in skipped:
                continue
            expected = sum(values) / len(values)
            self.errors[f"loss/{name}"] = abs(means[name] - expected) / max(1.0, abs(expected))

    @staticmethod
    def _name(group: str, name: str) -> str:
        return f"{group}/{name.partition('/')[2]}"


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build networks and draw random numbers with this default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def samples(values: np.ndarray) -> np.ndarray:
    """64 entries of a tensor, evenly spread; all where it has fewer."""
    flat = np.asarray(values).ravel()
    return flat[np.unique(np.round(np.linspace(0, flat.size - 1, 64)).astype(int))]
