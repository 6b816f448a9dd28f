"""Read the checkpoint of another program. The one place that opens a pickle of unknown origin.

It is opened in a process of its own, with limits on memory, time and file size, and without any plugin: with
`weights_only=True` of torch, or, for whole networks and numbers of numpy, as plain data (see `foreign_pickle`).
`weights_only` alone is not a full protection (CVE-2025-32434, CVE-2026-24747).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.storage.foreign_pickle import Record, Refused, is_legacy, parts_of, read_networks, read_zip

if TYPE_CHECKING:
    from torch import Tensor

    from ganzoo.contract.foreign import ForeignFile

#: the first release of torch whose weights_only has no known vulnerability
TORCH = "2.10"
#: what the process may use beyond what the file's size explains: bytes of memory, seconds of CPU time
SPARE_BYTES = 256 << 20
SPARE_SECONDS = 60
#: a file that is nested deeper or has more values is refused
DEEPEST, MOST_VALUES = 16, 1_000_000
#: of the values that are no tensors, this many are kept, and texts up to this length
MOST_KEPT, LONGEST_TEXT = 20_000, 200


@dataclass(frozen=True)
class Imported:
    """The result of an import."""

    path: Path
    sha256: str
    tensors: int
    bytes: int
    #: number of values in the foreign file that are not tensors: numbers, texts, settings
    left_out: int


def import_checkpoint(foreign: Path, out: Path) -> Imported:
    """Write the tensors of `foreign`, a file of torch.save, to the new safetensors file `out`, under flat names.

    Nested names are joined with a slash. `out` is complete or absent. Raises GanzooError if the file is not one
    of plain tensors, asks for code to be run, or holds less data than it declares.
    """
    _require_file(foreign)
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the file to be written must end in .safetensors.")
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} is there already, and nothing is overwritten: name another file.")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no directory {out.parent}.")
    try:
        with tempfile.TemporaryDirectory(prefix=".import-", dir=out.parent) as folder:
            result = Path(folder) / "result.safetensors"
            facts = _read_apart(foreign, result)
            with result.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = result.stat().st_size
            os.rename(result, out)
    except OSError as error:
        raise GanzooError(f"{out} cannot be written ({error.strerror or error}): name a file elsewhere.") from None
    return Imported(out, sha256, facts["tensors"], size, facts["left_out"])


def read_foreign(path: Path, classes: Iterable[str] = ()) -> ForeignFile:
    """The tensors and numbers of a checkpoint of another program.

    `classes` are dotted names of classes in it that are read as plain data. Raises UsageError where there is no such
    file, GanzooError where it is refused.
    """
    from ganzoo.contract.foreign import ForeignFile
    from ganzoo.storage.tensors import tensors_from_bytes

    _require_file(path)
    with tempfile.TemporaryDirectory(prefix="ganzoo-import-") as folder:
        result = Path(folder) / "result.safetensors"
        facts = _read_apart(path, result, classes)
        tensors, metadata = tensors_from_bytes(result.read_bytes())
    return ForeignFile(path, tensors, facts["values"], metadata["imported_from_sha256"])


def _require_file(foreign: Path) -> None:
    if not foreign.is_file():
        raise UsageError(f"There is no file {foreign}: name the checkpoint of another program.")


def _read_apart(foreign: Path, result: Path, classes: Iterable[str] = ()) -> dict[str, Any]:
    """Read `foreign` and write `result` in a process of its own; returns the facts that it prints."""
    # without what would switch weights_only off, load other devices' code, or start threads that cost address space
    environment = {key: value for key, value in os.environ.items() if key != "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"}
    environment |= {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "ganzoo.storage.foreign", str(foreign), str(result), *sorted(classes)]
    seconds = 5 * _seconds(foreign.stat().st_size)
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise GanzooError(f"{foreign} was given up after {seconds} s: it is no ordinary file of weights.") from None
    try:
        facts: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
        raise GanzooError(
            f"{foreign} was given up: the process that read it ended with {how}, within limits made for a file of its "
            f"size; it is no ordinary file of weights."
        ) from None
    if "refused" in facts:
        raise GanzooError(f"{foreign} is refused: {facts['refused']}.")
    return facts


def _seconds(size: int) -> int:
    """CPU seconds that a file of that size may need."""
    return SPARE_SECONDS + size // 10_000_000


# --- in the process of its own ---


_Refused = Refused


def _answer(foreign: Path, result: Path, classes: Iterable[str] = ()) -> dict[str, Any]:
    import torch

    if torch.__version__ < TORCH:  # it compares as versions do; such a torch was forced upon us
        return {"refused": f"reading it safely needs torch {TORCH}, and this is {torch.__version__}"}
    _limit_this_process(foreign.stat().st_size)
    return _answer_within(foreign, result, classes)


def _answer_within(foreign: Path, result: Path, classes: Iterable[str] = ()) -> dict[str, Any]:
    """Convert a file, or say why it is refused; in a process that has its limits."""
    try:
        return _convert(foreign, result, foreign.stat().st_size, classes)
    except _Refused as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "it needs more memory than a file of its size explains"}
    except Exception as error:
        return {"refused": _reason(error)}


def _limit_this_process(size: int) -> None:
    """Limit memory, time and file size from here on to what a file of `size` bytes needs."""
    import resource  # Windows does not have it

    memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if _has_proc() else 0
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limits = {
        # read, made contiguous, written as bytes: three times the file, and torch itself
        resource.RLIMIT_AS: memory + 4 * size + SPARE_BYTES if memory else None,
        resource.RLIMIT_CPU: int(spent.ru_utime + spent.ru_stime) + _seconds(size),
        resource.RLIMIT_FSIZE: 2 * size + (1 << 20),
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        if value is not None:
            hard = resource.getrlimit(limit)[1]
            least = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (least, least))


def _has_proc() -> bool:
    return Path("/proc/self/statm").is_file()


def _convert(foreign: Path, result: Path, size: int, classes: Iterable[str] = ()) -> dict[str, Any]:
    from ganzoo.storage.files import write_atomically
    from ganzoo.storage.tensors import tensors_to_bytes

    with foreign.open("rb") as file:
        origin = hashlib.file_digest(file, "sha256").hexdigest()
        loaded = _loaded(file, tuple(classes))
    tensors, values, left_out = _flat(loaded)
    del loaded
    if not tensors:
        raise _Refused("it holds no tensors")
    _refuse_sizes(tensors, size)
    write_atomically(result, tensors_to_bytes(tensors, {"imported_from_sha256": origin}))
    return {"tensors": len(tensors), "left_out": left_out, "values": values}


def _loaded(file: IO[bytes], classes: tuple[str, ...]) -> Any:
    """The content of an open file: by torch where it has plain tensors, otherwise as plain data."""
    import torch

    _refuse_compressed(file)
    file.seek(0)
    zipped = zipfile.is_zipfile(file)
    file.seek(0)
    if not zipped and classes and not is_legacy(file):
        return read_networks(file, classes)
    try:
        # an open file: of a name, torch would go by its suffix
        return torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:
        if not zipped or "GLOBAL numpy" not in str(error):
            raise
    file.seek(0)
    return read_zip(file, classes)


def _refuse_compressed(file: IO[bytes]) -> None:
    """Refuse compressed files: torch never compresses, and such a file may unpack to a thousand times its size."""
    try:
        with zipfile.ZipFile(file) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise _Refused("it is compressed, which torch's own files never are")
    except zipfile.BadZipFile:
        return  # an older format, or not a checkpoint: torch.load decides


def _flat(loaded: Any) -> tuple[dict[str, Tensor], dict[str, Any], int]:
    """All tensors in dicts, lists, tuples and networks, by their path; numbers and texts by theirs; and their number.

    The number counts all values that are no tensors, also those that are too many or too long to be kept.
    """
    from torch import Tensor

    found: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    left_out = visited = 0
    waiting: list[tuple[str, Any, int]] = [("", loaded, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        visited += 1
        if depth > DEEPEST or visited > MOST_VALUES:
            raise _Refused(f"it is nested deeper than {DEEPEST} levels or has more than {MOST_VALUES} values")
        if isinstance(value, Tensor):
            name = name or "tensor"
            if name in found or name == "__metadata__":
                raise _Refused(f"its names are not those of tensors: {name!r} is taken")
            found[name] = value
        elif isinstance(value, Mapping | list | tuple | Record):
            pairs = list(_items(value))
            named = [(key, item) for key, item in pairs if isinstance(key, str | int)]
            left_out += len(pairs) - len(named)
            waiting += [(f"{name}/{key}" if name else str(key), item, depth + 1) for key, item in named]
        else:
            left_out += 1
            if _is_kept(value) and len(values) < MOST_KEPT:
                values[name] = value
    return found, values, left_out


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Record):
        return parts_of(value)
    return value.items() if isinstance(value, Mapping) else enumerate(value)


def _is_kept(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, bool | int) and abs(value) < 1 << 63)


def _refuse_sizes(tensors: Mapping[str, Tensor], size: int) -> None:
    """Refuse tensors that declare more than they hold: with stride 0, one number may be terabytes when copied."""
    import torch

    for name, value in tensors.items():
        if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise _Refused(f"{name!r} is not a plain tensor with data, but {value.layout} on {value.device}")
        held = value.untyped_storage().nbytes()
        if value.nbytes > held:
            raise _Refused(f"{name!r} declares {value.nbytes} bytes and holds {held}")
    total = sum(value.nbytes for value in tensors.values())
    if total > 2 * size:
        raise _Refused(f"it declares {total} bytes of tensors, and has {size} bytes itself")


def _reason(error: Exception) -> str:
    """Why torch would not read a file, without its advice to switch the safety off."""
    if called := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it asks for {called[1]} to be run, and only tensors in plain dicts and lists are read"
    return f"it is no file of torch.save with plain tensors ({type(error).__name__})"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_answer(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
