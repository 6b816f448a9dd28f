"""Checks of an architecture in training, with the losses and optimisers of its own recipe."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.round import Round
from ganzoo.engine.game import Game
from ganzoo.registry.zoo import zoo
from ganzoo.testing.kit import ExaminedPart, Failed, call, labels_for, reals_for, require
from ganzoo.testing.small_game import BATCH, SmallGame, captured_is_eager, make_game, resumes_bit_for_bit
from ganzoo.testing.two_processes import run_two_steps


def recipes_name_what_exists(part: ExaminedPart) -> None:
    """Its recipe and every variant are valid, and name parts that exist, with options that these parts take."""
    for name, changes in {"": {}, **part.component.recipes}.items():
        where = f"The recipe {name!r}" if name else "The recipe"
        try:
            recipe: Recipe = part.component.recipe.merged(changes)
            for field, kind in KIND_OF_FIELD.items():
                value = getattr(recipe, field)
                for choice in value if isinstance(value, tuple) else [value] if value else []:
                    zoo().options(kind, choice)
        except GanzooError as error:
            raise Failed(f"{where} cannot be trained: {error}") from error


def every_parameter_gets_a_gradient(part: ExaminedPart) -> None:
    """Every parameter gets a finite gradient from its own losses, the generator's through the discriminator."""
    small_game = make_game(part)
    for turn in small_game.game.turns:
        round = small_game.game.round(turn, small_game.batch())
        for player in turn.players:
            loss = player.loss(round)
            gradients = torch.autograd.grad(loss, player.parameters, retain_graph=True, allow_unused=True)
            for name, gradient in zip(player.names, gradients, strict=True):
                require(gradient is not None, f"{name} gets no gradient from the {player.role}'s loss.")
                require(gradient.isfinite().all(), f"The gradient of {name} is not finite.")


def losses_are_finite_at_extreme_logits(part: ExaminedPart) -> None:
    """Its own losses and their gradients are finite at logits of 10,000; so are images and logits of huge latents."""
    small_game = make_game(part)
    game, batch = small_game.game, small_game.batch()
    for factor in (1e4, -1e4):
        for turn in game.turns:
            round = _stretched(game, game.round(turn, batch), factor)
            for player in turn.players:
                loss = player.loss(round)
                gradients = torch.autograd.grad(loss, player.parameters, retain_graph=True, materialize_grads=True)
                finite = loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients)
                problem = f"The {player.role}'s loss is {loss.item():.3g}, or its gradient is not finite, at logits of"
                require(finite, f"{problem} {factor:.0f}.")
    fakes = call(game.generator, 1000 * part.latents(BATCH), batch.labels, training=True)
    require(fakes.isfinite().all(), "Images of latents 1000 times as large are not finite.")
    logits = call(game.discriminator, fakes, batch.labels, training=True)
    require(logits.isfinite().all(), "Logits of images of latents 1000 times as large are not finite.")


def _stretched(game: Game, round: Round, factor: float) -> Round:
    """The same round with its logits scaled, so that the largest absolute value is that of `factor`."""

    def discriminate(images: Tensor, labels: Tensor) -> Tensor:
        logits = game.discriminate(images, labels)
        return logits * (factor / logits.detach().abs().max().clamp(min=1e-3))

    inputs = round.reals, round.labels, round.latents
    return Round(
        *(*inputs, round._generate, discriminate, round.sides, round._generate_styled),
        joint=round.joint,
        fake_labels=round.fake_labels,
    )


def discriminator_overfits_one_batch(part: ExaminedPart) -> None:
    """Trained on one batch again and again, the discriminator cuts its own loss by at least a fifth."""
    small_game = make_game(part)
    game, batch = small_game.game, small_game.batch()
    turn = next((turn for turn in game.turns if any(p.role == "discriminator" for p in turn.players)), None)
    require(turn is not None, "Its recipe never updates the discriminator.")
    assert turn is not None  # noqa: S101  (for the type checker)
    player = next(player for player in turn.players if player.role == "discriminator")
    optimizer = torch.optim.Adam(player.parameters, lr=2e-3, betas=(0.5, 0.99))
    game.reseed(0, 0)
    fakes = game.round(turn, batch).fakes.detach()
    losses = []
    for step in range(120):
        game.reseed(0, step)
        round = Round(batch.reals, batch.labels, fakes, lambda fakes, labels: fakes, game.discriminate, turn.sides)
        loss = player.loss(round)
        gradients = torch.autograd.grad(loss, player.parameters, materialize_grads=True)
        for parameter, gradient in zip(player.parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < losses[0] - 0.2 * max(abs(losses[0]), 0.05):
            return
    raise Failed(f"After {len(losses)} steps on one batch its loss is {min(losses):.3g}, from {losses[0]:.3g}.")


def bf16_is_finite(part: ExaminedPart) -> None:
    """Two steps in bfloat16 autocast leave every tensor finite."""
    small_game = make_game(part, precision="bf16")
    small_game.run(0, 2)
    state = small_game.state()
    bad = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    require(not bad, f"After two steps in bf16 {len(bad)} of {len(state)} tensors are not finite, {bad[:1]} first.")


def two_processes_are_one(part: ExaminedPart) -> str:
    """Two processes with half a batch each end with equal weights, the same as one process with the whole batch."""
    one_process = make_game(part, own=False)
    one_process.run(0, 2)
    first, second = run_two_steps(part)
    expected = {name: value for name, value in one_process.state().items() if name in first}
    different = [name for name in first if not torch.equal(first[name], second[name])]
    require(
        not different,
        f"After two steps the processes differ in {len(different)} of {len(first)} tensors, {different[:1]} first.",
    )
    far = [name for name in first if not torch.allclose(first[name], expected[name], rtol=1e-3, atol=1e-5)]
    reason = _why_halves_may_differ(part, one_process) if far else ""
    require(
        not far or reason,
        f"Two processes do not learn what one does: {len(far)} of {len(first)} tensors differ, {far[:1]} first.",
    )
    return f"the processes were compared with each other only: {reason}" if reason else ""


def _why_halves_may_differ(part: ExaminedPart, small_game: SmallGame) -> str:
    """Why training on two half batches may end with other weights than on the whole batch; empty if it must not."""
    images = small_game.game.images
    labels = labels_for(images, BATCH)
    inputs = (part.latents(BATCH), reals_for(small_game.game.architecture, images, BATCH))
    for network, values in zip(part.networks(), inputs, strict=True):
        if not _is_deterministic(network, values, labels):
            return "each draws its own dropout or noise in training"
        half = BATCH // 2
        whole, first_half = (call(network, values[:n], labels[:n], training=True) for n in (BATCH, half))
        if not torch.allclose(whole[:half], first_half, rtol=1e-3, atol=1e-4):
            return "each computes statistics of its own images, other than those of batch norm"
    return ""


def _is_deterministic(network: nn.Module, values: Tensor, labels: Tensor) -> bool:
    """Whether the outputs in training mode do not depend on the random state."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    outputs = []
    for seed in range(2):
        network.load_state_dict(state)
        outputs.append(call(network, values, labels, training=True, seed=seed))
    return torch.equal(*outputs)


CHECKS = (
    recipes_name_what_exists,
    every_parameter_gets_a_gradient,
    losses_are_finite_at_extreme_logits,
    discriminator_overfits_one_batch,
    bf16_is_finite,
    resumes_bit_for_bit,
    two_processes_are_one,
    captured_is_eager,
)
