"""Games trained by one process, or by two with half a batch each, and a part that fails on one rank only."""

from __future__ import annotations

import os
from pathlib import Path

import kills
import tiny
import torch
from torch import Tensor
from torch.nn import functional as F

import ganzoo
from ganzoo import Choice
from ganzoo.engine import distributed
from ganzoo.engine.step import run_step
from ganzoo.engine.sync_batch_norm import sync_batch_norm
from ganzoo.registry.recipes import plan
from ganzoo.training.build import build_setup

STEPS = 2
#: architecture -> options that make it small and switch dropout off, because each process draws other dropout masks
SMALL = {
    "began": "width=4,embedding=8,latent_dim=8",
    "cgan": "dropout=0",
    "dcgan": "width=4",
    "dcgan-atienza": "dropout=0,width=4",
    "dcgan-atienza-book": "width=4",
    "dcgan-pytorch": "width=4",
    "dcgan-tutorial": "dropout=0,width=4",
    "infogan-nets": "width=4,units=16",
    "mlp-keras-gan": "width=8",
    "mlp-vanilla": "width=8",
    "r3gan": "width=8,blocks=1",
    "biggan": "width=2",
    "sngan": "width=4",
    "stylegan2": "channel_base=64,latent_dim=8,style_dim=8,mapping_layers=2,noise=constant,style_mixing=0,group=1",
    "sngan-projection": "width=4",
    "wgan-gp": "width=4",
}
#: name -> architecture and changes of its recipe, for cases that no published recipe covers
MORE = {
    "a penalty through batch norm": ("dcgan", {"losses": ["nonsaturating", "r1", "gradient-penalty"]}),
    "pairs through batch norm": ("dcgan", {"losses": ["relativistic", "r1", "r2"], "turns": "D,D,G"}),
    "fakes in inference": ("dcgan", {"generator_mode_for_discriminator": "inference", "turns": "D,D,G"}),
    "both at once": ("mlp-keras-gan", {"turns": "D+G", "ema_half_life": 100}),
    "one optimiser": ("mlp-keras-gan", {"turns": "D.reals,D.fakes,GD", "discriminator_optimizer": None}),
    "accumulated": ("mlp-vanilla", {"accumulate": 2, "losses": ["nonsaturating", "r1"], "fake_labels": "uniform"}),
    "the largest logits": ("mlp-vanilla", {"losses": ["hinge:top_k=0.4", "lecam"]}),
    "one image each": ("mlp-keras-gan", {"batch_size": 2}),
}
#: architecture -> changes of its recipe: the path length looks at the first half of a batch, and two processes have two
CHANGES: dict[str, dict[str, object]] = {"stylegan2": {"losses": ["nonsaturating", "r1:gamma=1"], "turns": "G,D"}}
GAMES: dict[str, tuple[str, dict[str, object]]] = {name: (name, CHANGES.get(name, {})) for name in SMALL} | MORE


def train_all(file: Path) -> None:
    """Train all games in float64, and save the state of each in `file`."""
    torch.set_default_dtype(torch.float64)
    # path length draws its directions in each process, a gradient penalty its interpolation factors
    torch.randn_like = torch.ones_like
    torch.rand_like = lambda values: torch.full_like(values, 0.5)  # noise of dequantised reals
    drawn = torch.rand
    torch.rand = lambda *size, **more: drawn(*size, **more) if "generator" in more else torch.full(size, 0.5, **more)  # type: ignore[assignment]
    distributed.init_process_group(kills.CPU)
    states = {name: _trained(*game) for name, game in GAMES.items()}
    torch.save({**states, "batch norm": _normalised()}, file)


def _trained(architecture: str, changes: dict[str, object]) -> dict[str, Tensor]:
    choice, dataset = Choice.parse(f"{architecture}:{SMALL[architecture]}"), Choice("digits", {"size": 16})
    recipe = plan(kills.ZOO, choice, dataset, None, {"batch_size": 8, "batch_order": "stream", **changes})
    setup = build_setup(recipe, kills.ZOO, kills.CPU)
    for step in range(STEPS):
        run_step(setup.game, setup.feed, recipe.seed, step)
    return {name: value.detach().clone() for name, value in setup.game.state().items()}


def _normalised() -> dict[str, Tensor]:
    """Batch norm alone, of values far from 0: outputs, statistics, first and second derivatives of all images."""
    random = torch.Generator().manual_seed(0)
    whole = 100 + torch.randn(8, 3, 2, 2, generator=random)
    share = len(whole) // distributed.world_size()
    mine = whole[distributed.rank() * share :][:share].requires_grad_()
    mean, variance, weight, bias = torch.zeros(3), torch.ones(3), torch.full((3,), 2.0), torch.ones(3)
    with sync_batch_norm():
        by_function = F.batch_norm(mine, mean, variance, weight, bias, training=True, momentum=0.25, eps=1e-3)
        by_layer = torch.nn.BatchNorm2d(3, track_running_stats=False, affine=False)(mine)
        by_moving = F.batch_norm(mine, mean, variance)
        half = F.batch_norm(mine.bfloat16(), None, None, training=True)
        (first,) = torch.autograd.grad(by_function.pow(3).sum(), mine, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), mine)
    assert half.dtype == torch.bfloat16
    values = {"function": by_function, "layer": by_layer, "moving": by_moving, "first": first, "second": second}
    gathered = {name: distributed.all_gather(value.detach()).flatten(0, 1) for name, value in values.items()}
    return {**gathered, "mean": mean, "variance": variance}


class Refusing(tiny.Tiny):
    """Fails on the process whose rank is GANZOO_TEST_REFUSES."""

    def __init__(self, *, width: int = 6) -> None:
        super().__init__(width=width, dropout=0)
        if os.environ.get("GANZOO_TEST_REFUSES") == os.environ.get("RANK"):
            raise ganzoo.GanzooError("There is no room for it here.")


class Centred(tiny.Tiny):
    """Subtracts the mean of the latents of its own process, which is not batch norm."""

    class generator(tiny.Generator):
        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            if self.training:
                latents = latents - latents.mean(0)
            return super().forward(latents, labels)

    def networks(self, images: ganzoo.ImageSpec) -> tuple[torch.nn.Module, torch.nn.Module]:
        _, discriminator = super().networks(images)
        return self.generator(images, self.width, self.norm, 0), discriminator
