"""MNIST and its drop-in replacements: four gzipped IDX files each, in the folders torchvision keeps them in."""

from __future__ import annotations

import gzip
import math
import struct
import tarfile
import zlib
from pathlib import Path

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._memory import Split

#: the first bytes of a gzip file
GZIP = b"\x1f\x8b"
_COUNTS = {"train": 60_000, "test": 10_000}
_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
#: folder -> where the files are published
_SOURCES = {
    "MNIST": ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
    "FashionMNIST": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
    ),
    "KMNIST": ("https://codh.rois.ac.jp/kmnist/dataset/kmnist",),
}
#: folder -> split -> size in bytes and sha256 of the images, then of the labels
_SUMS = {
    "MNIST": {
        "train": (
            (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ),
        "test": (
            (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    },
    "FashionMNIST": {
        "train": (
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ),
        "test": (
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    },
    # not computed from the archives themselves but as tensorflow/datasets publishes them (url_checksums/kmnist.txt)
    "KMNIST": {
        "train": (
            (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
        ),
        "test": (
            (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
    },
}


def archives_of(folder: str, split: Split) -> tuple[ganzoo.Archive, ganzoo.Archive]:
    """The archives of the images and the labels of one split."""
    images, labels = (
        ganzoo.Archive(f"{folder}/raw", name, size, sha256, _SOURCES[folder], first_bytes=GZIP)
        for name, (size, sha256) in zip(_FILES[split], _SUMS[folder][split], strict=True)
    )
    return images, labels


def read_split(folder: str, split: Split) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) uint8 and labels (N,) uint8 0..9, straight from the archives; fetched where absent."""
    images, labels = archives_of(folder, split)
    count = _COUNTS[split]
    return read_idx(images.fetch(), (count, 28, 28)).unsqueeze(1), read_idx(labels.fetch(), (count,))


def reason(error: Exception) -> str:
    """Why a file could not be read, in one line. Errors that Python does not promise are shown with their kind."""
    words = " ".join(str(error).split())
    if isinstance(error, OSError | EOFError | tarfile.TarError | zlib.error) and words:
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The uint8 array (shape) of a gzipped IDX file. Raises GanzooError where the file does not hold exactly that.

    The expected shape is known beforehand, so no memory is allocated because a header asks for it.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    size = math.prod(shape)
    try:
        with gzip.open(path) as file:
            found = file.read(len(header))
            content = file.read(size + 1) if found == header else b""
    # a damaged file may raise anything: no list of what gzip and zlib raise has been complete
    except Exception as error:
        raise ganzoo.GanzooError(
            f"{path} cannot be unpacked ({reason(error)}): move it away, and the published file is fetched anew."
        ) from None
    if found != header:
        raise ganzoo.GanzooError(
            f"{path} is not an IDX file of {shape} bytes, it starts with {found.hex()} and not with {header.hex()}: "
            "move it away, and the published file is fetched anew."
        )
    if len(content) != size:
        length = f"{len(content)} bytes, not {size}" if len(content) < size else f"more than {size} bytes"
        raise ganzoo.GanzooError(f"{path} holds {length}: move it away, and the published file is fetched anew.")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)
