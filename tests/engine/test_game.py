"""One training step against the same computation in plain torch, for turns, losses, EMA and precisions."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Sequence

import pytest
import torch
from tiny import Tiny, TinyConditional
from torch import Tensor, nn
from torch.nn.functional import softplus

import ganzoo
from ganzoo import Choice, GanzooError, ImageSpec, Recipe, Round, UsageError
from ganzoo.engine.feed import Batch
from ganzoo.engine.game import EMA, Game
from ganzoo.engine.step import train_step
from ganzoo.registry.zoo import Zoo
from ganzoo_plugins.losses.nonsaturating import NonSaturating
from ganzoo_plugins.losses.relativistic import Relativistic
from ganzoo_plugins.optimizers.adam import Adam
from ganzoo_plugins.optimizers.keras import KerasAdam
from ganzoo_plugins.penalties.zero_centred import R1

CPU = torch.device("cpu")
IMAGES = ImageSpec(1, 4, 4, classes=3)
COUNT = 16
RATES = {"discriminator": 0.03, "generator": 0.01}


def make_game(
    architecture: Tiny | None = None,
    losses: Sequence[ganzoo.Loss] = (),
    optimizers: tuple[ganzoo.Optimizer, ganzoo.Optimizer] | None = None,
    augmentations: Sequence[ganzoo.Augmentation] = (),
    **changes,
) -> Game:
    architecture = architecture or Tiny(norm=False, dropout=0)
    generator, discriminator = optimizers or (Adam(lr=RATES["generator"]), Adam(lr=RATES["discriminator"]))
    recipe = Recipe(batch_size=COUNT, **changes)
    game = Game(architecture, IMAGES, losses or [NonSaturating()], augmentations, generator, discriminator, recipe, CPU)
    game.reseed(5, 0)
    return game


def batches(count: int = 1, seed: int = 0) -> list[Batch]:
    random = torch.Generator().manual_seed(seed)
    return [
        Batch(torch.rand(COUNT, 1, 4, 4, generator=random) * 2 - 1, torch.randint(3, (COUNT,), generator=random))
        for _ in range(count)
    ]


def weights(network: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in network.state_dict().values()]


def tensors(game: Game) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in game.state().items()}


def same(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(left, right, strict=True))


class ByHand:
    """Copies of both networks of a game, trained with torch alone."""

    def __init__(self, game: Game) -> None:
        self.generator = copy.deepcopy(game.generator)
        self.discriminator = copy.deepcopy(game.discriminator)
        self.latents: Sequence[Tensor] = game.architecture.drawn

    def adam(self, role: str, *networks: nn.Module) -> torch.optim.Optimizer:
        parameters = [parameter for network in networks or (getattr(self, role),) for parameter in network.parameters()]
        return torch.optim.Adam(parameters, lr=RATES[role], betas=(0.5, 0.999), eps=1e-8)

    def fakes(self, draw: int) -> Tensor:
        return self.generator(self.latents[draw], None)

    def on_reals(self, batch: Batch) -> Tensor:
        return softplus(-self.discriminator(batch.reals, None)).mean()

    def on_fakes(self, fakes: Tensor) -> Tensor:
        return softplus(self.discriminator(fakes, None)).mean()

    def of_generator(self, fakes: Tensor) -> Tensor:
        return softplus(-self.discriminator(fakes, None)).mean()

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor, keep: bool = False) -> None:
        """One step of the optimiser, with the gradients of its own parameters only."""
        parameters = optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=keep)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    def agrees(self, game: Game) -> bool:
        pairs = [(self.generator, game.generator), (self.discriminator, game.discriminator)]
        return all(
            torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)
            for left, right in pairs
            for mine, theirs in zip(left.parameters(), right.parameters(), strict=True)
        )


def in_turn(hand: ByHand, batch: Batch, *networks: nn.Module) -> None:
    """The generator's turn trains `networks`: the generator alone if none is given."""
    discriminator, generator = hand.adam("discriminator"), hand.adam("generator", *networks)
    for step in range(2):
        hand.step(discriminator, hand.on_reals(batch) + hand.on_fakes(hand.fakes(2 * step).detach()))
        hand.step(generator, hand.of_generator(hand.fakes(2 * step + 1)))


