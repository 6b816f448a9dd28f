"""Files that run code where they are unpickled, each in the clothes of something harmless, and who tells if one did."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.canary)!r}, 'a').close()",)


def _zip(parts: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return data.getvalue()


def _tar(parts: dict[str, bytes], mode: str = "w") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def _saved(value: Any, **more: Any) -> bytes:
    data = io.BytesIO()
    torch.save(value, data, **more)
    return data.getvalue()


def _array(touch: Touch) -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([touch], dtype=object), allow_pickle=True)
    return data.getvalue()


def _safetensors(pickled: bytes) -> bytes:
    """A whole safetensors file whose tensor, and whose metadata, are a pickle."""
    text = {"__metadata__": {"pickle": pickled.hex()}}
    header = json.dumps({**text, "weight": {"dtype": "U8", "shape": [len(pickled)], "data_offsets": [0, len(pickled)]}})
    return struct.pack("<Q", len(header)) + header.encode() + pickled


def disguises(canary: Path) -> dict[str, bytes]:
    """Contents of files, by what they are. Everything in them that is unpickled makes the file `canary`."""
    touch = Touch(canary)
    plain = pickle.dumps(touch, 2)
    return {
        "pickle, protocol 0": pickle.dumps(touch, 0),
        "pickle, protocol 2": plain,
        "pickle, protocol 5": pickle.dumps(touch, 5),
        "pickle of a dict of tensors": pickle.dumps({"weight": torch.ones(2), "more": touch}),
        "torch.save": _saved({"weight": torch.ones(2), "more": touch}),
        "torch.save, before 1.6": _saved(
            {"weight": torch.ones(2), "more": touch}, _use_new_zipfile_serialization=False
        ),
        "torch.save, before 0.2": _tar({"sys_info": plain, "pickle": plain, "storages": plain, "tensors": plain}),
        "torch.save, compressed": _zip({"archive/data.pkl": plain, "archive/version": b"3\n"}, zipfile.ZIP_DEFLATED),
        "TorchScript": _zip({"m/data.pkl": plain, "m/constants.pkl": plain, "m/code/m.py": b"", "m/version": b"3\n"}),
        "torch.package": _zip({"p/.data/extern_modules": b"", "p/model.pkl": plain, "p/.data/version": b"1"}),
        "npy of objects": _array(touch),
        "npz of objects": _zip({"arr_0.npy": _array(touch)}),
        "gzipped pickle": gzip.compress(plain, mtime=0),
        "tar.gz of pickles": _tar({"data_batch_1": plain, "cifar-10-batches-bin/test_batch.bin": plain}, "w:gz"),
        "safetensors around a pickle": _safetensors(plain),
        "length of a header, then a pickle": struct.pack("<Q", len(plain)) + plain,
        "yaml": f'!!python/object/apply:builtins.exec ["open({str(canary)!r}, chr(97))"]\n'.encode(),
        "Python": f"open({str(canary)!r}, 'a').close()\n".encode(),
        "JSON around a pickle": json.dumps({"py/reduce": [{"py/type": "builtins.exec"}], "_": plain.hex()}).encode(),
    }


#: how each is brought to life by a program that trusts it
TRUSTING: dict[str, Callable[[Path], Any]] = {
    **{f"pickle, protocol {p}": lambda path: pickle.loads(path.read_bytes()) for p in (0, 2, 5)},
    "pickle of a dict of tensors": lambda path: pickle.loads(path.read_bytes()),
    "torch.save": lambda path: torch.load(path, weights_only=False),
    "torch.save, before 1.6": lambda path: torch.load(path, weights_only=False),
    "npy of objects": lambda path: np.load(path, allow_pickle=True),
    "npz of objects": lambda path: np.load(path, allow_pickle=True)["arr_0"],
    "gzipped pickle": lambda path: pickle.loads(gzip.decompress(path.read_bytes())),
    "Python": lambda path: exec(path.read_text()),
}

_heard: list[str] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard is not None and event in ("pickle.find_class", "os.system"):
        _heard.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_hear)  # of the interpreter itself, and for good: it is deaf outside of `nothing_runs`


@contextlib.contextmanager
def nothing_runs(canary: Path) -> Iterator[None]:
    """A while in which nothing is unpickled, whatever else happens in it."""
    global _heard
    _heard = []
    try:
        yield
        assert not canary.exists(), "a file has run its code"
        assert not _heard, _heard
    finally:
        _heard = None
