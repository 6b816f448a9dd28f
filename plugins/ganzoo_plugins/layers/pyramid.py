"""Image sizes of generators that double a small base, and of discriminators that halve down to it."""

from __future__ import annotations

import ganzoo


def base_size(images: ganzoo.ImageSpec, architecture: str, smallest: int = 4) -> tuple[int, int, int]:
    """(height, width, doublings): the base size, and how often it is doubled to get the size of `images`.

    The shorter side of the base is at least `smallest` and less than twice that. Raises RefusedSpec if there is none.
    """
    height, width, doublings = images.height, images.width, 0
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * smallest:
        height, width, doublings = height // 2, width // 2, doublings + 1
    if not smallest <= min(height, width) < 2 * smallest:
        raise ganzoo.RefusedSpec(
            f"{architecture} draws images whose shorter side is {smallest} to {2 * smallest - 1} pixels, doubled any "
            f"number of times, not {images.height}x{images.width}; give the dataset such a size, for example "
            f"`mnist:size=32`."
        )
    return height, width, doublings
