"""Checks of an architecture's networks, one at a time. How they play is in `games`."""

from __future__ import annotations

import copy
import logging

import safetensors.torch
import torch
from torch import Tensor, nn

from ganzoo.contract.errors import RefusedSpec
from ganzoo.storage.tensors import tensors_to_bytes
from ganzoo.testing.kit import (
    USUAL,
    ExaminedPart,
    Failed,
    call,
    labels_for,
    reals_for,
    require,
    same,
    sentence,
    state_of,
)
from ganzoo.testing.process import random_state

ROLES = ("generator", "discriminator")


def _pair(part: ExaminedPart, seed: int = 0) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """(role, network, its inputs, labels) of both networks, for four images."""
    images, networks = part.spec, part.networks(seed)
    inputs = (part.latents(4), reals_for(part.component, images, 4))
    return [(*known, labels_for(images, 4)) for known in zip(ROLES, networks, inputs, strict=True)]


def shapes_are_as_asked(part: ExaminedPart) -> None:
    """At several sizes images are (N, C, H, W), logits (N, ...), both float32; what is not served is refused."""
    served = False
    for images in USUAL:
        try:
            generator, discriminator = part.networks(images=images)
        except RefusedSpec as refusal:
            sentence(refusal)
            continue
        served = True
        for count in (2, 3):
            labels = labels_for(images, count)
            fakes = call(generator, part.latents(count), labels, training=True)
            expected = (count, images.channels, images.height, images.width)
            require(fakes.shape == expected, f"For {images} the generator draws {tuple(fakes.shape)}, not {expected}.")
            logits = call(discriminator, reals_for(part.component, images, count), labels, training=True)
            told = f"For {count} images of {images} the discriminator gives logits of shape {tuple(logits.shape)}."
            require(logits.ndim and len(logits) == count, told)
            for what, values in (("images", fakes), ("logits", logits)):
                require(values.dtype == torch.float32, f"The {what} are {values.dtype}, not float32.")
    require(served, f"It refuses all of {', '.join(map(str, USUAL))}: an architecture serves at least one of them.")


def images_keep_their_range(part: ExaminedPart) -> None:
    """Generated images stay in `value_range`, in training and inference mode, also at latents 1000 times as large."""
    low, high = part.component.value_range
    slack = 1e-4 * (high - low)
    _, generator, latents, labels = _pair(part)[0]
    for factor in (1, 1000):
        for training in (True, False):
            fakes = call(generator, latents * factor, labels, training=training)
            found = (float(fakes.min()), float(fakes.max()))
            inside = low - slack <= found[0] and found[1] <= high + slack
            require(inside, f"Images span {found} at {factor} x latents; value_range is {(low, high)}.")


def one_seed_one_model(part: ExaminedPart) -> None:
    """The global random state decides the initial weights: one seed gives one model, two seeds give two."""
    for role, first, again, other in zip(ROLES, part.networks(0), part.networks(0), part.networks(1), strict=True):
        require(same(state_of(first), state_of(again)), f"One seed gives two different {role}s.")
        require(not same(state_of(first), state_of(other)), f"Two seeds give the same {role}.")


def latents_come_from_their_generator(part: ExaminedPart) -> None:
    """Latents (count, Z) depend on the given generator alone, and leave the global random state as it is."""
    before = random_state()
    first, again, other = part.latents(16), part.latents(16), part.latents(16, seed=1)
    require(first.ndim == 2 and len(first) == 16, f"16 latents have shape {tuple(first.shape)}, not (16, Z).")
    require(first.dtype == torch.float32, f"Latents are {first.dtype}, not float32.")
    require(torch.equal(first, again), "One seed of the generator gives different latents.")
    require(not torch.equal(first, other), "Latents do not depend on the generator they are given.")
    require(len(torch.unique(first, dim=0)) == 16, "Some of 16 latents are the same.")
    require(random_state() == before, "Drawing latents uses the global random state; use the generator given.")


def inference_is_deterministic(part: ExaminedPart) -> None:
    """In inference mode the same inputs give the same images and logits, whatever the random state."""
    for role, network, values, labels in _pair(part):
        answers = [call(network, values, labels, seed=seed) for seed in (0, 0, 1)]
        require(torch.equal(answers[0], answers[1]), f"The {role} answers otherwise the second time.")
        require(torch.equal(answers[0], answers[2]), f"The {role} draws at random in inference mode.")


def images_are_made_one_by_one(part: ExaminedPart) -> None:
    """In inference mode an image or a logit does not depend on what else is in the batch."""
    for role, network, values, labels in _pair(part):
        others = torch.cat([values[:2], 0.5 * values[2:].flip(0)])
        alike = torch.allclose(call(network, values, labels)[:2], call(network, others, labels)[:2], atol=1e-5)
        require(alike, f"The {role}'s answer depends on the rest of the batch.")


