"""The three formats of an exported generator: writing one as bytes, and running it again from its bytes."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.contract.components import Architecture
from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.contract.paths import cache_dir
from ganzoo.storage.tensors import tensors_to_bytes

#: images of the example that a program is traced with; torch makes a batch of 0 or 1 a constant
EXAMPLE_BATCH = 4
INPUTS, OUTPUT = ("latents", "labels"), "images"
_EXTRA = "pip install 'torch-ganzoo[export]'"


@dataclasses.dataclass(frozen=True)
class Format:
    """One format: the name of its file, and how the file is written."""

    name: str
    file: str
    #: (generator, latents, labels, facts for the file's own metadata) -> the bytes of the file
    write: Callable[[nn.Module, Tensor, Tensor, Mapping[str, Any]], bytes]
    #: whether a network can be rebuilt only with the architecture's code
    needs_code: bool = False


# --- writing ----------------------------------------------------------------------------------------------------


def _write_tensors(network: nn.Module, latents: Tensor, labels: Tensor, facts: Mapping[str, Any]) -> bytes:
    return tensors_to_bytes(network.state_dict(), {"name": str(facts["name"])})


def _write_program(network: nn.Module, latents: Tensor, labels: Tensor, facts: Mapping[str, Any]) -> bytes:
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(_program(network, latents, labels), data)
    _remember(data.getvalue())
    return data.getvalue()


def _write_onnx(network: nn.Module, latents: Tensor, labels: Tensor, facts: Mapping[str, Any]) -> bytes:
    require_onnx("onnx", "onnxscript", "onnxruntime")
    program, axes = _program(network, latents, labels), ({0: "batch"}, {0: "batch"})
    with warnings.catch_warnings():  # the exporter warns of our two inputs with one batch
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            program,
            (latents, labels),
            dynamo=True,
            verbose=False,
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes=axes,
            external_data=False,
        )
    model = exported.model_proto  # type: ignore[union-attr]
    model.doc_string = str(facts["name"])
    entry = model.metadata_props.add()
    entry.key, entry.value = "ganzoo", json.dumps(facts)
    return bytes(model.SerializeToString())


def _program(network: nn.Module, latents: Tensor, labels: Tensor) -> torch.export.ExportedProgram:
    """The generator as an exported program whose batch is of any size. Raises GanzooError where torch cannot."""
    batch = torch.export.Dim("batch")
    network = copy.deepcopy(network)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(network, (latents, labels), dynamic_shapes=({0: batch}, {0: batch}))
    except Exception as error:  # torch raises errors of many classes for what it cannot trace
        text = str(error)
        if "specialized" in text or "Constraints violated" in text:
            why = (
                "its forward fixes the batch, for example by `len(latents)` or a number in `view`: write "
                "`latents.shape[0]` or -1 there"
            )
        else:
            why = (
                f"torch.export cannot trace it ({type(error).__name__}: {(text.strip().splitlines() or [''])[0][:200]})"
            )
        raise GanzooError(
            f"The generator cannot be exported: {why}; `--format safetensors` works for any generator."
        ) from None


SAFETENSORS = Format("safetensors", "generator.safetensors", _write_tensors, needs_code=True)
ONNX = Format("onnx", "generator.onnx", _write_onnx)
PROGRAM = Format("torch-export", "generator.pt2", _write_program)
FORMATS = {each.name: each for each in (SAFETENSORS, ONNX, PROGRAM)}


def refuse_unexportable(architecture: Architecture, name: str, chosen: Format) -> None:
    """Raise GanzooError, with the architecture's reason, where it declares that it cannot be written so."""
    if architecture.export_refusal and not chosen.needs_code:
        raise GanzooError(
            f"{name} cannot be exported as {chosen.name}: {architecture.export_refusal.rstrip('.')}. "
            "`--format safetensors` works for any generator."
        )


# --- running ----------------------------------------------------------------------------------------------------


class OnnxGenerator(nn.Module):
    """A generator that onnxruntime runs on the CPU: (latents (N, Z), labels (N,)) -> images (N, C, H, W)."""

    def __init__(self, data: bytes, owner: str) -> None:
        super().__init__()
        runtime = require_onnx("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        try:
            self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class for each kind of failure
            raise GanzooError(f"{owner} cannot be run: {str(error).splitlines()[0][:200]}.") from None
        found = tuple(each.name for each in self._session.get_inputs())
        outputs = tuple(each.name for each in self._session.get_outputs())
        if found != INPUTS or outputs != (OUTPUT,):
            raise GanzooError(
                f"{owner} is no generator of `ganzoo export`: it has the inputs {', '.join(found)} and the outputs "
                f"{', '.join(outputs)}, expected latents and labels, and images. Draw its images with its own program, "
                "save them as a .npy array of uint8, and score that."
            )
        fixed = [each.name for each in self._session.get_inputs() if isinstance(each.shape[0], int)]
        if fixed:
            raise GanzooError(f"{owner} has a fixed batch in its input {fixed[0]}; export it with a dynamic batch.")

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """The images, on the device of the latents."""
        given = {"latents": latents.cpu().numpy(), "labels": labels.cpu().numpy()}
        return torch.from_numpy(self._session.run([OUTPUT], given)[0]).to(latents.device)


class ProgramGenerator(nn.Module):
    """A generator from a file of torch.export, run on the CPU."""

    def __init__(self, data: bytes, owner: str) -> None:
        super().__init__()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = torch.export.load(io.BytesIO(data)).module()
        except Exception as error:  # another version of torch may raise any error
            raise GanzooError(
                f"{owner} cannot be run by torch {torch.__version__} ({type(error).__name__}): export the run again "
                "with this version, or as onnx."
            ) from None
        self._module = [module]  # in a list, because an exported module refuses train() and eval()

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """The images, on the device of the latents."""
        images: Tensor = self._module[0](latents.cpu(), labels.cpu())
        return images.to(latents.device)


def run_from_bytes(name: str, data: bytes, owner: str, accept_code: bool = False) -> nn.Module:
    """The generator in the bytes of an `onnx` or a `torch-export` file; `owner` is the file, for messages.

    Torch runs code that a torch-export file names. So it is opened only if this machine has written it, or with
    `accept_code`; otherwise GanzooError is raised.
    """
    if name == ONNX.name:
        return OnnxGenerator(data, owner)
    if not accept_code and not _is_remembered(data):
        raise GanzooError(
            f"{owner} was written on another machine, and torch runs code from such a file when it opens it: if you "
            "trust its author, accept that with --accept-changed-code; files of onnx and safetensors hold no code."
        )
    return ProgramGenerator(data, owner)


def require_onnx(*packages: str) -> Any:
    """The first of these modules, all of which must be there. Raises UsageError where the extra is not installed."""
    try:
        return list(map(import_module, packages))[0]  # noqa: RUF015  (all are imported)
    except ImportError as error:
        raise UsageError(f"ONNX needs the package {error.name}, which is not installed: {_EXTRA}") from None


def _remember(data: bytes) -> None:
    """Keep the digest of a torch-export file that this machine has written; without a cache it asks each time."""
    folder = cache_dir() / "exports"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha256(data).hexdigest()).touch()
    except OSError:
        return


def _is_remembered(data: bytes) -> bool:
    return (cache_dir() / "exports" / hashlib.sha256(data).hexdigest()).is_file()
