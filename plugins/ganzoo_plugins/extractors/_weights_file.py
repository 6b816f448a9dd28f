"""Files of weights that a user names."""

from __future__ import annotations

import os
from pathlib import Path

import ganzoo


def read_weights(name: str, what: str) -> bytes:
    """The bytes of a file, in which `~` is the home folder; messages call it `what`. Raises GanzooError."""
    try:
        return Path(os.path.expanduser(name)).read_bytes()
    except OSError as error:
        raise ganzoo.GanzooError(f"{what} {name!r} cannot be read ({error.strerror}); name another file.") from None