def at_once(hand: ByHand, batch: Batch) -> None:
    discriminator, generator = hand.adam("discriminator"), hand.adam("generator")
    for step in range(2):
        fakes = hand.fakes(step)
        losses = hand.on_reals(batch) + hand.on_fakes(fakes), hand.of_generator(fakes)
        players = [list(hand.discriminator.parameters()), list(hand.generator.parameters())]
        gradients = [torch.autograd.grad(c, p, retain_graph=True) for c, p in zip(losses, players, strict=True)]
        for optimizer, parameters, own in zip((discriminator, generator), players, gradients, strict=True):
            for parameter, gradient in zip(parameters, own, strict=True):
                parameter.grad = gradient
            optimizer.step()


def moving_both(hand: ByHand, batch: Batch) -> None:
    in_turn(hand, batch, hand.generator, hand.discriminator)


def side_by_side(hand: ByHand, batch: Batch) -> None:
    discriminator, generator = hand.adam("discriminator"), hand.adam("generator")
    for step in range(2):
        hand.step(discriminator, hand.on_reals(batch))
        hand.step(discriminator, hand.on_fakes(hand.fakes(3 * step + 1).detach()))
        hand.step(generator, hand.of_generator(hand.fakes(3 * step + 2)))


HANDS: dict[str, Callable[[ByHand, Batch], None]] = {
    "D,G": in_turn,
    "D+G": at_once,
    "D,GD": moving_both,
    "D.reals,D.fakes,G": side_by_side,
}


@pytest.mark.parametrize("turns", HANDS)
def test_a_step_is_the_same_step_in_plain_torch(turns):
    game = make_game(turns=turns)
    hand, (batch,) = ByHand(game), batches()
    for _ in range(2):
        train_step(game, [batch])
    for name, sums in HANDS.items():
        attempt = copy.deepcopy(hand)
        # other turns give other numbers; they are computed where enough latents were drawn
        if len(hand.latents) >= {"D,G": 4, "D+G": 2, "D,GD": 4, "D.reals,D.fakes,G": 6}[name]:
            sums(attempt, batch)
            assert attempt.agrees(game) == (name == turns), name


def test_every_turn_draws_latents_of_its_own():
    game = make_game(turns="D,D,G")
    train_step(game, batches(2))
    assert len(game.architecture.drawn) == 3
    assert len({tuple(drawn.flatten().tolist()) for drawn in game.architecture.drawn}) == 3


@pytest.mark.parametrize(
    ("turns", "minibatches"),
    [
        ("D,G", [0, 0]),
        ("D+G", [0]),
        ("G", [0]),
        ("D,D,D,G", [0, 1, 2, 2]),
        ("D,G,G", [0, 0, 0]),
        ("D,G,D,G", [0, 0, 1, 1]),
        ("G,D", [0, 0]),
        ("D,GD", [0, 0]),
        ("D.reals,D.fakes,G", [0, 0, 0]),
        ("D.fakes,D.reals,G", [0, 0, 0]),
        ("D.reals,D.reals,D.fakes,G", [0, 1, 1, 1]),
    ],
)
def test_only_turns_that_show_reals_to_the_discriminator_have_a_new_minibatch(turns, minibatches):
    game = make_game(turns=turns)
    assert [turn.minibatch for turn in game.turns] == minibatches
    assert game.minibatches == max(minibatches) + 1
    train_step(game, batches(game.minibatches))


