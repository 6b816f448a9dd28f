"""Report and compare: what runs and benchmarks have to show, as a page, a table or data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.display import Table, table_html
from ganzoo.api.progress import log
from ganzoo.contract.errors import GanzooError, UsageError, did_you_mean
from ganzoo.contract.paths import is_directory, is_file

if TYPE_CHECKING:
    from ganzoo.api.trained_run import TrainedRun

#: suffix of a file -> format
_FORMAT_OF = {".html": "html", ".htm": "html", ".md": "md", ".csv": "csv", ".json": "json", ".tex": "latex"}
#: a report of each format has this text near its beginning; another file is not overwritten
_SIGNS = {
    "html": '<meta name="generator" content="ganzoo">',
    "md": "# GAN report",
    "csv": "dataset,architecture,score,better,digest",
    "json": '"title": "GAN report"',
    "latex": r"\usepackage{booktabs}",
}


def report(
    *paths: str | Path | TrainedRun,
    out: str | Path = "report.html",
    format: str | None = None,
    draw: bool | None = None,
    draw_seconds: float = 60.0,
) -> Path:
    """Write a report on runs, benchmarks, and folders of them; returns its path.

    `format` is html, md, csv, json or latex; by default the suffix of `out` decides. The HTML page is one file that
    needs no network. `draw` says whether it has images drawn with the newest generators: interpolations, classes, and
    the nearest training images. By default that is so for up to 36 runs. Drawing ends after about `draw_seconds`.

    A directory that cannot be read is listed as a failure. Raises UsageError for a path without runs, for a folder of
    `out` that does not exist, and where `out` is a file that is no report.
    """
    from ganzoo.storage.files import write_atomically

    target = Path(out)
    chosen = _format(target, format)
    _refuse_out(target, chosen)
    text = report_text(paths, chosen, draw, draw_seconds)
    try:
        write_atomically(target, text.encode())
    except OSError as error:
        raise GanzooError(f"-o {target} cannot be written: {error.strerror or error}.") from None
    return target


def report_text(
    paths: Sequence[str | Path | TrainedRun],
    format: str = "html",
    draw: bool | None = None,
    draw_seconds: float = 60.0,
) -> str:
    """The report that `report` writes, as text."""
    from ganzoo.reports.page import data_of, gather, render
    from ganzoo.reports.writers import write

    if format != "html":
        return write(data_of(gather(_paths(paths), films=False)), format)
    from ganzoo.registry.zoo import zoo
    from ganzoo.reports.drawing import draw_all_runs, should_draw

    found = gather(_paths(paths), locations=bool(draw))
    if should_draw(draw, found.runs):
        draw_all_runs(found, zoo(), draw_seconds, log)
    return render(data_of(found))


def _paths(paths: Sequence[str | Path | TrainedRun]) -> list[Path]:
    return [Path(path) if isinstance(path, str | Path) else path.path for path in paths]


def _format(out: Path, format: str | None) -> str:
    """The format of a report: as asked, or by the suffix of its file. Raises UsageError for another one."""
    from ganzoo.reports.writers import FORMATS

    if format is not None:
        if format not in FORMATS:
            raise UsageError(
                f"There is no format {format!r}.{did_you_mean(format, FORMATS)} There are: {', '.join(FORMATS)}."
            )
        return format
    if is_directory(out):
        raise UsageError(f"-o {out}: this is a directory; name a file, such as {out / 'report.html'}.")
    if out.suffix.lower() not in _FORMAT_OF:
        raise UsageError(
            f"-o {out}: the suffix names no format; write one of {', '.join(_FORMAT_OF)}, or choose with --format."
        )
    return _FORMAT_OF[out.suffix.lower()]


def _refuse_out(out: Path, format: str) -> None:
    """Raise UsageError where the report cannot be written, or would replace a file that is no report."""
    if is_directory(out):
        raise UsageError(f"-o {out}: this is a directory; name a file, such as {out / 'report.html'}.")
    if not is_directory(out.parent):
        raise UsageError(f"-o {out}: there is no directory {out.parent}; make it first, or name another file.")
    if is_file(out) and out.stat().st_size:
        with open(out, "rb") as file:
            begin = file.read(4096).decode(errors="replace")
        if _SIGNS[format] not in begin:
            raise UsageError(
                f"-o {out}: this file exists and is no {format} report of ganzoo; move it away, or name another file."
            )


class Comparison(Table):
    """One row for each score that was measured alike, with a value for each run, and differences to the first run.

    A notebook shows it as a table. `runs` describes the runs, in the order of the values.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]], data: Mapping[str, Any]) -> None:
        super().__init__(rows)
        self.runs = list(runs)
        #: the data of the report on these runs, for `save`
        self._data = data

    def save(self, path: str | Path) -> Path:
        """Write the comparison as a report: scores, curves, samples and recipes side by side. `.html` and others.

        Raises UsageError as `ganzoo.report` does.
        """
        from ganzoo.reports.page import render
        from ganzoo.reports.writers import write
        from ganzoo.storage.files import write_atomically

        out = Path(path)
        chosen = _format(out, None)
        _refuse_out(out, chosen)
        write_atomically(out, (render(self._data) if chosen == "html" else write(self._data, chosen)).encode())
        return out

    def _repr_html_(self) -> str:
        from ganzoo.reports.side_by_side import texts

        return table_html(*texts(self, self.runs))


