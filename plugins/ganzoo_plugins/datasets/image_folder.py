"""A dataset from a folder of image files."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import numpy as np
import PIL
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets._memory import Split
from ganzoo_plugins.datasets._pictures import SUFFIXES, careful, decode

#: part of the cache key: increase it when `decode` changes
_DECODING_VERSION = 1


class ImageFolder(ganzoo.Dataset):
    """A folder of your own pictures, with or without a sub-folder for each class.

    All files with the suffix of a picture are read, at any depth, except hidden ones and those in hidden folders. If
    all are in sub-folders, the direct sub-folders are the classes, in the order of their names; if none is, there is
    one class. Pictures are turned as their EXIF data says, transparency shows a white ground, 16-bit grey is scaled to
    8 bits, of an animation the first frame counts. Which are test pictures depends on their paths below the folder
    alone, so that pictures added later move no others.

    All of them are decoded when the folder is first used, or has changed (names, sizes, times), into one array below
    `ganzoo.cache_dir()`; later runs map it into memory, and read from disk what they need of it.
    """

    def __init__(
        self,
        *,
        split: Split = "train",
        path: Annotated[str, click.Path(), "the folder"] = "",
        size: Annotated[int, click.IntRange(min=0), "height and width; 0 if all have one size, to keep it"] = 64,
        channels: Annotated[Literal[1, 3], "1 for grey, 3 for colour"] = 3,
        crop: Annotated[bool, "cut out the central square before resizing, rather than distort"] = True,
        skip_broken: Annotated[bool, "leave out pictures that cannot be read, rather than stop"] = False,
        test_share: Annotated[float, click.FloatRange(0, 0.5), "share of the pictures kept for the test split"] = 0.1,
    ) -> None:
        if not path:
            raise ganzoo.UsageError("image-folder needs to be told its folder: write image-folder:path=DIR.")
        self._root = Path(os.path.expanduser(path)).absolute()
        names, labels, self.class_names = _listing(self._root)
        self._decoding = {"channels": channels, "size": size, "crop": crop}
        self._cache = ganzoo.cache_dir() / "image-folder" / _key(self._root, names, self._decoding)
        if not self._cache.exists():
            _fill(self._cache, self._root, names, self._decoding, skip_broken)
        self._images, broken = _open(self._cache)
        if broken:
            if not skip_broken:
                raise _complaint(self._root, names, broken)
            click.echo(f"{_account(self._root, names, broken)}: left out.", err=True)
        chosen = [
            row
            for row, name in enumerate(names)
            if name not in broken and _is_test(name, test_share) == (split == "test")
        ]
        if not chosen:
            raise ganzoo.GanzooError(
                f"The {split} split of {self._root} is empty, test_share={test_share:g} puts none of its "
                f"{len(names) - len(broken)} readable pictures there: add pictures or change test_share."
            )
        self.spec = ganzoo.ImageSpec(*self._images.shape[1:], classes=len(self.class_names) or 1)
        self._rows = np.array(chosen)
        self._labels = torch.tensor(labels)[chosen]
        self._names = [names[row] for row in chosen]

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Copied from the mapped array."""
        return torch.from_numpy(self._images[self._rows[indices.numpy()]]), self._labels[indices]

    def verify(self) -> str:
        """Decode every picture again and compare."""
        with careful():
            for row, (name, image) in zip(self._rows, _decoded(self._root, self._names, self._decoding), strict=True):
                if isinstance(image, str) or not np.array_equal(image.numpy(), self._images[row]):
                    raise ganzoo.GanzooError(
                        f"{self._root / name} is not what {self._cache} holds of it: delete that folder, and it is "
                        "made anew."
                    )
        return f"{super().verify()}, each decoded anew and compared"


def _listing(root: Path) -> tuple[list[str], list[int], tuple[str, ...]]:
    """Paths below `root` of its pictures, sorted; the label of each; names of the classes, empty if they lie loose."""
    try:
        names = sorted(path.relative_to(root).as_posix() for path in _pictures(root, set()))
    except OSError as error:
        raise ganzoo.GanzooError(
            f"{error.filename or root} cannot be listed ({error.strerror}): give as path= a folder of pictures."
        ) from None
    if not names:
        raise ganzoo.GanzooError(f"{root} has no pictures: image-folder reads files in {' '.join(sorted(SUFFIXES))}.")
    classes = sorted({name.partition("/")[0] for name in names if "/" in name})
    loose = [name for name in names if "/" not in name]
    if loose and classes:
        raise ganzoo.GanzooError(
            f"{root} has pictures both in folders ({classes[0]}) and loose ({loose[0]}): move the loose ones into a "
            "folder of their own, or give the path of one folder."
        )
    labels = {name: label for label, name in enumerate(classes)}
    return names, [labels.get(name.partition("/")[0], 0) for name in names], tuple(classes)


