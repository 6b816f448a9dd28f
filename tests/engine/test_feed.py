"""The images of each step: all of them once an epoch, depending on seed and step only, in memory or streamed."""

from __future__ import annotations

import hashlib
import threading
import time
from fractions import Fraction

import pytest
import torch
from torch import Tensor

import ganzoo
from ganzoo import GanzooError, Recipe, UsageError
from ganzoo.contract.recipe import BATCH_ORDERS
from ganzoo.engine import memory
from ganzoo.engine.feed import Feed
from ganzoo.engine.fingerprint import images_sha256
from ganzoo.engine.history import Segment
from ganzoo.engine.memory import MEMORY_SHARE, fits_in_memory, free_memory

CPU = torch.device("cpu")
LENGTH = 50


class Numbered(ganzoo.Dataset):
    """Image i has i in every pixel; its label is i modulo 3."""

    def __init__(self, length: int = LENGTH, broken: int = -1) -> None:
        self.spec = ganzoo.ImageSpec(2, 3, 4, classes=3)
        self.length, self.broken = length, broken

    def __len__(self) -> int:
        return self.length

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        assert indices.dtype == torch.int64
        assert (indices >= 0).all()
        assert (indices < self.length).all()
        if self.broken in indices:
            raise GanzooError(f"image {self.broken} cannot be read")
        return indices.to(torch.uint8)[:, None, None, None].expand(-1, 2, 3, 4), indices % 3


