"""Checks of an evaluator, on features of real digits where its extractor is at hand, on made-up clusters elsewhere."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from ganzoo.contract.choice import Choice
from ganzoo.contract.components import Evaluator, Extractor, Origin
from ganzoo.contract.errors import GanzooError
from ganzoo.evaluation.features import extractor_of
from ganzoo.registry.zoo import zoo
from ganzoo.storage.tensors import tensors_to_bytes
from ganzoo.testing.extractors import DATASET, digits
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped, require, sentence
from ganzoo.testing.process import random_state

#: features and labels of some images
Seen = tuple[Tensor, Tensor]
_COUNT = 200
_DEVICE = torch.device("cpu")


@functools.cache
def _extractor(text: str) -> Extractor | None:
    """The extractor of that name, ready; None where it cannot be had offline."""
    with contextlib.suppress(GanzooError):
        extractor: Extractor = zoo().build("extractors", Choice.parse(text))
        extractor.bind(DATASET, digits())
        return extractor
    return None


@functools.cache
def _seen(text: str, layer: str, count: int) -> dict[str, Seen]:
    """What an evaluator is shown, by name: `count` reals, as many new ones, noisy ones, one bad image repeated."""
    extractor = _extractor(text)
    if extractor is None or layer not in extractor.layers:
        return _made_up(count)
    reals, labels = digits("train").read(torch.arange(count))
    held_out, other_labels = digits("test").read(torch.arange(len(digits("test"))))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(reals.shape, generator=generator)
    images = {
        "reals": (reals, labels),
        "held-out": (held_out, other_labels),
        "slight noise": ((reals + 20 * noise).clamp(0, 255).to(torch.uint8), labels),
        "noise": ((reals + 150 * noise).clamp(0, 255).to(torch.uint8), labels),
        "one image of noise": ((128 + 80 * noise[:1]).clamp(0, 255).to(torch.uint8).repeat(count, 1, 1, 1), labels),
    }
    return {name: (extractor(some)[layer], theirs) for name, (some, theirs) in images.items()}


def _made_up(count: int, dimensions: int = 24, classes: int = 8) -> dict[str, Seen]:
    """Clusters, one a class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes

    def draw() -> Tensor:
        centres = 6 * torch.nn.functional.one_hot(labels, dimensions).float()
        return centres + torch.randn(count, dimensions, generator=generator)

    reals = draw()
    return {
        "reals": (reals, labels),
        "held-out": (draw(), labels),
        # towards the middle: also a worse answer of a classifier, which plain noise would make a surer one
        "slight noise": (_blurred(reals, 0.1, generator), labels),
        "noise": (_blurred(reals, 0.9, generator), labels),
        "one image of noise": (torch.full_like(reals, -9.0), labels),
    }