def _pictures(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Pictures at any depth, through links, but no folder twice: links may run in circles."""
    place = os.path.realpath(folder)
    if place in seen:
        return
    seen.add(place)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _pictures(Path(entry.path), seen)
            # a link to nowhere is a picture that cannot be read, and must not go unnoticed
            elif Path(entry.name).suffix.lower() in SUFFIXES and (entry.is_file() or entry.is_symlink()):
                yield Path(entry.path)


def _is_test(name: str, test_share: float) -> bool:
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:8], "big") < test_share * 2**64


def _key(root: Path, names: Sequence[str], decoding: Mapping[str, Any]) -> str:
    """The cache key of these files: it changes when one of them changes."""
    digest = hashlib.sha256(
        json.dumps([_DECODING_VERSION, PIL.__version__, os.path.realpath(root), decoding], sort_keys=True).encode()
    )
    for name in names:
        try:
            status = (root / name).stat()
            # the change time too: it changes with new content under an old date, and with new permissions
            facts = [name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        except OSError:
            facts = [name]
        digest.update(json.dumps(facts).encode() + b"\n")
    return digest.hexdigest()[:32]


def _fill(cache: Path, root: Path, names: Sequence[str], decoding: Mapping[str, Any], skip_broken: bool) -> None:
    """Make the cache folder: images.npy (N, C, H, W), zeros where broken, and broken.json, the reason by name.

    It is complete or absent. If pictures are broken and may not be skipped it is not made: the cause may pass.
    """
    partial = cache.with_name(f".{cache.name}.{secrets.token_hex(4)}.part")
    try:
        partial.mkdir(parents=True)
        click.echo(f"Decoding {len(names)} pictures of {root}, once.", err=True)
        with careful():
            broken = _write(partial / "images.npy", root, names, decoding)
        if len(broken) == len(names) or (broken and not skip_broken):
            raise _complaint(root, names, broken)
        (partial / "broken.json").write_text(json.dumps(broken))
        partial.rename(cache)
    except OSError as error:
        # another process may have been faster
        if not cache.exists():
            raise ganzoo.GanzooError(
                f"The pictures of {root} cannot be written to {cache.parent} ({error.strerror}): set GANZOO_CACHE to a "
                "folder with space that you may write to."
            ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(path: Path, root: Path, names: Sequence[str], decoding: Mapping[str, Any]) -> dict[str, str]:
    """Write the decoded pictures as one .npy file; returns why pictures are broken, by name."""
    broken: dict[str, str] = {}
    shape, first = _shape(root, names, decoding)
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(names), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for name, image in _decoded(root, names, decoding):
            if isinstance(image, str):
                broken[name] = image
                file.write(bytes(int(np.prod(shape))))
                continue
            if tuple(image.shape) != shape:
                sizes = " but ".join(
                    f"{at} is {high}x{wide}" for at, (_, high, wide) in ((first, shape), (name, image.shape))
                )
                raise ganzoo.GanzooError(
                    f"size=0 wants pictures of one size, {sizes}: give size= the height and width to make."
                )
            file.write(image.numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())
    return broken


def _shape(root: Path, names: Sequence[str], decoding: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    """(C, H, W) of every decoded picture; with size=0 also the name of the picture that it is taken from."""
    if decoding["size"]:
        return (decoding["channels"], decoding["size"], decoding["size"]), ""
    for name in names:
        image = decode(root / name, **decoding)
        if not isinstance(image, str):
            return tuple(image.shape), name
    return (decoding["channels"], 1, 1), ""


def _decoded(root: Path, names: Sequence[str], decoding: Mapping[str, Any]) -> Iterator[tuple[str, Tensor | str]]:
    """Each name with its decoded picture, or with the reason why it cannot be read, in order."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # in parts: a pool runs ahead of its reader, and the decoded pictures would pile up
        for start in range(0, len(names), 256):
            part = names[start : start + 256]
            yield from zip(part, pool.map(lambda name: decode(root / name, **decoding), part), strict=True)


def _open(cache: Path) -> tuple[np.ndarray, dict[str, str]]:
    try:
        images = np.load(cache / "images.npy", mmap_mode="r", allow_pickle=False)
        return images, json.loads((cache / "broken.json").read_text())
    except (OSError, ValueError) as error:
        raise ganzoo.GanzooError(f"{cache} is damaged ({error}): delete it, and it is made anew.") from None


def _account(root: Path, names: Sequence[str], broken: Mapping[str, str]) -> str:
    # names may hold bytes that are no text
    shown = [f"{click.format_filename(name)}: {reason}" for name, reason in list(broken.items())[:3]]
    more = [f"and {len(broken) - 3} more"] if len(broken) > 3 else []
    return f"{len(broken)} of {len(names)} pictures in {root} cannot be read ({'; '.join(shown + more)})"


def _complaint(root: Path, names: Sequence[str], broken: Mapping[str, str]) -> ganzoo.GanzooError:
    way_out = "" if len(broken) == len(names) else ", or leave them out with skip_broken=true"
    return ganzoo.GanzooError(f"{_account(root, names, broken)}: mend or delete them{way_out}.")
