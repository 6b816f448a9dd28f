"""Which processes compute the features of a score: one alone, or all that train together, batch by batch.

With all of them, batch k is computed by process k modulo their number. The features go to the first process, which
passes them to the evaluators in the order of the batches. So a score has the same bits as in one process, as long as
the features do not depend on the process and need no random numbers.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ganzoo.contract.errors import GanzooError
from ganzoo.engine import distributed

Images = Iterable[tuple[Tensor, Tensor]]
#: the features of one batch by name
Features = dict[str, Tensor]
_T = TypeVar("_T")


class ScoringCancelled(GanzooError):
    """Scoring was cancelled between two batches, for example by a signal to stop the training."""


class RandomFeatures(Exception):
    """Features were computed with random numbers, whose order one process alone knows."""


def cancellable(stopped: Callable[[], bool], batches: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches. Raises ScoringCancelled before a batch where `stopped()` is true."""
    for batch in batches:
        if stopped():
            raise ScoringCancelled("The scoring was stopped.")
        yield batch


class BatchSequence(ABC):
    """Batches of images, uint8 (n, C, H, W), and labels (n,), each of which can be asked for by its number."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches."""

    @abstractmethod
    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """The batch of this number, from 0."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[number] for number in range(len(self)))


class OneProcess:
    """This process alone computes the features and holds the evaluators."""

    #: whether the evaluators of this process are used
    holds_evaluators = True

    def decided(self, make: Callable[[], _T]) -> _T:
        """The result of `make()`, which uses the evaluators."""
        return make()

    def each_batch(
        self,
        batches: Images,
        extract: Callable[[Tensor, Tensor], Features],
        use: Callable[[Features, Tensor], None],
        stopped: Callable[[], bool],
    ) -> None:
        """Call `use` with the features and labels of each batch. Raises ScoringCancelled once `stopped()` is true."""
        for images, labels in cancellable(stopped, batches):
            use(extract(images, labels), labels)


class AllProcesses:
    """All processes compute features; the first one holds the evaluators. Each process makes the same calls."""

    @property
    def holds_evaluators(self) -> bool:
        """Whether the evaluators of this process are used."""
        return distributed.rank() == 0

    def decided(self, make: Callable[[], _T]) -> _T:
        """The result of `make()` on the first process, which JSON must be able to hold. An error ends all processes."""
        result: Any = None
        with distributed.all_or_none():
            if self.holds_evaluators:
                result = make()
        return distributed.from_first_rank(result)  # type: ignore[no-any-return]

    def each_batch(
        self,
        batches: Images,
        extract: Callable[[Tensor, Tensor], Features],
        use: Callable[[Features, Tensor], None],
        stopped: Callable[[], bool],
    ) -> None:
        """On the first process, call `use` with the features and labels of each batch of a BatchSequence, in order.

        An error on one process ends all of them. Raises ScoringCancelled once `stopped()` is true on any process, and
        RandomFeatures where `extract` used random numbers.
        """
        assert isinstance(batches, BatchSequence)  # noqa: S101  (an iterator has no batch of a given number)
        rank, world = distributed.rank(), distributed.world_size()
        gathered: list[Features] = []
        drawn = False
        for first in range(0, len(batches) + world, world):  # in the last round only the features before it are used
            stop, random_numbers = distributed.max_of_each((stopped(), drawn))
            if stop:
                raise ScoringCancelled("The scoring was stopped.")
            if random_numbers:
                raise RandomFeatures
            own: Features = {}
            with distributed.all_or_none():
                if first + rank < len(batches):
                    before = _random_states()
                    images, labels = batches[first + rank]
                    own = {**extract(images, labels), "labels": labels}
                    drawn = before != _random_states()
                for features in gathered:
                    if features:
                        use(features, features.pop("labels"))
            gathered = distributed.gather_on_first_rank(own)


def _random_states() -> tuple[bytes, ...]:
    """The states of all global random generators."""
    states = [torch.get_rng_state().numpy().tobytes(), repr(random.getstate()).encode()]
    _, keys, position, *_ = np.random.get_state()  # type: ignore[misc]
    states += [np.asarray(keys).tobytes(), str(position).encode()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states.append(torch.cuda.get_rng_state().numpy().tobytes())
    return tuple(states)
