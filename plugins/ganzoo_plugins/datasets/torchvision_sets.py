"""Small public datasets that torchvision has too, from the same files but checked with sha256."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._idx import GZIP, archives_of, read_split, reason
from ganzoo_plugins.datasets._memory import InMemory, Size, Split, resized


class MNIST(InMemory):
    """Handwritten digits: 60,000 + 10,000 grey images of 28x28, 10 classes.

    LeCun, Cortes and Burges; CC BY-SA 3.0. Read from the four archives in `MNIST/raw` of the data folder, where
    torchvision keeps them; every read checks their sha256.
    """

    def __init__(self, *, split: Split = "train", size: Size = 0) -> None:
        images, labels = read_split("MNIST", split)
        super().__init__(resized(images, size), labels, "0123456789", archives_of("MNIST", split))


class FashionMNIST(InMemory):
    """Photographs of clothes: 60,000 + 10,000 grey images of 28x28, 10 classes.

    Xiao, Rasul and Vollgraf 2017 (arXiv:1708.07747); MIT licence. Read from the four archives in `FashionMNIST/raw` of
    the data folder, where torchvision keeps them; every read checks their sha256.
    """

    def __init__(self, *, split: Split = "train", size: Size = 0) -> None:
        images, labels = read_split("FashionMNIST", split)
        names = (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        )
        super().__init__(resized(images, size), labels, names, archives_of("FashionMNIST", split))


class KMNIST(InMemory):
    """Cursive Japanese characters: 60,000 + 10,000 grey images of 28x28, 10 classes.

    Kuzushiji-MNIST of Clanuwat et al. 2018 (arXiv:1812.01718); CC BY-SA 4.0. Read from the four archives in
    `KMNIST/raw` of the data folder, where torchvision keeps them; every read checks their sha256, as published by
    tensorflow/datasets (url_checksums/kmnist.txt at 333639b).
    """

    def __init__(self, *, split: Split = "train", size: Size = 0) -> None:
        images, labels = read_split("KMNIST", split)
        names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
        super().__init__(resized(images, size), labels, names, archives_of("KMNIST", split))


class CIFAR10(InMemory):
    """Photographs of vehicles and animals: 50,000 + 10,000 colour images of 32x32, 10 classes.

    Krizhevsky 2009, "Learning multiple layers of features from tiny images". Read from `CIFAR10/raw` of the data
    folder: `cifar-10-binary.tar.gz`, because the version torchvision takes is a pickle, which can run code. Every read
    checks the sha256, as published by tensorflow/datasets (url_checksums/cifar10.txt at 333639b), and that each batch
    is 10,000 images with labels 0..9.
    """

    archive = ganzoo.Archive(
        "CIFAR10/raw",
        "cifar-10-binary.tar.gz",
        170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ("https://www.cs.toronto.edu/~kriz",),
        first_bytes=GZIP,
    )

    def __init__(self, *, split: Split = "train", size: Size = 0) -> None:
        names = [f"data_batch_{batch}.bin" for batch in range(1, 6)] if split == "train" else ["test_batch.bin"]
        images, labels = read_batches(self.archive.fetch(), names, 10_000)
        classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
        super().__init__(resized(images, size), labels, classes, (self.archive,))


def read_batches(path: Path, names: Sequence[str], count: int) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) and labels (N,) uint8 of the binary CIFAR-10 batches `names`, each of `count` images.

    A batch is `count` times a label byte and the red, green and blue planes. Members are read in memory, nothing is
    unpacked to disk, and only plain files of the right length are read at all.
    """
    members = {f"cifar-10-batches-bin/{name}" for name in names}
    batches: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() and member.size == count * 3073 else None
                if member.name in members and file is not None:
                    batches[member.name] = file.read()
                if len(batches) == len(members):
                    break
    # a damaged file may raise anything: tarfile of Python 3.11.2 raises AttributeError for damaged gzip
    except Exception as error:
        raise ganzoo.GanzooError(
            f"{path} cannot be unpacked ({reason(error)}): move it away, and the published file is fetched anew."
        ) from None
    missing = sorted(members - batches.keys())
    if missing:
        raise ganzoo.GanzooError(
            f"{path} lacks {missing[0]} as a plain file of {count * 3073} bytes: move it away, and the "
            f"published file is fetched anew."
        )
    records = torch.frombuffer(bytearray(b"".join(batches[name] for name in sorted(members))), dtype=torch.uint8)
    records = records.reshape(-1, 3073)
    labels, images = records[:, 0].clone(), records[:, 1:].reshape(-1, 3, 32, 32)
    if labels.max() > 9:
        raise ganzoo.GanzooError(
            f"{path} has labels up to {int(labels.max())}, not 9: move it away, and the published file is fetched anew."
        )
    return images, labels
