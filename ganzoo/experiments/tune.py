"""Search a better recipe: optuna proposes values, a launcher runs each trial in a process of its own.

runs/ cells/ logs/   the trials, as in the folder of a benchmark
optuna.journal       what was proposed and found; a search that was killed goes on from it
tune.json            the trials, the best of them, and the second scoring
winner.toml          the recipe of the best trial
check/               the benchmark of the default and the tuned recipe on other seeds
"""

from __future__ import annotations

import json
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.contract.choice import Choice
from ganzoo.contract.errors import GanzooError, UsageError, counted
from ganzoo.contract.recipe import Recipe
from ganzoo.experiments.axes import Value
from ganzoo.experiments.folder import Folder
from ganzoo.experiments.grid import ExpectedScore, Trial, parse_seeds, plan_study
from ganzoo.experiments.run_grid import DEFAULT_LAUNCHER, benchmark, build_launcher, misfit, unscorable
from ganzoo.experiments.search_space import Dimension, parse_space
from ganzoo.experiments.study import Study
from ganzoo.experiments.trial_runner import TrialRunner
from ganzoo.registry.zoo import Zoo
from ganzoo.storage.files import digest_of, write_atomically
from ganzoo.storage.run import Run
from ganzoo.training.signals import Interrupted

if TYPE_CHECKING:
    import optuna

#: seconds between two looks at the scores of the running trials
_LOOK_SECONDS = 0.5
#: trials that are drawn at random before the model of the sampler is used, and before anything is pruned
_RANDOM_TRIALS, _UNPRUNED_TRIALS = 6, 4
#: a trial whose process is ended from outside so often has failed
_MOST_ATTEMPTS = 3


