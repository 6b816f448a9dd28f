"""Schedules and intervals: numbers of losses and optimisers over the images seen, and losses of every k-th step."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from helpers import ZOO, ganzoo, tiny_recipe
from torch import Tensor, nn

from ganzoo import Choice, Recipe, UsageError
from ganzoo.contract.options import Option
from ganzoo.contract.recipe import parse_turns
from ganzoo.contract.schedule import Schedule
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import Game
from ganzoo.engine.step import graphed, run_step, train_step
from ganzoo.training.build import build_setup
from ganzoo.training.schedules import learning_rate_notes
from ganzoo_plugins.optimizers.adam import Adam

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parents[1] / "golden" / "modern" / "r3gan-schedules.json"


def preset_schedules() -> list[tuple[str, str, Schedule, list[tuple[int, float]]]]:
    found = []
    for preset, facts in json.loads(GOLDEN.read_text())["presets"].items():
        for name, ends in facts["schedules"].items():
            schedule = Schedule(ends["base_value"], ends["final_value"], int(ends["total_nimg"]))
            found.append((preset, name, schedule, [(row["cur_nimg"], row[name]) for row in facts["values"]]))
    return found


@pytest.mark.parametrize(("preset", "name", "schedule", "values"), preset_schedules())
def test_the_published_schedules_of_r3gan(
    preset: str, name: str, schedule: Schedule, values: list[tuple[int, float]]
) -> None:
    assert len(values) > 3
    for images, value in values:
        assert schedule.at(images) == pytest.approx(value, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(
    ("text", "canonical", "values"),
    [
        ("1 -> 0 by 100", "1.0 -> 0.0 by 100", {0: 1, 25: 0.8535533905932737, 50: 0.5, 100: 0, 999: 0}),
        ("1->0 by 100 linear", "1.0 -> 0.0 by 100 linear", {0: 1, 25: 0.75, 100: 0}),
        (
            "2e-4 -> 5e-5 from 1k by 3k images linear",
            "0.0002 -> 5e-05 from 1000 by 3000 linear",
            {0: 2e-4, 2000: 1.25e-4},
        ),
        ("-1 -> .5 by 1k step", "-1.0 -> 0.5 by 1000 step", {0: -1, 999: -1, 1000: 0.5}),
        ("1 -> 0 by end linear", "1.0 -> 0.0 by end linear", {0: 1, 10**9: 1}),
    ],
)
def test_a_schedule_is_written_as_text(text: str, canonical: str, values: dict[int, float]) -> None:
    schedule = Schedule.parse(text)
    assert str(schedule) == canonical
    assert Schedule.parse(canonical) == schedule
    for images, value in values.items():
        assert schedule.at(images) == pytest.approx(value, rel=1e-12, abs=1e-15)


def test_a_schedule_may_end_with_the_run() -> None:
    schedule = Schedule.parse("1 -> 0 by end linear").of_length(200)
    assert [schedule.at(images) for images in (0, 50, 200)] == [1, 0.75, 0]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("r1:gamma=1 -> 2", "is not a schedule: write 'BASE -> FINAL by N'"),
        ("r1:gamma=1 -> 2 by 5 quickly", "is not a schedule"),
        ("r1:gamma=1 -> 2 by 5 epochs", "is not a schedule"),
        ("r1:gamma=1 -> 2 from 10k by 5k", "ends at 5000 images, and it begins at 10000"),
        ("r1:gamma=1 -> 2 by 0", "ends at 0 images, and it begins at 0"),
        ("r1:gamma=1 -> -2 by 5", "invalid value for 'gamma': -2.0 is not in the range x>=0"),
        ("r1:every=0", "invalid value for 'every': 0 is not in the range x>=1"),
        ("r1:every=1.5", "invalid value for 'every'"),
        ("r1:every=1 -> 2 by 5", "invalid value for 'every'"),
    ],
)
def test_bad_schedules_and_intervals_are_one_sentence(option: str, words: str, tmp_path: Path) -> None:
    shown = ganzoo(
        "train", "mlp-vanilla", "digits:size=8", "--loss", "hinge", "--loss", option, "--out", tmp_path / "r"
    )
    assert shown.exit_code == 2
    assert words in shown.output
    assert shown.output.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_only_numbers_of_losses_augmentations_and_optimisers_can_follow_one() -> None:
    option = Option("share", click.FLOAT, 1.0)
    with pytest.raises(
        UsageError, match="A part: 'share' cannot follow a schedule, only one number: it was '1 -> 2 by 5'"
    ):
        option.convert("1 -> 2 by 5", "A part")
    with pytest.raises(
        UsageError, match="'clip' cannot follow a schedule: Adam does not support it; it can for lr, beta1"
    ):
        make_game(losses=("hinge",), optimizer="adam:clip=0.1 -> 0.2 by 100")


def make_game(
    losses: tuple[str, ...] = ("hinge",), optimizer: str = "adam:lr=0.01", turns: str = "D,G", **fields: Any
) -> Any:
    recipe = tiny_recipe(
        losses=losses,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        turns=turns,
        batch_size=8,
        batch_order="stream",
        **fields,
    )
    return build_setup(recipe, ZOO, CPU)


def run(setup: Any, first: int, last: int) -> list[Tensor]:
    for step in range(first, last):
        run_step(setup.game, setup.feed, 0, step)
    return [parameter.detach().clone() for parameter in parameters(setup.game)]


def parameters(game: Game) -> list[nn.Parameter]:
    return [*game.generator.parameters(), *game.discriminator.parameters()]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(left, right, strict=True))


def test_the_recipe_records_schedules_and_intervals() -> None:
    recipe = tiny_recipe(
        losses=("hinge", "r1:gamma=1->0 by 1k,every=4"), generator_optimizer="adam:beta2=.9->.99 by 2M"
    )
    assert recipe.losses[0].options == {}  # every=1 is not written: recipes without it keep their digests
    assert recipe.losses[1].options == {"gamma": "1.0 -> 0.0 by 1000", "every": 4}
    assert recipe.generator_optimizer.options["beta2"] == "0.9 -> 0.99 by 2000000"
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    part = ZOO.build("losses", recipe.losses[1])
    assert (part.gamma, part.every, part.scheduled["gamma"].end) == (1.0, 4, 1000)
    assert ZOO.build("losses", Choice("r1")).every == 1


def test_a_scheduled_number_has_the_value_of_each_step() -> None:
    following = make_game(("hinge", "r1:gamma=3 -> 1 by 32"), "adam:lr=0.01 -> 0.001 by 24")
    for step in range(6):
        schedule = Schedule(3.0, 1.0, 32)
        constant = make_game(
            ("hinge", f"r1:gamma={schedule.at(8 * step)!r}"), f"adam:lr={Schedule(0.01, 0.001, 24).at(8 * step)!r}"
        )
        constant.game.restore(following.game.state())
        run(following, step, step + 1)
        run(constant, step, step + 1)
        assert same(parameters(following.game), parameters(constant.game))  # type: ignore[arg-type]


def test_a_training_with_schedules_and_intervals_is_resumed_exactly() -> None:
    words = (
        ("hinge", "r1:gamma=3 -> 1 by 64,every=2"),
        "adam:lr=0.01 -> 0.001 by 48,beta2=0.9 -> 0.99 by 40",
        "G.new,D,D.lazy",
    )
    whole, first, second = make_game(*words), make_game(*words), make_game(*words)
    expected = run(whole, 0, 7)
    run(first, 0, 3)
    second.game.restore({name: value.clone() for name, value in first.game.state().items()})
    assert same(run(second, 3, 7), expected)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_adam_of_scheduled_numbers_is_torchs(decay: float) -> None:
    parameters = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((5, 3), (3,), ())]
    others = copy.deepcopy(parameters)
    torchs = torch.optim.AdamW(parameters, lr=0.01, betas=(0.5, 0.9), eps=1e-3, weight_decay=decay)
    component = Adam(lr=0.01, beta1=0.5, beta2=0.9, eps=1e-3, weight_decay=decay)
    component.beta2 = torch.tensor(0.9, dtype=torch.float64)  # type: ignore[assignment]
    ours = component.build(others)
    ours.param_groups[0]["lr"] = torch.tensor(0.01, dtype=torch.float64)
    for step in range(5):
        for mine, other in zip(parameters, others, strict=True):
            mine.grad = torch.sin(mine.detach() + step)
            other.grad = mine.grad.clone()
        torchs.step()
        ours.step()
    for mine, other in zip(parameters, others, strict=True):
        torch.testing.assert_close(other, mine, rtol=1e-12, atol=1e-14)
    assert {k: v.shape for k, v in torchs.state[parameters[0]].items()} == {
        k: v.shape for k, v in ours.state[others[0]].items()
    }


def test_a_scheduled_beta_enters_the_average_and_its_correction() -> None:
    game = make_game(optimizer="adam:lr=0.01,beta1=0.0,eps=1e-8,beta2=0.9 -> 0.99 by 16").game
    parameter = next(iter(game.generator.parameters()))
    player = game.players["G"]
    value, average = parameter.detach().clone(), torch.zeros_like(parameter)
    for step in range(3):
        game.advance(8 * step, step)
        gradients = [torch.full_like(one, 0.5 + step) for one in player.parameters]
        beta = Schedule(0.9, 0.99, 16).at(8 * step)
        average = beta * average + (1 - beta) * gradients[0] ** 2
        value = value - 0.01 * gradients[0] / ((average / (1 - beta ** (step + 1))).sqrt() + 1e-8)
        player.update(gradients)
    torch.testing.assert_close(parameter.detach(), value)


def test_an_interval_multiplies_the_loss_and_leaves_the_other_steps_alone() -> None:
    lazy, often, without = (
        make_game(losses) for losses in (("hinge", "r1:gamma=2,every=3"), ("hinge", "r1:gamma=6"), ("hinge",))
    )
    for step in range(5):
        other = without if step % 3 else often
        other.game.restore(lazy.game.state())
        assert same(run(lazy, step, step + 1), run(other, step, step + 1))


def test_a_lazy_turn_is_a_step_of_the_optimiser_of_its_own() -> None:
    setup = make_game(("hinge", "r1:gamma=2,every=2"), turns="D,D.lazy,G,G.lazy")
    game = setup.game
    assert [turn.minibatch for turn in game.turns] == [0, 0, 0, 0]
    run(setup, 0, 3)
    steps = {key: player.optimizer.state[player.parameters[0]]["step"].item() for key, player in game.players.items()}
    assert steps == {"D": 5, "G": 3}  # r1 has no generator's term, so no step of G.lazy
    assert set(game.running_means.read()) == {"discriminator_loss", "generator_loss", "discriminator_accuracy"}


def test_parameters_without_a_penalty_have_a_zero_gradient_in_a_lazy_turn() -> None:
    setup = make_game(("hinge", "r1:every=1"), turns="D,G")
    lazy = make_game(("hinge", "r1:every=2"), turns="D,D.lazy,G")
    run(setup, 0, 1)
    run(lazy, 0, 1)
    player = lazy.game.players["D"]
    assert player.names[-1].endswith("bias")
    assert all(player.optimizer.state[parameter]["step"] == 2 for parameter in player.parameters)


def test_the_correction_of_a_lazy_penalty() -> None:
    part = Adam(lr=0.002, beta1=0.0, beta2=0.99, lazy=16)
    assert part.learning_rate(0) == pytest.approx(0.002 * 16 / 17)
    assert part.betas == (0.0, pytest.approx(0.99 ** (16 / 17)))
    assert Adam(lr=0.002, beta1=0.5, beta2=0.99).betas == (0.5, 0.99)


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ("D,D.lazy,G", "is for losses with an interval, and no loss of the recipe has one"),
        ("D,D.lazy+G", "D.lazy and G.lazy are turns of their own"),
        ("D.lazy,G", "never trains the discriminator"),
        ("D,G.lazy", "never trains the generator"),
        ("D,G+G.new", "a turn has at most one of"),
    ],
)
def test_turns_that_make_no_sense(turns: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_game(("hinge", "r1"), turns=turns)


def test_a_player_needs_a_loss_in_every_step() -> None:
    setup = make_game(("hinge:every=2", "r1"))
    run(setup, 0, 1)
    with pytest.raises(UsageError, match=r"No loss of the recipe trains the generator in every step \(every=1\)"):
        run(setup, 1, 2)


def test_a_turn_that_looks_at_new_reals() -> None:
    game = make_game(("relativistic",), turns="D,G.new").game
    assert parse_turns("D, G.new") == [["D"], ["G.new"]]
    assert [turn.minibatch for turn in game.turns] == [0, 1]
    seen: list[Tensor] = []
    original = game.losses[0].generator
    vars(game.losses[0])["generator"] = lambda round: (seen.append(round.reals), original(round))[1]
    batches = [Batch(torch.full((8, 1, 8, 8), float(index)), torch.zeros(8, dtype=torch.int64)) for index in range(2)]
    train_step(game, batches)
    assert torch.equal(seen[0].detach(), batches[1].reals)


def test_a_recorded_step_depends_on_the_losses_that_are_due() -> None:
    setup = make_game(("hinge", "r1:every=2"))
    keys: list[Any] = []

    def graph(key: Any, step: Any) -> None:
        keys.append(key)
        step()

    for step in range(3):
        run_step(setup.game, setup.feed, 0, step, graphed(graph))  # type: ignore[arg-type]
    assert keys == [(8, True), (8, False), (8, True)]


def test_a_rate_that_falls_to_zero_is_noted() -> None:
    setup = make_game(optimizer="adam:lr=0.1 -> 0 by 80")
    notes = learning_rate_notes(setup.game.optimizers, setup.feed.images_at, 0, 40)
    assert len(notes) == 2
    assert "is 0 in all steps after step 10, of 40" in notes[0]
