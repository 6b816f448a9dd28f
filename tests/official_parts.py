"""Losses, schedules and averages against the recorded numbers of official programs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from helpers import ZOO
from official_numbers import read_manifest
from torch import Tensor, nn

from ganzoo import Choice, Round
from ganzoo.contract.schedule import Schedule
from ganzoo.engine.ema import EMA

#: our loss -> the name of the recorded one: those of StudioGAN, and that of R3GAN
LOSSES = {
    "nonsaturating": "studiogan {}_vanilla",
    "least-squares": "studiogan {}_ls",
    "hinge": "studiogan {}_hinge",
    "wasserstein": "studiogan {}_wasserstein",
    "relativistic": "r3gan {}",
}


def loss_errors(name: str, dtype: torch.dtype) -> dict[str, float]:
    """Errors of both losses of a name, and of their gradients to the logits, relative to the largest number."""
    golden, found = read_manifest("losses"), {}
    loss = ZOO.build("losses", Choice(name))
    for role in ("discriminator", "generator"):
        expected = golden["losses"][LOSSES[name].format(role if name == "relativistic" else role[0])]
        reals, fakes = (torch.tensor(golden[key], dtype=dtype, requires_grad=True) for key in ("d_real", "d_fake"))
        images, labels = torch.zeros(len(reals), 1, 1, 1, dtype=dtype), torch.zeros(len(reals), dtype=torch.int64)
        logits = [fakes, reals]  # reals are looked at first
        round = Round(images, labels, images, lambda latents, _: latents + 1, lambda _, __, left=logits: left.pop())
        assert round.real_logits is reals
        assert round.fake_logits is fakes
        value = getattr(loss, role)(round)
        gradients = torch.autograd.grad(value, (reals, fakes), materialize_grads=True)
        found[f"loss/{role}"] = abs(float(value.detach()) / expected["value"] - 1)
        for side, gradient in zip(("real", "fake"), gradients, strict=True):
            if side == "real" and role == "generator":
                continue  # the reals do not depend on the generator
            recorded = torch.tensor(expected[f"grad_{side}"], dtype=torch.float64)
            error = (gradient.to(torch.float64) - recorded).abs().max() / recorded.abs().max()
            found[f"grad0:{role}/{side}"] = float(error)
    return found


def schedule_errors(preset: str, dtype: torch.dtype) -> dict[str, float]:
    """Errors of the schedules of a preset of R3GAN, relative to the number; they are Python's, in float64."""
    assert dtype == torch.float64
    facts, found = read_manifest("r3gan-schedules")["presets"][preset], {}
    for name, ends in facts["schedules"].items():
        schedule = Schedule(ends["base_value"], ends["final_value"], int(ends["total_nimg"]))
        rows = [(schedule.at(row["cur_nimg"]), row[name]) for row in facts["values"]]
        found[f"schedule/{name}"] = max(abs(mine - value) / max(abs(value), 1e-300) for mine, value in rows)
    return found


# --- averages ---------------------------------------------------------------------------------------------------------


class Vector(nn.Module):
    """Five recorded weights, twice their number as a buffer, and a counter."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights.clone())
        self.register_buffer("buffer", 2 * weights)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


#: name of a recorded average -> half-life in images, ramp, and how buffers are averaged
_STYLEGAN2 = {
    "stylegan2-ada (ema_kimg 0.1, rampup 0.05, batch 8)": (100, 0.05),
    "stylegan2-ada (ema_kimg 0.1, no rampup, batch 8)": (100, 0.0),
    "stylegan2-ada (ema_kimg 0.01, rampup 0.5, batch 8)": (10, 0.5),
}


def averages(ema: EMA, network: Vector, images: int, weights: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(weights, buffers) of the EMA after each step, where the network had the recorded weights."""
    found = []
    for step, values in enumerate(weights[1:]):
        ema.advance(step * images)
        with torch.no_grad():
            network.weight.copy_(values)
            network.get_buffer("buffer").copy_(2 * values)
            network.get_buffer("count").add_(1)
        ema.update(images)
        assert ema.network.get_buffer("count") == step + 1
        found.append((ema.network.get_parameter("weight").clone(), ema.network.get_buffer("buffer").clone()))
    return found


def _error(mine: Tensor, recorded: list[float]) -> float:
    expected = torch.tensor(recorded, dtype=torch.float64)
    return float((mine.to(torch.float64) - expected).abs().max() / expected.abs().max())


def average_errors(which: str, dtype: torch.dtype) -> dict[str, float]:
    """Errors of the weights and buffers of an EMA after each step: `stylegan2` (half-life, ramp) or `biggan`."""
    golden, found = read_manifest("averages"), {}
    weights = torch.tensor(golden["weights"], dtype=torch.float64).to(dtype)
    if which == "stylegan2":
        for name, (half_life, ramp) in _STYLEGAN2.items():
            network = Vector(weights[0])
            steps = averages(EMA(network, half_life, "copied", ramp=ramp), network, 8, weights)
            pairs = zip(steps, golden[name], strict=True)
            found[f"ema/{name}"] = max(_error(weight, row["average"]) for (weight, _), row in pairs)
            assert all(torch.equal(buffer, 2 * own) for (_, buffer), own in zip(steps, weights[1:], strict=True))
        return found
    # its start counts iterations from 1, and ours the images seen before the step
    images, network = 10, Vector(weights[0])
    half_life = images * math.log(0.5) / math.log(0.9)
    steps = averages(EMA(network, half_life, "averaged", start=3 * images), network, images, weights)
    rows: list[Mapping[str, list[float]]] = golden["biggan (decay 0.9, start 4)"]
    for index, part in enumerate(("parameter", "buffer")):
        found[f"ema/{part}"] = max(_error(step[index], row[part]) for step, row in zip(steps, rows, strict=True))
    return found
