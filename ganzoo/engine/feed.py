"""The data feed: the minibatches of real images of each step, on the device. They depend on seed and step only."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ganzoo.contract.components import Dataset
from ganzoo.contract.errors import UsageError
from ganzoo.contract.images import ValueRange, to_range
from ganzoo.contract.recipe import Recipe, parse_subset
from ganzoo.engine.distributed import rank, world_size
from ganzoo.engine.fingerprint import images_sha256
from ganzoo.engine.memory import fits_in_memory
from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.engine.seeds import generator

#: images read at once while all of them are loaded
_CHUNK = 4096
#: where images are read from the dataset in each step, a thread reads them this many steps before they are needed
_STEPS_AHEAD = 2
#: up to so many bytes, all images count for the fingerprint; of a larger set so many images do, at equal distances
_FINGERPRINT_BYTES = 1 << 28
_FINGERPRINT_IMAGES = 1000
_FINGERPRINT_BATCH_BYTES = 1 << 24


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
        """sha256 of the training images and labels, in the order of the dataset.

        Of more than 256 MiB of images, 1,000 count, among them the first and the last one, and their total number.
        """
        all_count = self.length * self._spec.pixels <= _FINGERPRINT_BYTES or self.length <= _FINGERPRINT_IMAGES
        positions = torch.arange(self.length if all_count else _FINGERPRINT_IMAGES)
        if not all_count:
            positions = positions * (self.length - 1) // (_FINGERPRINT_IMAGES - 1)
        batch_size = min(_CHUNK, max(1, _FINGERPRINT_BATCH_BYTES // self._spec.pixels))
        return images_sha256(self.read, positions, batch_size, header=f"{self._spec}, {self.length}")

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
        """Number of real images seen after `step` steps."""
        minibatch = step * self.minibatches
        if self.batch_order in ("stream", "replacement"):
            return minibatch * self.batch_size
        epoch, position = divmod(minibatch, self._batches_per_epoch)
        whole = self.length if self.batch_order == "epochs" else self._batches_per_epoch * self.batch_size
        return epoch * whole + min(position * self.batch_size, whole)

    @property
    def epoch_images(self) -> int:
        """Number of images seen in an epoch: all, or those of the full batches where the last batch is dropped."""
        if self.batch_order == "epochs-drop-last":
            return self._batches_per_epoch * self.batch_size
        return self.length

    @property
    def _batches_per_epoch(self) -> int:
        whole, rest = divmod(self.length, self.batch_size)
        return whole + (rest > 0 and self.batch_order == "epochs")

    def indices(self, minibatch: int) -> Tensor:
        """Positions (n,) in the subset of the images of one minibatch, for all ranks; counted over the whole run."""
        size = self.batch_size
        if self.batch_order == "replacement":
            return torch.randint(self.length, (size,), generator=generator("cpu", self.seed, "replacement", minibatch))
        if self.batch_order == "stream":
            first = minibatch * size
            positions = torch.arange(first, first + size)
            epoch_of = positions // self.length
            epochs = range(int(epoch_of[0]), int(epoch_of[-1]) + 1)
            return torch.cat([self._order(e)[positions[epoch_of == e] - e * self.length] for e in epochs])
        epoch, position = divmod(minibatch, self._batches_per_epoch)
        return self._order(epoch)[position * size : (position + 1) * size]

    def local_indices(self, minibatch: int) -> Tensor:
        """The part of `indices` that belongs to this rank."""
        indices = self.indices(minibatch)
        share = len(indices) // world_size()
        return indices[rank() * share : (rank() + 1) * share] if world_size() > 1 else indices

    def _order(self, epoch: int) -> Tensor:
        order = self._orders.get(epoch)
        if order is None:
            order = torch.randperm(self.length, generator=generator("cpu", self.seed, "order", epoch))
            # replaced in one assignment: another thread may be reading the dictionary
            self._orders = {**{key: kept for key, kept in self._orders.items() if key >= epoch - 1}, epoch: order}
        return order

    def fill(self, step: int) -> list[Batch]:
        """The minibatches of `step`, always in the same tensors for a batch size, as CUDA graphs need it."""
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
