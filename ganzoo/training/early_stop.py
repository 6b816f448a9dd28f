"""Early stopping: the training ends where a score has not improved for a number of scorings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ganzoo.contract.recipe import parse_early_stop
from ganzoo.storage.run import Run


class EarlyStop:
    """Whether a run has to stop. It depends on scores.jsonl alone, so a resumed run stops where any other would."""

    def __init__(self, run: Run, rule: str) -> None:
        self._run = run
        self.score, self.patience = parse_early_stop(rule)

    def __call__(self, lines: Sequence[dict[str, Any]] = ()) -> bool:
        """Whether the run stops after the scores of scores.jsonl and these `lines`, which may be in it already."""
        return self._without_improvement(lines)[0] >= self.patience

    def _without_improvement(self, lines: Sequence[dict[str, Any]] = ()) -> tuple[int, dict[str, Any]]:
        """The number of scorings since the best one, and the line of the best one.

        Scores that were computed only because a run ended there do not count: a longer run does not compute them.
        Only values of the same measurement as the last one are compared, the first of equals is the best.
        """
        steps = {line["step"] for line in lines}
        known = [line for line in self._run.lines("scores.jsonl") if line.get("training") and line["step"] not in steps]
        mine = [line for line in [*known, *lines] if line["score"] == self.score and not line.get("partial")]
        alike = [line for line in mine if line["card"]["digest"] == mine[-1]["card"]["digest"]]
        if not alike:
            return 0, {}
        sign = 1 if alike[0]["better"] == "lower" else -1
        best = min(range(len(alike)), key=lambda index: sign * alike[index]["value"])
        return len(alike) - 1 - best, alike[best]

    def describe(self, step: int) -> str:
        """One sentence: where the run has stopped, and why."""
        count, best = self._without_improvement()
        return (
            f"Stopped early after step {step}: {self.score} has not improved in {count} scorings on "
            f"{best['value']:.4f} (step {best['step']}). To go on, resume with --early-stop off, or with more patience."
        )
