"""benchmarks/gpu.py, tiny and on the CPU: every measurement is made, and skipped ones are listed."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu")


QUICK = ["--device", "cpu", "--quick", "--results"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_all_is_measured(gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = os.environ["GANZOO_CACHE"]
    facts = json.loads(gpu.main([*QUICK, str(tmp_path)]).read_text())
    assert os.environ["GANZOO_CACHE"] == cache
    assert facts["failed"] == {}
    assert facts["left_out"] == []
    assert len(facts["cells"]) == 2 + 2 + 2
    first = facts["cells"]["dcgan-tutorial 8 bf16 textbook"]
    assert first["seconds_per_step"].keys() == {"captured", "eager", "textbook"}
    assert first["times_captured"].keys() == {"eager", "textbook"}
    assert first["reason_for_eager"] == "no CUDA device"
    assert 0 < first["share_of_matrix_peak"] < 1
    assert facts["cells"]["wgan-gp 8 bf16"]["images_per_step"] == 5 * 8
    for name, images in (("r3gan", 2 * 8), ("stylegan2", 8)):  # r3gan has a minibatch for each turn
        preset = facts["cells"][f"{name}/cifar10 8 bf16"]
        assert preset["images_per_step"] == images
        assert preset["images_per_second"]["captured"] > 0
        assert preset["bytes_at_most"].keys() == {"eager", "captured"}
    training = facts["training of mnist"]
    assert (training["images"], training["dataset"]) == (64, "digits:size=28")
    assert training["fid-domain"] > 0
    assert (tmp_path / "gpu-mnist.png").stat().st_size > 0
    assert facts["fid-domain"]["reals_known"] > 0
    assert facts["inception"]["fp32"] > 0
    assert facts["machine"]["versions"].keys() >= {"torch", "torch-ganzoo"}
    assert "dcgan-atienza" in capsys.readouterr().out


def test_jobs_beyond_the_budget_are_listed_as_left_out(gpu: ModuleType, tmp_path: Path) -> None:
    facts = json.loads(gpu.main([*QUICK, str(tmp_path), "--budget", "0"]).read_text())
    assert facts["left_out"][0] == "steps of dcgan-tutorial, batch 8, tf32, beside textbook"
    assert len(facts["left_out"]) == 2 + 2 + 2 + 3
    assert facts["cells"] == {}


def test_the_least_important_is_left_out_first(gpu: ModuleType, tmp_path: Path) -> None:
    bench = gpu.Bench(torch.device("cpu"), False, 100.0, tmp_path)
    jobs = gpu.measurements(bench)
    assert len(jobs) == len({name for name, _, _ in jobs})
    assert len([name for name, _, _ in jobs if name.startswith("steps of")]) == 9 + 5 * 9 + 1 + 2
    measured = [name for name, about, _ in jobs if bench.measure(name, about, lambda: True)]
    assert measured
    bench.seconds = 10.0  # time for jobs of 6 seconds, but not for a training
    bench.facts["left_out"] = []
    measured = [name for name, about, _ in jobs if bench.measure(name, about, lambda: True)]
    assert measured[0] == "steps of wgan-gp, batch 256, bf16"
    assert "training of mnist" in bench.facts["left_out"]


def test_a_job_that_fails_does_not_end_the_others(gpu: ModuleType, tmp_path: Path) -> None:
    bench = gpu.Bench(torch.device("cpu"), True, 100.0, tmp_path)

    def fail() -> None:
        raise RuntimeError("out of memory\nand a long table")

    assert bench.measure("this", 0, fail) is None
    assert bench.measure("that", 0, lambda: 3) == 3
    assert bench.facts["failed"] == {"this": "RuntimeError: out of memory"}


def test_a_missing_device_is_reported(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "torch sees no CUDA device here" in capsys.readouterr().err


def test_operations_are_counted_by_their_formulas(gpu: ModuleType) -> None:
    steps = importlib.import_module("steps")
    weight = torch.randn(3, 4, requires_grad=True)
    images, kernel = torch.randn(2, 1, 6, 6), torch.randn(5, 1, 3, 3)
    assert steps.operations(lambda: torch.randn(2, 3) @ weight) == 2 * 2 * 3 * 4
    assert steps.operations(lambda: torch.nn.functional.conv2d(images, kernel)) == 2 * 2 * 5 * 4 * 4 * 9

    def twice() -> None:
        (gradient,) = torch.autograd.grad((torch.ones(2, 3) @ weight).square().sum(), weight, create_graph=True)
        torch.autograd.grad(gradient.square().sum(), weight)

    assert steps.operations(twice) > 3 * 2 * 2 * 3 * 4
