"""Exports: equal to the run, accepted in the place of a run, refused where they were changed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import ZOO, ganzoo
from PIL import Image
from small_architectures import NAMES, draw, small

import ganzoo as gz
from ganzoo.registry.recipes import plan
from ganzoo.results.export import formats
from ganzoo.results.export.check import BATCH_SIZES, TOLERANCE, check, example
from ganzoo.results.export.command import train_command
from ganzoo.results.export.latents import ExportedArchitecture, describe_latents
from ganzoo.results.load import load_generator
from ganzoo.storage.run_checks import sealed

TINY = Path(__file__).parents[1] / "tiny.py"
CPU = torch.device("cpu")
FORMATS = tuple(formats.FORMATS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(cache: None, tmp_path_factory: pytest.TempPathFactory) -> gz.TrainedRun:
    """A run with an EMA, of a conditional architecture, and a score."""
    out = tmp_path_factory.mktemp("runs") / "cgan"
    options = {"options": {"latent_dim": 8}, "ema_half_life": 100, "batch_size": 16, "steps": 6}
    made = gz.train("cgan", "digits:size=8", **options, out=out, quiet=True)
    made.evaluate("sliced-wasserstein", samples=50)
    return made


@pytest.fixture(scope="module")
def exports(run: gz.TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run in every format that can be written here."""
    folder = tmp_path_factory.mktemp("exports")
    found = {}
    for format in FORMATS:
        if format == "onnx" and not _has_onnx():
            continue
        found[format] = run.export(folder / format, format=format, license="mit")
    return found


def _has_onnx() -> bool:
    try:
        formats.require_onnx("onnx", "onnxscript", "onnxruntime")
    except gz.UsageError:
        return False
    return True


def needs_onnx() -> None:
    """Skip a test where the extra `export` is not installed."""
    if not _has_onnx():
        pytest.skip("needs the extra `export`: pip install 'torch-ganzoo[export]'")


@pytest.fixture(params=FORMATS)
def exported(request: pytest.FixtureRequest, exports: dict[str, Path]) -> Path:
    """The export in each format."""
    if request.param not in exports:
        needs_onnx()
    return exports[request.param]


