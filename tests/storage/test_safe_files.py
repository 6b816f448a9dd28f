"""Every file is safe to open: whatever it is in truth, nothing of it runs, and it is refused in one sentence."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch
from click.testing import CliRunner
from helpers import sample
from malicious_files import TRUSTING, disguises, nothing_runs

import ganzoo
from ganzoo import Choice, GanzooError, UsageError
from ganzoo.cli import cli
from ganzoo.experiments.verify import read_table
from ganzoo.registry.recipes import plan
from ganzoo.registry.zoo import Zoo
from ganzoo.results.evaluate import evaluate
from ganzoo.storage import checkpoints, foreign
from ganzoo.storage.cache import Cache
from ganzoo.storage.run import Run
from ganzoo.storage.tensors import tensors_from_bytes
from ganzoo.training.train import start
from ganzoo_plugins.datasets._idx import read_idx
from ganzoo_plugins.datasets.torchvision_sets import read_batches
from ganzoo_plugins.extractors._classifier import load_weights
from ganzoo_plugins.extractors.domain import _load_kept

CPU = torch.device("cpu")
STATISTICS = Cache("statistics")
ZOO = Zoo()
KINDS = sorted(disguises(Path("canary")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = plan(
        ZOO, Choice(f"{tiny.__file__}:Tiny"), Choice("digits", {"size": 8}), None, {"checkpoint_every": "4 steps"}
    )
    start(recipe, out, ZOO, CPU, note=lambda text: None)
    return out


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.mark.parametrize("kind", TRUSTING)
def test_the_disguises_are_dangerous(kind: str, canary: Path, tmp_path: Path) -> None:
    """A program that trusted them would run them: else the rest of this file proves nothing."""
    (tmp_path / "file").write_bytes(disguises(canary)[kind])
    TRUSTING[kind](tmp_path / "file")
    assert canary.exists()
    canary.unlink()
    with pytest.raises(AssertionError, match="has run its code"), nothing_runs(canary):
        TRUSTING[kind](tmp_path / "file")


def test_there_are_thirty_kinds_that_run() -> None:
    assert len(TRUSTING) >= 30
    assert TRUSTING.keys() < set(KINDS)
    assert len(set(disguises(Path("canary")).values())) == len(KINDS)
    canary = Path("canary")
    with pytest.raises(AssertionError, match="find_class"), nothing_runs(canary):
        pickle.loads(b"cbuiltins\nexec\n.")  # the listener hears what is only looked up


# --- doors: each is given a folder of its own, the contents of a file, and a copy of a run ---


def forge(folder: Path, **contents: bytes) -> None:
    """Files of a checkpoint replaced, and a manifest that is true to them."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "MANIFEST.json"}
    files |= {name.replace("_", "."): data for name, data in contents.items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "MANIFEST.json").write_bytes(checkpoints._manifest(folder.name, files))


def every(run: Path) -> list[Path]:
    return list((run / "checkpoints").iterdir())


def load_forged(run: Path, **contents: bytes) -> None:
    for folder in every(run):
        forge(folder, **contents)
    checkpoints.load_latest(run / "checkpoints")


def load_replaced(run: Path, name: str, data: bytes) -> None:
    for folder in every(run):
        (folder / name).write_bytes(data)
    checkpoints.load_latest(run / "checkpoints")


def dcp(run: Path, data: bytes) -> None:
    """The files of torch.distributed.checkpoint instead of ours."""
    for folder in every(run):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / ".metadata").write_bytes(data)
        (folder / "__0_0.distcp").write_bytes(data)
    checkpoints.load_latest(run / "checkpoints")


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def generator(run: Path, data: bytes) -> None:
    for file in (run / "generators").iterdir():
        file.write_bytes(data)
    sample(run, ZOO, CPU)


def pictures(run: Path, data: bytes) -> None:
    put(run / "pictures" / "a.png", data)
    ZOO.build("datasets", Choice("image-folder", {"path": str(run / "pictures"), "size": 8}), split="train")


