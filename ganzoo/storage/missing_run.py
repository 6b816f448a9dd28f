"""The message for a path that holds no run, with the runs that may be meant."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from ganzoo.contract.errors import did_you_mean
from ganzoo.contract.paths import is_directory, is_file
from ganzoo.storage.run_search import find_runs

#: folders that are looked into, and runs that are named
_FOLDERS, _NAMED = 300, 3
_ADVICE = "Name the directory that `ganzoo train` printed."


def no_run_in(path: Path) -> str:
    """What is the matter with a path that holds no run, and which run may be meant instead."""
    words = f"{path} holds no run: "
    if is_file(path):
        return f"{words}it is a file. {_ADVICE}"
    if is_directory(path):
        inside = [str(run) for run in islice(find_runs(path, most_folders=_FOLDERS), _NAMED + 1)]
        if not inside:
            return f"{words}there is no recipe.json. {_ADVICE}"
        more = ", ..." if len(inside) > _NAMED else ""
        return f"{words}it is a folder of runs. Name one of them: {', '.join(inside[:_NAMED])}{more}"
    return f"{words}there is no such folder.{similar_runs(path)} {_ADVICE}"


def similar_runs(path: Path) -> str:
    """' Did you mean ...?' with the runs below this folder whose path or name is similar; empty without one."""
    known = {str(run): run.name for run in find_runs(Path(), depth=2, most_folders=_FOLDERS)}
    same = [run for run, name in known.items() if name == path.name]
    return f" Did you mean {' or '.join(map(repr, same[:_NAMED]))}?" if same else did_you_mean(str(path), known)
