"""Checks of an architecture at play: its networks, losses and optimisers together, as its recipe says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganzoo.contract.errors import GanzooError
from ganzoo.contract.recipe import KIND_OF_FIELD, Recipe
from ganzoo.contract.round import Round
from ganzoo.engine.game import Game
from ganzoo.registry.zoo import zoo
from ganzoo.testing import ranks
from ganzoo.testing.kit import ExaminedPart, Failed, call, labels_for, reals_for, require
from ganzoo.testing.play import BATCH, SmallGame, captured_is_eager, make_game, resumes_bit_for_bit


def recipes_name_what_exists(part: ExaminedPart) -> None:
    """Its recipe and every variant of it are recipes, and name parts that exist with options these take."""
    for name, changes in {"": {}, **part.component.recipes}.items():
        where = f"The recipe {name!r}" if name else "The recipe"
        try:
            recipe: Recipe = part.component.recipe.merged(changes)
            for field, kind in KIND_OF_FIELD.items():
                value = getattr(recipe, field)
                for choice in value if isinstance(value, tuple) else [value] if value else []:
                    zoo().options(kind, choice)
        except GanzooError as error:
            raise Failed(f"{where} cannot be played: {error}") from error


def every_parameter_gets_a_gradient(part: ExaminedPart) -> None:
    """Every parameter gets a finite gradient by its own losses, the generator's through the discriminator."""
    seated = make_game(part)
    for turn in seated.game.turns:
        round = seated.game.round(turn, seated.batch())
        for player in turn.players:
            cost = player.loss(round)
            given = torch.autograd.grad(cost, player.parameters, retain_graph=True, allow_unused=True)
            for name, gradient in zip(player.names, given, strict=True):
                require(gradient is not None, f"{name} gets no gradient from the {player.role}'s cost.")
                require(gradient.isfinite().all(), f"The gradient of {name} is not finite.")


def costs_stay_finite_far_out(part: ExaminedPart) -> None:
    """Its own losses and their gradients are finite where logits reach 10,000, logits at 1000 times the latents."""
    seated = make_game(part)
    generator, discriminator = seated.game.generator, seated.game.discriminator
    batch = seated.batch()
    for factor in (1e4, -1e4):
        for turn in seated.game.turns:
            round = _stretched(seated.game, seated.game.round(turn, batch), factor)
            for player in turn.players:
                cost = player.loss(round)
                given = torch.autograd.grad(cost, player.parameters, retain_graph=True, materialize_grads=True)
                finite = cost.isfinite() and all(gradient.isfinite().all() for gradient in given)
                told = f"The {player.role}'s cost is {cost.item():.3g} or its gradient not finite at logits of"
                require(finite, f"{told} {factor:.0f}.")
    fakes = call(generator, 1000 * part.latents(BATCH), batch.labels, training=True)
    require(fakes.isfinite().all(), "Images of latents 1000 times as large are not finite.")
    logits = call(discriminator, fakes, batch.labels, training=True)
    require(logits.isfinite().all(), "Logits of images of latents 1000 times as large are not finite.")


def _stretched(game: Game, round: Round, factor: float) -> Round:
    """The same round, whose logits reach `factor`."""

    def discriminate(images: Tensor, labels: Tensor) -> Tensor:
        logits = game.discriminate(images, labels)
        return logits * (factor / logits.detach().abs().max().clamp(min=1e-3))

    return Round(round.reals, round.labels, round.latents, round._generate, discriminate, round.sides)


def discriminator_overfits_one_batch(part: ExaminedPart) -> None:
    """Shown one batch again and again, the discriminator cuts its own cost by a fifth and more."""
    seated = make_game(part)
    game, batch = seated.game, seated.batch()
    turn = next((turn for turn in game.turns if any(p.role == "discriminator" for p in turn.players)), None)
    require(turn is not None, "Its recipe never moves the discriminator.")
    assert turn is not None  # noqa: S101  (for the type checker)
    player = next(player for player in turn.players if player.role == "discriminator")
    optimizer = torch.optim.Adam(player.parameters, lr=2e-3, betas=(0.5, 0.99))
    game.reseed(0, 0)
    fakes = game.round(turn, batch).fakes.detach()
    costs = []
    for step in range(120):
        game.reseed(0, step)
        round = Round(batch.reals, batch.labels, fakes, lambda fakes, labels: fakes, game.discriminate, turn.sides)
        cost = player.loss(round)
        for parameter, gradient in zip(
            player.parameters, torch.autograd.grad(cost, player.parameters, materialize_grads=True), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
        costs.append(cost.item())
        if _fallen(costs):
            return
    raise Failed(f"After {len(costs)} steps on one batch its cost is {min(costs):.3g}, from {costs[0]:.3g}.")


def _fallen(costs: list[float]) -> bool:
    return costs[-1] < costs[0] - 0.2 * max(abs(costs[0]), 0.05)


def bf16_is_finite(part: ExaminedPart) -> None:
    """Two steps in bfloat16 autocast leave every tensor finite."""
    seated = make_game(part, precision="bf16")
    seated.play(0, 2)
    bad = [name for name, value in seated.state().items() if value.is_floating_point() and not value.isfinite().all()]
    require(not bad, f"After two steps in bf16 {bad[:1]} and {len(bad)} tensors in all are not finite.")


def two_processes_are_one(part: ExaminedPart) -> str:
    """Two processes with half a batch each hold the same weights, and those that one process learns from the whole."""
    alone = make_game(part, own=False)
    alone.play(0, 2)
    first, second = ranks.play(part)
    expected = {name: value for name, value in alone.state().items() if name in first}
    different = [name for name in first if not torch.equal(first[name], second[name])]
    require(
        not different, f"After two steps the processes differ in {different[:1]} and {len(different)} tensors in all."
    )
    far = [name for name in first if not torch.allclose(first[name], expected[name], rtol=1e-3, atol=1e-5)]
    reason = _of_each_process(part, alone) if far else ""
    require(
        not far or reason,
        f"Two processes learn something else than one: {far[:1]} and {len(far)} tensors in all differ.",
    )
    return f"the processes were compared with each other only: {reason}" if reason else ""


def _of_each_process(part: ExaminedPart, seated: SmallGame) -> str:
    """Why half a batch each need not be the whole batch; empty where it must."""
    images = seated.game.images
    labels = labels_for(images, BATCH)
    inputs = (part.latents(BATCH), reals_for(seated.game.architecture, images, BATCH))
    for network, values in zip(part.networks(), inputs, strict=True):
        if not _draws_nothing(network, values, labels):
            return "each draws its own dropout or noise in training"
        half = BATCH // 2
        whole, part_of_it = (call(network, values[:n], labels[:n], training=True) for n in (BATCH, half))
        if not torch.allclose(whole[:half], part_of_it, rtol=1e-3, atol=1e-4):
            return "each takes statistics of its own images, other than those of batch norm"
    return ""


def _draws_nothing(network: nn.Module, values: Tensor, labels: Tensor) -> bool:
    state = {name: value.clone() for name, value in network.state_dict().items()}
    answers = []
    for seed in range(2):
        network.load_state_dict(state)
        answers.append(call(network, values, labels, training=True, seed=seed))
    return torch.equal(*answers)


CHECKS = (
    recipes_name_what_exists,
    every_parameter_gets_a_gradient,
    costs_stay_finite_far_out,
    discriminator_overfits_one_batch,
    bf16_is_finite,
    resumes_bit_for_bit,
    two_processes_are_one,
    captured_is_eager,
)