def _blurred(reals: Tensor, share: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(reals.shape, generator=generator)
    return (1 - share) * reals + share * (reals.mean(dim=0) + 0.1 * noise)


def _shown(part: ExaminedPart) -> dict[str, Seen]:
    evaluator = part.build()
    return _seen(str(extractor_of(evaluator)), evaluator.layer, max(_COUNT, evaluator.minimum))


def _score(part: ExaminedPart, fakes: Seen, *, reals: Seen | None = None, batch: int = 64) -> dict[str, float]:
    """The scores of `fakes` by a new evaluator, shown everything in batches."""
    evaluator: Evaluator = part.build()
    _take_in_reals(part, evaluator, reals, batch)
    _show(evaluator, fakes, "fakes", batch)
    return evaluator.compute()


def _take_in_reals(part: ExaminedPart, evaluator: Evaluator, reals: Seen | None = None, batch: int = 64) -> None:
    shown = _shown(part)
    reals = reals or shown["reals"]
    evaluator.reset(reals[0][0].numel(), _DEVICE)
    _show(evaluator, reals, "reals", batch)
    if evaluator.held_out:
        _show(evaluator, shown["held-out"], "held-out", batch)


def _show(evaluator: Evaluator, seen: Seen, origin: Origin, batch: int = 64) -> None:
    for features, labels in zip(*(torch.split(tensor, batch) for tensor in seen), strict=True):
        evaluator.update(features.clone(), labels.clone(), origin)


def _ideal(part: ExaminedPart) -> Seen:
    """Fakes that could not be better: the reals themselves, or new reals where copies are looked for."""
    return _shown(part)["held-out" if part.build().held_out else "reals"]


def _near(first: dict[str, float], second: dict[str, float], slack: Mapping[str, float] | None = None) -> bool:
    """Whether scores are equal up to rounding, or up to a slack of their own."""
    slack = {name: 1e-5 + (slack or {}).get(name, 0.0) for name in first}
    near = (math.isclose(value, second[name], rel_tol=1e-4, abs_tol=slack[name]) for name, value in first.items())
    return first.keys() == second.keys() and all(near)


def _spans(part: ExaminedPart) -> dict[str, float]:
    """How far each score is from the best images to bad ones: what chance does to an estimate is small beside it."""
    best, worst = (_score(part, seen) for seen in (_ideal(part), _shown(part)["one image of noise"]))
    return {name: abs(worst[name] - best[name]) for name in best}


def _worse(part: ExaminedPart, score: str, value: float, than: float, slack: float = 0.0) -> bool:
    """Whether a value is worse than another by more than rounding, or a slack."""
    slack += 1e-5 * max(1.0, abs(than))
    lower: bool = part.build().scores[score].better == "lower"
    return value > than + slack if lower else value < than - slack


def scores_are_as_declared(part: ExaminedPart) -> None:
    """`compute` gives the scores that `scores` names: Python floats, finite, within their bounds."""
    declared = part.build().scores
    for name in ("reals", "noise"):
        found = _score(part, _shown(part)[name])
        require(set(found) == set(declared), f"It computes {sorted(found)} and declares {sorted(declared)}.")
        for score, value in found.items():
            require(isinstance(value, float), f"{score} is a {type(value).__name__}, not a float.")
            bounds = declared[score]
            inside = math.isfinite(value) and bounds.low <= value <= bounds.high
            require(inside, f"{score} of {name} is {value}; it says {bounds.low} to {bounds.high}.")
            require(bounds.better in ("lower", "higher"), f"{score} is better {bounds.better!r}: say lower or higher.")


def extractor_has_the_layer(part: ExaminedPart) -> None:
    """The extractor it names exists, and has the layer it names."""
    evaluator: Evaluator = part.build()
    choice = extractor_of(evaluator)
    try:
        zoo().options("extractors", choice)
        layers = (_extractor(str(choice)) or zoo().build("extractors", choice)).layers
    except GanzooError as error:
        raise Failed(f"Its extractor cannot be had: {error}") from error
    require(evaluator.layer in layers, f"{choice} has no layer {evaluator.layer!r}; it has {', '.join(layers)}.")


def bad_images_score_worse(part: ExaminedPart) -> None:
    """Every score is worse for one image of noise repeated, or for copies if it looks for them, than for reals."""
    shown, best = _shown(part), _score(part, _ideal(part))
    bad = [_score(part, shown["one image of noise"])]
    if part.build().held_out:
        bad.append(_score(part, shown["reals"]))
    for name, value in best.items():
        told = f"{name} is {value:.5g} for real images and {' or '.join(f'{b[name]:.5g}' for b in bad)} for bad ones."
        require(any(_worse(part, name, found[name], value) for found in bad), told)


def same_set_scores_best(part: ExaminedPart) -> None:
    """The reals themselves score as well as with any noise on them, and much noise is felt."""
    shown = _shown(part)
    if part.build().held_out:
        raise Skipped("it looks for copies, and noise is none")
    if shown["reals"][0].ndim > 2:
        raise Skipped("its features are images, and noise makes images diverse, which is all that some scores look at")
    spans = _spans(part)
    same, slight, much = (_score(part, shown[name]) for name in ("reals", "slight noise", "noise"))
    for name, value in same.items():
        for what, found in (("slight noise", slight), ("noise", much)):
            told = f"{name} is {value:.5g} for the reals themselves and better, {found[name]:.5g}, with {what}."
            require(not _worse(part, name, value, found[name], 0.01 * spans[name]), told)
    felt = any(_worse(part, name, much[name], same[name]) for name in same)
    require(felt, f"No score is worse for images deep in noise: {much} against {same}.")


def order_does_not_matter(part: ExaminedPart) -> None:
    """Scores do not depend on the order of the images; estimates by parts of them do so by little."""
    features, labels = _shown(part)["slight noise"]
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    first = _score(part, (features, labels), batch=len(features))
    other = _score(part, (features[order], labels[order]), batch=len(features))
    slack = {name: 0.1 * span for name, span in _spans(part).items()}
    require(_near(first, other, slack), f"In another order, {first} becomes {other}.")


def batches_do_not_matter(part: ExaminedPart) -> None:
    """Scores do not depend on how the images are cut into batches: what is taken in by halves is the whole."""
    fakes = _shown(part)["slight noise"]
    whole, halves, odd = (_score(part, fakes, batch=size) for size in (len(fakes[0]), len(fakes[0]) // 2, 17))
    require(_near(whole, halves) and _near(whole, odd), f"In smaller batches, {whole} becomes {halves} and {odd}.")


def reset_forgets(part: ExaminedPart) -> None:
    """After `reset` an evaluator scores as a new one does."""
    shown = _shown(part)
    expected = _score(part, shown["slight noise"])
    evaluator = part.build()
    for name in ("noise", "slight noise"):
        _take_in_reals(part, evaluator, shown[name] if name == "noise" else None)
        _show(evaluator, shown[name], "fakes")
        found = evaluator.compute()
    require(_near(expected, found), f"Used again after reset, it gives {found}, not {expected}.")


def computes_the_same_twice(part: ExaminedPart) -> None:
    """`compute` gives the same when it is asked again, and does not depend on the global random state."""
    fakes = _shown(part)["slight noise"]
    evaluator = part.build()
    _take_in_reals(part, evaluator)
    _show(evaluator, fakes, "fakes")
    first, again = evaluator.compute(), evaluator.compute()
    require(first == again, f"Asked again, it gives {again}, not {first}.")
    torch.manual_seed(123)
    other = _score(part, fakes)
    require(first == other, f"Under another random state it gives {other}, not {first}.")


def statistics_stand_for_the_reals(part: ExaminedPart) -> None:
    """What `statistics` gives are tensors; through a file and `restore` they give the same scores as the reals."""
    evaluator = part.build()
    _take_in_reals(part, evaluator)
    kept = evaluator.statistics()
    if kept is None:
        raise Skipped("it keeps no statistics of the reals")
    require(all(isinstance(value, Tensor) for value in kept.values()), "statistics gives something else than tensors.")
    fakes = _shown(part)["slight noise"]
    restored = part.build()
    restored.reset(fakes[0][0].numel(), _DEVICE)
    restored.restore(safetensors.torch.load(tensors_to_bytes(kept)))
    for each in (evaluator, restored):
        _show(each, fakes, "fakes")
    expected, found = evaluator.compute(), restored.compute()
    require(_near(expected, found), f"With restored statistics it gives {found}, not {expected}.")


def too_few_images_are_refused(part: ExaminedPart) -> None:
    """With fewer fakes than `minimum` it raises a GanzooError that says so; with that many it scores."""
    least = part.build().minimum
    features, labels = _ideal(part)
    for name, value in _score(part, (features[:least], labels[:least])).items():
        require(math.isfinite(value), f"With {least} fakes, its minimum, {name} is {value}.")
    try:
        found = _score(part, (features[: least - 1], labels[: least - 1]))
    except GanzooError as error:
        sentence(error)
        return
    raise Failed(f"With {least - 1} fakes, one less than its minimum, it gives {found}.")


def features_are_left_alone(part: ExaminedPart) -> None:
    """The features and labels it is given are not changed in place: other evaluators are shown them too."""
    features, labels = (tensor.clone() for tensor in _shown(part)["reals"])
    kept = features.clone(), labels.clone()
    evaluator = part.build()
    evaluator.reset(features[0].numel(), _DEVICE)
    origins: tuple[Origin, ...] = ("reals", "held-out", "fakes") if evaluator.held_out else ("reals", "fakes")
    for origin in origins:
        evaluator.update(features, labels, origin)
    evaluator.compute()
    same = torch.equal(features, kept[0]) and torch.equal(labels, kept[1])
    require(same, "It changes the features or labels it is given in place.")


def random_state_is_left_alone(part: ExaminedPart) -> None:
    """Nothing it does draws from a global generator: scoring during a training must not be seen there."""
    shown = _shown(part)
    before = random_state()
    _score(part, shown["slight noise"])
    require(random_state() == before, "It draws from a global generator; use a torch.Generator of its own.")


CHECKS = (
    scores_are_as_declared,
    extractor_has_the_layer,
    bad_images_score_worse,
    same_set_scores_best,
    order_does_not_matter,
    batches_do_not_matter,
    reset_forgets,
    computes_the_same_twice,
    statistics_stand_for_the_reals,
    too_few_images_are_refused,
    features_are_left_alone,
    random_state_is_left_alone,
)
