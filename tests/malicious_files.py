"""Files that run code when they are unpickled, disguised as other kinds of files, and a check that none of them did."""

from __future__ import annotations

import ast
import base64
import bz2
import contextlib
import copyreg
import functools
import gzip
import importlib.util
import io
import json
import lzma
import marshal
import pickle
import runpy
import shlex
import site
import struct
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from PIL import Image


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


def _zip_of(pickled: bytes) -> bytes:
    return _zip({"archive/data.pkl": pickled, "archive/version": b"3\n"})


def _record(touch: Touch) -> bytes:
    """An array of records in which one field is an object; its shape is that of an array of numbers."""
    data = io.BytesIO()
    np.save(data, np.array([(1, touch)], dtype=[("weight", "f4"), ("more", object)]), allow_pickle=True)
    return data.getvalue()


def _array_header(code: str) -> bytes:
    """An .npy file whose header, a Python literal, is an expression."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({code},)}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def _joblib(touch: Touch, compress: int) -> bytes:
    data = io.BytesIO()
    joblib.dump({"weight": np.ones(3), "more": touch}, data, compress=compress)
    return data.getvalue()


def _picture() -> bytes:
    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "PNG")
    return data.getvalue()


def _wrong_checksums(data: bytes) -> bytes:
    """A zip with wrong checksums: Python's zipfile, and scanners that use it, refuse it, but torch reads it."""
    found = bytearray(data)
    for mark, place in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        at = -1
        while (at := found.find(mark, at + 1)) >= 0:
            found[at + place : at + place + 4] = b"\0\0\0\1"
    return bytes(found)


def _safetensors(pickled: bytes) -> bytes:
    """A valid safetensors file whose tensor and metadata contain a pickle."""
    text = {"__metadata__": {"pickle": pickled.hex()}}
    header = json.dumps({**text, "weight": {"dtype": "U8", "shape": [len(pickled)], "data_offsets": [0, len(pickled)]}})
    return struct.pack("<Q", len(header)) + header.encode() + pickled


def _opcodes(code: str) -> dict[str, bytes]:
    """Pickles that `pickle.dumps` never writes: each runs the code by another opcode, which a scanner may not know."""
    line = f"S{code!r}\n".encode()
    packed = marshal.dumps(compile(code, "pickle", "exec"))
    body = b"B" + struct.pack("<I", len(packed)) + packed
    made = b"ctypes\nFunctionType\n(cmarshal\nloads\n(" + body + b"tRcbuiltins\ndict\n)RtR)R."
    return {
        "pickle with INST": b"(" + line + b"ibuiltins\nexec\n.",
        "pickle with OBJ": b"(cbuiltins\nexec\n" + line + b"o.",
        # an object whose __setstate__ is set first, and is then called with the state
        "pickle with BUILD": b"\x80\x02ctypes\nSimpleNamespace\n)\x81}S'__setstate__'\ncbuiltins\nexec\nsb"
        + line
        + b"b.",
        # without a call opcode: an iterator that runs the code when it is converted to bytes
        "pickle with NEWOBJ": b"\x80\x02cbuiltins\nbytes\n(cbuiltins\nmap\n(cbuiltins\nexec\n("
        + line
        + b"lt\x81t\x81.",
        "pickle with an extension code": b"\x80\x02\x82\xf0(" + line + b"tR.",
        "pickle of a function's code": b"\x80\x03" + made,
        "pickle of a dotted name": b"\x80\x04\x8c\x09posixpath\x8c\x09os.system\x93(" + _shell(code) + b"tR.",
    }


def _shell(code: str) -> bytes:
    path = ast.literal_eval(f"'{code.split(chr(39))[1]}'")
    text = f"touch {shlex.quote(path)}".encode()
    return b"X" + struct.pack("<I", len(text)) + text


