"""Read pickles of other programs as plain data: no class is imported, and no function but those of this file is called.

It is for two kinds of files: networks that were pickled whole (R3GAN, StyleGAN2-ADA), and files of torch.save that hold
numbers of numpy beside the tensors. Every name that a file asks for is looked up in a table. Classes of networks become
a `Record`, which keeps their state and does nothing; any name outside the table is refused.

The opcodes are checked before anything is built. What may still happen is that much memory is asked for: the importer
runs in a process with limits (see `foreign`).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, ClassVar, NoReturn

if TYPE_CHECKING:
    from torch import Tensor

#: opcodes that build data, look a name up, or call what the table has for it. Without: INST, OBJ (classes by old
#: opcodes), EXT1 to EXT4 (a registry of this process), PERSID (a text as the name of a storage), NEXT_BUFFER
_REFUSED_OPCODES = frozenset({"INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"})
MOST_OPCODES = 20_000_000
#: the first number of a legacy file of torch.save
MAGIC = 0x1950A86A20F9469CFC6C
_NUMPY = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "b1": "?"}
_DTYPES = {
    **{"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1},
    **{"uint8": 1, "bool": 1},
}
_STORAGES = {
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "LongStorage": "int64"},
    **{"BFloat16Storage": "bfloat16", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool"},
}
#: classes of torch that networks consist of; they become records
_TORCH_MODULES = (
    *("linear.Linear", "linear.Identity", "conv.Conv2d", "conv.ConvTranspose2d", "container.ModuleList"),
    *("container.Sequential", "container.ModuleDict", "activation.LeakyReLU", "activation.ReLU", "activation.Tanh"),
    *("batchnorm.BatchNorm2d", "sparse.Embedding", "upsampling.Upsample", "pooling.AvgPool2d"),
)


class Refused(Exception):
    """Why a file is refused."""


class Record:
    """An object of another program: the name of its class and its state. It cannot be called, and does nothing."""

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str) -> None:
        self.class_name = class_name
        self.state: Mapping[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise Refused(f"the state of a {self.class_name} is no dict")
        self.state = state


class _Named:
    """What the table has for a name: it cannot be changed by BUILD, and is called by NEWOBJ and REDUCE only."""

    __slots__ = ("_call", "_name")
    _call: Callable[..., Any]
    _name: str

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise Refused(f"it changes {self._name}")

    def __setstate__(self, state: Any) -> NoReturn:
        raise Refused(f"it changes {self._name}")

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._call(*arguments)
        except (TypeError, ValueError, AttributeError, KeyError, struct.error, OverflowError) as error:
            raise Refused(f"it calls {self._name} with arguments that nothing ordinary has ({error})") from None


class _Dict(dict[Any, Any]):
    """A dict of another program: OrderedDict, EasyDict. Attributes that are set on it are dropped."""

    def __setstate__(self, state: Any) -> None:
        return


class _NumpyType:
    """A dtype of numpy by its name, such as f8."""

    __slots__ = ("name",)

    def __init__(self, name: str, *_: Any) -> None:
        self.name = str(name)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise Refused("it has numbers of numpy in another byte order")


class _Storage:
    """The bytes of a storage, and the name of the type of its numbers."""

    __slots__ = ("data", "dtype")

    def __init__(self, dtype: str, data: bytearray) -> None:
        self.dtype, self.data = dtype, data


class _Text(str):
    """The name of a type of numbers or of storages; it is not called."""

    __slots__ = ()


def _record(name: str) -> Callable[..., Record]:
    def make(*arguments: Any) -> Record:
        if arguments:
            raise Refused(f"it makes a {name} with arguments")
        return Record(name)

    return make


def _persistent_object(meta: Any) -> Record:
    """An object of NVIDIA's `persistence`: its class name and state. The source text in it is dropped, unread."""
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise Refused("an object that was pickled with its source has no state")
    record = Record(str(meta.get("class_name", ""))[:100])
    record.state = meta["state"]
    return record


