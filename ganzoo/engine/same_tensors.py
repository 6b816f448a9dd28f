"""Whether a saved state fits the objects that are to continue it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ganzoo.contract.errors import GanzooError


def require_same_tensors(own_state: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raise GanzooError where names, shapes or types of two states differ."""
    differences = [f"{name} is missing" for name in own_state if name not in saved]
    differences += [f"{name} is not known here" for name in saved if name not in own_state]
    for name in own_state.keys() & saved.keys():
        expected, found = own_state[name], saved[name]
        if expected.shape != found.shape or expected.dtype != found.dtype:
            differences.append(
                f"{name} is {found.dtype} {tuple(found.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
            )
    if differences:
        shown = "; ".join(sorted(differences)[:5])
        raise GanzooError(f"The saved state does not fit this recipe in {len(differences)} places: {shown}.")
