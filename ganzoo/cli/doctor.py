"""ganzoo doctor."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from ctypes.util import find_library
from importlib.metadata import PackageNotFoundError, version

import click

from ganzoo.cli.options import data_dir_option, json_option
from ganzoo.cli.output import print_json, print_table
from ganzoo.contract.errors import counted

_PACKAGES = ("torch-ganzoo", "torch", "torchvision", "torchmetrics", "torch-fidelity", "click", "pluggy", "safetensors")


@click.command()
@data_dir_option
@json_option
def doctor(as_json: bool) -> None:
    """Check this installation: versions, devices, plugins, folders and datasets, with advice for each problem."""
    findings = [*_versions(), *_devices(), *_plugins(), *_folders(), *_datasets()]
    if as_json:
        print_json(findings=[dict(zip(("topic", "found", "problem"), finding, strict=True)) for finding in findings])
    else:
        print_table(["topic", "found", "what to do"], [list(map(str, finding)) for finding in findings])
    if any(problem for _, _, problem in findings):
        raise SystemExit(1)


#: topic, what was found, and what to do about it (empty where nothing is wrong)
_Finding = tuple[str, str, str]


def _versions() -> Iterator[_Finding]:
    yield "python", f"{platform.python_version()} on {platform.platform()}", ""
    for package in _PACKAGES:
        try:
            yield package, version(package), ""
        except PackageNotFoundError:
            yield package, "not installed", f"pip install {package}"


def _devices() -> Iterator[_Finding]:
    import torch

    from ganzoo.contract.launcher import available_cores

    threads = torch.get_num_threads()
    cores = available_cores()
    advice = f"set OMP_NUM_THREADS={cores}: more threads than cores slow a training down" if threads > cores else ""
    idle = f" (OMP_NUM_THREADS keeps {cores - threads} idle)" if threads < cores else ""
    used = f"{counted(threads, 'thread')} on {counted(cores, 'core')}{idle}"
    yield "cpu", f"{used}, {torch.backends.cpu.get_cpu_capability()}", advice
    yield "allocator", _allocator(), ""
    if not torch.cuda.is_available():
        yield "cuda", f"no device (torch built for CUDA {torch.version.cuda or 'none'}); trainings run on the CPU", ""
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {free >> 20} of {total >> 20} MiB free", ""


def _allocator() -> str:
    """The memory allocator of this process, and how to use a faster one for training on a CPU."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    known = [name for name in ("jemalloc", "tcmalloc", "mimalloc") if name in preloaded]
    if known or platform.system() != "Linux":
        return known[0] if known else "the system's"
    found = find_library("jemalloc")
    missing = "" if found else " (Debian and Ubuntu: apt install libjemalloc2)"
    return f"the system's; a CPU gains a few per cent by LD_PRELOAD={found or 'libjemalloc.so.2'}{missing}"


def _plugins() -> Iterator[_Finding]:
    from ganzoo.contract.choice import Choice
    from ganzoo.contract.errors import GanzooError
    from ganzoo.contract.hooks import KINDS
    from ganzoo.registry.zoo import zoo

    for plugin in zoo().plugins.values():
        errors: list[str] = list(plugin.errors)
        for part in plugin.components if not plugin.disabled else []:
            try:
                zoo().load(part.kind, Choice(part.id))
            except GanzooError as error:
                errors.append(str(error))
        state = "disabled by GANZOO_DISABLE" if plugin.disabled else counted(len(plugin.components), "part")
        advice = f"{errors[0]} Fix or remove it, or set GANZOO_DISABLE={plugin.distribution}" if errors else ""
        yield f"plugin {plugin.distribution}", f"{plugin.version}, {state}", advice
    for kind in KINDS:
        for name in zoo().names(kind):
            try:
                zoo().find(kind, name)
            except GanzooError as error:
                yield kind, f"the name {name!r} is used twice", str(error)


def _folders() -> Iterator[_Finding]:
    from ganzoo.contract.paths import cache_dir, data_dir

    for topic, path in (("data folder", data_dir()), ("cache folder", cache_dir())):
        existing = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(existing).free / 2**30
        problem = "" if free > 1 else f"less than 1 GiB is free; move it with GANZOO_{topic.split()[0].upper()}"
        writable = os.access(existing, os.W_OK)
        yield topic, f"{path}, {free:.0f} GiB free{'' if writable else ', read-only'}", problem


def _datasets() -> Iterator[_Finding]:
    from ganzoo.contract.paths import data_dir, filled_folders

    found = filled_folders(data_dir())
    yield "datasets", ", ".join(found) or "none downloaded yet; `digits` needs no download", ""