@dataclass
class TuneRequest:
    """What is searched and how it is measured."""

    study: Study
    space: list[Dimension]
    #: the trial of the recipe without changes
    default: Trial
    objective: ExpectedScore
    check_seeds: tuple[int, ...]
    #: of the sampler
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same when a search is continued."""
        return {
            "recipe": digest_of(self.default.recipe.to_dict()),
            "space": [repr(dimension) for dimension in self.space],
            "score": self.objective.score,
            "seed": self.seed,
        }


@dataclass
class TuneResult:
    """The outcome of a search."""

    path: Path
    #: number, state (finished, pruned, failed), value, params, run and reason of each trial
    trials: list[dict[str, Any]]
    best: dict[str, Any]
    #: the recipe of the best trial
    recipe: Recipe
    score: str
    better: str
    #: rows of the benchmark of the default and the tuned recipe; empty where the default was the best
    check: list[dict[str, Any]] = field(default_factory=list)


def request_of(zoo: Zoo, study: Study, seed: int) -> TuneRequest:
    """Check a study for a search. Raises UsageError where it has axes, several seeds, or a space that cannot be."""
    if study.axes or study.rows or study.exclude:
        raise UsageError("A search has no axes, rows or exclusions: write what it may change below [space].")
    space = parse_space(study.space)
    for dimension in space:
        if dimension.axis in study.fixed:
            raise UsageError(f"{dimension.axis} is in the [space] and has a value as well: keep one of the two.")
    seeds = parse_seeds(study.seeds or "0")
    if len(seeds) > 1:
        raise UsageError("A search trains every trial with one seed; the seeds of the second scoring are check_seeds.")
    check = parse_seeds(study.check_seeds or ",".join(str(seeds[0] + more) for more in (1, 2, 3)))
    if seeds[0] in check:
        raise UsageError(f"check_seeds hold {seeds[0]}, the seed that the search trains with: name other seeds.")
    base = replace(study, seeds=str(seeds[0]))
    trials = plan_study(zoo, base)
    if len(trials) > 1:
        raise UsageError("A search has one architecture and one dataset; name a single one of each.")
    for dimension in space:  # an unknown option is refused now, and not by every trial
        trial_of(zoo, base, {dimension.axis: dimension.example})
    return TuneRequest(base, space, trials[0], _objective(trials[0]), check, seed)


def _objective(trial: Trial) -> ExpectedScore:
    """The score that is searched for: `best_by` of the recipe, or the first score."""
    scores = {expected.score: expected for expected in trial.expected_scores}
    best_by = trial.recipe.best_by
    if best_by and best_by not in scores:
        raise UsageError(f"best_by={best_by!r} is none of the scores that are computed: {', '.join(scores)}.")
    return scores[best_by] if best_by else trial.expected_scores[0]


def trial_of(zoo: Zoo, study: Study, settings: Mapping[str, Value]) -> Trial:
    """The trial of a search with these values. Raises UsageError for values that do not fit together."""
    return plan_study(zoo, replace(study, axes={axis: [value] for axis, value in settings.items()}))[0]


def tune(
    zoo: Zoo,
    request: TuneRequest,
    trials: int,
    out: Path,
    device: str = "auto",
    jobs: int | None = None,
    patience: float = math.inf,
    launcher: Choice = DEFAULT_LAUNCHER,
    note: Callable[[str], None] = print,
) -> TuneResult:
    """Run the search in the folder `out` until it has `trials` trials, and score the winner on other seeds.

    A search that was stopped or killed goes on where it was. Raises UsageError where `out` holds another search,
    GanzooError where optuna is not installed or no trial finished, Interrupted after a signal.
    """
    for check in (misfit, unscorable):
        if reason := check(zoo, request.default):
            raise UsageError(reason)
    how: dict[str, Any] = {"device": device, "jobs": jobs, "patience": patience, "note": note}
    folder, built = Folder(out), build_launcher(zoo, launcher)
    with folder.taken():
        search = _Search(zoo, request, folder, note)
        search.take_up()
        if len(search.counted) < trials:
            with TrialRunner(zoo, folder, built, **how) as runner:
                search.run(trials, runner)
        result = search.result()
        (out / "winner.toml").write_text(_winner(request, result), encoding="utf-8")
        note(f"Best: trial {result.best['number']}, {result.score} {result.best['value']:.4g}: {out / 'winner.toml'}")
        result.check = search.check(result, {**how, "launcher": launcher})
        search.write(result.check)
    return result


def _winner(request: TuneRequest, result: TuneResult) -> str:
    """The recipe file of the winner."""
    default = request.default
    head = (
        f"# Trial {result.best['number']} of {counted(len(result.trials), 'trial')} by `ganzoo tune`, "
        f"{result.score} {result.best['value']:.6g} with seed {default.recipe.seed}.\n"
        f"# ganzoo train {default.architecture} {default.dataset} --recipe winner.toml\n"
    )
    return head + result.recipe.to_toml()


@dataclass
class _Running:
    """A trial of optuna and its training."""

    asked: optuna.trial.Trial
    trial: Trial
    #: lines of scores that were reported to optuna
    reported: int = 0
    pruned: bool = False


class _Search:
    """A study of optuna and the trials that run."""

    def __init__(self, zoo: Zoo, request: TuneRequest, folder: Folder, note: Callable[[str], None]) -> None:
        self.zoo, self.request, self.folder, self.note = zoo, request, folder, note
        self.optuna = import_optuna()
        self.study = self._open()
        self.running: dict[str, _Running] = {}
        self.attempts: dict[str, int] = {}
        #: when the scores of the running trials were last read
        self._looked = 0.0

    def _open(self) -> optuna.Study:
        """The study in the journal of the folder. Raises UsageError if it is another search."""
        from optuna.storages.journal import JournalFileBackend

        path = self.folder.path / "optuna.journal"
        for lock in self.folder.path.glob("optuna.journal.lock*"):
            lock.unlink()  # left by a process that was killed; the lock of the folder is ours
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some of these classes are called experimental
            storage = self.optuna.storages.JournalStorage(JournalFileBackend(str(path)))
            direction = "minimize" if self.request.objective.better == "lower" else "maximize"
            study: optuna.Study = self.optuna.create_study(
                storage=storage,
                study_name="tune",
                direction=direction,
                load_if_exists=True,
                pruner=self.optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS),
            )
        identity = self.request.identity
        known = study.user_attrs.get("request")
        if known is None:
            study.set_user_attr("request", identity)
        elif different := [name for name, value in identity.items() if known.get(name) != value]:
            raise UsageError(
                f"{self.folder.path} holds a search with another {' and another '.join(different)}: name another "
                f"--out, or the study it was started with."
            )
        return study

    # --- what is done ---

    def take_up(self) -> None:
        """Start again what a killed search left unfinished, and begin a new search with the default recipe."""
        states = self.optuna.trial.TrialState
        left = [one for one in self.study.trials if one.state == states.RUNNING]
        for one in left:
            self._forget(one.number, one.params)
        if not self.study.trials:
            self._begin_with_default()
        elif left:
            self.note(f"{counted(len(left), 'trial')} of the interrupted search {'is' if len(left) == 1 else 'are'} "
                      f"taken up again.")  # fmt: skip

    def _begin_with_default(self) -> None:
        trial = trial_of(self.zoo, self.request.study, {})
        own = _own_values(self.zoo, self.request, trial)
        proposed = {one.axis: one.proposed(own.get(one.axis)) for one in self.request.space}
        if all(value is not None for value in proposed.values()):
            self.study.enqueue_trial(proposed)

    def _forget(self, number: int, params: Mapping[str, Any]) -> None:
        """Mark a trial whose process was lost, and run its values again under a new number."""
        self.study._storage.set_trial_user_attr(self.study.trials[number]._trial_id, "interrupted", True)
        self.study.tell(number, state=self.optuna.trial.TrialState.FAIL)
        if params:
            self.study.enqueue_trial(dict(params))

    @property
    def counted(self) -> list[optuna.trial.FrozenTrial]:
        """The trials without those that were interrupted and run again."""
        waiting = self.optuna.trial.TrialState.WAITING
        return [t for t in self.study.trials if not t.user_attrs.get("interrupted") and t.state != waiting]

    def run(self, trials: int, runner: TrialRunner) -> None:
        """Run trials until there are so many. Raises Interrupted after a signal, when all processes have ended."""

        def on_ended(trial: Trial, state: str) -> None:
            reason = self.folder.reason(trial) if state == "failed" else ""
            self._end(self.running.pop(trial.name), reason, bool(runner.signal))

        def on_progress(states: Mapping[str, str]) -> None:
            if time.monotonic() - self._looked < _LOOK_SECONDS:
                return
            self._looked = time.monotonic()
            for one in self.running.values():
                if self._report(one):
                    runner.stop(one.trial)

        while len(self.counted) < trials and not runner.signal:
            runner.run(self._next_trials(trials), on_ended, on_progress)
            for name, reason in runner.refused.items():
                self._tell(self.running.pop(name).asked, None, reason, "")
            runner.refused.clear()
        if runner.signal and len(self._finished()) < trials:
            raise Interrupted(
                runner.signal,
                f"Stopped by {signal.Signals(runner.signal).name} with {len(self._finished())} of "
                f"{counted(trials, 'trial')} done; everything is saved in {self.folder.path}. Continue with the same "
                f"command.",
            )

    def _next_trials(self, trials: int) -> Iterator[Trial]:
        """The trials to start, each when it can be started, until there are so many."""
        while len(self.counted) < trials:
            if trial := self._next():
                yield trial

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        return [one for one in self.counted if one.state.is_finished()]

    def _next(self) -> Trial | None:
        """Ask for values; their trial, or None if it is done or cannot be built."""
        index = len(self.counted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # seeded by the number of the trial: a search that goes on proposes what an undisturbed one would have
            self.study.sampler = self.optuna.samplers.TPESampler(
                seed=self.request.seed * 1_000_003 + index, n_startup_trials=_RANDOM_TRIALS, constant_liar=True
            )
            asked = self.study.ask({one.axis: one.distribution() for one in self.request.space})
        try:
            trial = trial_of(self.zoo, self.request.study, self._settings(asked.params))
            reason = misfit(self.zoo, trial)
        except GanzooError as error:
            self._tell(asked, None, str(error), "")
            return None
        asked.set_user_attr("run", trial.name)
        one = _Running(asked, trial)
        if trial.name in self.running:
            self._tell(asked, None, f"It is the same recipe as that of {trial.name}, which runs.", "")
            return None
        if reason or self.folder.state(trial) != "missing":
            self._end(one, reason or self.folder.reason(trial), False)
            return None
        self.running[trial.name] = one
        return trial

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Value]:
        return {one.axis: one.value(params[one.axis]) for one in self.request.space}

    def _report(self, one: _Running) -> bool:
        """Report the scores since the last call, in their order; True where the trial is to be stopped now."""
        if one.pruned:
            return False
        for line in self._lines(one.trial)[one.reported :]:
            one.reported += 1
            length = one.trial.recipe.length
            if length.count_of(line["step"], line["images"], line.get("epoch", 0.0)) >= length.count:
                break  # the score at the end is the value of the trial
            if not math.isfinite(line["value"]):
                continue
            one.asked.report(line["value"], line["step"])
            if one.asked.should_prune():
                one.pruned = True
                return True
        return False

    def _lines(self, trial: Trial) -> list[dict[str, Any]]:
        """The scores of a run that is trained, by which trials are compared."""
        path = self.folder.run(trial)
        with suppress(GanzooError, OSError, KeyError):
            if (path / "scores.jsonl").exists() and (path / "recipe.json").exists():
                lines = Run.open(path).lines("scores.jsonl")
                return [
                    line for line in lines if line.get("training") and line["score"] == self.request.objective.score
                ]
        return []

    def _end(self, one: _Running, reason: str, stopped: bool) -> None:
        """Record the outcome of a trial whose process has ended."""
        self._report(one)
        result, name = self.folder.result(one.trial), one.trial.name
        if one.pruned:
            step = self.study.trials[one.asked.number].last_step
            self._tell(one.asked, None, "", f"{name}: pruned at step {step}")
        elif result is not None:
            value = float(result.last[self.request.objective.score]["value"])
            self._tell(one.asked, value, "", f"{name}: {self.request.objective.score} {value:.4g}")
        elif reason or self.attempts.get(name, 0) + 1 >= _MOST_ATTEMPTS:
            reason = reason or f"Its process was ended from outside {_MOST_ATTEMPTS} times."
            if self.folder.state(one.trial) == "missing":
                self.folder.fail(one.trial, reason)
            self._tell(one.asked, None, reason, f"{name}: failed: {reason}")
        elif not stopped:
            self.attempts[name] = self.attempts.get(name, 0) + 1
            self._forget(one.asked.number, one.asked.params)
            self.note(f"{name}: its process was ended from outside; it runs again.")

    def _tell(self, asked: optuna.trial.Trial, value: float | None, reason: str, message: str) -> None:
        """Record a value, or that the trial was pruned. A trial that failed is recorded as pruned: as the worst."""
        state = self.optuna.trial.TrialState.PRUNED
        if reason:
            asked.set_user_attr("reason", reason)
        if value is None:
            self.study.tell(asked, state=state)
        else:
            self.study.tell(asked, value)
        numbers = [one.number for one in self.counted]
        self.note(f"Trial {numbers.index(asked.number)}: {message or 'failed: ' + reason}")
        self.write()

    # --- what was found ---

    def facts(self) -> list[dict[str, Any]]:
        """Number, state, value, values of the fields, run and reason of each trial, in their order."""
        states = self.optuna.trial.TrialState
        found = []
        for number, one in enumerate(self.counted):
            failed = "failed" if one.user_attrs.get("reason") else "pruned"
            state = {states.COMPLETE: "finished", states.RUNNING: "running"}.get(one.state, failed)
            params = {axis: value.label for axis, value in self._settings(one.params).items()} if one.params else {}
            found.append(
                {
                    "number": number,
                    "state": state,
                    "value": one.value if state == "finished" else None,
                    "params": params,
                    "run": one.user_attrs.get("run", ""),
                    "reason": one.user_attrs.get("reason", ""),
                }
            )
        return found

    def result(self) -> TuneResult:
        """The outcome. Raises GanzooError if no trial finished."""
        facts, objective = self.facts(), self.request.objective
        sign = 1 if objective.better == "lower" else -1
        finished = [one for one in facts if one["state"] == "finished"]
        if not finished:
            reasons = [one["reason"] for one in facts if one["reason"]]
            raise GanzooError(f"No trial has finished. {reasons[-1] if reasons else 'See the logs.'}")
        best = min(finished, key=lambda one: (sign * one["value"], one["number"]))
        recipe = trial_of(self.zoo, self.request.study, self._best_settings(best)).recipe
        return TuneResult(self.folder.path, facts, best, recipe, objective.score, objective.better)

    def _best_settings(self, best: Mapping[str, Any]) -> dict[str, Value]:
        return self._settings(self.counted[best["number"]].params)

    def check(self, result: TuneResult, how: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The default and the tuned recipe, trained and scored with seeds that the search has not seen."""
        if result.recipe == self.request.default.recipe:
            self.note("The default recipe was the best of all trials, so nothing is scored again.")
            return []
        seeds = ",".join(map(str, self.request.check_seeds))
        rows = {"default": {}, "tuned": self._best_settings(result.best)}
        trials = plan_study(self.zoo, replace(self.request.study, seeds=seeds, rows=rows))
        return benchmark(self.zoo, trials, self.folder.path / "check", **how)

    def write(self, check: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write tune.json: the trials so far, and the rows of the second scoring."""
        objective = self.request.objective
        facts = {"score": objective.score, "better": objective.better, "trials": self.facts(), "check": list(check)}
        write_atomically(self.folder.path / "tune.json", (json.dumps(facts, indent=1) + "\n").encode())


def _own_values(zoo: Zoo, request: TuneRequest, trial: Trial) -> dict[str, Any]:
    """The values that the default recipe has in the fields of the space."""
    axes = {one.axis: [one.example] for one in request.space}
    rows = {"default": {}, "example": {axis: values[0] for axis, values in axes.items()}}
    try:
        found = plan_study(zoo, replace(request.study, rows=rows))
    except UsageError:  # the example is the default
        return {one.axis: one.example.label for one in request.space}
    return dict(found[0].axes)


def import_optuna() -> Any:
    """The module optuna, which prints warnings only. Raises GanzooError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise GanzooError("`ganzoo tune` needs optuna: pip install 'torch-ganzoo[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
