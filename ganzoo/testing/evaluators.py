"""Checks of an evaluator, on the features of `evaluator_features`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from ganzoo.contract.components import Evaluator, Origin
from ganzoo.contract.errors import GanzooError
from ganzoo.evaluation.features import extractor_of
from ganzoo.registry.zoo import zoo
from ganzoo.storage.tensors import tensors_to_bytes
from ganzoo.testing.evaluator_features import Features, features_of, find_extractor
from ganzoo.testing.kit import ExaminedPart, Failed, Skipped, require, sentence
from ganzoo.testing.process import random_state

_DEVICE = torch.device("cpu")


def _score(part: ExaminedPart, fakes: Features, *, reals: Features | None = None, batch: int = 64) -> dict[str, float]:
    """The scores of `fakes` against `reals` (None: those of `features_of`), by a new evaluator, updated in batches."""
    evaluator: Evaluator = part.build()
    _update_reals(part, evaluator, reals, batch)
    _update(evaluator, fakes, "fakes", batch)
    return evaluator.compute()


def _update_reals(part: ExaminedPart, evaluator: Evaluator, reals: Features | None = None, batch: int = 64) -> None:
    features = features_of(part)
    reals = reals or features["reals"]
    evaluator.reset(reals[0][0].numel(), _DEVICE)
    _update(evaluator, reals, "reals", batch)
    if evaluator.held_out:
        _update(evaluator, features["held-out"], "held-out", batch)


def _update(evaluator: Evaluator, all_features: Features, origin: Origin, batch: int = 64) -> None:
    for features, labels in zip(*(torch.split(tensor, batch) for tensor in all_features), strict=True):
        evaluator.update(features.clone(), labels.clone(), origin)


def _ideal(part: ExaminedPart) -> Features:
    """The best possible fakes: the reals themselves, or other reals for an evaluator that looks for copies."""
    return features_of(part)["held-out" if part.build().held_out else "reals"]


def _near(first: dict[str, float], second: dict[str, float], slack: Mapping[str, float] | None = None) -> bool:
    """Whether scores are equal up to rounding, plus a slack for each score."""
    slack = {name: 1e-5 + (slack or {}).get(name, 0.0) for name in first}
    near = (math.isclose(value, second[name], rel_tol=1e-4, abs_tol=slack[name]) for name, value in first.items())
    return first.keys() == second.keys() and all(near)


def _spans(part: ExaminedPart) -> dict[str, float]:
    """Score -> its absolute difference between the best and the worst images. Sampling errors are much smaller."""
    best, worst = (_score(part, features) for features in (_ideal(part), features_of(part)["one image of noise"]))
    return {name: abs(worst[name] - best[name]) for name in best}


def _worse(part: ExaminedPart, score: str, value: float, than: float, slack: float = 0.0) -> bool:
    """Whether `value` is worse than `than`, by more than rounding and `slack`."""
    slack += 1e-5 * max(1.0, abs(than))
    lower: bool = part.build().scores[score].better == "lower"
    return value > than + slack if lower else value < than - slack


def scores_are_as_declared(part: ExaminedPart) -> None:
    """`compute` returns the scores that `scores` declares: Python floats, finite, within their bounds."""
    declared = part.build().scores
    for name in ("reals", "noise"):
        found = _score(part, features_of(part)[name])
        require(set(found) == set(declared), f"It computes {sorted(found)} and declares {sorted(declared)}.")
        for score, value in found.items():
            require(isinstance(value, float), f"{score} is a {type(value).__name__}, not a float.")
            bounds = declared[score]
            inside = math.isfinite(value) and bounds.low <= value <= bounds.high
            require(inside, f"{score} of {name} is {value}; declared are {bounds.low} to {bounds.high}.")
            require(
                bounds.better in ("lower", "higher"), f"{score} has better={bounds.better!r}: set 'lower' or 'higher'."
            )


def extractor_has_the_layer(part: ExaminedPart) -> None:
    """The extractor it names exists, and has the layer it names."""
    evaluator: Evaluator = part.build()
    choice = extractor_of(evaluator)
    try:
        zoo().options("extractors", choice)
        layers = (find_extractor(str(choice)) or zoo().build("extractors", choice)).layers
    except GanzooError as error:
        raise Failed(f"Its extractor cannot be used: {error}") from error
    require(evaluator.layer in layers, f"{choice} has no layer {evaluator.layer!r}; it has {', '.join(layers)}.")


def bad_images_score_worse(part: ExaminedPart) -> None:
    """Every score is worse for one repeated image of noise, or for copies if it looks for them, than for reals."""
    features, best = features_of(part), _score(part, _ideal(part))
    bad = [_score(part, features["one image of noise"])]
    if part.build().held_out:
        bad.append(_score(part, features["reals"]))
    for name, value in best.items():
        problem = (
            f"{name} is {value:.5g} for real images and {' or '.join(f'{b[name]:.5g}' for b in bad)} for bad ones."
        )
        require(any(_worse(part, name, found[name], value) for found in bad), problem)


def same_set_scores_best(part: ExaminedPart) -> None:
    """No noise makes the reals score better, and much noise makes at least one score worse."""
    features = features_of(part)
    if part.build().held_out:
        raise Skipped("it looks for copies, and noisy images are not copies")
    if features["reals"][0].ndim > 2:
        raise Skipped("its features are images, and noise raises their diversity, which is what some scores measure")
    spans = _spans(part)
    same, slight, much = (_score(part, features[name]) for name in ("reals", "slight noise", "noise"))
    for name, value in same.items():
        for what, found in (("slight noise", slight), ("noise", much)):
            problem = f"{name} is {value:.5g} for the reals and better, {found[name]:.5g}, with {what}."
            require(not _worse(part, name, value, found[name], 0.01 * spans[name]), problem)
    sensitive = any(_worse(part, name, much[name], same[name]) for name in same)
    require(sensitive, f"No score is worse for images with much noise: {much} instead of {same}.")


def order_does_not_matter(part: ExaminedPart) -> None:
    """Scores do not depend on the order of the images; estimates from subsets may differ a little."""
    features, labels = features_of(part)["slight noise"]
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    first = _score(part, (features, labels), batch=len(features))
    other = _score(part, (features[order], labels[order]), batch=len(features))
    slack = {name: 0.1 * span for name, span in _spans(part).items()}
    require(_near(first, other, slack), f"In another order, {first} becomes {other}.")


def batches_do_not_matter(part: ExaminedPart) -> None:
    """Scores do not depend on the batch size of the updates."""
    fakes = features_of(part)["slight noise"]
    whole, halves, odd = (_score(part, fakes, batch=size) for size in (len(fakes[0]), len(fakes[0]) // 2, 17))
    require(_near(whole, halves) and _near(whole, odd), f"In smaller batches, {whole} becomes {halves} and {odd}.")


def reset_clears_all_state(part: ExaminedPart) -> None:
    """After `reset` an evaluator computes the same scores as a new one."""
    features = features_of(part)
    expected = _score(part, features["slight noise"])
    evaluator = part.build()
    for name in ("noise", "slight noise"):
        _update_reals(part, evaluator, features[name] if name == "noise" else None)
        _update(evaluator, features[name], "fakes")
        found = evaluator.compute()
    require(_near(expected, found), f"Used again after reset, it computes {found}, not {expected}.")


def computes_the_same_twice(part: ExaminedPart) -> None:
    """A second call of `compute` returns the same; the global random state does not matter."""
    fakes = features_of(part)["slight noise"]
    evaluator = part.build()
    _update_reals(part, evaluator)
    _update(evaluator, fakes, "fakes")
    first, again = evaluator.compute(), evaluator.compute()
    require(first == again, f"A second call of compute returns {again}, not {first}.")
    torch.manual_seed(123)
    other = _score(part, fakes)
    require(first == other, f"Under another random state it computes {other}, not {first}.")


def statistics_replace_the_reals(part: ExaminedPart) -> None:
    """`statistics` returns tensors; saved, loaded and passed to `restore`, they give the same scores as the reals."""
    evaluator = part.build()
    _update_reals(part, evaluator)
    kept = evaluator.statistics()
    if kept is None:
        raise Skipped("it keeps no statistics of the reals")
    require(
        all(isinstance(value, Tensor) for value in kept.values()), "statistics returns something that is not a tensor."
    )
    fakes = features_of(part)["slight noise"]
    restored = part.build()
    restored.reset(fakes[0][0].numel(), _DEVICE)
    restored.restore(safetensors.torch.load(tensors_to_bytes(kept)))
    for each in (evaluator, restored):
        _update(each, fakes, "fakes")
    expected, found = evaluator.compute(), restored.compute()
    require(_near(expected, found), f"With restored statistics it computes {found}, not {expected}.")


def too_few_images_are_refused(part: ExaminedPart) -> None:
    """With fewer fakes than `minimum` it raises a GanzooError; with `minimum` fakes it computes finite scores."""
    least = part.build().minimum
    features, labels = _ideal(part)
    for name, value in _score(part, (features[:least], labels[:least])).items():
        require(math.isfinite(value), f"With {least} fakes, its minimum, {name} is {value}.")
    try:
        found = _score(part, (features[: least - 1], labels[: least - 1]))
    except GanzooError as error:
        sentence(error)
        return
    raise Failed(f"With {least - 1} fakes, one less than its minimum, it returns {found}.")


def features_are_left_alone(part: ExaminedPart) -> None:
    """It does not change features or labels in place: other evaluators receive the same tensors."""
    features, labels = (tensor.clone() for tensor in features_of(part)["reals"])
    kept = features.clone(), labels.clone()
    evaluator = part.build()
    evaluator.reset(features[0].numel(), _DEVICE)
    origins: tuple[Origin, ...] = ("reals", "held-out", "fakes") if evaluator.held_out else ("reals", "fakes")
    for origin in origins:
        evaluator.update(features, labels, origin)
    evaluator.compute()
    same = torch.equal(features, kept[0]) and torch.equal(labels, kept[1])
    require(same, "It changes features or labels in place.")


def random_state_is_left_alone(part: ExaminedPart) -> None:
    """It draws nothing from a global random generator: scoring must not change a training."""
    features = features_of(part)
    before = random_state()
    _score(part, features["slight noise"])
    require(random_state() == before, "It draws from a global random generator; use a torch.Generator of its own.")


CHECKS = (
    scores_are_as_declared,
    extractor_has_the_layer,
    bad_images_score_worse,
    same_set_scores_best,
    order_does_not_matter,
    batches_do_not_matter,
    reset_clears_all_state,
    computes_the_same_twice,
    statistics_replace_the_reals,
    too_few_images_are_refused,
    features_are_left_alone,
    random_state_is_left_alone,
)
