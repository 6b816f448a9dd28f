"""Tensors as bytes with a digest inside, and a check that they are finite."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ganzoo.contract.errors import GanzooError
from ganzoo.storage.files import parse_json

#: a file with a longer header, in bytes, is not read: a header of tens of MB costs seconds and a thousand times its
#: size in memory
_HEADER_MOST = 1 << 22


def tensors_to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors of any device and memory layout as a safetensors file with a digest of the content inside."""
    # a copy of each: safetensors refuses tied weights and views
    plain = {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    facts = dict(metadata or {})
    # one entry only: safetensors writes several in an undefined order, and equal runs must have equal files
    return safetensors.torch.save(plain, {"ganzoo": json.dumps({**facts, "sha256": _digest(plain, facts)})})


def tensors_from_bytes(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of `tensors_to_bytes`. Raises ValueError if any bit has changed."""
    if (length := int.from_bytes(data[:8], "little")) > _HEADER_MOST:
        raise ValueError(f"it has a header of {length} bytes, more than {_HEADER_MOST}")
    try:
        tensors = safetensors.torch.load(data)
        header = parse_json(data[8 : 8 + length])
        metadata = dict(json.loads(header["__metadata__"]["ganzoo"]))
        found = metadata.pop("sha256")
    except (safetensors.SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"it is not a whole file of tensors ({type(error).__name__}: {error})") from None
    if found != _digest(tensors, metadata):
        raise ValueError("it does not match its own digest")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    sha = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"|{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        sha.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def is_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity."""
    return not _infinite(tensors)


def _infinite(tensors: Mapping[str, Tensor]) -> list[str]:
    floats = [key for key, value in tensors.items() if value.is_floating_point()]
    # a sum is finite only if all values are, and much cheaper than looking at each
    sums = torch.stack([tensors[key].sum().isfinite() for key in floats]).tolist() if floats else []
    suspects = [key for key, good in zip(floats, sums, strict=True) if not good]
    return [key for key in suspects if not bool(tensors[key].isfinite().all())]  # or the sum itself was too large


def refuse_infinite(tensors: Mapping[str, Tensor]) -> None:
    """Raise GanzooError if a tensor is not finite."""
    if infinite := _infinite(tensors):
        raise GanzooError(
            f"The training has diverged: {infinite[0]} holds NaN or infinity; no checkpoint was written, the last good "
            f"one is kept. Train anew with a lower learning rate, or with a penalty such as r1."
        )
