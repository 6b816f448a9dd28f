"""Tune: search a better recipe."""

from __future__ import annotations

from pathlib import Path

from ganzoo.api.display import table_html
from ganzoo.api.experiments import Seeds, seeds_as_text
from ganzoo.api.interrupt import interruptible
from ganzoo.api.keywords import Interval, Part, folders
from ganzoo.api.progress import log
from ganzoo.api.studies import StudySource, study_of
from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import UsageError
from ganzoo.experiments.tune import TuneResult, import_optuna, request_of
from ganzoo.experiments.tune import tune as search


class Tuning(TuneResult):
    """The outcome of a search. A notebook shows its trials."""

    @property
    def winner(self) -> Path:
        """The recipe file of the best trial."""
        return self.path / "winner.toml"

    def _repr_html_(self) -> str:
        from ganzoo.results.report.tables import axis_text, number

        names = list(self.best["params"])
        rows = [
            [
                str(one["number"]),
                *(axis_text(one["params"].get(name)) for name in names),
                number(one["value"]),
                one["state"],
            ]
            for one in self.trials
        ]
        return table_html(["trial", *names, self.score, "state"], rows)


def tune(
    study: StudySource,
    trials: int = 20,
    *,
    out: str | Path = "tune",
    seed: int = 0,
    check_seeds: Seeds | None = None,
    score_every: Interval | None = None,
    device: str = "auto",
    jobs: int | None = None,
    launcher: Part = "local",
    patience: float = 12.0,
    data_dir: str | Path | None = None,
    inception_weights: str | Path | None = None,
) -> Tuning:
    """Search values of a recipe that give a better score, and score the winner on seeds that the search has not used.

    `study` is a TOML file or a mapping with an architecture, a dataset and a `space`: ranges and choices of fields.
    Values are proposed by the TPE sampler of optuna with this `seed`; a trial whose scores during the training, at
    every `score_every`, are worse than the median is stopped. `check_seeds` are the seeds of the second scoring, three
    others than that of the search by default. `launcher` says where trials run, as in `ganzoo.benchmark`.

    Raises UsageError for a wrong study and where `out` holds another search, GanzooError where no trial finishes, and
    TrainingInterrupted when it is stopped; the same call then goes on.
    """
    from ganzoo.engine.device import find_device
    from ganzoo.registry.zoo import zoo

    if trials < 1 or (jobs is not None and jobs < 1) or patience <= 0:
        raise UsageError("trials and jobs must be at least 1, and patience more than 0 hours.")
    import_optuna()  # raises where it is not installed
    given = {"check_seeds": None if check_seeds is None else seeds_as_text(check_seeds), "score_every": score_every}
    with folders(data_dir, inception_weights), interruptible():
        request = request_of(zoo(), study_of(study, given), seed)
        find_device(device)
        found = search(zoo(), request, trials, Path(out), device, jobs, 3600 * patience, Choice.parse(launcher), log)
    return Tuning(**vars(found))
