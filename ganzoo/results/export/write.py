"""Export: write the generator of a run as a folder with weights, a card for programs and one for people."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.choice import short_name
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.paths import is_directory
from ganzoo.contract.recipe import Recipe
from ganzoo.registry.zoo import Zoo
from ganzoo.results.export.card import FILE, card_bytes, describe, finish
from ganzoo.results.export.check import check, example
from ganzoo.results.export.command import train_command
from ganzoo.results.export.formats import EXAMPLE_BATCH, FORMATS, Format, refuse_unexportable, run_from_bytes
from ganzoo.results.export.opened import ExportedRun
from ganzoo.results.export.readme import README, SAMPLES, readme
from ganzoo.results.load import TrainedGenerator, load_generator
from ganzoo.results.sample import draw_images, row_names
from ganzoo.storage import pictures
from ganzoo.storage.files import make_directory, write_synced
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import tensors_from_bytes, tensors_to_bytes


@dataclasses.dataclass(frozen=True)
class Exported:
    """A finished export: its folder and its card."""

    path: Path
    card: Mapping[str, Any]


def export(
    path: Path,
    zoo: Zoo,
    format: str = "safetensors",
    out: Path | None = None,
    averaged: bool | None = None,
    at: int | str | None = None,
    license: str = "unknown",
    changed_code: bool = False,
    note: Callable[[str], None] = print,
) -> Exported:
    """Write the generator of the run in `path` to the new or empty folder `out`, and return it with its card.

    `format` is `safetensors` (weights; needs the code of the architecture), `onnx` or `torch-export` (both run without
    it). `averaged` chooses the EMA of the weights or the raw ones; None is what the run saves. `at` is a number of
    images seen or "best". `license` is an identifier such as "apache-2.0". Everything is float32 and on the CPU. The
    file is run again and compared with the run at two batch sizes before the folder appears.

    Raises UsageError for a wrong request, a folder that holds something or a package that is missing, and GanzooError
    where the generator cannot be exported or the export differs from the run.
    """
    chosen = _format(format)
    if out is not None:
        refuse_taken(out)
    trained, weights = _load(path, zoo, averaged, at, changed_code, note)
    name = short_name(trained.run.recipe.architecture)
    refuse_unexportable(trained.architecture, name, chosen)
    folder = out or Path(f"{name}-{short_name(trained.run.recipe.dataset)}-{chosen.name}".lower())
    if out is None:
        refuse_taken(folder)
    facts = _facts(trained, zoo, weights, license)
    data, checked = _written(trained, chosen, facts)
    files = {chosen.file: data, SAMPLES: _samples(trained)}
    card = finish(facts, chosen.name, "float32", checked, files)
    write_folder(folder, {**files, FILE: card_bytes(card), README: readme(card)})
    return Exported(folder, card)


def half_precision_files(path: Path, zoo: Zoo, license: str, scores: Any = None) -> dict[str, bytes]:
    """The files of a trained generator to be shipped as package data: float16 weights, and the card.

    `path` is a run, or an export whose scores in the card are replaced by `scores`. Raises as `export` does.
    """
    trained, weights = _load(path, zoo, None, None, False, print)
    facts = _facts(trained, zoo, weights, license)
    facts = facts if scores is None else {**facts, "scores": list(scores)}
    state = trained.network.state_dict()
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    data = tensors_to_bytes(half, {"name": facts["name"]})
    checked = check(trained.network, _rebuilt(trained, data), trained.architecture, trained.images, half=True)
    chosen = FORMATS["safetensors"]
    card = finish(facts, chosen.name, "float16", checked, {chosen.file: data})
    return {chosen.file: data, FILE: card_bytes(card)}


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UsageError(
            f"{name!r} is no format of an export.{did_you_mean(name, FORMATS)} Known: {', '.join(FORMATS)}."
        )
    return FORMATS[name]


def _load(
    path: Path, zoo: Zoo, averaged: bool | None, at: int | str | None, changed_code: bool, note: Callable[[str], None]
) -> tuple[TrainedGenerator, str]:
    """The generator on the CPU, and "averaged" or "raw"."""
    device = torch.device("cpu")
    trained = load_generator(path, zoo, device, at, changed_code, note)
    if isinstance(trained.run, ExportedRun) and trained.run.card["format"] != "safetensors":
        raise UsageError(
            f"{path} is an export as {trained.run.card['format']}, which cannot be written in another format: export "
            "the run, or its safetensors."
        )
    has_average = bool(trained.run.recipe.ema_half_life)
    if averaged and not has_average:
        raise UsageError(f"{path} keeps no EMA of its weights (ema_half_life is 0): leave out --average.")
    if averaged is False and has_average:
        return load_generator(path, zoo, device, at, changed_code, note, raw=True), "raw"
    return trained, "averaged" if has_average else "raw"


def _facts(trained: TrainedGenerator, zoo: Zoo, weights: str, license: str) -> dict[str, Any]:
    run = trained.run
    card = run.card if isinstance(run, ExportedRun) else None
    return describe(
        Recipe.from_dict(card["recipe"]) if card else run.recipe,
        run.environment,
        trained.architecture,
        weights=weights,
        parameters=sum(parameter.numel() for parameter in trained.network.parameters()),
        images_seen=trained.images_seen,
        step=trained.step,
        epochs=trained.epochs,
        scores=_scores(run, trained.images_seen, weights),
        command=card["command"] if card else train_command(zoo, run.recipe),
        license=license,
    )


def _scores(run: Run, images_seen: int, weights: str) -> list[dict[str, Any]]:
    """The newest score of each kind, with its card, that was measured on these weights."""
    found = {}
    for line in run.lines("scores.jsonl"):
        if line["images"] == images_seen and line["card"]["subject"].get("weights") == weights:
            found[line["score"], line["card"]["digest"]] = line
    return list(found.values())


def _written(trained: TrainedGenerator, chosen: Format, facts: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The bytes of the file, and the result of running it again beside the network."""
    latents, labels = example(trained.architecture, trained.images, EXAMPLE_BATCH, seed=0)
    data = chosen.write(trained.network, latents, labels, facts)
    if chosen.needs_code:
        again = _rebuilt(trained, data)
    else:
        again = run_from_bytes(chosen.name, data, chosen.file, accept_code=True)
    return data, check(trained.network, again, trained.architecture, trained.images)


