"""Benchmark and speedrun: many trainings and one table, or the time until a score is good enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.api.display import BenchmarkTable, SpeedrunRecord
from ganzoo.api.displays import progress_observers
from ganzoo.api.interrupt import interruptible
from ganzoo.api.keywords import (
    Interval,
    LengthOptions,
    Part,
    Parts,
    RecipeOptions,
    check_keywords,
    dataset_choice,
    folders,
    keywords_of,
    length_of,
    parts,
)
from ganzoo.api.progress import log
from ganzoo.api.recipes import plan
from ganzoo.api.studies import StudySource, is_study, study_of
from ganzoo.contract.errors import UsageError
from ganzoo.contract.protocol import check_samples
from ganzoo.contract.recipe import Recipe

if TYPE_CHECKING:
    from typing import Unpack

    from ganzoo.experiments.study import Study

#: `"0,1,2"`, `"0..4"`, `range(3)`, or one seed
Seeds = str | int | Iterable[int]


class BenchmarkOptions(LengthOptions, total=False):
    """Keywords of `ganzoo.benchmark` that change the recipes."""

    recipe: Recipe | str | Path | None
    protocol: str | None
    samples: int | None
    score_every: Interval | None
    precision: str | None


class SpeedrunOptions(RecipeOptions, total=False):
    """Keywords of `ganzoo.speedrun`: those of a recipe, and how steps are executed."""

    capture: bool | None
    compile: bool | None
    quiet: bool
    verbose: bool


@keywords_of(BenchmarkOptions)
def benchmark(
    architectures: Parts | StudySource = (),
    datasets: Parts = (),
    evaluators: Parts = (),
    *,
    seeds: Seeds | None = None,
    axes: Mapping[str, Sequence[Any]] | None = None,
    rows: Mapping[str, Mapping[str, Any]] | None = None,
    exclude: Sequence[Mapping[str, Any]] = (),
    set: Mapping[str, Any] | None = None,
    out: str | Path = "benchmark",
    device: str = "auto",
    jobs: int | None = None,
    launcher: Part = "local",
    calibrate: bool = False,
    patience: float = 12.0,
    retry_failed: bool = False,
    data_dir: str | Path | None = None,
    inception_weights: str | Path | None = None,
    **keywords: Unpack[BenchmarkOptions],
) -> BenchmarkTable:
    """Train every architecture on every dataset with every seed, score the generators, and return the table.

    The first argument may also be a study: a TOML file, `"study.toml"`, or a mapping with the keys of such a file. What
    the other arguments set replaces what the study has.

    `axes` holds fields of a recipe with the values that are combined: `{"loss": ["hinge", "wasserstein + r1"],
    "batch_size": [32, 64], "generator_optimizer.lr": [1e-4, 2e-4]}`. `rows` are named sets of values, in place of the
    axes of these fields; `exclude` are the combinations to leave out; `set` are values of all trials. `seeds` are 0, 1
    and 2 by default.

    Each training is a run of its own in `out`/runs, in a process of its own, `jobs` at a time. `launcher` says where
    they run: "local", "ray:address=HOST:PORT" or "slurm"; by default one at a time on this machine. A training that
    fails, or writes nothing for `patience` hours, is counted in the table and stops no other one. The same call again
    trains what is missing. `calibrate` adds the scores of damaged real images.

    Raises UsageError for a wrong request, and TrainingInterrupted when it is stopped; the same call then goes on.
    """
    from ganzoo.contract.choice import Choice
    from ganzoo.engine.device import find_device
    from ganzoo.experiments.grid import named_as_in, plan_study
    from ganzoo.experiments.run_grid import benchmark as run_all
    from ganzoo.registry.zoo import zoo

    check_keywords(benchmark, keywords)
    varied = {"axes": axes, "rows": rows, "exclude": list(exclude), **(set or {})}
    varied |= study_keywords(keywords) | {"seeds": None if seeds is None else seeds_as_text(seeds)}
    if (jobs is not None and jobs < 1) or patience <= 0:
        raise UsageError("jobs must be at least 1, and patience more than 0 hours.")
    study, folder = _requested(architectures, datasets, evaluators, varied), Path(out)
    with folders(data_dir, inception_weights), interruptible():
        trials = named_as_in(plan_study(zoo(), study), folder)
        find_device(device)  # a device that is not there is refused here, and not by every process
        how: dict[str, Any] = {"jobs": jobs, "retry_failed": retry_failed, "scale": calibrate}
        how |= {"patience": 3600 * patience, "launcher": Choice.parse(launcher)}
        return BenchmarkTable(run_all(zoo(), trials, folder, device, note=log, **how), folder)


@keywords_of(SpeedrunOptions)
def speedrun(
    dataset: Part,
    target: str,
    architecture: Part = "dcgan-atienza-book",
    *,
    seeds: Seeds = (0, 1, 2),
    out: str | Path | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    inception_weights: str | Path | None = None,
    **keywords: Unpack[SpeedrunOptions],
) -> SpeedrunRecord:
    """Train on a dataset until a score reaches its target, `"fid-domain<=30"`, once for each seed; return the record.

    The record has a line for each seed, and the means where every seed reached the target: seconds of training, images
    and steps. A seed is trained for the length of the recipe at most. It ends at the first score that reaches the
    target, so the result is no more precise than `score_every`; by default that is a hundredth of the length.

    Raises UsageError for a wrong request, and TrainingInterrupted when it is stopped; the same call then goes on.
    """
    from ganzoo.contract.choice import Choice
    from ganzoo.experiments.grid import parse_seeds
    from ganzoo.experiments.speedrun import parse_target, trials_for_seeds
    from ganzoo.experiments.speedrun import speedrun as run_seeds
    from ganzoo.registry.zoo import zoo

    check_keywords(speedrun, keywords)
    given: dict[str, Any] = {name: value for name, value in keywords.items() if value is not None}
    evaluators = parts(given.pop("evaluator", None))
    if len(evaluators) > 1:
        raise UsageError("A speedrun has one target, and so at most one evaluator.")
    steps = {name: given.pop(name) for name in ("capture", "compile") if name in given}
    quiet, verbose = given.pop("quiet", False), given.pop("verbose", False)
    with folders(data_dir, inception_weights), interruptible():
        asked = parse_target(target, zoo(), evaluators[0] if evaluators else None)
        base, choices = plan(architecture, dataset, **given), (Choice.parse(architecture), dataset_choice(dataset))
        trials = trials_for_seeds(
            zoo(), *choices, base, asked, parse_seeds(seeds_as_text(seeds)), "score_every" not in given
        )
        folder = Path(out) if out is not None else Path("runs") / f"speedrun-{trials[0].name.partition('-seed')[0]}"
        observers = {"extra_observers": lambda: progress_observers(quiet, verbose)}
        return SpeedrunRecord(run_seeds(zoo(), trials, asked, folder, device, note=log, **observers, **steps))


def _requested(architectures: Parts | StudySource, datasets: Parts, evaluators: Parts, given: dict[str, Any]) -> Study:
    """The study of the arguments of `benchmark`; the first one is a study or architectures."""
    source: Any = architectures if is_study(architectures) else None
    named: Any = () if source is not None else architectures
    chosen = {
        "architectures": parts(named),
        "datasets": parts(datasets, dataset_choice),
        "evaluators": parts(evaluators),
    }
    return study_of(source, {**given, **chosen})


def study_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a study for keywords that change recipes. Raises UsageError for two lengths, and for too few samples."""
    given = {name: value for name, value in keywords.items() if value is not None}
    length = length_of(*(given.pop(unit, None) for unit in ("epochs", "images", "steps")))
    check_samples(given.get("samples"))
    return given | ({length.unit: length.count} if length else {})


def seeds_as_text(seeds: Seeds) -> str:
    """The text of seeds that the command line reads."""
    return str(seeds) if isinstance(seeds, str | int) else ",".join(map(str, seeds))
