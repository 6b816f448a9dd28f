"""Exports on a model hub, by its own library: `ganzoo push` and `ganzoo pull`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganzoo.contract.errors import GanzooError, UsageError
from ganzoo.results.export.card import FILE, is_export, read_card, read_named_file
from ganzoo.results.export.readme import README
from ganzoo.results.export.write import Exported, refuse_taken, write_folder


def push(folder: Path, repository: str, private: bool = False, revision: str | None = None) -> str:
    """Upload the export in `folder` to a repository OWNER/NAME of the hub, and return the address of the commit.

    The repository is created where it is absent, `private` or public. Only the files that the card names are uploaded,
    the card and README.md; each is compared with its sha256 first. `revision` is a branch, None the main one.

    Raises UsageError where `folder` is no export or the package is missing, GanzooError where the export was changed or
    the hub refuses.
    """
    hub = _library()
    if not is_export(folder):
        raise UsageError(f"{folder} is no export: write one with `ganzoo export RUN -o DIR`, and push DIR.")
    card = read_card(folder, str(folder))
    names = [*_names(card, str(folder)), FILE, *([README] if (folder / README).is_file() else [])]
    for name in card["files"]:
        read_named_file(folder, card, name, str(folder))
    with _one_sentence(repository):
        api = hub.HfApi(library_name="ganzoo")
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=names,
            revision=revision,
            commit_message=f"{card['name']}, exported by ganzoo",
        )
    return str(done.commit_url)


def pull(
    repository: str, out: Path | None = None, revision: str | None = None, note: Callable[[str], None] = print
) -> Exported:
    """Download the export in the repository OWNER/NAME of the hub to the new or empty folder `out`.

    `out` is the repository's NAME in the current folder by default. `revision` is a branch, tag or commit, None the
    main branch. The folder appears when every file has the size and the sha256 that the card names. Nothing that was
    downloaded is run.

    Raises UsageError for a wrong name, a folder that holds something or a missing package; GanzooError where the hub
    does not answer, has no such repository, or holds files that differ from their card.
    """
    hub = _library()
    folder = out or Path(repository.rpartition("/")[2])
    refuse_taken(folder)
    with tempfile.TemporaryDirectory() as temporary, _one_sentence(repository):

        def fetched(name: str) -> Path:
            path = hub.hf_hub_download(repository, name, revision=revision, cache_dir=temporary, library_name="ganzoo")
            return Path(path)

        downloads = fetched(FILE).parent
        card = read_card(downloads, repository)
        files = {}
        for name in _names(card, repository):
            files[name] = read_named_file(fetched(name).parent, card, name, repository)
        files[FILE] = (downloads / FILE).read_bytes()
        try:
            files[README] = fetched(README).read_bytes()
        except hub.errors.EntryNotFoundError:
            note(f"{repository} has no {README}.")
    write_folder(folder, files)
    return Exported(folder, card)


def _names(card: Mapping[str, Any], owner: str) -> list[str]:
    """The files of a card. Raises GanzooError for a name that leads out of the folder."""
    for name in card["files"]:
        if name != os.path.basename(name.replace("\\", "/")) or name in ("", ".", ".."):
            raise GanzooError(f"The card of {owner} names the file {name!r}, which is not a plain name.")
    return list(card["files"])


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:
        raise UsageError("The hub needs its library: pip install 'torch-ganzoo[hub]'.") from None
    disable_progress_bars()
    return huggingface_hub


@contextmanager
def _one_sentence(repository: str) -> Iterator[None]:
    """Turn errors of the library and of the network into one sentence."""
    from huggingface_hub import errors

    try:
        yield
    except (GanzooError, UsageError):
        raise
    except errors.HFValidationError:
        raise UsageError(f"{repository!r} is no name of a repository: write it OWNER/NAME.") from None
    except errors.RepositoryNotFoundError:
        raise GanzooError(
            f"The hub has no repository {repository}, or it is private and you are not logged in (`hf auth login`)."
        ) from None
    except errors.RevisionNotFoundError:
        raise GanzooError(f"{repository} has no such revision.") from None
    except errors.LocalEntryNotFoundError:
        raise GanzooError(
            f"The hub was not reached for {repository}: there is no network, or HF_HUB_OFFLINE is set."
        ) from None
    except errors.EntryNotFoundError as error:
        raise GanzooError(
            f"{repository} is no export of ganzoo, or not a complete one: {_first_line(error)}."
        ) from None
    except Exception as error:  # of the library, of its HTTP client, or of the operating system
        raise GanzooError(f"The hub failed for {repository}: {_first_line(error)}.") from None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")