def test_a_turn_uses_its_own_minibatch():
    first, second = batches(2)
    left, right, repeated = (make_game(turns="D,D,G") for _ in range(3))
    train_step(left, [first, second])
    train_step(right, [second, first])
    train_step(repeated, [first, first])
    ends = [weights(game.discriminator) for game in (left, right, repeated)]
    assert not same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_a_turn_updates_its_own_player_and_no_other_network_has_gradients():
    game = make_game(turns="D,G")
    record = []
    for player in game.players.values():
        player.optimizer.register_step_post_hook(
            lambda *_: record.append(
                (
                    weights(game.generator),
                    weights(game.discriminator),
                    [p.grad for p in game.generator.parameters()],
                )
            )
        )
    generator, discriminator = weights(game.generator), weights(game.discriminator)
    train_step(game, batches())
    after_discriminator, after_generator = record
    assert same(after_discriminator[0], generator)
    assert not same(after_discriminator[1], discriminator)
    assert after_discriminator[2] == [None] * 4
    assert not same(after_generator[0], generator)
    assert same(after_generator[1], after_discriminator[1])


class Watcher(ganzoo.SeparableLoss):
    """Non-saturating; it keeps the rounds of the generator."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds: list[Round] = []

    def on_reals(self, logits: Tensor) -> Tensor:
        return softplus(-logits).mean()

    def on_fakes(self, logits: Tensor) -> Tensor:
        return softplus(logits).mean()

    def generator(self, round: Round) -> Tensor:
        self.rounds.append(round)
        return softplus(-round.fake_logits).mean()


def test_a_turn_on_one_side_computes_no_logits_of_the_other():
    game = make_game(turns="D.reals,D.fakes,G")
    asked = []
    game.discriminator.register_forward_hook(lambda module, args, out: asked.append(args[0]))
    (batch,) = batches()
    train_step(game, [batch])
    assert len(asked) == 3
    assert torch.equal(asked[0], batch.reals)
    assert not any(torch.equal(images, batch.reals) for images in asked[1:])


def test_a_loss_of_pairs_is_refused_on_one_side():
    for turns in ("D.reals,D.fakes,G", "D.fakes,G"):
        with pytest.raises(UsageError, match="the loss Relativistic needs both sides"):
            make_game(losses=[NonSaturating(), Relativistic()], turns=turns)


def test_a_recipe_of_penalties_alone_is_refused():
    with pytest.raises(UsageError, match="No loss of the recipe trains the generator"):
        train_step(make_game(losses=[R1()]), batches())


def test_losses_are_added():
    both, alone = make_game(losses=[NonSaturating(), R1(gamma=3.0)]), make_game(losses=[NonSaturating()])
    (batch,) = batches()
    hand = ByHand(both)
    train_step(both, [batch])
    train_step(alone, [batch])
    reals = batch.reals.clone().requires_grad_()
    logits = hand.discriminator(reals, None)
    (gradient,) = torch.autograd.grad(logits.sum(), reals)
    penalty = 1.5 * gradient.square().sum(dim=(1, 2, 3)).mean()
    losses = [game.running_means.read()["discriminator_loss"] for game in (both, alone)]
    assert penalty.item() > 1e-4
    assert losses[0] - losses[1] == pytest.approx(penalty.item(), rel=1e-4)


def test_the_discriminator_is_shown_augmented_images():
    class Negative(ganzoo.Augmentation):
        def forward(self, images: Tensor) -> Tensor:
            return -images

    game, asked = make_game(augmentations=[Negative(), Negative(), Negative()]), []
    game.discriminator.register_forward_hook(lambda module, args, out: asked.append(args[0]))
    (batch,) = batches()
    train_step(game, [batch])
    assert torch.equal(asked[0], -batch.reals)


# --- fakes for the discriminator ---


@pytest.mark.parametrize(("mode", "updates"), [("training", 2), ("inference", 1)])
def test_fakes_for_the_discriminator_update_batch_norm_only_in_training_mode(mode, updates):
    game = make_game(Tiny(norm=True, dropout=0), turns="D,G", generator_mode_for_discriminator=mode)
    shown = []
    game.discriminator.register_forward_hook(lambda module, args, out: shown.append(args[0].detach()))
    before = copy.deepcopy(game.generator)
    train_step(game, batches())
    assert game.generator.norm.num_batches_tracked == updates
    before.train(mode == "training")
    expected = before(game.architecture.drawn[0], None)
    assert torch.allclose(shown[1], expected, atol=1e-6)
    before.train(mode != "training")
    assert not torch.allclose(shown[1], before(game.architecture.drawn[0], None), atol=1e-3)


def test_a_turn_that_updates_the_generator_is_always_in_training_mode():
    game = make_game(Tiny(norm=True, dropout=0), turns="D+G", generator_mode_for_discriminator="inference")
    train_step(game, batches())
    assert game.generator.norm.num_batches_tracked == 1


@pytest.mark.parametrize("turns", ["D,G", "D,D,G", "D.reals,D.fakes,G", "D,GD"])
@pytest.mark.parametrize("mode", ["training", "inference"])
def test_the_generator_can_reuse_the_fakes_of_the_discriminator(turns, mode):
    changes = {"turns": turns, "generator_mode_for_discriminator": mode, "reuse_fakes": True}
    game = make_game(Tiny(norm=True, dropout=0), **changes)
    drawn, shown = [], []
    game.generator.register_forward_hook(lambda module, args, out: drawn.append(args[0]))
    game.discriminator.register_forward_hook(lambda module, args, out: shown.append(args[0].detach()))
    before = copy.deepcopy(game.generator).train()
    train_step(game, batches(game.minibatches))
    # one generator pass fewer, or, where the modes differ, another pass with the same latents
    assert len(drawn) == game.minibatches + (mode == "inference")
    assert torch.equal(drawn[-1], drawn[game.minibatches - 1])
    assert torch.allclose(shown[-1], before(drawn[-1], None), atol=1e-6)
    if mode == "training":
        assert torch.equal(shown[-1], shown[-2] if turns != "D,GD" else shown[-1])


@pytest.mark.parametrize("turns", ["D+G", "G,D", "G"])
def test_no_fakes_to_reuse_is_refused(turns):
    with pytest.raises(UsageError, match=f"no turn of {re.escape(turns)} trains the generator right after"):
        make_game(Tiny(norm=False, dropout=0), turns=turns, reuse_fakes=True)


def test_reused_fakes_update_the_generator_as_the_same_fakes_drawn_again():
    """In plain torch: the discriminator's update, then the generator's through it, with the same fakes."""
    game = make_game(Tiny(norm=False, dropout=0), turns="D,G", reuse_fakes=True)
    alone = copy.deepcopy(game)
    (batch,) = batches()
    train_step(game, [batch])
    latents, optimizers = game.architecture.drawn[0], {key: p.optimizer for key, p in alone.players.items()}
    generator, discriminator = alone.generator.train(), alone.discriminator.train()
    fakes = generator(latents, batch.labels)
    cost = softplus(-discriminator(batch.reals, None)).mean() + softplus(discriminator(fakes.detach(), None)).mean()
    for player, value in (("D", lambda: cost), ("G", lambda: softplus(-discriminator(fakes, None)).mean())):
        parameters = alone.players[player].parameters
        for parameter, gradient in zip(parameters, torch.autograd.grad(value(), parameters), strict=True):
            parameter.grad = gradient
        optimizers[player].step()
    for name, value in alone.generator.state_dict().items():
        assert torch.allclose(game.generator.state_dict()[name], value, atol=1e-7), name


def test_fakes_are_not_reused_after_an_update_of_the_generator():
    game = make_game(Tiny(norm=True, dropout=0), turns="D,G,G", reuse_fakes=True)
    drawn = []
    game.generator.register_forward_hook(lambda module, args, out: drawn.append(args[0]))
    train_step(game, batches())
    assert len(drawn) == 2
    assert not torch.equal(*drawn)


def test_fakes_have_the_classes_of_the_reals():
    game, classes = make_game(TinyConditional()), []
    game.generator.register_forward_hook(lambda module, args, out: classes.append(args[1]))
    (batch,) = batches()
    train_step(game, [batch])
    assert all(torch.equal(labels, batch.labels) for labels in classes)


class Misshapen(Tiny):
    """One of its networks returns a wrong shape."""

    def __init__(self, role: int, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(norm=False, dropout=0)
        self.role, self.change = role, change

    def networks(self, images: ImageSpec) -> tuple[nn.Module, nn.Module]:
        networks = super().networks(images)
        networks[self.role].register_forward_hook(lambda module, args, out: self.change(out))
        return networks


@pytest.mark.parametrize(
    ("role", "change", "words"),
    [
        (0, lambda fakes: fakes[:, :, :3], r"returned images \(16, 1, 3, 4\), not \(16, 1, 4, 4\)"),
        (0, lambda fakes: fakes[:5], r"returned images \(5, 1, 4, 4\)"),
        (0, lambda fakes: fakes.flatten(1), r"returned images \(16, 16\)"),
        (1, lambda logits: logits.mean(), r"returned logits \(\) for 16 images"),
        (1, lambda logits: logits[:5], r"returned logits \(5,\) for 16 images"),
    ],
)
def test_outputs_of_a_wrong_shape_are_refused(role, change, words):
    with pytest.raises(GanzooError, match=words):
        train_step(make_game(Misshapen(role, change)), batches())


# --- EMA ---


def test_without_a_half_life_the_ema_is_the_generator():
    game = make_game()
    assert game.ema.network is game.generator
    assert not any(name.startswith("average/") for name in game.state())


@pytest.mark.parametrize(("turns", "images"), [("D,G", COUNT), ("D,D,G", 2 * COUNT)])
def test_the_ema_has_its_half_life(turns, images):
    game = make_game(Tiny(norm=True, dropout=0), ema_half_life=40, turns=turns)
    share = 1 - 0.5 ** (images / 40)
    expected = weights(game.generator)
    for step in range(5):
        train_step(game, batches(game.minibatches, seed=step))
        moved = weights(game.generator)
        expected = [
            old + share * (new - old) if new.is_floating_point() else new
            for old, new in zip(expected, moved, strict=True)
        ]
        assert not same(weights(game.ema.network), moved)
    for mine, theirs in zip(weights(game.ema.network), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert game.ema.network.norm.num_batches_tracked == 5 * len(game.turns)
    assert not any(parameter.requires_grad for parameter in game.ema.network.parameters())
    assert any(name.startswith("average/") for name in game.state())


def test_after_a_half_life_half_of_the_difference_is_left():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = EMA(network, 10 * COUNT)
    nn.init.ones_(network.weight)
    for _ in range(10):
        average.update(COUNT)
    assert average.network.weight.item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("turns", ["D,G", "D,D,G"])
def test_the_ema_counts_the_images_that_are_in_a_step(turns):
    """Six images where the recipe says 16: the last batch of an epoch, or a batch larger than the set."""
    game = make_game(ema_half_life=40, turns=turns)
    old = weights(game.ema.network)
    smaller = [Batch(batch.reals[:6], batch.labels[:6]) for batch in batches(game.minibatches)]
    train_step(game, smaller)
    share = 1 - 0.5 ** (6 * game.minibatches / 40)
    for mine, before, now in zip(weights(game.ema.network), old, weights(game.generator), strict=True):
        torch.testing.assert_close(mine, before + share * (now - before))


# --- precision, optimisers, numbers ---


def test_bfloat16_stays_inside_the_networks():
    loss = Watcher()
    game = make_game(Tiny(), [loss, R1()], precision="bf16", turns="D,G")
    inside = []
    for network in (game.generator, game.discriminator):
        network.first.register_forward_hook(lambda module, args, out: inside.append(out.dtype))
    for step in range(3):
        train_step(game, batches(seed=step))
    assert set(inside) == {torch.bfloat16}
    for round in loss.rounds:
        assert {round.reals.dtype, round.fakes.dtype, round.fake_logits.dtype} == {torch.float32}
    assert game.players["D"].loss(loss.rounds[-1]).dtype == torch.float32
    assert {value.dtype for value in game.state().values()} == {torch.float32, torch.float64, torch.int64}
    assert all(value.isfinite().all() for value in game.state().values())
    assert all(map(math.isfinite, game.running_means.read().values()))


@pytest.mark.parametrize(
    "build",
    [
        lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
        lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, dampening=0.5),
        lambda parameters, lr: torch.optim.NAdam(parameters, lr=lr, foreach=False),
        lambda parameters, lr: torch.optim.Adagrad(parameters, lr=lr, initial_accumulator_value=0.1, foreach=False),
        lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, weight_decay=0.5, foreach=False),
    ],
    ids=["sgd", "momentum", "nadam", "adagrad", "adamw"],
)
def test_any_torch_optimiser_starts_with_its_own_state_and_is_restored(build):
    class Plain(ganzoo.Optimizer):
        def build(self, parameters):
            return build(list(parameters), torch.tensor(0.05))

        def learning_rate(self, images_seen: int) -> float:
            return 0.05

    class Hand(ByHand):
        def adam(self, role: str, *networks: nn.Module) -> torch.optim.Optimizer:
            return build(list(getattr(self, role).parameters()), torch.tensor(0.05))

    game, resumed = make_game(optimizers=(Plain(), Plain())), make_game(optimizers=(Plain(), Plain()))
    hand, (batch,) = Hand(game), batches()
    train_step(game, [batch])
    resumed.restore(tensors(game))
    resumed.random.set_state(game.random.get_state())
    train_step(game, [batch])
    train_step(resumed, [batch])
    in_turn(hand, batch)
    assert hand.agrees(game)
    assert same([*tensors(game).values()], [*tensors(resumed).values()])


def test_the_learning_rate_is_set_before_the_step():
    class Warming(Adam):
        def learning_rate(self, images_seen: int) -> float:
            return images_seen / 1000

    game = make_game(optimizers=(Warming(), Warming()))
    before = weights(game.generator)
    game.advance(0)
    train_step(game, batches())
    assert same(weights(game.generator), before)
    game.advance(100)
    train_step(game, batches())
    assert not same(weights(game.generator), before)
    assert game.players["G"].optimizer.param_groups[0]["lr"].item() == pytest.approx(0.1)


def test_every_part_with_a_schedule_is_advanced():
    class Growing(ganzoo.Augmentation):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("share", torch.zeros(()))

        def advance(self, images_seen: int) -> None:
            self.share.fill_(images_seen / 100)

        def forward(self, images: Tensor) -> Tensor:
            return images * (1 - self.share)

    game = make_game(augmentations=[Growing()])
    game.advance(50)
    assert game.state()["augmentation0/share"] == 0.5


def test_players_may_share_an_optimiser_and_its_counter():
    shared = KerasAdam(lr=0.01)
    game = make_game(optimizers=(shared, shared), turns="D,G")
    train_step(game, batches())
    assert game.state()["generator_optimizer/iterations"] == 2
    assert "discriminator_optimizer/iterations" not in game.state()


def test_the_running_means_are_losses_and_accuracy():
    loss = Watcher()
    game, (batch,) = make_game(losses=[loss]), batches()
    hand = ByHand(game)
    train_step(game, [batch])
    reals = hand.discriminator(batch.reals, None)
    fakes = hand.discriminator(hand.fakes(0), None)
    read = game.running_means.read()
    assert read["discriminator_loss"] == pytest.approx((softplus(-reals).mean() + softplus(fakes).mean()).item())
    assert read["discriminator_accuracy"] == pytest.approx(
        ((reals > 0).float().mean() + (fakes <= 0).float().mean()).item() / 2
    )
    assert set(read) == {"discriminator_loss", "generator_loss", "discriminator_accuracy"}
    assert game.running_means.read() == {}


# --- state ---


def test_a_restored_game_continues_bit_for_bit():
    def fresh(seed: int) -> Game:
        return make_game(Tiny(), [NonSaturating(), R1()], turns="D,GD", ema_half_life=100, seed=seed)

    whole, other = fresh(1), fresh(2)
    for step in range(6):
        if step == 3:
            saved = tensors(whole)
        whole.reseed(1, step)
        train_step(whole, batches(seed=step))
    assert not same([*tensors(other).values()][:4], [*tensors(whole).values()][:4])
    other.restore(saved)
    assert {name: value.tolist() for name, value in tensors(other).items()} == {
        name: value.tolist() for name, value in saved.items()
    }
    for step in range(3, 6):
        other.reseed(1, step)
        train_step(other, batches(seed=step))
    assert tensors(whole).keys() == tensors(other).keys()
    assert same([*tensors(whole).values()], [*tensors(other).values()])


def test_the_state_before_the_first_step_can_be_restored():
    left, right = make_game(seed=1), make_game(seed=2)
    right.restore(tensors(left))
    assert same(weights(left.generator), weights(right.generator))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda saved: saved.pop("generator/first.weight"), "generator/first.weight is missing"),
        (lambda saved: saved.pop("playerD/discriminator.last.bias/exp_avg"), "exp_avg is missing"),
        (lambda saved: saved.update(extra=torch.zeros(1)), "extra is not known here"),
        (
            lambda saved: saved.update({"generator/first.bias": torch.zeros(7)}),
            r"generator/first\.bias is torch\.float32 \(7,\), expected torch\.float32 \(6,\)",
        ),
        (lambda saved: saved.update({"meter/count": torch.zeros(())}), r"expected torch\.float64 \(\)"),
    ],
    ids=["weight missing", "moment missing", "unknown", "shape", "type"],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(damage, words):
    source, target = make_game(), make_game(seed=9)
    for step in range(3):
        train_step(source, batches(seed=step))
    saved = tensors(source)
    damage(saved)
    before = weights(target.generator) + weights(target.discriminator)
    with pytest.raises(GanzooError, match=rf"^The saved state does not fit this recipe in 1 places: .*{words}\.$"):
        target.restore(saved)
    assert same(weights(target.generator) + weights(target.discriminator), before)


def test_a_step_is_a_function_of_seed_and_step():
    """Random numbers that are drawn between steps do not matter."""
    ends = []
    for disturbed in (False, True):
        game = make_game(Tiny(dropout=0.5))
        for step in range(3):
            if disturbed:
                torch.rand(7)
                game.latents(3)
            game.reseed(0, step)
            train_step(game, batches(seed=step))
        ends.append([*tensors(game).values()])
    assert same(*ends)


# --- all losses with all penalties ---

PENALTIES = ("r1", "r2", "gradient-penalty", "dragan")
#: losses that are added to another one, and here to one only
REGULARISERS = ("lecam", "cr", "bcr", "zcr")
#: penalties of the generator, which need its styles
OF_STYLES = ("path-length",)
TURNS = ("D,G", "D+G", "D,D,G", "D,GD", "D.reals,D.fakes,G")


@pytest.mark.parametrize("turns", TURNS)
def test_all_losses_with_all_penalties(turns):
    zoo = Zoo()
    names = zoo.names("losses")
    assert set(PENALTIES) < set(names)
    tried = 0
    for name in sorted(set(names) - {*PENALTIES, *REGULARISERS, *OF_STYLES}):
        for penalty in (None, *PENALTIES, *(REGULARISERS if name == "hinge" else ())):
            losses = [zoo.build("losses", Choice(part)) for part in (name, penalty) if part]
            if "D.reals" in turns and not all(loss.separable for loss in losses):
                continue
            game = make_game(Tiny(), losses, turns=turns, ema_half_life=100)
            before = weights(game.generator)
            for step in range(2):
                train_step(game, batches(game.minibatches, seed=step))
            bad = [key for key, value in game.state().items() if not value.isfinite().all()]
            assert not bad, (name, penalty)
            assert not same(weights(game.generator), before), (name, penalty)
            tried += 1
    assert tried >= 5
