"""Augmentations on the recorded images and draws of the official programs: the pipe of ADA, and DiffAugment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from official_numbers import Recording, read_manifest, redraw
from published import default_dtype
from torch import Tensor

import ganzoo
from ganzoo_plugins.augmentations import _pipe
from ganzoo_plugins.augmentations.ada import ADA
from ganzoo_plugins.augmentations.diffaugment import DiffAugment

ADA_RECORDING, DIFFAUGMENT_RECORDING = "ada/pipe", "diffaugment/policies"


def _cases(recording: str, title: Callable[[Mapping[str, Any]], str]) -> dict[str, dict[str, Any]]:
    cases = Recording(recording, torch.float64).manifest["cases"]
    return {f"{title(case)}/{'x'.join(map(str, case['shape']))}": case for case in cases}


#: name of a case, such as bgc/p0.5/4x3x16x16 -> what was recorded for it
ADA_CASES = _cases(ADA_RECORDING, lambda case: f"{case['pipe']}/p{case['p']}")
DIFFAUGMENT_CASES = _cases(DIFFAUGMENT_RECORDING, lambda case: str(case["policy"]))


def _errors(
    recording: Recording, name: str, case: Mapping[str, Any], augmentation: ganzoo.Augmentation
) -> dict[str, float]:
    """Errors of the augmented images of a case, and of their gradient, by name."""
    inputs = {
        key: value.to(recording.dtype) if value.is_floating_point() else value
        for key, value in redraw(case["inputs"]).items()
    }
    images = inputs["x"].requires_grad_()
    changed = augmentation(images)
    found = {f"{name}/y": changed}
    if "cotangent" in inputs:
        (found[f"{name}/grad_x"],) = torch.autograd.grad((changed * inputs["cotangent"]).sum(), images)
    missing = [key for key in recording.names(f"{name}/") if key not in found]
    assert not missing, missing
    return {key: recording.error(key, value) for key, value in found.items() if recording.names(key)}


def ada_errors(name: str, dtype: torch.dtype, patch: pytest.MonkeyPatch) -> dict[str, float]:
    """The errors of a case of the pipe of ADA, with `uniform` and `normal` of the pipe replaced by the draws."""
    case, recording = ADA_CASES[name], Recording(ADA_RECORDING, dtype)
    queue = iter(redraw(case["random"]).items())

    def draw(kind: str) -> Callable[..., Tensor]:
        def drawn(images: Tensor, *shape: int) -> Tensor:
            key, values = next(queue)
            assert key.endswith(kind), (key, kind)
            return values.to(dtype).reshape(len(images), *shape)

        return drawn

    patch.setattr(_pipe, "uniform", draw("uniform"))
    patch.setattr(_pipe, "normal", draw("normal"))
    pipe = "+".join(f"{key}*{share}" for key, share in case["multipliers"].items())
    errors = _errors(recording, name, case, ADA(pipe=pipe, mode="fixed", p=case["p"]))
    assert next(queue, None) is None, "a recorded draw was not used"
    return errors


def diffaugment_errors(name: str, dtype: torch.dtype, patch: pytest.MonkeyPatch) -> dict[str, float]:
    """The errors of a case of DiffAugment, with the draws of torch replaced by the recorded ones."""
    case, recording = DIFFAUGMENT_CASES[name], Recording(DIFFAUGMENT_RECORDING, dtype)
    rules = iter(case["random"]["arrays"])
    queue = iter(redraw(case["random"]).values())

    def rand(*shape: int, **keywords: Any) -> Tensor:
        assert next(rules)["draw"] == "uniform"
        return next(queue).to(dtype).reshape(shape)

    def randint(low: int, high: int, shape: tuple[int, ...], **keywords: Any) -> Tensor:
        rule = next(rules)
        assert (rule["draw"], rule["low"], rule["high"]) == ("integers", low, high), rule
        return next(queue).reshape(shape)

    patch.setattr(torch, "rand", rand)
    patch.setattr(torch, "randint", randint)
    errors = _errors(recording, name, case, DiffAugment(policy=case["policy"]))
    assert next(queue, None) is None, "a recorded draw was not used"
    return errors


def measured(
    errors: Callable[[str, torch.dtype, pytest.MonkeyPatch], dict[str, float]],
    cases: Mapping[str, object],
    which: str,
    dtype: torch.dtype,
) -> dict[str, float]:
    """The errors of all cases of a pipe or policy, by name."""
    found: dict[str, float] = {}
    for name in cases:
        if name.partition("/")[0] == which:
            with pytest.MonkeyPatch.context() as patch:
                found |= errors(name, dtype, patch)
    return found


# --- the controller of ADA --------------------------------------------------------------------------------------------


def _signs(mean: float) -> Tensor:
    """200 logits whose mean sign is this."""
    positive = round(100 * (1 + mean))
    return torch.cat([torch.ones(positive), -torch.ones(200 - positive)])


def _strengths(ada: ADA, means: list[float], batch: int) -> Iterator[float]:
    """p after each interval; the program changes it at the end of its iterations 0, 4, 8, ..."""
    images = 0
    ada.advance(images)
    for number, mean in enumerate(means):
        for _ in range(4 if number else 1):
            ada.observe(_signs(mean))
            images += batch
            ada.advance(images)
        yield float(ada.strength)


def controller_errors(dtype: torch.dtype) -> dict[str, float]:
    """Errors of the strength of ADA after each interval, relative to the largest."""
    golden, found = read_manifest("ada-controller"), {}
    for key, images, start in (("500, target 0.6", 500_000, 0.0), ("100, target 0.6, from 0.001", 100_000, 0.001)):
        expected = golden[f"p (batch 64, interval 4, kimg {key})"]
        with default_dtype(dtype):
            ada = ADA(speed=images, p=start)
        strengths = [*_strengths(ada, golden["mean signs of reals"], 64)]
        errors = [abs(a - b) for a, b in zip(strengths, expected, strict=True)]
        found[f"controller/speed {images}"] = max(errors) / max(expected)
    return found