@pytest.fixture
def copied(exports: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the safetensors export, to be damaged."""
    return Path(shutil.copytree(exports["safetensors"], tmp_path / "copy"))


# --- every architecture -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", NAMES)
@pytest.mark.parametrize("format", ["torch-export", pytest.param("onnx", marks=pytest.mark.slow)])
def test_every_architecture_is_exported(architecture: type[gz.Architecture], format: str) -> None:
    _compare(architecture, format)


@pytest.mark.parametrize("name", ["dcgan-atienza", "cgan"])
def test_onnx_of_the_unusual_layers(name: str) -> None:
    """A transposed convolution over sums of weights; an embedding of the class. The slow test has all architectures."""
    _compare(next(each for each in NAMES if NAMES[each] == name), "onnx")


def _compare(architecture: type[gz.Architecture], format: str) -> None:
    """At two batch sizes other than the example's, after moving statistics have changed."""
    if format == "onnx":
        needs_onnx()
    made = small(architecture)
    side = 32 if NAMES[architecture] == "stylegan2" else 28  # it draws powers of 2
    spec = gz.ImageSpec(1, side, side, 10)
    assert not made.export_refusal  # every architecture of the zoo can be exported
    torch.manual_seed(0)
    network, _ = made.networks(spec)
    with torch.no_grad():
        network(draw(made, 16), torch.arange(16) % 10)
    network.eval().requires_grad_(False)
    data = formats.FORMATS[format].write(network, *example(made, spec, formats.EXAMPLE_BATCH, 0), {"name": "x"})
    again = formats.run_from_bytes(format, data, "x", accept_code=True)
    checked = check(network, again, made, spec)
    assert checked["largest_error"] <= TOLERANCE
    assert formats.EXAMPLE_BATCH not in BATCH_SIZES
    assert len(BATCH_SIZES) == 2


@pytest.mark.parametrize("architecture", NAMES)
def test_latents_are_drawn_without_the_architecture(architecture: type[gz.Architecture]) -> None:
    made = small(architecture)
    facts = describe_latents(made)
    assert facts["distribution"] in ("normal", "uniform")
    card = {
        "inputs": [{**facts, "shape": ["batch", facts["size"]]}],
        "outputs": [{"range": list(made.value_range)}],
        "conditional": made.conditional,
    }
    again = ExportedArchitecture(card)
    assert torch.equal(draw(again, 64, seed=5), draw(made, 64, seed=5))
    assert (again.value_range, again.conditional) == (made.value_range, made.conditional)


class Sphere(gz.Architecture):
    """Latents on a sphere, which no card can describe, and a forward that fixes the batch."""

    def networks(self, images: gz.ImageSpec) -> tuple[torch.nn.Module, torch.nn.Module]:
        return Fixed(), torch.nn.Identity()

    def latents(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(count, 4, generator=generator))


class Fixed(torch.nn.Module):
    """`len` of a tensor is a number for torch.export."""

    def forward(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return latents.reshape(len(latents), 1, 2, 2)


def test_own_latents_are_named_and_a_fixed_batch_is_refused() -> None:
    assert describe_latents(Sphere())["distribution"] == "own"
    given = example(Sphere(), gz.ImageSpec(1, 2, 2), 4, 0)
    with pytest.raises(gz.GanzooError, match=r"fixes the batch.*latents\.shape\[0\]"):
        formats.PROGRAM.write(Fixed(), *given, {"name": "x"})


def test_an_architecture_says_why_it_cannot_be_exported() -> None:
    class Refusing(Sphere):
        export_refusal = "its layers draw noise of their own."

    with pytest.raises(gz.GanzooError, match="sphere cannot be exported as onnx: its layers draw noise of their own"):
        formats.refuse_unexportable(Refusing(), "sphere", formats.ONNX)
    formats.refuse_unexportable(Refusing(), "sphere", formats.SAFETENSORS)


# --- in the place of a run --------------------------------------------------------------------------------------


def test_samples_and_scores_are_those_of_the_run(run: gz.TrainedRun, exported: Path) -> None:
    again = gz.load(exported)
    images, expected = again.sample(20, seed=3).tensor, run.sample(20, seed=3).tensor
    assert (images.int() - expected.int()).abs().max() <= 1
    of_class = gz.sample(exported, 4, classes=7).tensor
    assert (of_class.int() - run.sample(4, classes=7).tensor.int()).abs().max() <= 1
    if "safetensors" in exported.name:
        assert torch.equal(images, expected)
    (score,) = again.evaluate("sliced-wasserstein", samples=50)
    (first,) = run.scores
    assert score["value"] == pytest.approx(first["value"], abs=1e-3)
    assert score["card"]["digest"] == first["card"]["digest"]
    assert score["card"]["subject"] == {**first["card"]["subject"]}
    assert [line["value"] for line in again.scores] == [first["value"], score["value"]]
    assert again.recipe == run.recipe
    assert again.progress == run.progress
    assert "6 steps" in repr(again)
    (exported / "scores.jsonl").unlink()


def test_the_command_samples_and_evaluates_an_export(exported: Path, tmp_path: Path) -> None:
    result = ganzoo("sample", exported / "card.json", "--class", 3, "-n", 4, "-o", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 8
    result = ganzoo("evaluate", exported, "-e", "sliced-wasserstein", "--samples", 20, "--json")
    assert result.exit_code == 0, result.output
    (exported / "scores.jsonl").unlink()


def test_what_has_no_training_cannot_be_resumed(exported: Path) -> None:
    result = ganzoo("resume", exported)
    assert result.exit_code == 2
    assert "without the state of its training" in result.output
    assert ganzoo("sample", exported, "--at", 5).exit_code == 2
    assert "leave out --at" in ganzoo("sample", exported, "--at", "best").output


def test_onnx_and_programs_need_no_code(exports: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: object, kind: str, choice: gz.Choice, **reserved: object) -> object:
        raise gz.GanzooError("it is not installed.")

    monkeypatch.setattr("ganzoo.registry.zoo.Zoo.build", absent)
    for format, folder in exports.items():
        if format == "safetensors":
            with pytest.raises(gz.GanzooError, match=r"needs the code of its architecture.*onnx runs without it"):
                gz.load(folder).sample(2)
        else:
            assert len(gz.load(folder).sample(2)) == 2


def test_raw_and_averaged_weights(run: gz.TrainedRun, tmp_path: Path) -> None:
    raw = gz.load(run.export(tmp_path / "raw", averaged=False))
    averaged = gz.load(gz.export(run, tmp_path / "averaged", averaged=True))
    assert torch.equal(averaged.sample(4).tensor, run.sample(4).tensor)
    assert not torch.equal(raw.sample(4).tensor, run.sample(4).tensor)
    card = json.loads((tmp_path / "raw" / "card.json").read_text())
    assert card["weights"] == "raw"
    assert card["scores"] == []  # those of the run are of the averaged weights
    (score,) = raw.evaluate("sliced-wasserstein", samples=20)
    assert score["card"]["subject"]["weights"] == "raw"
    plain = gz.train("mlp-vanilla", "digits:size=8", steps=1, out=tmp_path / "plain", quiet=True)
    with pytest.raises(gz.UsageError, match=r"no EMA.*leave out --average"):
        plain.export(tmp_path / "x", averaged=True)
    assert not (tmp_path / "x").exists()


def test_an_export_is_exported_again(exports: dict[str, Path], tmp_path: Path) -> None:
    again = gz.load(exports["safetensors"]).export(tmp_path / "again", format="torch-export")
    before, after = (json.loads((each / "card.json").read_text()) for each in (exports["safetensors"], again))
    differing = {name for name in before if before[name] != after[name]}
    assert differing <= {"format", "check", "files", "sha256", "license"}
    with pytest.raises(gz.UsageError, match="export as torch-export"):
        gz.load(again).export(tmp_path / "third")


# --- the card ---------------------------------------------------------------------------------------------------


def test_the_card_describes_everything(run: gz.TrainedRun, exported: Path) -> None:
    card = json.loads((exported / "card.json").read_text())
    names = [each["name"] for each in card["inputs"] + card["outputs"]]
    assert names == ["latents", "labels", "images"]
    assert card["inputs"][0]["shape"] == ["batch", 8]
    assert card["inputs"][0]["range"] == [-1, 1]
    assert card["inputs"][1]["range"] == [0, 9]
    assert card["outputs"][0] == {
        "name": "images",
        "dtype": "float32",
        "shape": ["batch", 1, 8, 8],
        "range": [0, 1],
    }
    assert card["license"] == "mit"
    assert card["dataset"] == "digits:size=8"
    assert card["check"]["largest_error"] <= 1e-4
    assert [line["card"]["digest"] for line in card["scores"]] == [run.scores[0]["card"]["digest"]]
    assert gz.Recipe.from_dict(card["recipe"]) == run.recipe
    for name, facts in card["files"].items():
        assert len((exported / name).read_bytes()) == facts["bytes"]
    assert str(run.path) not in json.dumps(card)


def test_the_readme_has_front_matter_that_a_hub_reads(exported: Path) -> None:
    yaml = pytest.importorskip("yaml")
    text = (exported / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "mit"
    assert facts["library_name"] == "ganzoo"
    assert facts["pipeline_tag"] == "unconditional-image-generation"
    assert facts["datasets"] == ["digits"]
    (metric,) = facts["model-index"][0]["results"][0]["metrics"]
    assert metric["type"] == "sliced-wasserstein"
    assert metric["args"]["card"]
    for word in ("samples.png", "ganzoo train cgan digits:size=8", "labels", "sha256"):
        assert word in body


def test_the_snippet_of_the_readme_runs(exported: Path) -> None:
    code = (exported / "README.md").read_text().split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code.replace("THIS_FOLDER", ".")], cwd=exported, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_onnx_holds_its_card_and_names_its_batch(exports: dict[str, Path]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exports["onnx"] / "generator.onnx")
    onnx.checker.check_model(model, full_check=True)
    (entry,) = [each for each in model.metadata_props if each.key == "ganzoo"]
    assert json.loads(entry.value)["recipe"]["architecture"]["name"] == "cgan"
    assert {each.type.tensor_type.shape.dim[0].dim_param for each in model.graph.input} == {"batch"}


@pytest.mark.parametrize(
    ("architecture", "dataset", "named", "changes"),
    [
        ("dcgan", "digits:size=16", None, {}),
        ("dcgan:width=24", "digits", "digits", {"length": "150 epochs", "seed": 3}),
        ("dcgan-tutorial", "digits", "digits", {"losses": ["hinge", "r1:gamma=2"], "precision": "bf16"}),
        ("wgan-gp", "mnist", None, {"generator_optimizer": "adam:lr=1e-3", "turns": "D,G", "batch_size": 7}),
    ],
)
def test_the_command_trains_the_same_recipe(
    architecture: str, dataset: str, named: str | None, changes: dict[str, object]
) -> None:
    recipe = plan(ZOO, gz.Choice.parse(architecture), gz.Choice.parse(dataset), named, changes)
    words = train_command(ZOO, recipe)
    result = ganzoo(*shlex.split(words)[1:], "--dry-run", "--json")
    assert result.exit_code == 0, (words, result.output)
    assert gz.Recipe.from_dict(json.loads(result.output)["recipe"]) == recipe, words
    assert len(words) < 200


# --- bad input --------------------------------------------------------------------------------------------------


def test_an_edited_card_is_refused(copied: Path) -> None:
    card = json.loads((copied / "card.json").read_text())
    (copied / "card.json").write_text(json.dumps({**card, "license": "cc0-1.0"}))
    result = ganzoo("sample", copied)
    assert result.exit_code == 1
    assert "card.json is damaged: it does not match its own sha256" in result.output


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1}', "x" * 10])
def test_a_strange_card_is_refused(copied: Path, text: str) -> None:
    (copied / "card.json").write_text(text)
    result = ganzoo("sample", copied)
    assert result.exit_code == 1
    assert "card.json is damaged" in result.output


@pytest.mark.parametrize("change", [{"format": "pickle"}, {"schema": 9}, {"files": {}}, {"inputs": []}, {"recipe": {}}])
def test_a_card_of_another_form_is_refused(copied: Path, change: dict[str, object]) -> None:
    card = json.loads((copied / "card.json").read_text())
    (copied / "card.json").write_text(json.dumps(sealed({**card, **change})))
    result = ganzoo("sample", copied)
    assert result.exit_code == 1, result.output
    assert "card.json is damaged" in result.output


def test_an_edited_file_is_refused(copied: Path) -> None:
    file = copied / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    result = ganzoo("sample", copied)
    assert result.exit_code == 1
    assert "is not the file that its card names" in result.output
    file.unlink()
    assert "cannot be read" in ganzoo("sample", copied).output


def test_a_model_of_somebody_else_is_refused(tmp_path: Path) -> None:
    needs_onnx()
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "theirs.onnx")
    result = ganzoo("sample", tmp_path / "theirs.onnx")
    assert result.exit_code == 2
    assert "has no card.json beside it" in result.output
    with pytest.raises(gz.GanzooError, match=r"no generator of `ganzoo export`: it has the inputs x"):
        formats.OnnxGenerator((tmp_path / "theirs.onnx").read_bytes(), "theirs.onnx")
    with pytest.raises(gz.GanzooError, match="cannot be run"):
        formats.OnnxGenerator(b"no model", "theirs.onnx")


def test_a_program_of_another_machine_is_not_run_unasked(
    exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    with pytest.raises(gz.GanzooError, match=r"torch runs code from such a file.*--accept-changed-code"):
        gz.load(exports["torch-export"]).sample(2)
    assert len(gz.load(exports["torch-export"]).sample(2, accept_changed_code=True)) == 2


@pytest.mark.parametrize(("content", "expected"), [("notes.txt", "something else"), ("card.json", "an export already")])
def test_a_folder_that_holds_something_is_kept(run: gz.TrainedRun, tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / content).write_text("mine")
    result = ganzoo("export", run.path, "-o", tmp_path)
    assert result.exit_code == 2
    assert expected in result.output
    assert [path.name for path in tmp_path.iterdir()] == [content]
    result = ganzoo("export", run.path, "-o", tmp_path / content)
    assert "this is a file" in result.output


def test_without_the_extra_onnx_names_it(run: gz.TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = ganzoo("export", run.path, "--format", "onnx", "-o", tmp_path / "x")
    assert result.exit_code == 2
    assert "pip install 'torch-ganzoo[export]'" in result.output
    assert not list(tmp_path.iterdir())


def test_a_misspelt_format_and_a_file_of_another_program(run: gz.TrainedRun, tmp_path: Path) -> None:
    with pytest.raises(gz.UsageError, match="Did you mean 'onnx'"):
        run.export(tmp_path / "x", format="onxx")
    assert ganzoo("export", tmp_path).exit_code == 2
    assert ganzoo("export", run.path, "--at", 5).exit_code == 1


def test_an_architecture_from_a_file_is_named_without_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(TINY, tmp_path / "my_parts.py")
    run = gz.train(f"{tmp_path}/my_parts.py:Tiny", "digits:size=8", steps=2, out=tmp_path / "run", quiet=True)
    out = run.export(tmp_path / "out")
    for name in ("card.json", "README.md"):
        assert str(tmp_path) not in (out / name).read_text()
    monkeypatch.chdir(tmp_path)
    expected = run.sample(4).tensor
    assert torch.equal(gz.load(out).sample(4).tensor, expected)
    (tmp_path / "my_parts.py").write_text(TINY.read_text() + "# changed\n")
    with pytest.raises(gz.GanzooError, match="has changed since"):
        gz.load(out).sample(4)


def test_writing_warns_of_nothing(run: gz.TrainedRun, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.export(tmp_path / "x", format="torch-export")
        load_generator(tmp_path / "x", ZOO, CPU)