def _dict(*items: Any) -> _Dict:
    return _Dict(*items)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _latin1(text: Any, encoding: Any = "") -> bytes:
    """The bytes that protocol 2, which torch writes, keeps as a text: those of a number of numpy."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it encodes something that is no text of bytes")
    return text.encode("latin1")


def _scalar(kind: Any, data: Any = b"") -> float | int | bool:
    code = _NUMPY.get(kind.name.lstrip("<|=")) if isinstance(kind, _NumpyType) else None
    if code is None or not isinstance(data, bytes | str):
        raise Refused("it has a scalar of numpy that is no number")
    raw = data.encode("latin1") if isinstance(data, str) else data
    value: float | int | bool = struct.unpack(f"<{code}", raw)[0]
    return value


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor in a storage, after a check that the storage holds it."""
    import torch

    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) or len(size) > 16:
        raise Refused("it has a tensor without a storage")
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
        raise Refused("a tensor has an offset, size or stride that no tensor has")
    held = len(storage.data) // _DTYPES[storage.dtype]
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else -1
    if last >= held:
        raise Refused(f"a tensor needs {last + 1} numbers and its storage has {held}")
    dtype = getattr(torch, storage.dtype)
    if last < 0:
        return torch.empty(tuple(size), dtype=dtype)
    return torch.frombuffer(storage.data, dtype=dtype).as_strided(tuple(size), tuple(stride), offset)


def _legacy_storage(data: Any) -> _Storage:
    """The storage in a legacy file of torch.save: magic number, protocol, facts, the object, keys, and the bytes."""
    if not isinstance(data, bytes):
        raise Refused("a storage has no bytes")
    file = io.BytesIO(data)
    first = [_plain(file) for _ in range(2)]
    if first[0] != MAGIC:
        raise Refused("a storage is no legacy file of torch.save")
    _plain(file)  # byte order and sizes of the machine
    found: list[tuple[str, int]] = []

    def storage(identity: Any) -> _Text:
        found.append((_storage_type(identity), identity[4]))
        return _Text("storage")

    _load(file, {}, storage)
    keys = _plain(file)
    if len(found) != 1 or not isinstance(keys, list) or len(keys) != 1:
        raise Refused("a storage's file does not hold one storage")
    dtype, count = found[0]
    (written,) = struct.unpack("<q", file.read(8)) if len(data) - file.tell() >= 8 else (-1,)
    held = len(data) - file.tell()
    needed = count * _DTYPES[dtype] if type(count) is int and 0 <= count < 1 << 48 else -1
    if written not in (count, needed) or held < needed or needed < 0:
        raise Refused(f"a storage declares {count} numbers and has {held} bytes")
    body = bytearray(needed)
    file.readinto(body)
    return _Storage(dtype, body)


def _storage_type(identity: Any) -> str:
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise Refused("it names something by number that is no storage")
    dtype = _STORAGES.get(str(identity[1]))
    if dtype is None:
        raise Refused(f"it has a storage of {identity[1]!s:.40}")
    return dtype


def table(classes: Iterable[str] = ()) -> dict[str, Any]:
    """Every name that a file may ask for -> what it gets. `classes` are names of classes that become records."""
    found: dict[str, Any] = {f"torch.{name}": _Text(name) for name in (*_DTYPES, *_STORAGES)}
    made: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": _dict,
        "dnnlib.util.EasyDict": _dict,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch.storage._load_from_bytes": _legacy_storage,
        "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy._core.multiarray.scalar": _scalar,
        "numpy.dtype": _NumpyType,
        "_codecs.encode": _latin1,
    }
    made |= {name: _record(name) for name in (*classes, *(f"torch.nn.modules.{one}" for one in _TORCH_MODULES))}
    return found | {name: _Named(name, call) for name, call in made.items() if name not in found}


# the unpickler that is written in Python: only there can NEWOBJ, REDUCE and BUILD have another meaning
_Base: Any = pickle._Unpickler


class _Unpickler(_Base):  # type: ignore[misc]
    """An unpickler that knows the names of a table only."""

    dispatch: ClassVar[dict[int, Callable[..., Any]]] = dict(_Base.dispatch)

    def __init__(self, file: IO[bytes], names: Mapping[str, Any], storage: Callable[[Any], Any] | None) -> None:
        super().__init__(file, encoding="latin1")
        self._names, self._storage_of = names, storage

    def find_class(self, module: str, name: str) -> Any:
        """What the table has for `module.name`. Raises Refused for any other name."""
        full = f"{module}.{name}"
        if full not in self._names:
            raise Refused(f"it asks for {full[:120]} to be run, which is no class of a network that is read as data")
        return self._names[full]

    def persistent_load(self, pid: Any) -> Any:
        """The storage that a tensor names."""
        if self._storage_of is None:
            raise Refused("it names a storage, and has none")
        return self._storage_of(pid)

    def load_newobj(self) -> None:
        """Call what the table has for a class, in place of its __new__."""
        arguments, made = self.stack.pop(), self.stack[-1]
        self.stack[-1] = self._call(made, arguments)

    def load_reduce(self) -> None:
        """Call what the table has for a function; nothing else can be called."""
        arguments, made = self.stack.pop(), self.stack[-1]
        self.stack[-1] = self._call(made, arguments)

    def load_build(self) -> None:
        """Give a record its state; nothing else has one."""
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Record | _Dict | _NumpyType):
            raise Refused(f"it sets the state of a {type(made).__name__.lstrip('_')}")
        made.__setstate__(state)

    def _refuse_newobj_ex(self) -> NoReturn:
        raise Refused("it makes an object with keywords, which no network does")

    @staticmethod
    def _call(made: Any, arguments: Any) -> Any:
        if not isinstance(made, _Named) or not isinstance(arguments, tuple):
            raise Refused("it calls something that is no name of its own")
        return made(*arguments)

    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.NEWOBJ_EX[0]] = _refuse_newobj_ex


