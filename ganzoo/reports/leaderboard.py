"""The leaderboard: groups of runs that differ in their seed only, and their scores in columns of one measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ganzoo.experiments.axes import VERSIONS, field_of, flat
from ganzoo.experiments.table import card_of_seeds, interval, spread
from ganzoo.reports.compare import difference
from ganzoo.reports.model import Cell, Column, Failure, Group, RunRecord
from ganzoo.results.report.tables import axis_text
from ganzoo.storage.files import digest_of

#: with more groups in a column than this, the page has no differences between all pairs of them
MOST_COMPARED = 40


def columns_of(runs: Sequence[RunRecord], reals: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[Column]:
    """A column for each dataset, score and card digest: values that were measured alike, and only these.

    `reals` holds the scores of real images by (score, digest).
    """
    found: dict[tuple[str, str, str], Column] = {}
    for run in runs:
        for one in run.measurements:
            key = (run.dataset, one.score, one.digest)
            if key not in found:
                real = reals.get(key[1:], {})
                found[key] = Column(
                    id="c" + digest_of({"column": key})[:12],
                    dataset=run.dataset,
                    score=one.score,
                    better=one.better,
                    digest=one.digest,
                    label=one.score,
                    card=card_of_seeds(one.card),
                    floor=real.get("floor"),
                    floor_images=real.get("floor_images"),
                    scale=list(real.get("scale", [])),
                )
    counts: dict[tuple[str, str], int] = {}
    for dataset, score, _ in found:
        counts[dataset, score] = counts.get((dataset, score), 0) + 1
    for column in found.values():
        if counts[column.dataset, column.score] > 1:
            fakes = column.card.get("measure", {}).get("fakes")
            count = f"{fakes:,} fakes, " if isinstance(fakes, int) else ""
            column.label = f"{column.score} ({count}card {column.digest[:6]})"
    return list(found.values())


def groups_of(runs: Sequence[RunRecord], failures: Sequence[Failure], columns: Sequence[Column]) -> list[Group]:
    """The groups in the order of their first run, with their cells. A failed trial belongs to the group of its recipe.

    A trial that failed and left a run is counted once, as failed: it did not finish.
    """
    failed_paths = {failure.path for failure in failures}
    members: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in runs:
        members.setdefault(_key(run), []).append(run)
    failed: dict[tuple[str, ...], list[Failure]] = {}
    for failure in failures:
        if failure.recipe_digest:
            failed.setdefault(_key(failure), []).append(failure)
    groups = []
    for key in dict.fromkeys([*members, *failed]):
        of_group = sorted(members.get(key, []), key=lambda run: run.seed)
        lost = failed.get(key, [])
        diverged = [run for run in of_group if run.state == "diverged" and run.path not in failed_paths]
        reasons = [{"seed": one.seed, "reason": one.reason} for one in lost]
        reasons += [{"seed": run.seed, "reason": (run.notes or ["It diverged."])[-1]} for run in diverged]
        counted = [run for run in of_group if run.path not in failed_paths]
        place = (of_group or lost)[0]
        groups.append(
            Group(
                id="g" + digest_of({"group": key})[:12],
                row=place.row,
                axes={name: axis_text(value) for name, value in place.axes.items()},
                label=key[0],
                architecture=key[0],
                dataset=key[1],
                runs=[run.id for run in of_group],
                seeds=[run.seed for run in of_group],
                failures=reasons,
                images=max((run.images for run in of_group), default=0),
                cells=[cell for column in columns if (cell := _cell(column, key[1], counted))],
            )
        )
    _label(groups, {run.id: run for run in runs})
    _mark_winners(groups, columns)
    return groups


def _key(one: RunRecord | Failure) -> tuple[str, ...]:
    """What the runs of a group have in common. Versions that a merge has told apart are among the axes."""
    versions = [f"{name} {one.axes[name]}" for name in VERSIONS if name in one.axes]
    return (one.architecture, one.dataset, one.recipe_digest, *versions)


def _cell(column: Column, dataset: str, runs: Sequence[RunRecord]) -> Cell | None:
    found = [
        (run, one)
        for run in runs
        for one in run.measurements
        if (dataset, one.score, one.digest) == (column.dataset, column.score, column.digest)
    ]
    if not found:
        return None
    last = spread([one.last for _, one in found]) | {"images": [one.last_images for _, one in found]}
    best = spread([one.best for _, one in found]) | {"images": [one.best_images for _, one in found]}
    return Cell(column.id, [run.seed for run, _ in found], last, best, interval(last["values"]))


def _mark_winners(groups: Sequence[Group], columns: Sequence[Column]) -> None:
    """Mark the cell of each column that is better than all others by more than the spread, if there is one."""
    for column in columns:
        cells = [cell for group in groups for cell in group.cells if cell.column == column.id]
        sign = 1 if column.better == "lower" else -1
        ranked = sorted(cells, key=lambda cell: sign * cell.last["mean"])
        if len(ranked) > 1:
            values = [cell.last["values"] for cell in ranked]
            others = [difference(values[0], other, column.better) for other in values[1:]]
            ranked[0].wins = all(one["winner"] == "first" for one in others)


def differences_of(groups: Sequence[Group], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """`compare.difference` of every two groups of a column, where a column has not too many of them."""
    found = []
    for column in columns:
        cells = [(group.id, cell) for group in groups for cell in group.cells if cell.column == column.id]
        if len(cells) > MOST_COMPARED:
            continue
        for place, (one, first) in enumerate(cells):
            for other, second in cells[place + 1 :]:
                facts = difference(first.last["values"], second.last["values"], column.better)
                found.append({"column": column.id, "first": one, "second": other, **facts})
    return found


# --- labels of groups -------------------------------------------------------------------------------------------------


def _label(groups: Sequence[Group], runs: Mapping[str, RunRecord]) -> None:
    """Give groups labels that say what is special about their recipe: `dcgan, width=16, 40 epochs`.

    These are options of the architecture that are not its defaults, and what groups with the same architecture and
    dataset differ in.
    """
    alike: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        alike.setdefault((group.architecture, group.dataset), []).append(group)
    for members in alike.values():
        recipes = [flat(runs[group.runs[0]].recipe) if group.runs else {} for group in members]
        names = [name for name in dict.fromkeys(name for one in recipes for name in one) if _differs(name, recipes)]
        # where a part is another one, its options say nothing more
        names = [name for name in names if name.startswith("architecture.") or name.partition(".")[0] not in names
                 or "." not in name]  # fmt: skip
        for place, (group, recipe) in enumerate(zip(members, recipes, strict=True), start=1):
            group.name = group.architecture
            if not recipe:
                group.label += ", no run left" if len(members) > 1 else ""
                continue
            changes = runs[group.runs[0]].changes or []
            own = [one["name"] for one in changes if one["name"].startswith("architecture.")]
            special = sorted({*names, *own}, key=_rank)
            words = [group.row] if group.row else []
            words += [_words(name, recipe.get(name, "-")) for name in special[: _LABEL_WORDS - len(words)]]
            words += [f"{name} {group.axes[name]}" for name in VERSIONS if name in group.axes]
            more = f", variant {place}" if len(special) > _LABEL_WORDS and len(members) > 1 else ""
            group.label = ", ".join([group.architecture, *words]) + more
            others = [name for name in special if not _is_axis(name, group.axes)]
            others = [] if group.row else others
            group.name = ", ".join([group.architecture, *(_words(name, recipe.get(name, "-")) for name in others)])


def _is_axis(name: str, axes: Iterable[str]) -> bool:
    """Whether a field of a flat recipe is an axis, or an option of a part that is one."""
    fields = [field_of(axis) for axis in axes]
    return any(name == one or name.startswith(f"{one}.") for one in fields)


#: a label names so many differences of the recipes
_LABEL_WORDS = 3


def _rank(name: str) -> tuple[int, str]:
    """The order in which differences are named: options of the architecture first, then what is often changed."""
    first = ("losses", "length", "batch_size", "generator_optimizer", "ema_half_life")
    if name.startswith("architecture."):
        return (0, name)
    return (1 + first.index(name), "") if name in first else (9, name)


def _words(name: str, value: str) -> str:
    """`width=16`, `60 epochs`, `loss hinge`."""
    if name == "length":
        return value
    name = name.removeprefix("architecture.")
    short = {"generator_optimizer": "G", "discriminator_optimizer": "D"}
    field, dot, option = name.partition(".")
    return f"{short.get(field, field)}{dot}{option}={value}"


def _differs(name: str, recipes: Iterable[Mapping[str, str]]) -> bool:
    return len({recipe.get(name) for recipe in recipes if recipe}) > 1
