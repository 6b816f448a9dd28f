"""benchmarks/growth.py, tiny: every table is measured, and a process that ends is reported."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("growth")


@pytest.mark.parametrize("only", ["data", pytest.param("", marks=pytest.mark.slow)])
def test_all_is_measured(only: str, growth: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = growth.main(["--quick", "--results", str(tmp_path), *(["--only", only] if only else [])])
    facts = json.loads(path.read_text())
    assert path.name == "growth-cpu.json"
    assert list(facts["tables"]) == ([only] if only else list(growth.QUICK))
    for name, rows in facts["tables"].items():
        assert list(rows) == [setting.name for setting in growth.QUICK[name]]
        for row in rows.values():
            step = row["seconds_per_step"]
            assert 0 < step["low"] <= step["median"] <= step["high"]
            assert row["bytes_at_most"] > 0
            assert row["images_per_second"] == pytest.approx(row["batch_size"] / step["median"])
        first = next(iter(rows.values()))
        assert first["times_the_first"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert facts["machine"]["versions"]["torch"]
    assert "streamed" in capsys.readouterr().out


def test_a_process_that_ends_stops_the_measurement(growth: ModuleType, tmp_path: Path) -> None:
    setting = growth.Setting("a size that DCGAN refuses", size=4, count=8)
    with pytest.raises(SystemExit, match="A process of a size that DCGAN refuses has ended"):
        growth.group_of([setting], "dcgan:width=4", growth.find_device("cpu"), tmp_path, 1)


def test_in_every_table_one_property_varies(growth: ModuleType) -> None:
    assert growth.GROUPS.keys() >= growth.QUICK.keys()
    for settings in growth.GROUPS.values():
        values = [{**vars(setting), "name": ""} for setting in settings]
        assert len([name for name in values[0] if len({row[name] for row in values}) > 1]) == 1
