"""Tables of pictures by the library `datasets`: loading them, and finding their columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import ganzoo

_EXTRA = "pip install 'torch-ganzoo[huggingface]'"
#: columns that hold the picture or the label, where the types alone do not tell
_IMAGE_NAMES, _LABEL_NAMES = ("image", "img", "picture"), ("label", "labels", "class", "cls")


def library() -> Any:
    """The module `datasets`, set to use no network where ganzoo must not. Raises GanzooError if it is absent."""
    try:
        import datasets
        import huggingface_hub
    except ImportError:
        raise ganzoo.GanzooError(f"The dataset huggingface needs the library datasets: {_EXTRA}.") from None
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise ganzoo.GanzooError(
            f"datasets {datasets.__version__} may run code that a dataset brings with it, version 4 does not: {_EXTRA}."
        )
    if os.environ.get("GANZOO_OFFLINE"):
        datasets.config.HF_HUB_OFFLINE = True
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


def list_parquet(path: Path) -> tuple[Path, list[str]]:
    """The folder and the names below it of the parquet files of `path`, sorted. Raises GanzooError without any."""
    if path.is_file():
        return path.parent, [path.name]
    if not path.is_dir():
        raise ganzoo.UsageError(f"There is no folder {path}: give as path= a folder of parquet files.")
    files = [file.relative_to(path) for file in path.rglob("*.parquet") if file.is_file()]
    names = sorted(file.as_posix() for file in files if not any(part.startswith(".") for part in file.parts))
    if not names:
        raise ganzoo.GanzooError(f"{path} has no parquet files: give as path= a folder of them.")
    return path, names


def check_files(paths: Sequence[Path]) -> None:
    """Raise GanzooError unless all are whole parquet files of one schema."""
    import pyarrow.parquet

    first = None
    for path in paths:
        try:
            schema = pyarrow.parquet.read_schema(path).remove_metadata()
        # what a damaged file leads to may be any error
        except Exception as error:
            raise ganzoo.GanzooError(
                f"{click.format_filename(path)} cannot be read as a parquet file ({first_line(error)}): copy it anew, "
                "or take it out of the folder."
            ) from None
        if first is not None and not schema.equals(first):
            unlike = set(schema) ^ set(first)
            columns = ", ".join(sorted({field.name for field in unlike})[:5])
            raise ganzoo.GanzooError(
                f"{click.format_filename(path)} has another schema than {paths[0].name} (columns {columns}): take it "
                "out of the folder."
            )
        first = schema if first is None else first


def load_files(files: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Tables of these parquet files by split. They are copied to Arrow files once, which are mapped into memory."""
    names = {split: [str(path) for path in paths] for split, paths in files.items()}
    cache = ganzoo.cache_dir() / "huggingface"
    try:
        return dict(library().load_dataset("parquet", data_files=names, cache_dir=str(cache)))
    except OSError as error:
        raise ganzoo.GanzooError(
            f"The parquet files cannot be copied to {cache} ({first_line(error)}): set GANZOO_CACHE to a folder with "
            "space that you may write to."
        ) from None
    except Exception as error:
        raise ganzoo.GanzooError(f"The parquet files cannot be loaded ({first_line(_root(error))}).") from None


def load_name(name: str, config: str, revision: str) -> dict[str, Any]:
    """Tables by split of a dataset that is published under a name, or is in the cache of the library."""
    if Path(name).exists():
        raise ganzoo.UsageError(f"{name} is a path: give it as path=.")
    try:
        # the library refuses datasets that need code of their own
        return dict(library().load_dataset(name, config or None, revision=revision or None))
    except Exception as error:
        raise ganzoo.GanzooError(
            f"The dataset {name} cannot be loaded ({first_line(_root(error))}): check the name and the network, or "
            "give as path= a folder of its parquet files."
        ) from None


def picture_column(features: Mapping[str, Any], wanted: str) -> str:
    """The column of the pictures. Raises UsageError if it is not clear which that is."""
    found = [name for name, feature in features.items() if _holds_pictures(name, feature)]
    if wanted and wanted not in features:
        raise ganzoo.UsageError(f"There is no column {wanted!r} for image=, only {_listed(features)}.")
    if wanted:
        return wanted
    if len(found) != 1:
        named = [name for name in _IMAGE_NAMES if name in found]
        if named:
            return named[0]
        several = f"several columns hold pictures ({_listed(found)})" if found else "no column holds pictures"
        raise ganzoo.UsageError(f"Of the columns {_listed(features)}, {several}: name one with image=.")
    return found[0]


def label_column(features: Mapping[str, Any], wanted: str, image: str) -> str:
    """The column of the labels; empty if there is none. Raises UsageError if it is not clear which that is."""
    if wanted == "none":
        return ""
    if wanted and wanted not in features:
        raise ganzoo.UsageError(f"There is no column {wanted!r} for label=, only {_listed(features)}.")
    if wanted:
        return wanted
    found = [name for name, feature in features.items() if class_names_of(feature)]
    found = found or [name for name in _LABEL_NAMES if name in features and name != image]
    named = [name for name in _LABEL_NAMES if name in found]
    if len(found) > 1 and not named:
        raise ganzoo.UsageError(
            f"Several columns hold labels ({_listed(found)}): name one with label=, or write label=none."
        )
    return (named or found or [""])[0]


def class_names_of(feature: Any) -> tuple[str, ...]:
    """The names of the classes that the type of a column knows."""
    names = getattr(feature, "names", None)
    return tuple(map(str, names)) if isinstance(names, list | tuple) and names else ()


def first_line(error: BaseException) -> str:
    """The beginning of what an error says, for brackets in a sentence."""
    words = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
    return words[:200].rstrip(" .:")


def _root(error: BaseException) -> BaseException:
    """The error that an error was raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _holds_pictures(name: str, feature: Any) -> bool:
    if type(feature).__name__ == "Image" or (isinstance(feature, dict) and set(feature) == {"bytes", "path"}):
        return True
    return getattr(feature, "dtype", "") in ("binary", "large_binary") and name in _IMAGE_NAMES


def _listed(names: Any) -> str:
    names = list(names)
    return ", ".join(map(str, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
