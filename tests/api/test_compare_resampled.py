"""`ganzoo compare --resample N`: intervals over the choice of fakes, computed once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from helpers import ganzoo as run_ganzoo

import ganzoo
from ganzoo.storage.run import Run


def test_a_comparison_scores_the_choices_of_fakes_that_are_missing(tmp_path: Path) -> None:
    scored = ["-e", f"{tiny.__file__}:Brightness", "--samples", 64]
    for name, seed in (("a", 0), ("b", 1)):
        arguments = [
            "train",
            f"{tiny.__file__}:Tiny",
            "digits:size=8",
            "--steps",
            4,
            "--seed",
            seed,
            "--quiet",
            *scored,
        ]
        assert run_ganzoo(*arguments, "--out", tmp_path / name).exit_code == 0
    runs = [tmp_path / "a", tmp_path / "b"]
    [before] = [row for row in ganzoo.compare(*runs) if row["score"] == "brightness"]
    assert [value["interval"] for value in before["values"]] == [None, None]

    result = run_ganzoo("compare", *runs, "--resample", 3, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("scoring the choice of fakes") == 4  # the training has scored the choice 0 of both
    [row] = [row for row in json.loads(result.stdout)["scores"] if row["score"] == "brightness"]
    for value, old in zip(row["values"], before["values"], strict=True):
        assert len(value["fakes"]) == 3
        assert value["interval"][0] <= sum(value["fakes"]) / 3 <= value["interval"][1]
        assert value["last"] == old["last"]
    assert row["digest"] == before["digest"]
    seeds = [line["card"]["subject"]["seed"] for line in Run.open(runs[0]).lines("scores.jsonl") if line["step"] == 4]
    assert sorted(set(seeds)) == [0, 1, 2]

    again = run_ganzoo("compare", *runs, "--resample", 3)
    assert "scoring the choice" not in again.output
    with pytest.raises(ganzoo.UsageError, match="at least 2 choices"):
        ganzoo.compare(*runs, resample=1)
