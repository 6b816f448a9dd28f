"""What network-snapshot files of NVIDIA's training loop have in common."""

from __future__ import annotations

import re

import ganzoo


def dataset_of(file: ganzoo.ForeignFile, size: int, channels: int) -> str:
    """The images that the networks were trained on, as a folder with the name that the file has for them."""
    path = str(file.values.get("training_set_kwargs/path") or "")
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1].removesuffix(".zip")
    known = name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) else "images"
    return f"image-folder:path={known},size={size}" + (f",channels={channels}" if channels != 3 else "")
