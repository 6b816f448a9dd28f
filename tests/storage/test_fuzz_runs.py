"""Damaged run directories: every command ends in a sentence, and no result differs without a word.

`python tests/storage/test_fuzz_runs.py 3000 [SEED]` tries 3000 damages, one after the other, and prints what it found.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest
import tiny
import torch
from helpers import ZOO, ganzoo, tiny_recipe

from ganzoo import GanzooError
from ganzoo.storage import checkpoints
from ganzoo.storage.run import Run
from ganzoo.training.train import start

BRIGHTNESS = f"{tiny.__file__}:Brightness"


def train(out: Path) -> None:
    """A run of 8 steps with three checkpoints, three generators, grids, and scores in training and afterwards."""
    fields = {"checkpoint_every": "4 steps", "evaluators": [BRIGHTNESS], "score_every": "3 steps", "score_samples": 20}
    fields |= {"ema_half_life": 50, "seed": 3}
    start(tiny_recipe(**fields), out, ZOO, torch.device("cpu"), note=lambda text: None)
    assert ganzoo("evaluate", out, "--at", 64, "--seed", 7).exit_code == 0


# --- commands: arguments, and what of their result must not differ ---


def array(run: Path, output: str) -> Any:
    return (run / "x.npy").read_bytes()


def gif(run: Path, output: str) -> Any:
    return (run / "x.gif").read_bytes()


def scores(run: Path, output: str) -> Any:
    return [(line["score"], line["value"], line["step"], line["images"]) for line in json.loads(output)["scores"]]


def replayed(run: Path, output: str) -> Any:
    return {key: value for key, value in json.loads(output).items() if key not in ("run", "from_step")}


def trained(run: Path, output: str) -> Any:
    """The newest state, and the scores of the training."""
    saved = checkpoints.load_latest(run / "checkpoints")
    assert saved is not None
    kept = Run.open(run).lines("scores.jsonl")
    state = {name: value.tolist() for name, value in saved.tensors.items()}
    return (
        saved.meta["step"],
        state,
        [(line["score"], line["value"], line["step"]) for line in kept if line["training"]],
    )


COMMANDS: dict[str, tuple[Sequence[str], Callable[[Path, str], Any]]] = {
    "sample": (("sample", "{run}", "-n", "6", "-o", "{run}/x.npy"), array),
    "sample best": (("sample", "{run}", "--at", "best", "-n", "6", "-o", "{run}/x.npy"), array),
    "sample at": (("sample", "{run}", "--at", "64", "-n", "6", "-o", "{run}/x.npy"), array),
    "gif": (("sample", "{run}", "--gif", "-o", "{run}/x.gif"), gif),
    "evaluate": (("evaluate", "{run}", "--json"), scores),
    "evaluate best": (("evaluate", "{run}", "--at", "best", "--json"), scores),
    "replay": (("replay", "{run}", "--step", "6", "--json"), replayed),
    "resume": (("resume", "{run}"), trained),
    "resume longer": (("resume", "{run}", "--steps", "10"), trained),
}


def outcome(name: str, run: Path) -> tuple[int, str, set[str], Any]:
    """Exit status, the whole output, its lines on stderr without numbers, and the result where there is one."""
    arguments, result = COMMANDS[name]
    done = ganzoo(*(argument.format(run=run) for argument in arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    lines = {re.sub(r"[\d.]+", "#", line) for line in done.stderr.replace(str(run), "RUN").splitlines()}
    return done.exit_code, done.output, lines, result(run, done.stdout) if done.exit_code == 0 else None


# --- damages ---


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 4))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def digit(data: bytes, rng: random.Random) -> bytes:
    """One digit becomes another."""
    places = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return flip(data, rng)
    place = rng.choice(places)
    return data[:place] + str(rng.randrange(10)).encode() + data[place + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def cut_lines(data: bytes, rng: random.Random) -> bytes:
    """Some of the last lines are missing."""
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: rng.randrange(len(lines))])


def without_a_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def edit(data: bytes, rng: random.Random) -> bytes:
    """One key or one value of a JSON text, or of one line of it, becomes another."""
    lines = [data] if data.startswith(b"{\n") else data.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    try:
        value = json.loads(lines[place])
    except ValueError:
        return flip(data, rng)
    holders: list[Any] = []

    def walk(found: Any) -> None:
        if isinstance(found, dict | list) and found:
            holders.append(found)
            for item in found.values() if isinstance(found, dict) else found:
                walk(item)

    walk(value)
    holder = rng.choice(holders)
    key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    if isinstance(holder, dict) and rng.random() < 0.3:
        holder[f"{key}x"] = holder.pop(key)
    elif isinstance(holder, dict) and rng.random() < 0.3:
        del holder[key]
    else:
        now = holder[key]
        others = [None, True, -1, 0, 1, 10**12, 1.5, "", "x", [], {}]
        if isinstance(now, int | float):
            others += [now + 1, now * 2]
        holder[key] = rng.choice(others)
    ending = b"\n" if lines[place].endswith(b"\n") else b""
    lines[place] = json.dumps(value, indent=2 if data.startswith(b"{\n") else None).encode() + ending
    return b"".join(lines)


TEXT_DAMAGES = (flip, digit, digit, cut, cut_lines, without_a_line, edit, edit, edit)


def damage(run: Path, rng: random.Random) -> str:
    """Damage one file of a run; what was done, in words."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    plain = [path for path in files if path.suffix in (".json", ".jsonl") and "checkpoints" not in path.parts]
    file = rng.choice(plain if rng.random() < 0.6 else files)
    name = str(file.relative_to(run))
    if file.suffix == ".png":  # an animation is of the grids that are there: one that was removed is not missed
        before = file.read_bytes()
        file.write_bytes((how := rng.choice((flip, flip, cut)))(before, rng))
        return f"{name} {how.__name__}"
    if rng.random() < 0.04:
        file.unlink()
        return f"{name} removed"
    if rng.random() < 0.04:
        other = rng.choice([path for path in files if path.suffix == file.suffix])
        file.write_bytes(other.read_bytes())
        return f"{name} replaced by {other.relative_to(run)}"
    how = rng.choice(TEXT_DAMAGES if file.suffix in (".json", ".jsonl") else (flip, flip, cut))
    before = file.read_bytes()
    file.write_bytes(how(before, rng))
    return f"{name} {how.__name__}" + (" (nothing)" if file.read_bytes() == before else "")


