"""ganzoo replay."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli.options import (
    changed_code_option,
    changed_images_option,
    data_dir_option,
    device_option,
    json_option,
    run_argument,
)
from ganzoo.cli.output import log, print_json, print_table


@click.command()
@run_argument
@click.option("--step", type=click.IntRange(1), required=True, metavar="N", help="Which step, from 1.")
@click.option("--anomaly", is_flag=True, help="Let torch name the operation whose backward gives NaN.")
@changed_code_option
@changed_images_option
@device_option(None)
@data_dir_option
@json_option
def replay(
    run: Path,
    step: int,
    anomaly: bool,
    changed_code: bool,
    changed_images: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Play one step of RUN again, exactly as it was, and look at every cost, gradient and weight.

    \b
      ganzoo replay runs/a --step 1234
      ganzoo replay runs/a --step 1234 --anomaly     after a run has diverged; see RUN/diagnosis.json

    It is played from the newest checkpoint before that step, or from the beginning. Nothing is written to RUN.
    """
    from ganzoo.registry.zoo import zoo
    from ganzoo.training.environment import describe_changes
    from ganzoo.training.replay import replay as play_again

    found = play_again(run, zoo(), step, device, anomaly, changed_code, changed_images)
    if as_json:
        print_json(found)
        return
    for what in describe_changes(found["not_as_it_was"]):
        log(f"Replayed with {what}: not the same bit for bit.")
    log(f"Step {step} of {run}, {found['images']} images seen, played from step {found['played_from']}.")
    if "anomaly" in found:
        click.echo(found["anomaly"])
        return
    print_table(
        ["loss", "player", "cost"], [[cost["name"], cost["what"], str(cost["value"])] for cost in found["costs"]]
    )
    rows = [[name, str(found["gradients"][name]), str(found["weights"][name])] for name in found["weights"]]
    print_table(["parameter", "norm of its gradient", "norm of its weights, afterwards"], rows)
    bad = found["first_bad"]
    click.echo(
        f"First not finite: {bad['kind']} of {bad['name']} ({bad['what']})" if bad else "All numbers are finite."
    )
    if found["same"] is not None:
        click.echo(
            f"The state is {'that' if found['same'] else 'NOT that'} of the checkpoint of this step, bit for bit."
        )
