"""Helpers of evaluators: checks of features, an even subset of bounded size, and reproducible random draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

import ganzoo

_WORDS = {"reals": ("real", "data"), "held-out": ("held-out", "data"), "fakes": ("generated", "generator")}


def require_finite(features: Tensor, origin: ganzoo.Origin, evaluator: ganzoo.Evaluator) -> None:
    """Raises GanzooError if features (N, ...) are not finite; the message names the origin of their images."""
    bad = int((~features.isfinite()).flatten(1).any(dim=1).sum())
    if bad:
        whose, suspect = _WORDS[origin]
        raise ganzoo.GanzooError(
            f"{bad} of {len(features)} {whose} images have features that are NaN or infinite ({evaluator.extractor}, "
            f"{evaluator.layer}): check the {suspect} and the extractor's weights."
        )


def require_enough(what: str, least: int, **counts: int) -> None:
    """Raises GanzooError if one of the counts (real=, held_out=, generated=) is less than `least`."""
    for kind, count in counts.items():
        if count < least:
            raise ganzoo.GanzooError(
                f"{what} needs at least {least} {kind.replace('_', '-')} images, not {count}: ask for more samples, or "
                "for an evaluator that needs fewer."
            )


class Precomputed(nn.Module):
    """Replaces the network of a torchmetrics metric: the features are computed already, and are returned unchanged."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) -> the same."""
        return features


class Sample:
    """Collects rows of tensors; of more than `limit` rows it keeps `limit`, spread evenly over all, in their order.

    The choice depends only on the indices of the rows, not on the batches: rows with the smallest fractional parts of
    index x golden ratio are kept. This is about as even as every n-th row, but it does not pick the same class every
    time if the classes of a dataset are in a periodic order. At most twice the limit, and one batch, is in memory.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.seen = 0
        self._rows: list[Tensor] = []
        self._places: list[Tensor] = []
        self._held = 0
        self._bound = 1 << 32

    def __len__(self) -> int:
        return self.seen if self.limit is None else min(self.seen, self.limit)

    def add(self, rows: Tensor) -> None:
        """Add rows (N, ...)."""
        places = torch.arange(self.seen, self.seen + len(rows))
        self.seen += len(rows)
        keep = self._fractions(places) <= self._bound
        if not bool(keep.all()):
            rows, places = rows[keep.to(rows.device)], places[keep]
        self._rows.append(rows)
        self._places.append(places)
        self._held += len(rows)
        if self.limit is not None and self._held > 2 * self.limit:
            self._shrink(self.limit)

    def rows(self) -> Tensor:
        """The rows that were kept, (len(self), ...)."""
        if not self._rows:
            raise ganzoo.GanzooError("An evaluator was asked for scores before it was updated with images.")
        if self.limit is not None and self._held > self.limit:
            self._shrink(self.limit)
        if len(self._rows) > 1:
            self._rows, self._places = [torch.cat(self._rows)], [torch.cat(self._places)]
        return self._rows[0]

    @staticmethod
    def _fractions(places: Tensor) -> Tensor:
        """Fractional parts of place x golden ratio, times 2^32: Knuth's multiplicative hash, without collisions."""
        return places * 2_654_435_769 % (1 << 32)

    def _shrink(self, limit: int) -> None:
        rows, places = torch.cat(self._rows), torch.cat(self._places)
        fractions = self._fractions(places)
        self._bound = int(fractions.kthvalue(limit).values)
        keep = fractions <= self._bound
        self._rows, self._places, self._held = [rows[keep.to(rows.device)]], [places[keep]], limit


@contextmanager
def fixed_draws() -> Iterator[None]:
    """Context manager: random draws of torchmetrics are the same every time. The global random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed the other devices as well
        yield