def compare(
    *runs: str | Path | TrainedRun, draw: bool = False, draw_seconds: float = 60.0, resample: int = 0
) -> Comparison:
    """Compare runs that exist: their scores side by side, with the differences to the first one.

    A row has `score`, `dataset`, `digest` (of the card), `better`, and `values`, one for each run: `last`, `best`, and
    where a run was evaluated with several seeds of fakes, `interval`, the 95 % bootstrap interval of the mean over
    them; None where a run has no score that was measured so. `differences` has an entry for each further run: `delta`,
    `interval`, `spread` and `winner`. `save("x.html")` writes the page with samples and curves, with `draw` also with
    images drawn from the same latents.

    With `resample`, from 2, the newest generator of each run is first scored on so many choices of fakes, the seeds 0,
    1, ..., by the evaluators of its recipe; then there are intervals. These scores are kept in the run, each with the
    seed in its card, so that the next comparison computes only what is missing.

    Raises UsageError for fewer than two runs, for a path that is no run and for another number of choices.
    """
    from ganzoo.registry.zoo import zoo
    from ganzoo.reports.drawing import draw_all_runs
    from ganzoo.reports.page import data_of, gather
    from ganzoo.reports.side_by_side import rows_of, runs_side_by_side

    paths = _paths(runs)
    if len(paths) < 2:
        raise UsageError("A comparison needs at least two runs: ganzoo compare runs/a runs/b.")
    if resample:
        runs_side_by_side(gather(paths), paths)  # refuses what is no run before anything is scored
        for path in paths:
            _score_again(path, resample)
    found = gather(paths)
    chosen = runs_side_by_side(found, paths)
    if draw:
        draw_all_runs(found, zoo(), draw_seconds, log)
    rows, facts = rows_of(chosen, found.columns)
    return Comparison(rows, facts, data_of(found))


def _score_again(path: Path, choices: int) -> None:
    """Score the newest generator of a run on the choices of fakes 0, 1, ..., `choices` - 1 that it lacks."""
    from ganzoo.engine.device import find_device
    from ganzoo.registry.zoo import zoo
    from ganzoo.results.evaluate import evaluate
    from ganzoo.results.load import open_run

    if choices < 2:
        raise UsageError(f"resample={choices}: an interval needs at least 2 choices of fakes; 5 to 10 are usual.")
    run = open_run(path, zoo())
    newest = run.newest("generators", ".safetensors")
    images = int(newest.stem) if newest else -1
    known = {
        line["card"].get("subject", {}).get("seed") for line in run.lines("scores.jsonl") if line["images"] == images
    }
    for seed in (seed for seed in range(choices) if seed not in known):
        log(f"{path}: scoring the choice of fakes {seed} (of 0 to {choices - 1}).")
        evaluate(path, zoo(), find_device("auto"), seed=seed, note=log)
