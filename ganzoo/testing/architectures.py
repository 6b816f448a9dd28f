"""Checks of an architecture's networks, one at a time. Checks of their training are in `training_checks`."""

from __future__ import annotations

import copy
import logging
import warnings

import safetensors.torch
import torch
from torch import Tensor, nn

from ganzoo.contract.errors import RefusedSpec
from ganzoo.storage.tensors import tensors_to_bytes
from ganzoo.testing.kit import (
    USUAL_IMAGES,
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


def _both(part: ExaminedPart, seed: int = 0) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """(role, network, inputs, labels) of both networks, for four images."""
    images, networks = part.spec, part.networks(seed)
    inputs = (part.latents(4), reals_for(part.component, images, 4))
    return [(*row, labels_for(images, 4)) for row in zip(ROLES, networks, inputs, strict=True)]


def shapes_are_as_asked(part: ExaminedPart) -> None:
    """At several sizes images are (N, C, H, W), logits (N, ...), both float32; other sizes raise RefusedSpec."""
    accepted = False
    for images in USUAL_IMAGES:
        try:
            generator, discriminator = part.networks(images=images)
        except RefusedSpec as refusal:
            sentence(refusal)
            continue
        accepted = True
        for count in (2, 3):
            labels = labels_for(images, count)
            fakes = call(generator, part.latents(count), labels, training=True)
            expected = (count, images.channels, images.height, images.width)
            require(
                fakes.shape == expected, f"For {images} the generator returns {tuple(fakes.shape)}, not {expected}."
            )
            logits = call(discriminator, reals_for(part.component, images, count), labels, training=True)
            problem = f"For {count} images of {images} the discriminator returns logits of shape {tuple(logits.shape)}."
            require(logits.ndim and len(logits) == count, problem)
            for what, values in (("images", fakes), ("logits", logits)):
                require(values.dtype == torch.float32, f"The {what} are {values.dtype}, not float32.")
    require(
        accepted,
        f"It refuses all of {', '.join(map(str, USUAL_IMAGES))}: an architecture accepts at least one of them.",
    )


def images_keep_their_range(part: ExaminedPart) -> None:
    """Unless `bounded` is False, images stay in `value_range` in both modes, also at latents 1000 times as large."""
    if not part.component.bounded:
        return
    low, high = part.component.value_range
    slack = 1e-4 * (high - low)
    _, generator, latents, labels = _both(part)[0]
    for factor in (1, 1000):
        for training in (True, False):
            fakes = call(generator, latents * factor, labels, training=training)
            found = (float(fakes.min()), float(fakes.max()))
            inside = low - slack <= found[0] and found[1] <= high + slack
            require(inside, f"Images span {found} at {factor} x latents; value_range is {(low, high)}.")


def same_seed_same_weights(part: ExaminedPart) -> None:
    """Initial weights depend on the global random state: the same seed gives the same weights, another seed others."""
    for role, first, again, other in zip(ROLES, part.networks(0), part.networks(0), part.networks(1), strict=True):
        require(same(state_of(first), state_of(again)), f"The same seed gives two different {role}s.")
        require(not same(state_of(first), state_of(other)), f"Two seeds give the same {role}.")


def latents_come_from_their_generator(part: ExaminedPart) -> None:
    """Latents (count, Z) are drawn from the given generator alone; the global random state does not change."""
    before = random_state()
    first, again, other = part.latents(16), part.latents(16), part.latents(16, seed=1)
    require(first.ndim == 2 and len(first) == 16, f"16 latents have shape {tuple(first.shape)}, not (16, Z).")
    require(first.dtype == torch.float32, f"Latents are {first.dtype}, not float32.")
    require(torch.equal(first, again), "The same seed of the generator gives different latents.")
    require(not torch.equal(first, other), "Latents do not depend on the generator they are given.")
    require(len(torch.unique(first, dim=0)) == 16, "Some of 16 latents are the same.")
    require(random_state() == before, "Drawing latents uses the global random state; use the generator given.")


def inference_is_deterministic(part: ExaminedPart) -> None:
    """In inference mode the same inputs give the same images and logits under any random state."""
    for role, network, values, labels in _both(part):
        outputs = [call(network, values, labels, seed=seed) for seed in (0, 0, 1)]
        require(torch.equal(outputs[0], outputs[1]), f"The {role} returns something else the second time.")
        require(torch.equal(outputs[0], outputs[2]), f"The {role} uses random numbers in inference mode.")


def images_do_not_depend_on_the_batch(part: ExaminedPart) -> None:
    """In inference mode an image or a logit does not depend on the rest of its batch."""
    for role, network, values, labels in _both(part):
        others = torch.cat([values[:2], 0.5 * values[2:].flip(0)])
        alike = torch.allclose(call(network, values, labels)[:2], call(network, others, labels)[:2], atol=1e-5)
        require(alike, f"The {role}'s output depends on the rest of the batch.")


def inputs_are_left_alone(part: ExaminedPart) -> None:
    """Neither network changes the latents, images or labels it is given."""
    for role, network, values, labels in _both(part):
        for training in (True, False):
            network.train(training)
            given = values.clone(), labels.clone()
            with torch.no_grad():
                network(*given)
            kept = torch.equal(given[0], values) and torch.equal(given[1], labels)
            require(kept, f"The {role} changes its inputs in place.")


def weights_survive_saving(part: ExaminedPart) -> None:
    """Weights saved with safetensors load strictly into a network of another seed, which then computes the same."""
    for (role, network, values, labels), other in zip(_both(part), part.networks(1), strict=True):
        call(network, values, labels, training=True)  # updates the moving statistics of batch norm
        saved = safetensors.torch.load(tensors_to_bytes(network.state_dict()))
        other.load_state_dict(saved)
        alike = torch.equal(call(network, values, labels), call(other, values, labels))
        require(
            alike,
            f"The {role} has state outside its parameters and buffers: loaded from a file it computes something else.",
        )


def copies_are_independent(part: ExaminedPart) -> None:
    """A deep copy, which the EMA is, computes the same and does not change when the original changes."""
    for role, network, values, labels in _both(part):
        before = call(network, values, labels)
        copied = copy.deepcopy(network)
        require(
            torch.equal(call(copied, values, labels), before), f"A deep copy of the {role} computes something else."
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.5)
        alike = torch.equal(call(copied, values, labels), before)
        require(alike, f"A deep copy of the {role} changes with the original: something in it refers to the original.")


def labels_matter_as_declared(part: ExaminedPart) -> None:
    """With `conditional = True` images depend on their labels; with False neither network uses the labels."""
    for role, network, values, _ in _both(part):
        torch.manual_seed(0)
        with torch.no_grad():  # changed, because conditional layers may start at zero
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        zeros = torch.zeros(4, dtype=torch.int64)
        alike = torch.equal(call(network, values, zeros), call(network, values, zeros + 1))
        if not part.build().conditional:
            require(alike, f"It declares conditional = False, but its {role} uses the labels.")
        elif role == "generator":
            require(not alike, "It declares conditional = True, but its images do not depend on the labels.")


def logits_are_not_probabilities(part: ExaminedPart) -> None:
    """Logits are unbounded: the discriminator has no sigmoid at its end, which would keep all of them within 0..1."""
    outputs = []
    for seed in range(3):
        _, network, images, labels = _both(part, seed)[1]
        outputs += [call(network, images * factor, labels, training=True) for factor in (1.0, 1000.0, -1000.0)]
    logits = torch.cat([output.flatten() for output in outputs])
    require(logits.isfinite().all(), "Logits of images far out of range are not finite.")
    outside = (logits < 0).any() or (logits > 1).any()
    require(outside, "All logits lie in 0..1: return the values before the sigmoid, which the losses expect.")


def runs_on_any_device(part: ExaminedPart) -> None:
    """Both networks run on another device (`meta`, which every machine has): no tensor stays on the old one."""
    for role, network, values, labels in _both(part):
        network.to("meta")
        for training in (True, False):
            network.train(training)
            try:
                output = network(values.to("meta"), labels.to("meta"))
            except Exception as error:
                words = str(error).strip().partition("\n")[0][:150]
                advice = "register tensors as buffers, and read no values"
                raise Failed(f"On another device the {role} fails ({words}): {advice}.") from error
            device = output.device
            require(device.type == "meta", f"The {role}, moved to another device, returns a tensor on {device}.")


def compiles_without_a_break(part: ExaminedPart) -> None:
    """`torch.compile(backend="eager", fullgraph=True)` compiles both networks: no `.item()`, no branch on values."""
    for role, network, values, labels in _both(part):
        torch._dynamo.reset()
        network.train()
        # torch.compile logs every guard
        disabled, logging.root.manager.disable = logging.root.manager.disable, logging.CRITICAL
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a warning, of the compiler or of the part, is no graph break
                torch.compile(network, backend="eager", fullgraph=True)(values, labels)
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            problem = " ".join(lines[:2])[:200]
            raise Failed(f"The {role} cannot be compiled as one graph: {problem}") from error
        finally:
            logging.root.manager.disable = disabled
            torch._dynamo.reset()


CHECKS = (
    shapes_are_as_asked,
    images_keep_their_range,
    same_seed_same_weights,
    latents_come_from_their_generator,
    inference_is_deterministic,
    images_do_not_depend_on_the_batch,
    inputs_are_left_alone,
    weights_survive_saving,
    copies_are_independent,
    labels_matter_as_declared,
    logits_are_not_probabilities,
    runs_on_any_device,
    compiles_without_a_break,
)
