"""The file and line that an error message names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ganzoo
from ganzoo.engine.cuda_graph import _error_and_line
from ganzoo.registry.contract_checks import CheckedPart
from ganzoo.registry.source import error_with_line, file_of

SITE = Path(ganzoo.__file__).parents[1]


def raised(file: Path) -> ZeroDivisionError:
    """An error that was raised on line 2 of `file`."""
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("\n1 / 0", str(file), "exec"))
    return caught.value


@pytest.mark.parametrize("package", ["ganzoo_plugins", "ganzoo_margin", "other"])
def test_a_package_whose_name_begins_like_ours_is_named_as_any_other(package):
    file = SITE / package / "part.py"
    assert error_with_line(raised(file)) == f"ZeroDivisionError: division by zero ({file}, line 2)"


def test_a_line_of_this_package_is_not_named():
    assert "/ganzoo/api/part.py" not in error_with_line(raised(SITE / "ganzoo" / "api" / "part.py"))


def test_a_package_whose_name_begins_with_torch_is_not_torch():
    folder = Path(torch.__file__).parents[1]
    assert _error_and_line(raised(folder / "torchvision" / "part.py")) == "division by zero (part.py, line 2)"
    assert "part.py" not in _error_and_line(raised(folder / "torch" / "part.py"))


def test_a_part_without_a_file_is_refused_without_one():
    namespace: dict[str, object] = {}
    exec("def part(): pass", namespace)
    assert file_of(namespace["part"]) is None
    assert file_of(test_a_line_of_this_package_is_not_named) == Path(__file__)
    assert str(CheckedPart("Loss part", None).refuse("it is odd")) == "Loss part breaks the contract: it is odd."
