"""Small data sets in the forms of large ones: tar files in the WebDataset layout, and parquet files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ganzoo

#: a sample: key, and content by extension
Sample = tuple[str, Mapping[str, bytes]]


def refusal(open_dataset: Callable[[], object]) -> str:
    """The one sentence with which a dataset is refused."""
    with pytest.raises(ganzoo.GanzooError) as caught:
        open_dataset()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def picture(seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB", form: str = "png", **options: Any) -> bytes:
    """A picture of noise that depends on the seed alone."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray:
    """A picture as (C, H, W)."""
    array = np.asarray(Image.open(io.BytesIO(content)))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def samples(count: int, first: int = 0, classes: int = 3, **options: Any) -> list[Sample]:
    """Samples with a PNG and a .cls."""
    numbers = range(first, first + count)
    return [(f"{n:06}", {"png": picture(n, **options), "cls": str(n % classes).encode()}) for n in numbers]


def write_tar(path: Path, given: Iterable[Sample], form: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar file of samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for key, contents in given:
            for extension, content in contents.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_parquet(
    path: Path,
    pictures: Sequence[bytes | None],
    columns: Mapping[str, Sequence[Any]] | None = None,
    features: Mapping[str, Any] | None = None,
    image: str = "image",
) -> Path:
    """A parquet file in the form of the Hugging Face Hub. features: the types of the other columns."""
    import pyarrow as arrow
    import pyarrow.parquet

    structs = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(pictures)]
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    table = arrow.table({image: arrow.array(structs, kind), **{k: list(v) for k, v in (columns or {}).items()}})
    known = {image: {"_type": "Image"}, **(features or {})}
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": known}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    arrow.parquet.write_table(table, path)
    return path
