"""Image sizes that networks accept."""

from __future__ import annotations

import ganzoo


def quarter(images: ganzoo.ImageSpec, architecture: str) -> tuple[int, int]:
    """(height, width), a quarter of the size of `images`. Raises RefusedSpec where a side is no multiple of 4."""
    if images.height % 4 or images.width % 4:
        raise ganzoo.RefusedSpec(
            f"{architecture} needs a height and a width that are multiples of 4, not {images.height}x{images.width}; "
            f"give the dataset a size, for example `mnist:size=32`."
        )
    return images.height // 4, images.width // 4
