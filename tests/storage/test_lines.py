"""The lines of stats.jsonl and scores.jsonl: every one that is read is checked; only a torn last one is expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ganzoo import GanzooError, Recipe
from ganzoo.storage.lines import format_line, read_lines
from ganzoo.storage.run import Run

STATS = [{"step": step, "images": 16 * step, "epoch": step / 2, "generator_loss": 0.1 * step} for step in (1, 2, 3)]
CARD = {"digest": "ab", "measure": {"fakes": 20}}
SCORES = [
    {"score": "x", "value": 0.1, "better": "lower", "card": CARD, "step": step, "images": 16 * step, "training": True}
    for step in (1, 2, 3)
]
LINES = {"stats.jsonl": STATS, "scores.jsonl": SCORES}


@pytest.fixture(params=list(LINES))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of three lines, as a run appends them."""
    run = Run(tmp_path, Recipe())
    for line in LINES[request.param]:
        run.append(request.param, line)
    return tmp_path / request.param


def test_lines_come_back_without_their_checksums(path):
    assert read_lines(path) == LINES[path.name]
    for text in path.read_text().splitlines():
        assert list(json.loads(text))[-1] == "crc", "readers of the file still see plain JSON"


def test_lines_of_earlier_versions_have_no_checksum(path):
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES[path.name]))
    assert read_lines(path) == LINES[path.name]
    Run(path.parent, Recipe()).append(path.name, LINES[path.name][-1])
    assert read_lines(path) == [*LINES[path.name], LINES[path.name][-1]]


def test_every_flipped_bit_is_noticed_or_changes_nothing(path):
    data = path.read_bytes()
    second = data.index(b"\n") + 1
    kept, messages = 0, []
    for place in range(second, data.index(b"\n", second) + 1):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
            try:
                found = read_lines(path)
            except GanzooError as error:
                messages.append(str(error))
                continue
            kept += 1  # blanks, and the key of the checksum itself
            values = [{key: value for key, value in line.items() if key in LINES[path.name][0]} for line in found]
            assert values == LINES[path.name]
    assert kept < 60
    assert all("line 2 is damaged (" in text for text in messages)


@pytest.mark.parametrize("number", [1, 2])
def test_a_line_in_the_middle_that_was_cut_is_an_error(path, number):
    texts = path.read_text().splitlines(keepends=True)
    texts[number - 1] = texts[number - 1][:20] + "\n"
    path.write_text("".join(texts))
    with pytest.raises(GanzooError, match=rf"{path.name}, line {number} is damaged .*put the file back from a copy"):
        read_lines(path)


def test_a_torn_last_line_is_left_out_and_removed_by_the_next(path):
    data, run = path.read_bytes(), Run(path.parent, Recipe())
    last = data.rindex(b"\n", 0, -1) + 1
    for cut in range(last + 1, len(data)):
        path.write_bytes(data[:cut])
        whole = cut == len(data) - 1  # only the newline is missing
        assert read_lines(path) == LINES[path.name][: 3 if whole else 2]
        run.append(path.name, LINES[path.name][-1])
        assert read_lines(path) == LINES[path.name] + LINES[path.name][-1:] * whole
    path.write_bytes(b"\x00" * 10_000)  # what a power cut may leave
    assert read_lines(path) == []
    run.append(path.name, LINES[path.name][0])
    assert read_lines(path) == LINES[path.name][:1]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("stats.jsonl", {"step": None}, "it has no step"),
        ("stats.jsonl", {"step": "2"}, "step is '2'"),
        ("stats.jsonl", {"step": True}, "step is True"),
        ("stats.jsonl", {"step": -1}, "step is -1"),
        ("stats.jsonl", {"step": 0}, "it is of step 0, after a line of step 1"),
        ("stats.jsonl", {"images": None}, "it has no images"),
        ("stats.jsonl", {"epoch": [1]}, "epoch is no number"),
        ("stats.jsonl", {"generator_loss": "low"}, "generator_loss is no number"),
        ("scores.jsonl", {"score": None}, "it has no score"),
        ("scores.jsonl", {"value": "0.1"}, "value is '0.1'"),
        ("scores.jsonl", {"better": "smaller"}, "better is neither lower nor higher"),
        ("scores.jsonl", {"card": {}}, "its card has no digest"),
        ("scores.jsonl", {"step": 2.5}, "step is 2.5"),
        ("scores.jsonl", {"images": "../x"}, "images is '../x'"),
        ("scores.jsonl", {"training": "yes"}, "training is neither true nor false"),
    ],
)
def test_the_form_of_a_line_without_checksum_is_checked(
    name: str, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    lines = [dict(line) for line in LINES[name]]
    lines[1].update(change)
    lines[1] = {key: value for key, value in lines[1].items() if value is not None}
    (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(GanzooError) as caught:
        read_lines(tmp_path / name)
    assert f"line 2 is damaged ({words}" in str(caught.value)


def test_a_last_line_of_an_earlier_step_without_a_newline_is_left_out(tmp_path):
    """Lines of version 0.1.0, without checksums."""
    path = tmp_path / "stats.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (*STATS, STATS[0])))
    with pytest.raises(GanzooError, match=f"line {len(STATS) + 1} is damaged .it is of step"):
        read_lines(path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_lines(path) == STATS


def test_numbers_come_back_as_they_were():
    line = {"step": 1, "images": 16, "epoch": 1 / 3, "a": 1e-300, "b": float("inf"), "é\n\x7f": 0.1 + 0.2}
    text = format_line(line)
    assert text.count("\n") == 1
    assert {key: value for key, value in json.loads(text).items() if key != "crc"} == line


def test_lines_with_checksums_may_be_out_of_order(tmp_path: Path) -> None:
    """Two processes wrote one run on a disk that has no locks: each line is as it was written."""
    lines = [*LINES["stats.jsonl"], *LINES["stats.jsonl"]]
    (tmp_path / "stats.jsonl").write_text("".join(map(format_line, lines)))
    assert read_lines(tmp_path / "stats.jsonl") == lines
