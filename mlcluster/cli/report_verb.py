"""`report`: the newest study as one page, written anew."""

from __future__ import annotations

from pathlib import Path

import click

from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.cli.reporting import make_report
from mlcluster.cli.workspace import write_whole
from mlcluster.errors import SpecError
from mlcluster.tune import StudyReport, render_report
from mlcluster.tune.report_text import gain_text, score_text, seconds_text, usd_text


@click.command()
@project_options
@json_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page to this file, not to report.html in the run's folder.",
)
def report(config: Path, overrides: tuple[str, ...], as_json: bool, out: Path | None) -> None:
    """Write the newest study's report: one page of HTML that needs no other file. Nothing is started."""
    project = load_project(config, overrides)
    run = project.workspace.latest_run()
    found = make_report(run, cap_usd=project.spec.tune.budget.usd)
    if out is None:
        write_whole(run.report, render_report(found))
    else:
        _write(out, render_report(found))
    path = run.report if out is None else out
    click.echo(f"wrote {path}", err=True)
    if as_json:
        print_json({"run": run.run_id, "report": str(path), **found.to_json()})
    else:
        click.echo(_summary(found))


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SpecError(
            f"--out = {path} cannot be written ({error.strerror}); give a file in a folder that exists."
        ) from error


def _summary(report: StudyReport) -> str:
    story, winner, last = report.story, report.winner, report.last_points
    lines = [
        f"dollars   {usd_text(story.usd)} of {usd_text(report.cap_usd)}, {seconds_text(story.seconds)}, "
        f"{len(story.trials)} trials"
    ]
    if winner is not None:
        lines.insert(0, f"winner    {winner.trial_id} {winner.family}, {report.metric} {score_text(winner.value)}")
    if last is not None:
        gain = gain_text(last.gain, report.metric, is_more_better=report.is_more_better)
        lines.append(f"last      {gain} cost {usd_text(last.usd)}")
    return "\n".join(lines)