def picture_cache(run: Path, name: str, data: bytes) -> None:
    from PIL import Image

    (run / "pictures").mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(run / "pictures" / f"{number}.png")
    choice = Choice("image-folder", {"path": str(run / "pictures"), "size": 8})
    ZOO.build("datasets", choice, split="train")
    for file in (ganzoo.cache_dir() / "image-folder").glob(f"*/{name}"):
        file.write_bytes(data)
    dataset = ZOO.build("datasets", choice, split="train")
    positions = torch.arange(len(dataset))
    shown = [round(float(image[0].float().mean())) for image in dataset.read(positions)[0]]
    assert set(shown) <= set(range(20)), "it is decoded anew"
    raise GanzooError("It is refused.")


def mnist(run: Path, data: bytes) -> None:
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        put(ganzoo.data_dir() / "MNIST/raw" / name, data)
    ZOO.build("datasets", Choice("mnist"), split="train")


def inception(run: Path, data: bytes) -> None:
    ZOO.build("extractors", Choice("inception", {"weights": str(put(run / "inception.pth", data))})).bind("", None)


def cached_inception(run: Path, data: bytes) -> None:
    put(ganzoo.cache_dir() / "inception" / "weights-inception-2015-12-05-6726825d.pth", data)
    ZOO.build("extractors", Choice("inception")).bind("", None)


def convert(run: Path, data: bytes) -> None:
    """What import-checkpoint does, without the process around it."""
    path = put(run / "foreign.pt", data)
    try:
        foreign._convert(path, run / "result.safetensors", len(data))
    except foreign._Refused as refusal:
        raise GanzooError(f"{path} is refused: {refusal}.") from None
    except Exception as error:
        raise GanzooError(f"{path} is refused: {foreign._reason(error)}.") from None