def _programs(code: str) -> dict[str, bytes]:
    """Programs that a file of any name may contain."""
    compiled = marshal.dumps(compile(code, "module", "exec"))
    packed = base64.b64encode(compiled).decode()
    lambda_layer = {"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": [packed]}}}
    return {
        "Python": f"{code}\n".encode(),
        "Python, compiled": importlib.util.MAGIC_NUMBER + bytes(12) + compiled,
        "zip that Python runs": b"#!/usr/bin/env python\n" + _zip({"__main__.py": code.encode()}),
        "lines that site runs": f"import sys; {code}\n".encode(),
        "torch.package": _zip(
            {
                "p/.data/extern_modules": b"",
                "p/model.py": code.encode(),
                "p/.data/version": b"6\n",
                "p/byteorder": b"little",
            }
        ),
        "Keras, with a Lambda layer": _zip({"config.json": json.dumps(lambda_layer).encode(), "model.weights.h5": b""}),
        "npy whose header is code": _array_header(f"exec({code!r})"),
    }


def disguises(canary: Path) -> dict[str, bytes]:
    """Kind -> content of a file. Any code in it, if it is run or unpickled, creates the file `canary`."""
    touch = Touch(canary)
    plain = pickle.dumps(touch, 2)
    code = f"open({str(canary)!a}, 'a').close()"  # text opcodes hold ASCII only
    weights = _safetensors(plain)
    return {
        **{f"pickle, protocol {protocol}": pickle.dumps(touch, protocol) for protocol in range(6)},
        **_opcodes(code),
        **_programs(code),
        "pickle that is cut off": plain[:-1],
        "pickle behind a pickle": pickle.dumps({"step": 1}) + plain,
        "pickle of a dict of tensors": pickle.dumps({"weight": torch.ones(2), "more": touch}),
        "torch.save": _saved({"weight": torch.ones(2), "more": touch}),
        "torch.save, before 1.6": _saved(
            {"weight": torch.ones(2), "more": touch}, _use_new_zipfile_serialization=False
        ),
        "torch.save, before 0.2": _tar({"sys_info": plain, "pickle": plain, "storages": plain, "tensors": plain}),
        "torch.save, compressed": _zip({"archive/data.pkl": plain, "archive/version": b"3\n"}, zipfile.ZIP_DEFLATED),
        "TorchScript": _zip({"m/data.pkl": plain, "m/constants.pkl": plain, "m/code/m.py": b"", "m/version": b"3\n"}),
        "torch.save, with false sums": _wrong_checksums(_saved({"weight": torch.ones(2), "more": touch})),
        "torch.export": _zip({"m/archive_format": b"pt2", "m/data/weights/weight_0": _saved(touch)}),
        "joblib": _joblib(touch, 0),
        "joblib, compressed": _joblib(touch, 3),
        "npy of objects": _array(touch),
        "npy of records with an object": _record(touch),
        "npz of objects": _zip({"arr_0.npy": _array(touch)}),
        "gzipped pickle": gzip.compress(plain, mtime=0),
        "bz2 of a pickle": bz2.compress(plain),
        "xz of a pickle": lzma.compress(plain),
        "zip in a tar.gz": _tar({"model.pt": _zip_of(plain)}, "w:gz"),
        "zip behind a safetensors file": weights + _zip_of(plain),
        "picture in front of a pickle": _picture() + plain,
        "idx in front of a pickle": struct.pack(">4I", 0x803, 2, 28, 28) + bytes(2 * 28 * 28) + plain,
        "tar.gz of pickles": _tar({"data_batch_1": plain, "cifar-10-batches-bin/test_batch.bin": plain}, "w:gz"),
        "safetensors around a pickle": weights,
        "length of a header, then a pickle": struct.pack("<Q", len(plain)) + plain,
        "yaml": f'!!python/object/apply:builtins.exec ["open({str(canary)!r}, chr(97))"]\n'.encode(),
        "JSON around a pickle": json.dumps({"py/reduce": [{"py/type": "builtins.exec"}], "_": plain.hex()}).encode(),
    }


def _unpickle(path: Path) -> None:
    pickle.loads(path.read_bytes())


def _member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _with_extension(path: Path) -> None:
    copyreg.add_extension("builtins", "exec", 0xF0)
    try:
        _unpickle(path)
    finally:
        copyreg.remove_extension("builtins", "exec", 0xF0)


def _both_pickles(path: Path) -> None:
    file = io.BytesIO(path.read_bytes())
    pickle.load(file)
    pickle.load(file)