@pytest.fixture(params=["resident", "streamed"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test twice: with the images in memory, and with images that are read in each step."""
    if request.param == "streamed":
        monkeypatch.setattr(memory, "MEMORY_SHARE", 0.0)
    return request.param


def feed(minibatches: int = 1, value_range: tuple[float, float] = (0, 255), length: int = LENGTH, **changes) -> Feed:
    recipe = Recipe(**{"batch_size": 8, **changes})
    return Feed(Numbered(length), recipe, minibatches, value_range, CPU)


def seen(feed: Feed, steps: range) -> list[list[int]]:
    """The numbers of the images of every minibatch of some steps."""
    batches = [[batch.reals[:, 0, 0, 0].int().tolist() for batch in feed.fill(step)] for step in steps]
    return [numbers for step in batches for numbers in step]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("batch_size", [1, 7, 8, 25, 50, 80])
def test_an_epoch_shows_every_image_once_and_keeps_the_smaller_last_batch(held, batch_size):
    images = feed(batch_size=batch_size)
    per_epoch = -(-LENGTH // batch_size)
    epochs = [seen(images, range(e * per_epoch, (e + 1) * per_epoch)) for e in range(3)]
    for batches in epochs:
        assert sorted(flat(batches)) == list(range(LENGTH))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (per_epoch - 1)
    assert len({tuple(flat(batches)) for batches in epochs}) == 3
    assert images.epoch_images == images.length == LENGTH


@pytest.mark.parametrize("batch_size", [1, 7, 8, 25, 50])
def test_or_drops_the_smaller_last_batch(held, batch_size):
    images = feed(batch_size=batch_size, batch_order="epochs-drop-last")
    per_epoch = LENGTH // batch_size
    for e in range(3):
        batches = seen(images, range(e * per_epoch, (e + 1) * per_epoch))
        assert {len(batch) for batch in batches} == {batch_size}
        assert len(set(flat(batches))) == per_epoch * batch_size == images.epoch_images


def test_a_batch_larger_than_the_data_leaves_nothing_when_the_last_is_dropped():
    with pytest.raises(UsageError, match="A batch of 51 is larger than the 50 training images"):
        feed(batch_size=51, batch_order="epochs-drop-last")


@pytest.mark.parametrize("batch_size", [8, 50, 80, 120])
def test_batches_of_a_stream_cross_epochs(held, batch_size):
    images = feed(batch_size=batch_size, batch_order="stream")
    batches = seen(images, range(20))
    assert {len(batch) for batch in batches} == {batch_size}
    numbers = flat(batches)
    epochs = [numbers[start : start + LENGTH] for start in range(0, len(numbers) - LENGTH, LENGTH)]
    assert len(epochs) >= 3
    assert all(sorted(epoch) == list(range(LENGTH)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_replacement_draws_images_independently(held):
    batches = seen(feed(batch_order="replacement", batch_size=40), range(50))
    assert {len(batch) for batch in batches} == {40}
    assert all(len(set(batch)) < 40 for batch in batches)  # without repetition: about one in 10^9 batches
    counts = torch.bincount(torch.tensor(flat(batches)), minlength=LENGTH)
    assert len(counts) == LENGTH
    # 2000 draws of 50: 40 each, with a standard deviation of 6.3
    assert counts.min() > 40 - 5 * 6.3
    assert counts.max() < 40 + 5 * 6.3


@pytest.mark.parametrize("batch_order", BATCH_ORDERS)
def test_a_step_depends_on_seed_and_step_only(held, batch_order):
    first, again, other = (feed(2, batch_order=batch_order, seed=seed) for seed in (3, 3, 4))
    in_order = seen(first, range(12))
    assert in_order != seen(other, range(12))
    for step in (7, 0, 11, 11, 3, 10):  # as for a run that is resumed or replayed
        assert seen(again, range(step, step + 1)) == in_order[2 * step : 2 * step + 2]


@pytest.mark.parametrize("batch_order", BATCH_ORDERS)
def test_both_ways_of_holding_images_feed_the_same(batch_order, monkeypatch):
    changes = {"batch_order": batch_order, "subset": "last 30", "batch_size": 7}
    resident = feed(2, **changes)
    monkeypatch.setattr(memory, "MEMORY_SHARE", 0.0)
    streamed = feed(2, **changes)
    assert type(resident._source) is not type(streamed._source)
    for step in range(15):
        for left, right in zip(resident.fill(step), streamed.fill(step), strict=True):
            assert torch.equal(left.reals, right.reals)
            assert torch.equal(left.labels, right.labels)


@pytest.mark.parametrize("batch_order", BATCH_ORDERS)
@pytest.mark.parametrize(("subset", "expected"), [("first 20", range(20)), ("last 20", range(30, 50))])
def test_a_subset_is_all_that_is_seen(held, batch_order, subset, expected):
    images = feed(batch_order=batch_order, subset=subset, batch_size=5)
    assert images.length == images.epoch_images == 20
    assert set(flat(seen(images, range(40)))) == set(expected)


def test_a_subset_may_be_larger_than_the_data(held):
    assert sorted(flat(seen(feed(subset="last 400"), range(7)))) == list(range(LENGTH))


@pytest.mark.parametrize("batch_order", BATCH_ORDERS)
@pytest.mark.parametrize("minibatches", [1, 2, 3, 5])
def test_images_seen_are_those_that_were_fed(batch_order, minibatches):
    images = feed(minibatches, batch_order=batch_order, length=20)
    count = 0
    for step in range(25):
        assert images.images_at(step) == count
        count += sum(len(batch.labels) for batch in images.fill(step))


def test_images_come_with_their_labels_in_the_range_of_the_architecture(held):
    (batch,) = feed(value_range=(-1, 1)).fill(0)
    numbers = ((batch.reals[:, 1, 2, 3] + 1) * 255 / 2).round().long()
    assert (batch.reals - (numbers / 255 * 2 - 1)[:, None, None, None]).abs().max() < 1e-6
    assert torch.equal(batch.labels, numbers % 3)
    assert batch.reals.dtype == torch.float32
    assert batch.reals.shape == (8, 2, 3, 4)


def test_minibatches_of_one_size_lie_in_the_same_memory(held):
    """A recorded step is replayed on it."""
    images = feed(2, batch_size=20)
    places = {}
    for step in range(9):
        for slot, batch in enumerate(images.fill(step)):
            place = (batch.reals.data_ptr(), batch.labels.data_ptr())
            assert places.setdefault((slot, len(batch.labels)), place) == place
    assert len(set(places.values())) == len(places) == 4


def test_an_image_that_cannot_be_read_ends_the_run(monkeypatch):
    monkeypatch.setattr(memory, "MEMORY_SHARE", 0.0)
    images = Feed(Numbered(broken=13), Recipe(batch_size=8), 1, (0, 255), CPU)
    with pytest.raises(GanzooError, match="image 13 cannot be read"):
        seen(images, range(7))


# --- the fingerprint of the training images ---


class Repainted(Numbered):
    """One image has another pixel, or another label."""

    def __init__(self, number: int, what: str, length: int = LENGTH) -> None:
        super().__init__(length)
        self.number, self.what = number, what

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = (part.clone() for part in super().read(indices))
        (images[:, 1, 2, 3] if self.what == "pixel" else labels)[indices == self.number] += 1
        return images, labels


def fingerprint(dataset: ganzoo.Dataset, **changes: object) -> str:
    return Feed(dataset, Recipe(**{"batch_size": 8, **changes}), 1, (0, 255), CPU).fingerprint


def test_every_image_and_label_counts_however_they_are_held(held):
    known = {fingerprint(Numbered())}
    for number in (0, 17, LENGTH - 1):
        for what in ("pixel", "label"):
            known.add(fingerprint(Repainted(number, what)))
    known |= {
        fingerprint(Numbered(), subset="first 30"),
        fingerprint(Numbered(), subset="last 30"),
        fingerprint(Numbered(LENGTH - 1)),
    }
    assert len(known) == 10
    assert fingerprint(Numbered()) == fingerprint(Numbered(), seed=5, batch_size=5)
    assert fingerprint(Numbered()) == "95c0097368da115fe8e7253b817cb444b93651640f0ecb664a9758b9a6e171e0"


def test_scores_have_their_own_digest_of_the_same_images():
    """Cards of scores name their reals by it. Where it changes, old scores cannot be compared with new ones."""
    dataset = Numbered()
    digest = images_sha256(dataset.read, torch.arange(len(dataset)), 500, header=str(dataset.spec))
    images, labels = dataset.read(torch.arange(len(dataset)))
    expected = hashlib.sha256(b"2x3x4" + images.contiguous().numpy().tobytes() + labels.numpy().tobytes())
    assert digest == expected.hexdigest()


def test_of_a_large_set_some_images_are_looked_at(held, monkeypatch):
    monkeypatch.setattr("ganzoo.engine.fingerprint._ALL_BYTES", 100)
    monkeypatch.setattr("ganzoo.engine.fingerprint._SOME_IMAGES", 8)
    read: list[int] = []

    class Counted(Numbered):
        def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
            read.extend(indices.tolist())
            return super().read(indices)

    sampled = Feed(Counted(), Recipe(batch_size=8, subset="last 40"), 1, (0, 255), CPU)
    del read[:]
    found = sampled.fingerprint
    assert read == ([] if held == "resident" else [10, 15, 21, 26, 32, 37, 43, 49])
    assert [fingerprint(Repainted(number, "pixel"), subset="last 40") == found for number in (9, 10, 11, 49)] == [
        *(True, False, True, False)
    ]
    assert fingerprint(Numbered(), subset="last 41") != found
    assert fingerprint(Numbered(7)) != fingerprint(Numbered(8))  # fewer images than are sampled


class Gated(Numbered):
    """Reads only while its gate is open, and counts the reads."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.count = threading.Event(), 0
        self.gate.set()

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        assert self.gate.wait(60)
        self.count += 1
        return super().read(indices)


@pytest.mark.parametrize("minibatches", [1, 3])
def test_images_are_read_two_steps_ahead_of_the_step(minibatches, monkeypatch):
    monkeypatch.setattr(memory, "MEMORY_SHARE", 0.0)
    dataset, recipe = Gated(), Recipe(batch_size=8)
    images, expected = Feed(dataset, recipe, minibatches, (0, 255), CPU), feed(minibatches)
    assert seen(images, range(1)) == seen(expected, range(1))
    until = time.monotonic() + 60
    while dataset.count < 3 * minibatches and time.monotonic() < until:
        time.sleep(0.001)
    dataset.gate.clear()  # from now on, a step that has to read would wait
    for step in (1, 2):
        assert seen(images, range(step, step + 1)) == seen(expected, range(step, step + 1))
    assert dataset.count == 3 * minibatches
    dataset.gate.set()
    for step in (3, 9, 4, 5):  # and from any other step
        assert seen(images, range(step, step + 1)) == seen(expected, range(step, step + 1))


def test_minibatches_that_were_read_ahead_are_not_those_of_another_segment(held):
    """A resumed run compiles its networks, which reads step 0, before the feed gets the segments of the run."""
    segments = [Segment(0, 0, Fraction(0), LENGTH), Segment(1, 8, Fraction(8, LENGTH), LENGTH)]
    images, expected = feed(), feed()
    images.fill(0)
    for each in (images, expected):
        each.use_segments(segments)
    assert seen(images, range(1, 4)) == seen(expected, range(1, 4))
    assert [images.indices(step).tolist() for step in range(1, 4)] == seen(images, range(1, 4))


def test_a_dataset_is_never_read_in_two_threads_at_once(monkeypatch):
    """The fingerprint is computed while a thread reads the minibatches of the next steps."""
    monkeypatch.setattr(memory, "MEMORY_SHARE", 0.0)
    readers, most = [], []

    class Watched(Numbered):
        def read(self, indices):
            readers.append(threading.get_ident())
            most.append(len(readers))
            time.sleep(0.01)
            readers.pop()
            return super().read(indices)

    feed = Feed(Watched(), Recipe(batch_size=8), 1, (0, 1), CPU)
    whole = feed.fingerprint
    for step in range(4):
        feed.fill(step)
        feed.__dict__.pop("fingerprint")  # it is computed anew
        assert feed.fingerprint == whole
        feed.read(torch.arange(3))
    feed.close()
    assert max(most) == 1


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    free = MEMORY_SHARE * free_memory()
    spec = ganzoo.ImageSpec(1, 64, 64)

    class Large(Numbered):
        def __init__(self):
            super().__init__(int(0.6 * free / (spec.pixels + 8)))
            self.spec = spec

    assert fits_in_memory(Large(), range(len(Large())), CPU)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert not fits_in_memory(Large(), range(len(Large())), CPU)


MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n"
VERSIONS = {
    "one": ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    "two": ("memory.max", "memory.current"),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [
        ("5000000", "2000000", 3000000),
        ("5000000", "6000000", 0),
        (str(2**62), "1000", 8000 << 10),
        ("max", "0", 8000 << 10),
    ],
    ids=["a limit", "over the limit", "a limit beyond the machine", "no limit"],
)
def test_free_memory_in_a_container(tmp_path, version, limit, used, free):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    assert free_memory(tmp_path) == 8000 << 10
    for name, text in zip(VERSIONS[version], (limit, used), strict=True):
        file = tmp_path / "sys" / "fs" / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert free_memory(tmp_path) == free


def test_where_free_memory_is_unknown_it_is_half_of_all_memory(tmp_path):
    assert free_memory(tmp_path) > 100 << 20
