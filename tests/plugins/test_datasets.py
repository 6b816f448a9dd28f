"""The datasets: that they hold what was published, and refuse what was not."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import io
import random
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import ganzoo
from ganzoo.contract.options import resolve
from ganzoo_plugins.datasets._idx import read_idx
from ganzoo_plugins.datasets.digits import Digits
from ganzoo_plugins.datasets.image_folder import ImageFolder
from ganzoo_plugins.datasets.npy import Npy
from ganzoo_plugins.datasets.stacked_mnist import StackedMNIST
from ganzoo_plugins.datasets.torchvision_sets import CIFAR10, KMNIST, MNIST, FashionMNIST, read_batches


def everything(dataset: ganzoo.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return dataset.read(torch.arange(len(dataset)))


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("dataset", [MNIST, FashionMNIST, KMNIST, CIFAR10, StackedMNIST, Digits, ImageFolder])
def test_options_are_those_of_the_contract(dataset):
    options = resolve(dataset, {"split": "test", "size": "32"}, dataset.__name__)
    assert (options["split"], options["size"]) == ("test", 32)
    for wrong in ({"split": "validation"}, {"size": "-1"}, {"size": "big"}):
        with pytest.raises(ganzoo.UsageError):
            resolve(dataset, wrong, dataset.__name__)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape) + array.tobytes()


@pytest.fixture
def numbers() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def test_idx_is_read(numbers, tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(numbers)))
    assert np.array_equal(read_idx(tmp_path / "a.gz", (5, 4, 3)).numpy(), numbers)


def test_idx_with_any_header_bit_flipped_is_refused(numbers, tmp_path):
    for bit in range(16 * 8):
        content = bytearray(idx(numbers))
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a.gz").write_bytes(gzip.compress(content, 1))
        with pytest.raises(ganzoo.GanzooError, match="is not an IDX file"):
            read_idx(tmp_path / "a.gz", (5, 4, 3))


def test_idx_with_any_archive_byte_changed_is_refused_or_the_same(numbers, tmp_path):
    good = gzip.compress(idx(numbers), mtime=0)
    refused = 0
    for place in range(len(good)):
        content = bytearray(good)
        content[place] ^= 0xFF
        (tmp_path / "a.gz").write_bytes(content)
        try:
            assert np.array_equal(read_idx(tmp_path / "a.gz", (5, 4, 3)).numpy(), numbers)
        except ganzoo.GanzooError:
            refused += 1
    assert refused >= len(good) - 10, "all but gzip's date, flags and system are under its checksum"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not an IDX file"),
        (b"\0\0", "is not an IDX file"),
        (idx(np.zeros((5, 4, 3), np.uint8))[:-1], "holds 59 bytes, not 60"),
        (idx(np.zeros((5, 4, 3), np.uint8)) + b"\0", "holds more than 60 bytes"),
        (idx(np.zeros((5, 4, 3), np.uint8)) + bytes(100_000_000), "holds more than 60 bytes"),  # a bomb: 100 kB of gzip
    ],
    ids=["empty", "short", "truncated", "trailing", "bomb"],
)
def test_idx_of_another_length_is_refused(tmp_path, content, reason):
    (tmp_path / "a.gz").write_bytes(gzip.compress(content, 1))
    with pytest.raises(ganzoo.GanzooError, match=reason):
        read_idx(tmp_path / "a.gz", (5, 4, 3))


def test_idx_that_is_no_gzip_is_refused(tmp_path, numbers):
    for content in (idx(numbers), gzip.compress(idx(numbers))[:-12], b""):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(ganzoo.GanzooError, match=r"cannot be unpacked|is not an IDX file"):
            read_idx(tmp_path / "a.gz", (5, 4, 3))


def cifar(path: Path, batches: dict[str, bytes], type: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.type, member.linkname, member.size = type, "/etc/passwd", len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_cifar_batches_are_read_in_order(tmp_path):
    records = np.random.default_rng(0).integers(0, 10, (6, 3073), dtype=np.uint8)
    names = ["batches.meta.txt", "data_batch_2.bin", "data_batch_1.bin"]
    contents = [b"airplane", records[3:].tobytes(), records[:3].tobytes()]
    path = cifar(tmp_path / "c.tar.gz", dict(zip(names, contents, strict=True)))
    images, labels = read_batches(path, ["data_batch_1.bin", "data_batch_2.bin"], 3)
    assert np.array_equal(labels.numpy(), records[:, 0])
    assert images.shape == (6, 3, 32, 32)
    # green, second row, third column of the fourth image
    assert images[3, 1, 1, 2] == records[3, 1 + 1024 + 32 + 2]


def test_cifar10_is_ten_thousand_images_a_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
    (tmp_path / "CIFAR10/raw").mkdir(parents=True)
    batch = b"".join(bytes([number % 10]) + bytes(3072) for number in range(10_000))
    path = cifar(tmp_path / "CIFAR10/raw/cifar-10-binary.tar.gz", {"test_batch.bin": batch})

    with pytest.raises(ganzoo.GanzooError, match=f"{path} .*is another file than the published one"):
        CIFAR10(split="test")

    class OtherCIFAR10(CIFAR10):
        archive = dataclasses.replace(CIFAR10.archive, sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    dataset = OtherCIFAR10(split="test", size=16)
    assert (len(dataset), str(dataset.spec), dataset.spec.classes) == (10_000, "3x16x16", 10)
    assert [dataset.class_names[label] for label in dataset.read(torch.tensor([3, 19]))[1]] == ["cat", "truck"]
    with pytest.raises(ganzoo.GanzooError, match=r"lacks cifar-10-batches-bin/data_batch_1.bin"):
        OtherCIFAR10(split="train")


@pytest.mark.parametrize(
    ("batches", "type", "reason"),
    [
        ({"other.bin": bytes(3073)}, tarfile.REGTYPE, "lacks cifar-10-batches-bin/test_batch.bin"),
        ({"test_batch.bin": bytes(3072)}, tarfile.REGTYPE, "as a plain file of 3073 bytes"),
        ({"test_batch.bin": bytes(3073)}, tarfile.SYMTYPE, "as a plain file"),
        ({"test_batch.bin": b"\x0a" + bytes(3072)}, tarfile.REGTYPE, "labels up to 10, not 9"),
    ],
    ids=["absent", "short", "link", "label"],
)
def test_other_cifar_batches_are_refused(tmp_path, batches, type, reason):
    path = cifar(tmp_path / "c.tar.gz", batches, type)
    with pytest.raises(ganzoo.GanzooError, match=reason):
        read_batches(path, ["test_batch.bin"], 1)


def test_a_truncated_cifar_archive_is_refused(tmp_path):
    path = cifar(tmp_path / "c.tar.gz", {"test_batch.bin": random.Random(0).randbytes(3073)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ganzoo.GanzooError, match="cannot be unpacked"):
        read_batches(path, ["test_batch.bin"], 1)


#: what readers of damaged files have raised, in one version of Python or another
ERRORS = [
    AttributeError("'_Stream' object has no attribute 'exception'"),
    KeyError("size"),
    RecursionError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid\nstart byte"),
    MemoryError(),
    struct.error("unpack requires a buffer of 4 bytes"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_reader_raises_is_one_sentence(error, tmp_path, monkeypatch, numbers):
    def refuse(*_: object, **__: object) -> None:
        raise error

    paths = cifar(tmp_path / "c.tar.gz", {"test_batch.bin": bytes(3073)}), tmp_path / "a.gz", tmp_path / "a.npy"
    paths[1].write_bytes(gzip.compress(idx(numbers)))
    np.save(paths[2], np.zeros((3, 4, 4), np.uint8))
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(tarfile.TarFile, "next", refuse)
    monkeypatch.setattr(gzip.GzipFile, "read", refuse)
    monkeypatch.setattr(np, "load", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    readers = (
        lambda: read_batches(paths[0], ["test_batch.bin"], 1),
        lambda: read_idx(paths[1], numbers.shape),
        lambda: Npy(path=str(paths[2])),
        lambda: ImageFolder(path=str(tmp_path), size=0, channels=1, test_share=0.0),
    )
    for reader in readers:
        with pytest.raises(ganzoo.GanzooError, match=r"cannot be (unpacked|read)") as caught:
            reader()
        assert "\n" not in str(caught.value)


def test_a_cifar_archive_with_any_byte_changed_is_read_or_refused_in_one_sentence(tmp_path):
    """Its sha256 is checked before. Random pixels do not compress, so that most bytes are theirs: some are enough."""
    path = cifar(tmp_path / "c.tar.gz", {"test_batch.bin": b"\1" + random.Random(0).randbytes(3072)})
    good = path.read_bytes()
    refusals = []
    for place in [*range(200), *range(200, len(good), 50)]:
        content = bytearray(good)
        content[place] ^= 0xFF
        path.write_bytes(content)
        try:
            read_batches(path, ["test_batch.bin"], 1)
        except ganzoo.GanzooError as error:
            refusals.append(str(error))
    assert refusals
    assert not [words for words in refusals if "\n" in words]


@pytest.mark.parametrize(
    ("dataset", "file"), [(KMNIST, "train-images-idx3-ubyte.gz"), (CIFAR10, "cifar-10-binary.tar.gz")]
)
def test_a_set_that_is_nowhere_names_the_file_to_get(dataset, file, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
    monkeypatch.setenv("GANZOO_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(
        ganzoo.GanzooError, match=f"^{file} could not be fetched .* put it into {tmp_path}/{dataset.__name__}/raw"
    ):
        dataset()


def test_mnist_is_torchvisions_mnist_fetched_over_http(shared_data, tmp_path, monkeypatch):
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(shared_data)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
        monkeypatch.setenv("GANZOO_MIRROR", f"http://localhost:{server.server_address[1]}")
        train, test = MNIST(), MNIST(split="test")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    # torchvision accepts our files as its own: it checks their md5 and downloads nothing
    for ours, is_train in ((train, True), (test, False)):
        theirs = torchvision.datasets.MNIST(tmp_path, train=is_train, download=True)
        images, labels = everything(ours)
        assert torch.equal(images.squeeze(1), theirs.data)
        assert torch.equal(labels, theirs.targets)
        assert str(ours.spec) == "1x28x28"
        assert labels.dtype == torch.int64
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.class_names == tuple("0123456789")
    assert train.spec.classes == 10


def test_fashion_mnist_is_read_without_a_write(shared_data, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(shared_data))
    monkeypatch.setenv("GANZOO_MIRROR", "/nowhere")
    before = files_below(shared_data)
    dataset = FashionMNIST(split="test", size=32)
    images, labels = dataset.read(torch.tensor([9_999, 0]))
    assert images.shape == (2, 1, 32, 32)
    assert images.dtype == torch.uint8
    assert torch.equal(images[1:], everything(dataset)[0][:1])
    assert [dataset.class_names[label] for label in labels] == ["Sandal", "Ankle boot"]
    assert torch.bincount(everything(dataset)[1]).tolist() == [1000] * 10
    assert dataset.verify() == (
        "read 10000 images of 1x32x32, sha256 of t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz"
    )
    assert files_below(shared_data) == before


def test_resizing_is_that_of_the_contract(shared_data, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(shared_data))
    native, small = MNIST(split="test"), MNIST(split="test", size=14)
    chosen = torch.tensor([0, 999, 1000, 9_999])
    assert torch.equal(small.read(chosen)[0], ganzoo.resize(native.read(chosen)[0], 14))


def test_verify_sees_an_archive_that_was_damaged_since(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path))
    monkeypatch.setenv("GANZOO_MIRROR", str(shared_data))
    dataset = MNIST(split="test")
    path = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ganzoo.GanzooError, match=f"{path} is damaged"):
        dataset.verify()


def test_stacked_mnist_is_three_digits(shared_data, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(shared_data))
    mnist, stacked = MNIST(split="test"), StackedMNIST(split="test")
    assert (len(stacked), str(stacked.spec), stacked.spec.classes) == (10_000, "3x28x28", 1000)
    images, labels = stacked.read(torch.arange(200))
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    plain, digits = everything(mnist)
    known = {image.numpy().tobytes(): int(digit) for image, digit in zip(plain, digits, strict=True)}
    for image, label in zip(images, labels, strict=True):
        assert stacked.class_names[label] == "".join(str(known[plane.numpy().tobytes()]) for plane in image)
    # drawn once and for all: the numbers a legacy numpy generator gives for ever
    assert labels[:8].tolist() == [922, 985, 774, 586, 509, 511, 939, 733]
    assert len(everything(stacked)[1].unique()) > 990
    assert stacked.verify().startswith("read 10000 images of 3x28x28, sha256 of")


def test_stacked_mnist_of_another_length_begins_alike(shared_data, monkeypatch):
    monkeypatch.setenv("GANZOO_DATA", str(shared_data))
    long, short = StackedMNIST(split="test", size=8), StackedMNIST(split="test", size=8, length=50)
    assert len(short) == 50
    assert torch.equal(everything(short)[0], long.read(torch.arange(50))[0])


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    train, test = Digits(size=0), Digits(split="test", size=0)
    assert (len(train), len(test)) == (1498, 299)
    source = load_digits()
    assert torch.equal(everything(test)[1], torch.tensor(source.target[5::6]))
    levels = torch.tensor(source.images[5::6])
    assert torch.equal(everything(test)[0].squeeze(1), (levels * 255 / 16).round().to(torch.uint8))
    assert everything(train)[0].unique().tolist() == [round(level * 255 / 16) for level in range(17)]
    assert train.verify() == "read 1498 images of 1x8x8"


def test_digits_are_sixteen_pixels_wide_unless_asked_otherwise():
    assert str(Digits().spec) == "1x16x16"
    assert str(Digits(size=28).spec) == "1x28x28"
    images, _ = Digits().read(torch.tensor([3, 3]))
    assert images.shape == (2, 1, 16, 16)
    assert torch.equal(images[0], images[1])
    # shrunk again they are themselves: nothing was moved or turned
    back = ganzoo.resize(everything(Digits())[0], 8).float().flatten()
    native = everything(Digits(size=0))[0].float()
    assert torch.corrcoef(torch.stack([back, native.flatten()]))[0, 1] > 0.95
    assert torch.corrcoef(torch.stack([back, native.roll(1, -1).flatten()]))[0, 1] < 0.8
