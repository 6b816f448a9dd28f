"""Feed: which real images a step sees, as a pure function of the step, written into fixed memory on the device."""

from __future__ import annotations

import functools
import hashlib
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
from ganzoo.engine.memory import _fits
from ganzoo.engine.memory_format import MEMORY_FORMAT
from ganzoo.engine.seeds import generator

_CHUNK = 4096
#: minibatches are read this many steps before they are played, where they are read one by one
_STEPS_AHEAD = 2
#: bytes of images up to which all of them are told from others; of larger sets this many are, evenly spread
_TOLD_WHOLE = 1 << 28
_TOLD_OF = 1000
_TOLD_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Batch:
    """One minibatch: reals (n, C, H, W) float in the architecture's value range, labels (n,) int64."""

    reals: Tensor
    labels: Tensor


class Feed:
    """Minibatches of a dataset, `minibatches` of them a step, each `batch_size` images over all ranks together."""

    def __init__(
        self, dataset: Dataset, recipe: Recipe, minibatches: int, value_range: ValueRange, device: torch.device
    ) -> None:
        self.subset = parse_subset(recipe.subset, len(dataset))
        self.sampling = recipe.sampling
        self.batch_size = recipe.batch_size
        self.minibatches = minibatches
        self.value_range = value_range
        self.device = device
        self.seed = recipe.seed
        if self.sampling == "epochs-drop-last" and self.batch_size > self.length:
            raise UsageError(
                f"A batch of {self.batch_size} is larger than the {self.length} training images, so dropping the last "
                f"batch leaves none; lower --batch-size, or use sampling 'stream'."
            )
        last = self.length % self.batch_size if self.sampling == "epochs" else 0
        if self.batch_size % world_size() or last % world_size():
            raise UsageError(
                f"Batches of {self.batch_size}{f' and a last one of {last}' if last else ''} cannot be shared evenly "
                f"by {world_size()} processes; choose another --batch-size, or sampling 'stream'."
            )
        #: images in this rank's share of an epoch's last minibatch where it is a smaller one; 0 where it is not
        self.last_size = last // world_size()
        self._orders: dict[int, Tensor] = {}
        self._buffers: dict[tuple[int, int], Batch] = {}
        self._spec = dataset.spec
        fits = _fits(dataset, self.subset, device)
        self._source = _Resident(dataset, self.subset, device) if fits else _Streamed(dataset, self.subset)

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of the training images and labels, in their order, however they are held.

        Where the images take more than 256 MiB it is of their number and of 1,000 of them, the first and last included.
        """
        whole = self.length * self._spec.pixels <= _TOLD_WHOLE or self.length <= _TOLD_OF
        positions = torch.arange(self.length if whole else _TOLD_OF)
        if not whole:
            positions = positions * (self.length - 1) // (_TOLD_OF - 1)
        sha = hashlib.sha256(f"{self._spec}, {self.length}".encode())
        for some in torch.split(positions, min(_CHUNK, max(1, _TOLD_AT_ONCE // self._spec.pixels))):
            for tensor in self.read(some):
                sha.update(tensor.contiguous().numpy().tobytes())
        return sha.hexdigest()

    def read(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 (n, C, H, W) and labels (n,) int64 at these positions (n,) of an epoch's images, on the CPU."""
        images, labels = self._source.read(positions)
        return images.cpu(), labels.cpu()

    def close(self) -> None:
        """Read no further ahead: at most one minibatch is still waited for when the process ends."""
        self._source.close()

    @property
    def length(self) -> int:
        """Number of images in an epoch."""
        return len(self.subset)

    def images_at(self, step: int) -> int:
        """Real images seen after `step` steps."""
        minibatch = step * self.minibatches
        if self.sampling in ("stream", "replacement"):
            return minibatch * self.batch_size
        epoch, position = divmod(minibatch, self._batches_per_epoch)
        whole = self.length if self.sampling == "epochs" else self._batches_per_epoch * self.batch_size
        return epoch * whole + min(position * self.batch_size, whole)

    @property
    def epoch_images(self) -> int:
        """Images a whole epoch shows: all, or whole batches only where the last is dropped."""
        if self.sampling == "epochs-drop-last":
            return self._batches_per_epoch * self.batch_size
        return self.length

    @property
    def _batches_per_epoch(self) -> int:
        whole, rest = divmod(self.length, self.batch_size)
        return whole + (rest > 0 and self.sampling == "epochs")

    def indices(self, minibatch: int) -> Tensor:
        """Positions in the subset (n,) of one minibatch of the whole run, for all ranks together."""
        size = self.batch_size
        if self.sampling == "replacement":
            return torch.randint(self.length, (size,), generator=generator("cpu", self.seed, "replacement", minibatch))
        if self.sampling == "stream":
            first = minibatch * size
            positions = torch.arange(first, first + size)
            epochs = positions // self.length
            met = range(int(epochs[0]), int(epochs[-1]) + 1)
            return torch.cat([self._order(e)[positions[epochs == e] - e * self.length] for e in met])
        epoch, position = divmod(minibatch, self._batches_per_epoch)
        return self._order(epoch)[position * size : (position + 1) * size]

    def local_indices(self, minibatch: int) -> Tensor:
        """This rank's share of `indices`."""
        indices = self.indices(minibatch)
        share = len(indices) // world_size()
        return indices[rank() * share : (rank() + 1) * share] if world_size() > 1 else indices

    def _order(self, epoch: int) -> Tensor:
        order = self._orders.get(epoch)
        if order is None:
            order = torch.randperm(self.length, generator=generator("cpu", self.seed, "order", epoch))
            # in one go: another thread may be looking for its own
            self._orders = {**{key: kept for key, kept in self._orders.items() if key >= epoch - 1}, epoch: order}
        return order

    def fill(self, step: int) -> list[Batch]:
        """The minibatches of `step`, in the same memory every time (for each size of batch)."""
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
    """The whole subset as one uint8 tensor on the device: a minibatch is an index."""

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
            indices = indices.pin_memory()  # or else the copy would wait for all steps before it
        indices = indices.to(self.images.device, non_blocking=True)
        return self.images[indices], self.labels[indices]


class _Streamed:
    """Images read as they are needed, in a thread that is steps ahead; pinned where that helps."""

    def __init__(self, dataset: Dataset, subset: range) -> None:
        self.dataset, self.subset = dataset, subset
        self._ahead: dict[int, Future[tuple[Tensor, Tensor]]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ganzoo-feed")
        self._alone = threading.Lock()

    def read(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        with self._alone:  # a dataset promises to be read in any thread, not in two at once
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
        for key in self._ahead.keys() - set(wanted):  # the step was not the one after the last
            self._ahead.pop(key).cancel()
        for key in wanted:
            if key not in self._ahead:
                self._ahead[key] = self._thread.submit(self._read, feed, key)
        return images.to(feed.device, non_blocking=True), labels.to(feed.device, non_blocking=True)
