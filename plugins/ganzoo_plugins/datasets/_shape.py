"""The shape that all pictures of a large dataset have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import ganzoo


def common_shape(rows: np.ndarray, channels: int, size: int, name: Callable[[int], str]) -> tuple[int, int, int]:
    """(C, H, W) of the images of these rows of `ROW`.

    channels, size: what is asked for; 0 keeps what the pictures have, and then they must agree. `name(place)` is the
    name of a picture. Raises GanzooError with the names of two that do not agree.
    """
    if not channels:
        unlike = np.flatnonzero(rows["channels"] != rows["channels"][0])
        if len(unlike):
            words = [f"{name(at)} is {'grey' if rows['channels'][at] == 1 else 'in colour'}" for at in (0, unlike[0])]
            raise ganzoo.GanzooError(
                f"channels=0 wants pictures that are all grey or all in colour, {' but '.join(words)}: give channels=1 "
                "or channels=3."
            )
    height, width = (size, size) if size else (int(rows["height"][0]), int(rows["width"][0]))
    if not size:
        unlike = np.flatnonzero((rows["height"] != height) | (rows["width"] != width))
        if len(unlike):
            words = [f"{name(at)} is {rows['height'][at]}x{rows['width'][at]}" for at in (0, int(unlike[0]))]
            raise ganzoo.GanzooError(
                f"size=0 wants pictures of one size, {' but '.join(words)}: give size= the height and width to make."
            )
    return channels or int(rows["channels"][0]), height, width
