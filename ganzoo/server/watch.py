"""Notice cheaply that runs below a folder have changed, and that a link would lead out of the folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

#: how many folders deep a run is looked for, as in a report
_DEEPEST = 4
#: folders of a run whose content is shown, and that of a benchmark
_SHOWN = ("samples", "cells")
#: folders in which no run is looked for
_NOT_SEARCHED = {"samples", "generators", "checkpoints", "logs", "cells", "__pycache__"}

#: name, time of the last change in ns, and size of a file
_State = tuple[str, int, int]


@dataclass
class Snapshot:
    """The runs below a folder at one moment."""

    #: directories of runs, and of benchmarks
    runs: list[Path] = field(default_factory=list)
    #: of those, the ones in which a link leads out of the folder; they are not shown
    refused: list[Path] = field(default_factory=list)
    #: of every file that is shown; folders of many files by their own time of change. Equal if nothing has changed
    state: list[_State] = field(default_factory=list)


class Watch:
    """Looks at the names, sizes and times of files below a folder, not into them. Links to folders are not followed."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        #: folder -> its time of change, and whether a link in it leads out
        self._links: dict[str, tuple[int, bool]] = {}

    def look(self) -> Snapshot:
        """What is there now. A folder that cannot be listed counts as empty."""
        found = Snapshot()
        self._search(str(self.root), found, 0)
        return found

    def _search(self, folder: str, found: Snapshot, depth: int) -> None:
        entries = _entries(folder)
        names = {entry.name for entry in entries}
        is_run = "recipe.json" in names
        if is_run or "table.json" in names or {"cells", "runs"} <= names:
            found.runs.append(Path(folder))
            if any(map(self._leads_out, entries)):
                found.refused.append(Path(folder))
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "lock":
                continue
            if not entry.is_dir(follow_symlinks=False):
                _add(found.state, entry)
            elif entry.name in _SHOWN:
                _add(found.state, entry)
                self._look_into(entry, found)
            elif entry.name not in _NOT_SEARCHED and not is_run and depth < _DEEPEST:
                self._search(entry.path, found, depth + 1)

    def _look_into(self, folder: os.DirEntry[str], found: Snapshot) -> None:
        """A folder of files that are shown. It is listed again only when a file was added or removed."""
        try:
            changed = folder.stat(follow_symlinks=False).st_mtime_ns
        except OSError:
            return
        if folder.name == "cells":
            for entry in _entries(folder.path):
                _add(found.state, entry)
        if self._links.get(folder.path, (None, False))[0] != changed:
            self._links[folder.path] = changed, any(map(self._leads_out, _entries(folder.path)))
        parent = Path(folder.path).parent
        if self._links[folder.path][1] and parent not in found.refused:
            found.refused.append(parent)

    def _leads_out(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(self.root)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def _add(state: list[_State], entry: os.DirEntry[str]) -> None:
    try:
        facts = entry.stat()
    except OSError:  # it is gone, or a link to nothing
        return
    state.append((entry.path, facts.st_mtime_ns, facts.st_size))
