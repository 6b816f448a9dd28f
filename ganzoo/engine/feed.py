"""The data feed: the minibatches of real images of each step, on the device.

They depend on the seed, the step and the segments of the training only.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from ganzoo.contract.components import Dataset
from ganzoo.contract.errors import UsageError
from ganzoo.contract.images import ValueRange, to_range
from ganzoo.contract.recipe import Recipe, parse_subset
from ganzoo.engine.distributed import rank, world_size
from ganzoo.engine.fingerprint import training_images_sha256
from ganzoo.engine.history import BatchPlan, Segment
from ganzoo.engine.memory import fits_in_memory
from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.engine.seeds import generator

#: images read at once while all of them are loaded
_CHUNK = 4096
#: where images are read from the dataset in each step, a thread reads them this many steps before they are needed
_STEPS_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """One minibatch: reals (n, C, H, W), float, in the architecture's value range, and labels (n,) int64."""

    reals: Tensor
    labels: Tensor


class Feed:
    """The minibatches of a training: `minibatches` per step, each of `batch_size` images over all ranks together.

    A dataset that fits into the device's memory is loaded whole. Of a larger one, each minibatch is read when it is
    needed, by a thread that is two steps ahead.
    """

    def __init__(
        self, dataset: Dataset, recipe: Recipe, minibatches: int, value_range: ValueRange, device: torch.device
    ) -> None:
        self.subset = parse_subset(recipe.subset, len(dataset))
        self.batch_order = recipe.batch_order
        self.batch_size = recipe.batch_size
        self.minibatches = minibatches
        self.value_range = value_range
        self.device = device
        self.seed = recipe.seed
        self._plan = BatchPlan(self.length, self.batch_size, minibatches, self.batch_order)
        #: the earlier segments, and the segment of the images of this feed
        self._earlier: list[Segment] = []
        self._start = Segment(0, 0, Fraction(0), self.length)
        if self.batch_order == "epochs-drop-last" and self.batch_size > self.length:
            raise UsageError(
                f"A batch of {self.batch_size} is larger than the {self.length} training images, so dropping the last "
                f"batch leaves none; lower --batch-size, or use --batch-order stream."
            )
        last = self.length % self.batch_size if self.batch_order == "epochs" else 0
        if self.batch_size % world_size() or last % world_size():
            raise UsageError(
                f"Batches of {self.batch_size}{f' and a last one of {last}' if last else ''} cannot be shared evenly "
                f"by {world_size()} processes; choose another --batch-size, or --batch-order stream."
            )
        #: this rank's images of an epoch's last minibatch, where that one is smaller; 0 where all have the same size
        self.last_size = last // world_size()
        self._orders: dict[int, Tensor] = {}
        self._buffers: dict[tuple[int, int], Batch] = {}
        self._spec = dataset.spec
        fits = fits_in_memory(dataset, self.subset, device)
        self._source = _Resident(dataset, self.subset, device) if fits else _Streamed(dataset, self.subset)

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of the training images and labels, in the order of the dataset, see `training_images_sha256`."""
        return training_images_sha256(self.read, self.length, self._spec)

    @functools.cached_property
    def classes(self) -> int | None:
        """Number of classes that images of the subset have; None where the images are not all in memory."""
        if not isinstance(self._source, _Resident):
            return None
        return int(self._source.labels.bincount().count_nonzero())

    def read(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 (n, C, H, W) and labels (n,) int64 at these positions (n,) in the subset, on the CPU."""
        images, labels = self._source.read(positions)
        return images.cpu(), labels.cpu()

    def close(self) -> None:
        """Stop reading ahead. The process then waits for one minibatch at most when it ends."""
        self._source.close()

    @property
    def length(self) -> int:
        """Number of images in an epoch."""
        return len(self.subset)

    def images_at(self, step: int) -> int:
        """Number of real images seen after `step` steps, over all segments."""
        segment, plan = self._segment_at(step)
        return segment.images + plan.images_at(step - segment.step)

    def epochs_at(self, step: int) -> Fraction:
        """Number of epochs after `step` steps, over all segments: each counts epochs of its own set."""
        segment, plan = self._segment_at(step)
        return segment.epochs + Fraction(plan.images_at(step - segment.step), plan.epoch_images)

    def _segment_at(self, step: int) -> tuple[Segment, BatchPlan]:
        if step >= self._start.step:
            return self._start, self._plan
        segment = [before for before in self._earlier if before.step <= step][-1]
        return segment, self._plan_of(segment)

    def _plan_of(self, segment: Segment) -> BatchPlan:
        return replace(self._plan, length=segment.length, batch_size=segment.batch_size or self.batch_size)

    @property
    def segments(self) -> list[Segment]:
        """The segments of the training; the last one has the images of this feed."""
        return [*self._earlier, replace(self._start, length=self.length, training_images=self.fingerprint)]

    def use_segments(self, segments: Sequence[Segment]) -> None:
        """Continue the counts of images and epochs of these `segments`; the last one has the images of this feed.

        A new epoch begins at its first step. Minibatches of earlier segments cannot be read.
        """
        *self._earlier, self._start = segments
        self._orders = {}
        self._source.discard_ahead()  # these minibatches were chosen for another segment

    def continue_from(self, segments: Sequence[Segment], step: int) -> None:
        """Continue a training with these `segments` after `step` steps.

        If the images or the batch size have changed, a segment is added.
        """
        self.use_segments(segments)
        last = segments[-1]
        known = last.training_images
        other_images = (known and known != self.fingerprint) or (not known and last.length != self.length)
        if other_images or last.batch_size not in (0, self.batch_size):
            # a segment in which no step was trained is no part of the history
            earlier = [segment for segment in segments if segment.step < step]
            self.use_segments([*earlier, self.next_segment(segments, step)])

    def next_segment(self, segments: Sequence[Segment], step: int) -> Segment:
        """The segment of this feed's images that begins after `step` steps of a training with these `segments`."""
        last = segments[-1]
        plan = self._plan_of(last)
        seen = plan.images_at(step - last.step)
        return Segment(step, last.images + seen, last.epochs + Fraction(seen, plan.epoch_images), self.length)

    @property
    def epoch_images(self) -> int:
        """Number of images seen in an epoch: all, or those of the full batches where the last batch is dropped."""
        return self._plan.epoch_images

    def indices(self, minibatch: int) -> Tensor:
        """Positions (n,) in the subset of the images of one minibatch, for all ranks; counted over the whole run."""
        size = self.batch_size
        if minibatch < self._start.step * self.minibatches:
            raise ValueError(f"Minibatch {minibatch} is of an earlier set of images.")
        if self.batch_order == "replacement":
            return torch.randint(self.length, (size,), generator=generator("cpu", self.seed, "replacement", minibatch))
        minibatch -= self._start.step * self.minibatches
        if self.batch_order == "stream":
            first = minibatch * size
            positions = torch.arange(first, first + size)
            epoch_of = positions // self.length
            epochs = range(int(epoch_of[0]), int(epoch_of[-1]) + 1)
            return torch.cat([self._order(e)[positions[epoch_of == e] - e * self.length] for e in epochs])
        epoch, position = divmod(minibatch, self._plan.batches_per_epoch)
        return self._order(epoch)[position * size : (position + 1) * size]

    def local_indices(self, minibatch: int) -> Tensor:
        """The part of `indices` that belongs to this rank."""
        indices = self.indices(minibatch)
        share = len(indices) // world_size()
        return indices[rank() * share : (rank() + 1) * share] if world_size() > 1 else indices

    def _order(self, epoch: int) -> Tensor:
        order = self._orders.get(epoch)
        if order is None:
            # two segments may be of the same images: each has orders of its own
            key = ("order", epoch, self._start.step) if self._start.step else ("order", epoch)
            order = torch.randperm(self.length, generator=generator("cpu", self.seed, *key))
            # replaced in one assignment: another thread may be reading the dictionary
            self._orders = {**{e: kept for e, kept in self._orders.items() if e >= epoch - 1}, epoch: order}
        return order

    def fill(self, step: int) -> list[Batch]:
        """The minibatches of `step`. For each batch size they are always in the same tensors, for CUDA graphs."""
        batches = []
        for slot in range(self.minibatches):
            images, labels = self._source.take(self, step * self.minibatches + slot)
            batch = self._buffer(slot, images)
            batch.reals.copy_(to_range(images, self.value_range), non_blocking=True)
            batch.labels.copy_(labels, non_blocking=True)
            batches.append(batch)
        return batches

    def _buffer(self, slot: int, images: Tensor) -> Batch:
        key = (slot, len(images))
        if key not in self._buffers:
            reals = torch.empty(
                images.shape,
                dtype=torch.get_default_dtype(),
                device=self.device,
                memory_format=MEMORY_FORMAT,
            )
            self._buffers[key] = Batch(reals, torch.empty(len(images), dtype=torch.int64, device=self.device))
        return self._buffers[key]


