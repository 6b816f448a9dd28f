"""Image sizes a network can serve."""

from __future__ import annotations

import ganzoo


def quarter(images: ganzoo.ImageSpec, architecture: str) -> tuple[int, int]:
    """(height, width) from which doubling twice gives the size of `images`. Raises RefusedSpec where none does."""
    if images.height % 4 or images.width % 4:
        raise ganzoo.RefusedSpec(
            f"{architecture} needs a height and a width that are multiples of 4, not {images.height}x{images.width}; "
            f"give the dataset a size, for example `mnist:size=32`."
        )
    return images.height // 4, images.width // 4