def _ignoring_errors(path: Path) -> None:
    """Unpickle, and ignore the error after the code has run."""
    with contextlib.suppress(EOFError, TypeError):
        _unpickle(path)


def _keras(path: Path) -> None:
    (code,) = json.loads(_member(path, "config.json"))["config"]["function"]["config"]
    types.FunctionType(marshal.loads(base64.b64decode(code)), {})()


def _zip_in_tar(path: Path) -> None:
    with tarfile.open(path) as archive, zipfile.ZipFile(archive.extractfile("model.pt")) as inner:  # type: ignore[arg-type]
        pickle.loads(inner.read("archive/data.pkl"))


def _site_file(path: Path) -> None:
    site.addpackage(str(path.parent), path.name, set())


def _from(offset: Callable[[bytes], int]) -> Callable[[Path], None]:
    return lambda path: pickle.loads(path.read_bytes()[offset(path.read_bytes()) :])


_torch: Callable[[Path], Any] = functools.partial(torch.load, weights_only=False)
_numpy: Callable[[Path], Any] = functools.partial(np.load, allow_pickle=True)
#: kind -> how a program that trusts the file runs its code; kinds are missing whose libraries are not installed
TRUSTING: dict[str, Callable[[Path], Any]] = {
    **{f"pickle, protocol {protocol}": _unpickle for protocol in range(6)},
    **{f"pickle with {opcode}": _unpickle for opcode in ("INST", "OBJ", "BUILD")},
    "pickle with NEWOBJ": _ignoring_errors,
    "pickle with an extension code": _with_extension,
    "pickle of a function's code": _unpickle,
    "pickle of a dotted name": _unpickle,
    "pickle that is cut off": _ignoring_errors,
    "pickle behind a pickle": _both_pickles,
    "pickle of a dict of tensors": _unpickle,
    "torch.save": _torch,
    "torch.save, before 1.6": _torch,
    "torch.save, compressed": lambda path: pickle.loads(_member(path, "archive/data.pkl")),
    "torch.save, with false sums": _torch,
    "torch.export": lambda path: _torch(io.BytesIO(_member(path, "m/data/weights/weight_0"))),  # type: ignore[arg-type]
    "torch.package": lambda path: exec(_member(path, "p/model.py")),
    "joblib": joblib.load,
    "joblib, compressed": joblib.load,
    "npy of objects": _numpy,
    "npy of records with an object": _numpy,
    "npy whose header is code": lambda path: eval(path.read_bytes()[10:]),
    "npz of objects": lambda path: _numpy(path)["arr_0"],
    "gzipped pickle": lambda path: pickle.loads(gzip.decompress(path.read_bytes())),
    "bz2 of a pickle": lambda path: pickle.loads(bz2.decompress(path.read_bytes())),
    "xz of a pickle": lambda path: pickle.loads(lzma.decompress(path.read_bytes())),
    "zip in a tar.gz": _zip_in_tar,
    "zip behind a safetensors file": lambda path: pickle.loads(_member(path, "archive/data.pkl")),
    "picture in front of a pickle": _from(lambda data: data.index(b"IEND") + 8),
    "idx in front of a pickle": _from(lambda data: 16 + 2 * 28 * 28),
    "length of a header, then a pickle": _from(lambda data: 8),
    "Keras, with a Lambda layer": _keras,
    "lines that site runs": _site_file,
    "zip that Python runs": lambda path: runpy.run_path(str(path), run_name="__main__"),
    "Python": lambda path: exec(path.read_text()),
    "Python, compiled": lambda path: exec(marshal.loads(path.read_bytes()[16:])),
}

_events: list[str] | None = None


def _on_audit_event(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is not None and event in ("pickle.find_class", "os.system"):
        _events.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_on_audit_event)  # an audit hook cannot be removed: outside of `nothing_runs` it does nothing


@contextlib.contextmanager
def nothing_runs(canary: Path) -> Iterator[None]:
    """Context manager: fails if anything is unpickled in it, or if `canary` exists at its end."""
    global _events
    _events = []
    try:
        yield
        assert not canary.exists(), "a file has run its code"
        assert not _events, _events
    finally:
        _events = None