class _Resident:
    """The whole subset as one uint8 tensor on the device."""

    def __init__(self, dataset: Dataset, subset: range, device: torch.device) -> None:
        spec = dataset.spec
        shape = (len(subset), spec.channels, spec.height, spec.width)
        self.images = torch.empty(shape, dtype=torch.uint8, device=device)
        self.labels = torch.empty(len(subset), dtype=torch.int64, device=device)
        for start in range(0, len(subset), _CHUNK):
            images, labels = dataset.read(torch.tensor(subset[start : start + _CHUNK]))
            self.images[start : start + len(images)] = images.to(device)
            self.labels[start : start + len(images)] = labels.to(device)

    def read(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        positions = positions.to(self.images.device)
        return self.images[positions], self.labels[positions]

    def close(self) -> None:
        pass

    def discard_ahead(self) -> None:
        pass

    def take(self, feed: Feed, minibatch: int) -> tuple[Tensor, Tensor]:
        indices = feed.local_indices(minibatch)
        if self.images.is_cuda:
            indices = indices.pin_memory()  # otherwise the copy waits for all steps before it
        indices = indices.to(self.images.device, non_blocking=True)
        return self.images[indices], self.labels[indices]


class _Streamed:
    """Images that are read when they are needed, by a thread that is some steps ahead; in pinned memory for CUDA."""

    def __init__(self, dataset: Dataset, subset: range) -> None:
        self.dataset, self.subset = dataset, subset
        self._ahead: dict[int, Future[tuple[Tensor, Tensor]]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ganzoo-feed")
        self._reading = threading.Lock()

    def read(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        with self._reading:  # a dataset may be read in any thread, but not in two at once
            return self.dataset.read(positions + self.subset.start)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def discard_ahead(self) -> None:
        for key in list(self._ahead):
            self._ahead.pop(key).cancel()

    def _read(self, feed: Feed, minibatch: int) -> tuple[Tensor, Tensor]:
        images, labels = self.read(feed.local_indices(minibatch))
        return (images.pin_memory(), labels.pin_memory()) if feed.device.type == "cuda" else (images, labels)

    def take(self, feed: Feed, minibatch: int) -> tuple[Tensor, Tensor]:
        ready = self._ahead.pop(minibatch, None)
        images, labels = ready.result() if ready else self._read(feed, minibatch)
        wanted = range(minibatch + 1, minibatch + 1 + _STEPS_AHEAD * feed.minibatches)
        for key in self._ahead.keys() - set(wanted):  # this step does not follow the last one
            self._ahead.pop(key).cancel()
        for key in wanted:
            if key not in self._ahead:
                self._ahead[key] = self._thread.submit(self._read, feed, key)
        return images.to(feed.device, non_blocking=True), labels.to(feed.device, non_blocking=True)