def _load(file: IO[bytes], names: Mapping[str, Any], storage: Callable[[Any], Any] | None = None) -> Any:
    """The next pickle of a file, after a check of its opcodes."""
    start = file.tell()
    _check_opcodes(file)
    file.seek(start)
    storage_names = {f"torch.{name}": _Text(name) for name in _STORAGES} if storage else {}
    try:
        return _Unpickler(file, {**storage_names, **names}, storage).load()
    except Refused:
        raise
    except RecursionError:
        raise Refused("it is nested too deeply") from None
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise Refused(f"it is no whole pickle ({type(error).__name__})") from None


def _plain(file: IO[bytes]) -> Any:
    """The next pickle of a file, which may name nothing."""
    return _load(file, {})


def _check_opcodes(file: IO[bytes]) -> None:
    """Refuse a pickle that is cut off, has refused opcodes, or a memo with more entries than opcodes."""
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(file):
            count += 1
            if opcode.name in _REFUSED_OPCODES:
                raise Refused(f"it has the opcode {opcode.name}, which no network needs")
            if count > MOST_OPCODES:
                raise Refused(f"it has more than {MOST_OPCODES} opcodes")
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= count:
                raise Refused(f"it numbers an entry of its memo {argument} after {count} opcodes")
    except (MemoryError, OverflowError):
        raise Refused("it has a value of more bytes than the file") from None
    except (ValueError, EOFError, struct.error) as error:
        raise Refused(f"it is no whole pickle ({str(error)[:60]})") from None


def is_legacy(file: IO[bytes]) -> bool:
    """Whether an open file is a legacy file of torch.save; its position is where it was."""
    start = file.tell()
    try:
        return bool(_plain(file) == MAGIC)
    except Refused:
        return False
    finally:
        file.seek(start)


def read_networks(file: IO[bytes], classes: Iterable[str] = ()) -> Any:
    """The content of a file that pickles whole networks; `classes` are names of classes that become records."""
    start = file.tell()
    if file.read(1) != pickle.PROTO:  # every protocol since 2 begins with its number
        raise Refused("it is neither a file of torch.save nor a pickled network")
    file.seek(start)
    return _load(file, table(classes))


def read_zip(file: IO[bytes], classes: Iterable[str] = ()) -> Any:
    """The content of a file of torch.save, a zip of data.pkl and of storages."""
    with zipfile.ZipFile(file) as archive:
        (data,) = [name for name in archive.namelist() if name.endswith("data.pkl")] or [""]
        folder = data.removesuffix("data.pkl")
        read: dict[str, _Storage] = {}

        def storage(identity: Any) -> _Storage:
            dtype, name = _storage_type(identity), f"{folder}data/{identity[2]}"
            if name not in read:
                if name not in archive.namelist():
                    raise Refused(f"it has no storage {identity[2]!s:.40}")
                read[name] = _Storage(dtype, bytearray(archive.read(name)))
            return read[name]

        return _load(io.BytesIO(archive.read(data)), table(classes), storage)


def parts_of(record: Record) -> Iterator[tuple[str, Any]]:
    """The parameters, buffers and modules of a network, and what else its state holds, by name."""
    for name, value in record.state.items():
        if name in ("_parameters", "_buffers", "_modules") and isinstance(value, dict):
            yield from ((str(key), item) for key, item in value.items() if item is not None)
        elif isinstance(name, str) and not (name.startswith("_") and name != "_init_kwargs"):
            yield name, value
    yield "__class__", record.class_name.rpartition(".")[2]
