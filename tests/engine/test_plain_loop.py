"""The engine computes the same losses as a plain training loop that shares no code with it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as entropy

from ganzoo import Choice
from ganzoo.engine.step import run_step
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import zoo
from ganzoo.training.build import build_setup

STEPS, BATCH = 12, 32
RULES = {"alternating": {"turns": "D,G", "reuse_fakes": True}, "simultaneous": {"turns": "D+G"}}
ADAM = "adam:lr=1e-4,beta1=0.9,beta2=0.999,eps=1e-7"


@pytest.mark.parametrize("rule", RULES)
def test_losses_are_those_of_a_loop_by_hand(rule: str) -> None:
    """No fused optimiser, no channels_last, no uint8 tensor on the device, no lazy round: 1e-5 over 12 steps."""
    changes = {"batch_size": BATCH, "generator_optimizer": ADAM, "discriminator_optimizer": ADAM, **RULES[rule]}
    architecture, digits = Choice.parse("dcgan-tutorial:dropout=0,width=16"), Choice.parse("digits:size=28")
    setup = build_setup(plan(zoo(), architecture, digits, changes=changes), zoo(), torch.device("cpu"))
    game, feed = setup.game, setup.feed
    generator, discriminator = (
        copy.deepcopy(net).to(memory_format=torch.contiguous_format) for net in (game.generator, game.discriminator)
    )
    kinds = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-7, "foreach": False}
    generator_optimizer = torch.optim.Adam(generator.parameters(), **kinds)
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), **kinds)
    ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
    for step in range(STEPS):
        game.reseed(0, step)
        images, labels = setup.dataset.read(feed.indices(step))
        reals = (images.to(torch.float64) / 127.5 - 1).to(torch.float32)
        fakes = generator(setup.architecture.latents(BATCH, game.random), labels)
        discriminator_loss = entropy(discriminator(reals, labels), ones) + entropy(
            discriminator(fakes.detach(), labels), zeros
        )
        if rule == "alternating":
            discriminator_optimizer.zero_grad()
            discriminator_loss.backward()
            discriminator_optimizer.step()
        generator_loss = entropy(discriminator(fakes, labels), ones)
        generator_optimizer.zero_grad()
        gradients = torch.autograd.grad(generator_loss, list(generator.parameters()))
        if rule == "simultaneous":
            discriminator_optimizer.zero_grad()
            discriminator_loss.backward()
            discriminator_optimizer.step()
        for parameter, gradient in zip(generator.parameters(), gradients, strict=True):
            parameter.grad = gradient
        generator_optimizer.step()

        run_step(game, feed, 0, step)
        found = game.running_means.read()
        assert found["discriminator_loss"] == pytest.approx(discriminator_loss.item(), abs=1e-5), step
        assert found["generator_loss"] == pytest.approx(generator_loss.item(), abs=1e-5), step
