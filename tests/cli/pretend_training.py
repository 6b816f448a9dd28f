"""A process that writes a run as a training does, without training: pretend_training.py RUN SECONDS [--die].

RUN is a finished run. Its files are taken back, and written again piece by piece while its lock is held.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from ganzoo.storage.lines import format_line, read_lines
from ganzoo.storage.lock import Lock


def main() -> None:
    run, seconds = Path(sys.argv[1]), float(sys.argv[2])
    aside = run.with_name(f"{run.name}-aside")
    stats, scores = read_lines(run / "stats.jsonl"), read_lines(run / "scores.jsonl")
    shutil.move(run / "samples", aside)
    (run / "samples").mkdir()
    for name in ("stats.jsonl", "scores.jsonl"):
        (run / name).unlink(missing_ok=True)
    lock = Lock(run)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    for line in stats:
        time.sleep(seconds / len(stats))
        for picture in sorted(aside.glob("*.png")):
            if int(picture.stem) <= line["images"]:
                shutil.move(picture, run / "samples" / picture.name)
        with open(run / "stats.jsonl", "a") as file:
            file.write(format_line(line))
        with open(run / "scores.jsonl", "a") as file:
            file.write("".join(format_line(score) for score in scores if score["step"] == line["step"]))
        if "--die" in sys.argv and line is stats[len(stats) // 2]:
            os._exit(1)
    lock.release()


if __name__ == "__main__":
    main()
