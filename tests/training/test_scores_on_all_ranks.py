"""Scores of a training with two processes: both compute features, the values are those of one process to the last bit,
and both end together where one of them fails, is stopped or is killed."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import kills
import pytest
import ranked
import torch
from helpers import tiny_recipe
from kills import together

from ganzoo.contract.errors import GanzooError
from ganzoo.engine import distributed
from ganzoo.results.evaluate import evaluate
from ganzoo.storage.run import Run
from ganzoo.training.train import Interrupted, resume, start

SCORE = f"{ranked.__file__}:Ordered"
SAMPLES = 1100  # five batches of fakes: the second process has two of them


def recipe(**changes: Any) -> Any:
    """Batches of the digits dataset, a score after 4 of 8 steps and at the end."""
    fields = {"subset": "first 64", "length": "8 steps", "checkpoint_every": "2 steps", "score_every": "4 steps"}
    return tiny_recipe(**{**fields, "evaluators": [SCORE, "sliced-wasserstein"], "score_samples": SAMPLES, **changes})


def train(out: Path, **changes: Any) -> None:
    start(recipe(**changes), out, kills.ZOO, kills.CPU, note=lambda text: None)


def test_tensors_of_all_ranks_arrive_with_their_bits_and_layouts(tmp_path: Path) -> None:
    def of_rank(rank: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(rank)
        images = torch.randn(2 + rank, 3, 4, 5)
        return {
            "images": images.to(memory_format=torch.channels_last),
            "turned": images.flatten(1).T,
            "half": images.bfloat16(),
            "labels": torch.arange(3 * rank),
            "flag": torch.tensor(rank == 1),
            "every second": images.double()[:, ::2],
        }

    def job(rank: int) -> None:
        distributed.init_process_group(kills.CPU)
        found = distributed.gather_on_first_rank(of_rank(rank))
        assert len(found) == (0 if rank else 2)
        for source, tensors in enumerate(found):
            for name, expected in of_rank(source).items():
                assert torch.equal(tensors[name], expected)
                assert tensors[name].dtype == expected.dtype
                if name != "every second":  # which is not dense
                    assert tensors[name].stride() == expected.stride()
        assert distributed.from_first_rank({"rank": rank, "text": "é"}) == {"rank": 0, "text": "é"}
        assert distributed.max_of_each((rank, -rank)) == [1, 0]
        assert distributed.same_on_all_ranks("same")
        assert not distributed.same_on_all_ranks(str(rank))

    assert together(job, 2) == [0, 0]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes, and beside it the numbers of batches that each process has extracted."""
    folder = tmp_path_factory.mktemp("scored")

    def job(rank: int) -> None:
        os.environ["GANZOO_TEST_BATCHES"] = str(folder / f"batches{rank}")
        train(folder / "run")

    assert together(job, 2) == [0, 0]
    return folder


def test_all_ranks_compute_features_and_the_scores_are_those_of_one_process(scored: Path) -> None:
    """`Ordered` depends on every bit, on the order of the batches and on their sizes."""
    lines = Run.open(scored / "run").lines("scores.jsonl")
    assert len({line["score"] for line in lines}) == 2
    assert {line["step"] for line in lines} == {4, 8}
    batches = [(scored / f"batches{rank}").read_text().split() for rank in (0, 1)]
    assert batches[0].count("250") == 2 * 2  # batches 0, 2 and 4 of each score; the last one has 100 fakes
    assert batches[0].count("100") == 2
    assert batches[1].count("250") == 2 * 2

    def job(_: int) -> None:
        for step in (4, 8):
            evaluate(scored / "run", kills.ZOO, kills.CPU, samples=SAMPLES, at=f"step:{step}")

    assert together(job, 1) == [0]
    again = [line for line in Run.open(scored / "run").lines("scores.jsonl") if not line["training"]]
    by_name = {(line["score"], line["step"]): line for line in again}
    assert len(by_name) == len(lines)
    for line in lines:
        same = by_name[line["score"], line["step"]]
        assert line["value"] == same["value"], line["score"]  # to the last bit
        assert line["card"]["digest"] == same["card"]["digest"]


def test_features_that_need_random_numbers_are_computed_by_the_first_process_alone(tmp_path: Path) -> None:
    def job(rank: int) -> None:
        os.environ["GANZOO_TEST_RANDOM_FEATURES"] = "1"
        os.environ["GANZOO_TEST_BATCHES"] = str(tmp_path / f"batches{rank}")
        train(tmp_path / "run", evaluators=[SCORE])

    assert together(job, 2) == [0, 0]
    batches = [(tmp_path / f"batches{rank}").read_text().split() for rank in (0, 1)]
    assert batches[1].count("250") == 2  # the first round of each score
    assert batches[0].count("250") == 2 * (1 + 4)
    assert len(Run.open(tmp_path / "run").lines("scores.jsonl")) == 2


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_the_features_of_one_rank_ends_both_with_one_sentence(failing: int, tmp_path: Path) -> None:
    def job(rank: int) -> None:
        sys.stderr = open(tmp_path / f"said{rank}", "w", buffering=1)  # noqa: SIM115
        if rank == failing:
            os.environ["GANZOO_TEST_FAILING_BATCH"] = "1"
        try:
            train(tmp_path / "run", evaluators=[SCORE])
        except GanzooError as error:
            (tmp_path / f"error{rank}").write_text(str(error))
            os._exit(error.exit_code)

    assert together(job, 2) == [1, 1]
    errors = [(tmp_path / f"error{rank}").read_text() for rank in (0, 1)]
    assert "This batch cannot be read" in errors[failing]
    assert errors[1 - failing] == ""


@pytest.mark.parametrize("to_rank", [0, 1])
def test_a_signal_to_one_rank_stops_the_score_of_both(to_rank: int, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def job(rank: int) -> None:
        if rank == to_rank:
            os.environ["GANZOO_TEST_SIGNAL"] = str(int(signal.SIGTERM))
        try:
            train(out, evaluators=[SCORE])
        except Interrupted as stopped:
            os._exit(stopped.exit_code)

    assert together(job, 2) == [143, 143]
    run = Run.open(out)
    assert run.lines("scores.jsonl") == []
    assert run.newest_checkpoint() is not None

    def go_on(_: int) -> None:
        resume(out, kills.ZOO, note=lambda text: None)

    assert together(go_on, 2) == [0, 0]
    assert [line["step"] for line in Run.open(out).lines("scores.jsonl")] == [4, 8]


def test_a_rank_that_is_killed_while_it_scores_ends_the_other(tmp_path: Path) -> None:
    def job(rank: int) -> None:
        if rank:
            os.environ["GANZOO_TEST_SIGNAL"] = str(int(signal.SIGKILL))
        try:
            train(tmp_path / "run", evaluators=[SCORE])
        except GanzooError as error:
            (tmp_path / "error").write_text(str(error))
            os._exit(1)

    before = time.monotonic()
    assert together(job, 2) == [1, -signal.SIGKILL]
    assert time.monotonic() - before < 60
    assert re.match("Another process of this training has ended", (tmp_path / "error").read_text())