def inputs_are_left_alone(part: ExaminedPart) -> None:
    """Neither network changes the latents, images or labels it is given."""
    for role, network, values, labels in _pair(part):
        for training in (True, False):
            network.train(training)
            given = values.clone(), labels.clone()
            with torch.no_grad():
                network(*given)
            kept = torch.equal(given[0], values) and torch.equal(given[1], labels)
            require(kept, f"The {role} changes its inputs in place.")


def weights_survive_saving(part: ExaminedPart) -> None:
    """Weights go through safetensors into a network of another seed, strictly, and it then answers the same."""
    for (role, network, values, labels), other in zip(_pair(part), part.networks(1), strict=True):
        call(network, values, labels, training=True)  # moving statistics and the like have moved
        saved = safetensors.torch.load(tensors_to_bytes(network.state_dict()))
        other.load_state_dict(saved)
        alike = torch.equal(call(network, values, labels), call(other, values, labels))
        require(alike, f"The {role} keeps something beside its parameters and buffers: a saved one answers otherwise.")


def copies_stand_alone(part: ExaminedPart) -> None:
    """A deep copy, as the moving average makes one, answers the same and does not follow the original."""
    for role, network, values, labels in _pair(part):
        before = call(network, values, labels)
        copied = copy.deepcopy(network)
        require(torch.equal(call(copied, values, labels), before), f"A deep copy of the {role} answers otherwise.")
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.5)
        alike = torch.equal(call(copied, values, labels), before)
        require(alike, f"A deep copy of the {role} follows the original: something in it still points there.")


def labels_matter_as_declared(part: ExaminedPart) -> None:
    """With `conditional = True` images depend on their labels; with False neither network looks at them."""
    for role, network, values, _ in _pair(part):
        torch.manual_seed(0)
        with torch.no_grad():  # conditional layers may start at zero
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        zeros = torch.zeros(4, dtype=torch.int64)
        alike = torch.equal(call(network, values, zeros), call(network, values, zeros + 1))
        if not part.component.conditional:
            require(alike, f"It says conditional = False, and its {role} uses the labels.")
        elif role == "generator":
            require(not alike, "It says conditional = True, and its images do not depend on the labels.")


def logits_are_no_probabilities(part: ExaminedPart) -> None:
    """Logits are unbounded: for images far out of range some lie outside 0..1, so no sigmoid ends the discriminator."""
    reached = []
    for seed in range(3):
        _, network, images, labels = _pair(part, seed)[1]
        reached += [call(network, images * factor, labels, training=True) for factor in (1.0, 1000.0, -1000.0)]
    logits = torch.cat([answer.flatten() for answer in reached])
    require(logits.isfinite().all(), "Logits of images far out of range are not finite.")
    outside = (logits < 0).any() or (logits > 1).any()
    require(outside, "All logits lie in 0..1: the losses want what comes before the sigmoid.")


def runs_on_any_device(part: ExaminedPart) -> None:
    """Moved to another device (`meta`, which every machine has) both networks run: no tensor stays behind."""
    for role, network, values, labels in _pair(part):
        network.to("meta")
        for training in (True, False):
            network.train(training)
            try:
                answer = network(values.to("meta"), labels.to("meta"))
            except Exception as error:
                words = str(error).strip().partition("\n")[0]
                told = (
                    f"On another device the {role} fails ({words[:150]}): register tensors as buffers, read no values."
                )
                raise Failed(told) from error
            require(answer.device.type == "meta", f"The {role} moved to another device answers on {answer.device}.")


def compiles_without_a_break(part: ExaminedPart) -> None:
    """`torch.compile(backend="eager", fullgraph=True)` takes both networks: no `.item()`, no branch on values."""
    for role, network, values, labels in _pair(part):
        torch._dynamo.reset()
        network.train()
        silent, logging.root.manager.disable = logging.root.manager.disable, logging.CRITICAL  # it tells every guard
        try:
            torch.compile(network, backend="eager", fullgraph=True)(values, labels)
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            told = f"The {role} cannot be recorded whole: {' '.join(lines[:2])[:200]}"
            raise Failed(told) from error
        finally:
            logging.root.manager.disable = silent
            torch._dynamo.reset()


CHECKS = (
    shapes_are_as_asked,
    images_keep_their_range,
    one_seed_one_model,
    latents_come_from_their_generator,
    inference_is_deterministic,
    images_are_made_one_by_one,
    inputs_are_left_alone,
    weights_survive_saving,
    copies_stand_alone,
    labels_matter_as_declared,
    logits_are_no_probabilities,
    runs_on_any_device,
    compiles_without_a_break,
)
