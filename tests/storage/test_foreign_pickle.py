"""Pickled networks are read as plain data: hostile files run nothing, and each is refused with one sentence."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from hostile_pickles import GLOBALS, KNOWN, hostile, parameters, tensor

from ganzoo.contract.errors import GanzooError
from ganzoo.storage import foreign
from ganzoo.storage.foreign import read_foreign
from ganzoo.storage.foreign_pickle import Refused

NAMES = sorted(hostile(Path("canary")))
#: those that need the limits of the process, or are good to see through it
APART = (
    *("calls os.system", "BUILD with slots", "cyclic modules", "a storage shorter than its tensor", "cut off"),
    *("10^9 entries of a memo", "BINBYTES8 of 2^62 bytes", "BYTEARRAY8 of 2^62 bytes", "a deep tower of lists"),
)


def test_there_are_enough_of_them() -> None:
    assert len(NAMES) >= 90
    assert len(GLOBALS) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "network.pkl"
    path.write_bytes(hostile(canary)[name])
    answer = foreign._answer_within(path, tmp_path / "result.safetensors", [KNOWN])
    assert not canary.exists()
    assert set(answer) == {"refused"}, answer
    assert "\n" not in answer["refused"]
    assert not answer["refused"].endswith(".")
    assert len(answer["refused"]) < 250
    assert not (tmp_path / "result.safetensors").exists()


@pytest.mark.parametrize("name", APART)
def test_a_hostile_file_is_refused_in_the_process_of_its_own(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "network.pkl"
    path.write_bytes(hostile(canary)[name])
    with pytest.raises(GanzooError) as refusal:
        read_foreign(path, [KNOWN])
    assert not canary.exists()
    assert str(refusal.value).startswith(str(path))
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(parameters(tensor(torch.arange(8.0), (2, 3), (3, 1), 1)))
    found = read_foreign(path, [KNOWN])
    assert found.tensors.keys() == {"G/w"}
    assert torch.equal(found.tensors["G/w"], torch.arange(8.0)[1:7].reshape(2, 3))
    assert found.values == {"G/__class__": "Generator"}
    assert found.below("G").keys() == {"w"}


def test_without_the_names_of_its_classes_a_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(parameters(tensor(torch.ones(1), (1,), (1,))))
    with pytest.raises(GanzooError, match=r"no file of torch\.save|asks for networks\.Generator"):
        read_foreign(path)


def test_a_refusal_is_an_error_of_its_own() -> None:
    with pytest.raises(Refused):
        foreign.read_networks(io.BytesIO(b""), [KNOWN])