def _rebuilt(trained: TrainedGenerator, data: bytes) -> nn.Module:
    """A new network with the weights of a safetensors file."""
    network, _ = trained.architecture.networks(trained.images)
    tensors: dict[str, Tensor] = tensors_from_bytes(data)[0]
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _samples(trained: TrainedGenerator) -> bytes:
    """A PNG of the samples of seed 0: 4 rows of 8, or a row for each of up to 10 classes."""
    rows = min(10, trained.images.classes) if trained.architecture.conditional else 4
    images, labels = draw_images(trained, 8 * rows, 8)
    data = io.BytesIO()
    pictures.grid(images, 8, row_labels=row_names(trained, labels[::8])).save(data, "PNG")
    return data.getvalue()


def refuse_taken(folder: Path) -> None:
    """Raise UsageError where a folder cannot become an export."""
    if os.path.lexists(folder) and not is_directory(folder):
        raise UsageError(f"-o {folder}: this is a file; name a new or an empty folder.")
    if is_directory(folder) and any(folder.iterdir()):
        what = "an export already" if (folder / FILE).is_file() else "something else"
        raise UsageError(f"-o {folder}: this folder holds {what}, and nothing is overwritten; name a new one.")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder that is complete or absent. Raises GanzooError where it cannot be written."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        make_directory(temporary)
        for name, data in files.items():
            write_synced(temporary / name, data)
        if folder.is_dir():
            folder.rmdir()  # it is empty
        os.rename(temporary, folder)
    except OSError as error:
        raise GanzooError(f"{folder} cannot be written ({error.strerror or error}): name a folder elsewhere.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