# --- the fuzz ---


def tries(reference: Path, folder: Path, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How `count` damaged runs ended, and what must not be: tracebacks, and different results without a word."""
    right = {}
    for name in COMMANDS:
        run = Path(shutil.copytree(reference, folder / "right" / "run"))
        right[name] = outcome(name, run)
        shutil.rmtree(folder / "right")
    ends: Counter[str] = Counter()
    faults = []
    for index in range(count):
        rng = random.Random(f"{seed}/{index}")
        name = rng.choice(list(COMMANDS))
        run = Path(shutil.copytree(reference, folder / "tried" / "run"))
        case = f"{seed}/{index}: {name} after {damage(run, rng)}"
        try:
            status, output, lines, result = outcome(name, run)
        except (Exception, GanzooError) as error:
            ends["traceback"] += 1
            faults.append(f"{case}: {type(error).__name__}: {error}")
        else:
            noted = bool(lines - right[name][2])
            same = (status, result) == (right[name][0], right[name][3])
            end = "as before" if same else "refused" if status else "noted" if noted else "SILENTLY DIFFERENT"
            ends[f"{end}, with a note" if same and noted else end] += 1
            sentence = output.strip().splitlines()[-1:] if status else []
            if end.isupper() or status not in (0, 1, 2) or (status and not any("Error: " in s for s in sentence)):
                faults.append(f"{case}: status {status} {output[-300:]}")
        shutil.rmtree(folder / "tried")
    return ends, faults


def test_damaged_runs_end_in_a_sentence(tmp_path: Path) -> None:
    train(tmp_path / "run")
    ends, faults = tries(tmp_path / "run", tmp_path, 150, seed=1)
    assert faults == []
    assert ends["refused"] > 30
    assert ends["as before"] > 30


@pytest.mark.slow
def test_thousands_of_damaged_runs_end_in_a_sentence(tmp_path: Path) -> None:
    train(tmp_path / "run")
    assert tries(tmp_path / "run", tmp_path, 3000, seed=2)[1] == []


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        train(Path(place) / "run")
        number, start_seed = int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])
        found, bad = tries(Path(place) / "run", Path(place), number, start_seed)
    print(*bad, f"{number} tries: {dict(found)}, {len(bad)} faults", sep="\n")  # noqa: T201
    sys.exit(bool(bad))
