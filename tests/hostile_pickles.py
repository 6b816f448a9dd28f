"""Pickles that try to run code, to confuse a reader or to exhaust it, written opcode by opcode."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
from pathlib import Path

import torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
#: a class that the reader of the tests knows
KNOWN = "networks.Generator"
#: globals outside the list that have been used to run code or to reach it
GLOBALS = (
    *("os.system", "posix.system", "nt.system", "subprocess.Popen", "subprocess.check_output", "builtins.eval"),
    *("builtins.exec", "builtins.getattr", "builtins.__import__", "builtins.compile", "builtins.open", "builtins.set"),
    *("__builtin__.eval", "copyreg._reconstructor", "copy_reg._reconstructor", "operator.attrgetter"),
    *("operator.methodcaller", "functools.partial", "functools.reduce", "importlib.import_module", "runpy._run_code"),
    *("webbrowser.open", "timeit.timeit", "pdb.run", "code.interact", "ctypes.CDLL", "pickle.loads", "torch.load"),
    *("torch.hub.load", "torch.jit.load", "torch.storage.UntypedStorage", "torch._utils._rebuild_wrapper_subclass"),
    *(
        "torch._utils._rebuild_tensor_v3",
        "torch.serialization.load",
        "numpy.load",
        "numpy.core.multiarray._reconstruct",
    ),
    *("collections.OrderedDict.__reduce__", "dnnlib.util.open_url", "torch_utils.persistence._src_to_module"),
    *("types.FunctionType", "types.CodeType", "sys.modules", "bdb.Bdb"),
    "asyncio.unix_events._UnixSubprocessTransport",
)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(name: str) -> bytes:
    """GLOBAL of a dotted name."""
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def called(name: str, argument: str) -> bytes:
    """A file that calls `name` with one text, beside what a network has."""
    return b"\x80\x04}" + text("G") + named(name) + text(argument) + b"\x85Rs."


def record(state: bytes = b"}") -> bytes:
    """NEWOBJ of the known class, and BUILD with a state."""
    return named(KNOWN) + b")\x81" + state + b"b"


def storage_bytes(values: torch.Tensor) -> bytes:
    """The legacy file of torch.save that a module's pickle holds for each storage."""
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # typed storages are deprecated, and modules are still pickled with them
        torch.save(values.storage(), data, _use_new_zipfile_serialization=False)
    return data.getvalue()


