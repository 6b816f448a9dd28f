"""Exports on a model hub."""

from __future__ import annotations

from pathlib import Path


def push(folder: str | Path, repository: str, *, private: bool = False, revision: str | None = None) -> str:
    """Upload the export in `folder` to OWNER/NAME of a model hub, and return the address of the commit.

    `private` is for a repository that is created; `revision` is a branch. Raises UsageError where `folder` is no
    export or the library is missing (pip install 'torch-ganzoo[hub]'), GanzooError where a file was changed or the hub
    refuses.
    """
    from ganzoo.results.export.hub import push as upload

    return upload(Path(folder), repository, private, revision)


def pull(repository: str, out: str | Path | None = None, *, revision: str | None = None) -> Path:
    """Download the export in OWNER/NAME of a model hub to the new or empty folder `out`, and return the folder.

    `out` is NAME in the current folder by default; `revision` is a branch, tag or commit. Every file is compared with
    its sha256 on the card. Raises UsageError for a wrong name, a folder that holds something or the missing library,
    GanzooError where the hub does not answer or holds other files than the card names.
    """
    from ganzoo.results.export.hub import pull as download

    return download(repository, None if out is None else Path(out), revision).path
