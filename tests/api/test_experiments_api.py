"""ganzoo.benchmark and ganzoo.speedrun give what the commands give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import ganzoo as command

import ganzoo

FIELDS = ("architecture", "dataset", "score", "mean", "std", "seeds", "failures")


def test_a_benchmark_is_that_of_the_command_line(tmp_path: Path) -> None:
    table = ganzoo.benchmark(
        architectures=["mlp-vanilla"],
        datasets=["digits:size=8"],
        seeds=range(2),
        steps=2,
        samples=16,
        out=tmp_path / "api",
    )
    (row,) = table
    assert (row["architecture"], row["seeds"], row["failures"]) == ("mlp-vanilla", 2, 0)
    assert table.path == tmp_path / "api"
    assert "mlp-vanilla" in table._repr_html_()
    assert table._repr_png_().startswith(b"\x89PNG")
    grid = ["-a", "mlp-vanilla", "-d", "digits:size=8", "--seeds", "0,1", "--steps", "2", "--samples", "16"]
    # the command finds the trials of the API finished, and trains nothing
    printed = command("benchmark", *grid, "--out", tmp_path / "api", "--json")
    assert printed.exit_code == 0, printed.output
    (same,) = json.loads(printed.stdout)["rows"]
    assert [same[name] for name in FIELDS] == [row[name] for name in FIELDS]


def test_a_wrong_benchmark_is_refused(tmp_path: Path) -> None:
    for keywords, words in (
        ({"architectures": []}, "at least one architecture"),
        ({"seeds": [0, 0]}, "twice"),
        ({"seeds": "0;1"}, "no seed"),
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"samples": 1}, "at least 2 images"),
        ({"epochs": 1, "steps": 1}, "both set the length"),
        ({"datasets": "digit"}, "Did you mean 'digits'"),
    ):
        grid = {"architectures": "mlp-vanilla", "datasets": "digits", "out": tmp_path / "out", **keywords}
        with pytest.raises(ganzoo.UsageError, match=words):
            ganzoo.benchmark(**grid)
    assert not (tmp_path / "out").exists()


def test_a_speedrun_is_that_of_the_command_line(tmp_path: Path) -> None:
    small = {"steps": 4, "score_every": 2, "samples": 16, "batch_size": 8, "quiet": True}
    record = ganzoo.speedrun("digits:size=8", "fid-domain<=1e6", "mlp-vanilla", seeds=1, out=tmp_path / "api", **small)
    assert record["reached"] == 1
    assert [(seed["seed"], seed["steps"]) for seed in record["seeds"]] == [(1, 2)]
    assert "fid-domain" in record._repr_html_()
    with pytest.raises(ganzoo.UsageError, match="at most one evaluator"):
        ganzoo.speedrun("digits", "fid-domain<=3", evaluator=["fid-domain", "kid-domain"])
    with pytest.raises(ganzoo.UsageError, match="lower is better"):
        ganzoo.speedrun("digits", "fid-domain>=3")