DOORS: dict[str, Callable[[Path, bytes], Any]] = {
    "state of a checkpoint": lambda run, data: load_forged(run, state_safetensors=data),
    "meta of a checkpoint": lambda run, data: load_forged(run, meta_json=data),
    "manifest of a checkpoint": lambda run, data: load_replaced(run, "MANIFEST.json", data),
    "beside a checkpoint": lambda run, data: load_replaced(run, "optimizer.pkl", data),
    "a checkpoint of torch.distributed": dcp,
    "generator": generator,
    "recipe.json": lambda run, data: Run.open(put(run / "recipe.json", data).parent),
    "environment.json": lambda run, data: Run.open(put(run / "environment.json", data).parent).environment,
    "a recipe file": lambda run, data: plan(
        ZOO, Choice("dcgan-tutorial"), Choice("digits"), str(put(run / "recipe.toml", data))
    ),
    "a table of a benchmark": lambda run, data: read_table(put(run / "table.json", data)),
    "a picture": pictures,
    "decoded pictures": lambda run, data: picture_cache(run, "images-*.bin", data),
    "index of decoded pictures": lambda run, data: picture_cache(run, "index", data),
    "an archive": mnist,
    "idx": lambda run, data: read_idx(put(run / "images.gz", data), (2, 28, 28)),
    "batches of cifar": lambda run, data: read_batches(put(run / "cifar.tar.gz", data), ["test_batch.bin"], 1),
    "domain weights": lambda run, data: load_weights(put(run / "domain.safetensors", data)),
    "inception weights": inception,
    "kept inception weights": cached_inception,
    "import-checkpoint": convert,
}
#: what is JSON is JSON, and a picture a picture, whatever a program that trusts it would make of it: (kind, door)
HARMLESS = {
    ("JSON around a pickle", "meta of a checkpoint"),
    ("picture in front of a pickle", "a picture"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's, of what it then refuses
@pytest.mark.parametrize("door", [door for door in DOORS if door != "inception weights"])
def test_nothing_runs_and_everything_is_refused(
    door: str, trained: Path, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, data in disguises(canary).items():
        run = tmp_path / re.sub(r"\W+", "-", kind)
        shutil.copytree(trained, run)
        monkeypatch.setenv("GANZOO_CACHE", str(run / "cache"))
        monkeypatch.setenv("GANZOO_DATA", str(run / "data"))
        with nothing_runs(canary):
            try:
                DOORS[door](run, data)
                refusal = None
            except GanzooError as error:
                refusal = str(error)
        if (kind, door) in HARMLESS:
            continue
        assert refusal, f"{kind} was taken for {door}"
        assert "\n" not in refusal, refusal
        if door == "import-checkpoint":
            assert "weights_only" not in refusal, "torch's advice to switch the safety off"


def test_what_is_refused_is_refused_by_the_whole_program_too(trained: Path, canary: Path, tmp_path: Path) -> None:
    """The commands a person types: status 1 or 2 and a sentence, no traceback."""
    data = disguises(canary)["torch.save"]
    places = {
        ("resume", "{run}", "--steps", "16"): "checkpoints/*/state.safetensors",
        ("sample", "{run}"): "generators/*.safetensors",
        ("evaluate", "{run}"): "generators/*.safetensors",
        ("resume", "{run}", "--epochs", "2"): "recipe.json",
    }
    for number, (command, pattern) in enumerate(places.items()):
        run = tmp_path / str(number)
        shutil.copytree(trained, run)
        for file in run.glob(pattern):
            file.write_bytes(data)
        with nothing_runs(canary):
            result = CliRunner().invoke(cli, [word.format(run=run) for word in command])
        assert result.exit_code in (1, 2), result.output
        assert result.stderr.splitlines()[-1].startswith("Error: "), result.stderr
        assert "Traceback" not in result.output


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_of_a_users_own_inception_weights_runs(canary: Path, tmp_path: Path) -> None:
    """torch reads them in this process, with weights_only; what it raises of some is not ours."""
    for data in disguises(canary).values():
        with nothing_runs(canary), pytest.raises(Exception):  # noqa: B017
            inception(tmp_path, data)


# --- caches: what cannot be trusted is made again ---


def test_statistics_in_disguise_count_as_absent(canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    facts = {"dataset": "digits"}
    for data in disguises(canary).values():
        put(STATISTICS.path_of(facts), data)
        with nothing_runs(canary):
            assert STATISTICS.load_tensors(facts, CPU) is None
            assert _load_kept(put(tmp_path / "domain.safetensors", data), {}) is None


def test_an_evaluation_makes_its_statistics_again(
    trained: Path, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    brightness = [Choice(f"{tiny.__file__}:Brightness")]
    before = evaluate(trained, ZOO, CPU, brightness, samples=20)
    kept = list((tmp_path / "statistics").iterdir())
    assert kept
    for file in kept:
        file.write_bytes(disguises(canary)["torch.save"])
    with nothing_runs(canary):
        again = evaluate(trained, ZOO, CPU, brightness, samples=20)
    assert [line["value"] for line in again] == [line["value"] for line in before]
    for file in kept:
        tensors_from_bytes(file.read_bytes())  # whole again


@pytest.mark.parametrize("kind", KINDS)
def test_notes_of_a_run_in_disguise_are_passed_over(kind: str, trained: Path, canary: Path, tmp_path: Path) -> None:
    """stats.jsonl and the lock are read line by line, as JSON; what is none of it costs nothing."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "lock").write_bytes(disguises(canary)[kind])
    with nothing_runs(canary):
        Run.open(run, writes=True).close()


# --- import-checkpoint ---


def convertible(tmp_path: Path, value: Any, **more: Any) -> dict[str, torch.Tensor]:
    path = tmp_path / "foreign.pt"
    torch.save(value, path, **more)
    foreign._convert(path, tmp_path / "result.safetensors", path.stat().st_size)
    return safetensors.torch.load_file(tmp_path / "result.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_come_over_under_flat_names(tmp_path: Path, zipped: bool) -> None:
    weights = {"conv.weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last), "n": torch.tensor(7)}
    tied = torch.nn.Parameter(torch.randn(3).bfloat16())
    value = {"G": weights, "optimizer": [{"lr": 0.1, "m": tied}, (tied, None)], 3: torch.zeros(0)}
    found = convertible(tmp_path, value, _use_new_zipfile_serialization=zipped)
    expected = {
        "G/conv.weight": weights["conv.weight"],
        "G/n": weights["n"],
        "optimizer/0/m": tied.detach(),
        "optimizer/1/0": tied.detach(),
        "3": torch.zeros(0),
    }
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype


def _shared(depth: int) -> Any:
    return [_shared(depth - 1)] * 2 if depth else torch.zeros(1)


SHARED = torch.zeros(5000)
BOMBS: dict[str, tuple[Any, str]] = {
    "four terabytes in 1.5 kB": (
        {"w": torch.zeros(1).as_strided((10**6, 10**6), (0, 0))},
        "'w' declares 4000000000000 bytes and holds 4",
    ),
    "a tensor without data": ({"w": torch.empty(10**12, device="meta")}, "not a plain tensor with data"),
    "one tensor a thousand times": (dict.fromkeys(map(str, range(1000)), SHARED), "it declares 20000000 bytes of tens"),
    "lists in lists": (_shared(20), "nested deeper than 16"),
    "a name of safetensors' own": ({"__metadata__": torch.ones(1)}, "is taken"),
    "one name twice": ({"a": {"b": torch.ones(1)}, "a/b": torch.ones(1)}, "'a/b' is taken"),
    "an empty name": ({"": torch.ones(1), "tensor": torch.zeros(1)}, "'tensor' is taken"),
    "no tensors": ({"step": 3}, "it holds no tensors"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_before_anything_is_copied(bomb: str, tmp_path: Path) -> None:
    value, words = BOMBS[bomb]
    with pytest.raises(foreign._Refused, match=re.escape(words)):
        convertible(tmp_path, value)
    assert not (tmp_path / "result.safetensors").exists()


def test_import_checkpoint_as_it_is_typed(canary: Path, tmp_path: Path) -> None:
    """With its process, its limits, and an environment that would switch torch's safety off."""
    torch.save({"model": {"w": torch.arange(6.0)}, "step": 3}, tmp_path / "good.pt")
    (tmp_path / "evil.pt").write_bytes(disguises(canary)["torch.save"])
    torch.save({"w": torch.zeros(10)}, tmp_path / "greedy.pt", _use_new_zipfile_serialization=False)
    greedy = bytearray((tmp_path / "greedy.pt").read_bytes())
    at = greedy.rindex((10).to_bytes(8, "little"))  # the length of the storage, in front of its bytes
    greedy[at : at + 8] = (10**10).to_bytes(8, "little")
    (tmp_path / "greedy.pt").write_bytes(greedy)
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}

    def typed(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ganzoo", "import-checkpoint", f"{name}.pt", f"{name}.safetensors"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    with ThreadPoolExecutor(2) as pool:
        good, evil, greed = pool.map(typed, ("good", "evil", "greedy"))
    sha256 = hashlib.sha256((tmp_path / "good.safetensors").read_bytes()).hexdigest()
    assert good.returncode == 0, good.stderr
    assert good.stdout == f"{sha256}  good.safetensors\n"
    assert good.stderr == "1 tensor, 0.0 MB; 1 value that is no tensor was left out.\n"
    assert torch.equal(safetensors.torch.load_file(tmp_path / "good.safetensors")["model/w"], torch.arange(6.0))
    for refused, words in ((evil, "it asks for exec to be run"), (greed, "is refused: it")):
        assert refused.returncode == 1, refused
        assert refused.stdout == ""
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("Error: ")]
        assert words in line
    assert not canary.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pt", "good.pt", "good.safetensors", "greedy.pt"]


def test_import_checkpoint_refuses_what_cannot_be_meant(tmp_path: Path) -> None:
    source_file = put(tmp_path / "a.pt", b"x")
    put(tmp_path / "there.safetensors", b"mine")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "nowhere")
    for source, out, words in (
        (tmp_path / "b.pt", "b.safetensors", "There is no file"),
        (tmp_path, "b.safetensors", "There is no file"),
        (source_file, "b.pt", "must end in .safetensors"),
        (source_file, "there.safetensors", "nothing is overwritten"),
        (source_file, "link.safetensors", "nothing is overwritten"),
        (source_file, "no/b.safetensors", "there is no directory"),
    ):
        with pytest.raises(UsageError, match=words):
            foreign.import_checkpoint(source, tmp_path / out)
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"


def test_an_old_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    answer = foreign._answer(put(tmp_path / "a.pt", b"x"), tmp_path / "b.safetensors")
    assert answer == {"refused": "reading it safely needs torch 2.10, and this is 2.9.1"}