def tensor(values: torch.Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """REDUCE of _rebuild_tensor_v2 over a storage, with any size and stride."""
    data = storage_bytes(values)
    loaded = named("torch.storage._load_from_bytes") + b"B" + struct.pack("<I", len(data)) + data + b"\x85R"
    numbers = b"".join(b"(" + b"".join(_whole(n) for n in some) + b"t" for some in (size, stride))
    return (
        named("torch._utils._rebuild_tensor_v2")
        + b"("
        + loaded
        + _whole(offset)
        + numbers
        + b"\x89"
        + named("collections.OrderedDict")
        + b")Rt"
        + b"R"
    )


def _whole(number: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", number)


def _encoded(value: str, codec: str) -> bytes:
    """REDUCE of _codecs.encode, with which protocol 2 keeps bytes."""
    return b"\x80\x04" + named("_codecs.encode") + text(value) + text(codec) + b"\x86R."


def parameters(tensor_code: bytes) -> bytes:
    """A known network with one parameter."""
    return (
        b"\x80\x04}" + text("G") + record(b"}" + text("_parameters") + b"}" + text("w") + tensor_code + b"ss") + b"s."
    )


def hostile(canary: Path) -> dict[str, bytes]:
    """Name -> file. None of them may make `canary`, and each must be refused with one sentence."""
    touch, ones = f"touch '{canary}'", torch.ones(4)
    good = tensor(ones, (4,), (1,))
    system = named("os.system") + text(touch) + b"\x85R"
    files = {f"calls {name}": called(name, touch) for name in GLOBALS}

    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (touch,)

    whole = parameters(good)
    load = b"\x80\x04" + named("torch.storage._load_from_bytes")
    persistent = b"\x80\x04" + named("torch_utils.persistence._reconstruct_persistent_obj")
    files |= {
        "a plain hostile pickle": pickle.dumps({"G": Touch()}),
        "hostile, protocol 0": pickle.dumps({"G": Touch()}, protocol=0),
        "hostile below a good network": b"\x80\x04}" + text("G") + record() + b"s" + text("D") + system + b"s.",
        "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93" + text(touch) + b"\x85R.",
        "INST": b"(" + text(touch) + b"ios\nsystem\n.",
        "OBJ": b"(" + named("os.system") + text(touch) + b"o.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "PERSID": b"Pstorage\n.",
        "BINPERSID": b"\x80\x02" + text("storage") + b"Q.",
        "REDUCE on a stub": b"\x80\x04" + record() + text(touch) + b"\x85R.",
        "REDUCE on the class of a stub, with arguments": b"\x80\x04" + named(KNOWN) + text(touch) + b"\x85R.",
        "a codec that runs something": _encoded("x", "zip_codec"),
        "a codec of bytes": b"\x80\x04" + named("_codecs.encode") + b"C\x01x" + text("latin1") + b"\x86R.",
        "a codec that can fail": _encoded("\u1234", "latin1"),
        "a codec alone": b"\x80\x04" + named("_codecs.encode") + text("x") + b"\x85R.",
        "REDUCE on a text": b"\x80\x04" + text("os.system") + text(touch) + b"\x85R.",
        "REDUCE on a dtype": b"\x80\x04" + named("torch.float32") + text(touch) + b"\x85R.",
        "nested REDUCE on a stub": b"\x80\x04" + record() + record() + b"\x85R)R.",
        "NEWOBJ with a hostile class": b"\x80\x02" + named("subprocess.Popen") + text(touch) + b"\x85\x81.",
        "NEWOBJ of a stub": b"\x80\x04" + record() + b")\x81.",
        "NEWOBJ_EX": b"\x80\x04" + named(KNOWN) + b")}\x92.",
        "BUILD with slots": b"\x80\x04" + record(b"N}" + text("__class__") + system + b"s\x86") + b".",
        "BUILD with slots, harmless": b"\x80\x04" + record(b"N}" + text("class_name") + text("x") + b"s\x86") + b".",
        "BUILD on the class": b"\x80\x04" + named(KNOWN) + b"}" + text("_call") + named(KNOWN) + b"sb.",
        "BUILD on a function": b"\x80\x04"
        + named("torch._utils._rebuild_parameter")
        + b"N}"
        + text("__code__")
        + b"Ns\x86b.",
        "BUILD on a list": b"\x80\x04]}b.",
        "BUILD on a tensor": parameters(good + b"}" + text("data") + b"Nsb"),
        "BUILD with a state that is a text": b"\x80\x04" + record(text("state")) + b".",
        "cyclic modules": b"\x80\x04"
        + named(KNOWN)
        + b")\x81q\x00}"
        + text("_modules")
        + b"}"
        + text("m")
        + b"h\x00ssb.",
        "a cyclic dict": b"\x80\x04}q\x00" + text("m") + b"h\x00s.",
        "a list that doubles sixty times": b"\x80\x04]q\x00" + 60 * b"(h\x00h\x00lq\x00" + b".",
        "a storage shorter than its tensor": parameters(tensor(ones, (400,), (1,))),
        "a stride beyond the storage": parameters(tensor(ones, (2, 2), (1, 1 << 40))),
        "a negative stride": parameters(tensor(ones, (4,), (-1,), 3)),
        "a negative size": parameters(tensor(ones, (-4,), (1,))),
        "an offset beyond the storage": parameters(tensor(ones, (4,), (1,), 1 << 40)),
        "one number as 2^40": parameters(tensor(ones, (1 << 40,), (0,))),
        "a size that is a text": parameters(good.replace(_whole(4), text("4"))),
        "a storage that is a text": b"\x80\x04" + named("torch.storage._load_from_bytes") + text("x") + b"\x85R.",
        "a storage that is a hostile pickle": load + _bytes(b"\x80\x02" + system + b".") + b"\x85R.",
        "a hostile legacy file within": b"\x80\x04"
        + named("torch.storage._load_from_bytes")
        + _bytes(_legacy(Touch()))
        + b"\x85R.",
        "10^9 entries of a memo": b"\x80\x02}r" + struct.pack("<I", 10**9) + b".",
        "a memo by PUT": b"}p1000000000\n.",
        "BINBYTES8 of 2^62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
        "BYTEARRAY8 of 2^62 bytes": b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b"x.",
        "a LONG4 of 2^31 bytes": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
        "a FRAME of 2^60 bytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.",
        "cut off": whole[: len(whole) // 2],
        "without its end": whole[:-1],
        "only its beginning": b"\x80\x04",
        "empty": b"",
        "protocol 9": b"\x80\x09}.",
        "no pickle at all": b"<!DOCTYPE html><title>404</title>",
        "no tensors": b"\x80\x04}.",
        "a scalar of objects": b"\x80\x04"
        + named("numpy._core.multiarray.scalar")
        + named("numpy.dtype")
        + text("O")
        + b"\x85R"
        + text("x")
        + b"\x86R.",
        "an object with source that has no state": persistent
        + b"}"
        + text("module_src")
        + text(f"import os; os.system({touch!r})")
        + b"s\x85R.",
        "a deep tower of lists": b"\x80\x04" + b"]" * 3000 + b"a" * 2999 + b".",
    }
    return files


def _bytes(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def _legacy(value: object) -> bytes:
    return b"".join(pickle.dumps(one, 2) for one in (MAGIC, PROTOCOL, {"little_endian": True}, value, []))
