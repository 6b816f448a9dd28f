"""Whether the files of a run's parts are the same as when it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError
from ganzoo.contract.paths import is_file
from ganzoo.contract.recipe import KIND_OF_FIELD
from ganzoo.contract.run_view import RunView
from ganzoo.registry.zoo import Zoo


def refuse_changed_code(run: RunView, zoo: Zoo, fields: Sequence[str] = tuple(KIND_OF_FIELD)) -> None:
    """Raise GanzooError if the file of a part in one of these recipe fields, or a file it imports, has changed."""
    parts = run.environment.get("parts", {})
    for field, then in [(name, part) for name in fields for part in parts.get(name, ())]:
        path = Path(then.get("location", "").rpartition(":")[0])
        if "location" not in then or not is_file(path):
            continue  # the error for a missing file is raised when it is loaded
        now = zoo.provenance(KIND_OF_FIELD[field], Choice(then["location"]))
        beside = now.get("imports", {})
        pairs = {path: (then.get("sha256"), now["sha256"])}
        imports = then.get("imports", {})  # runs of an earlier version have none
        pairs |= {path.parent / name: (imports[name], beside.get(name)) for name in imports}
        for file, (old, new) in pairs.items():
            if old != new:
                raise GanzooError(
                    f"{file} has changed since {run.path} was trained with it (sha256 {str(old)[:12]} then, "
                    f"{str(new)[:12]} now): put it back, or accept what it does now with --accept-changed-code."
                )
