"""`tune --explain`: what the journal of the newest run's study tells. Nothing is started and nothing is spent."""

from __future__ import annotations

import click

from mlcluster.cli.options import print_json
from mlcluster.cli.project import Project
from mlcluster.cli.story_text import study_text, trial_text
from mlcluster.cli.tune_stage import read_selection, trial_of
from mlcluster.tune import trial_to_json

WHOLE_STUDY = ""
"""What `--explain` asks for without a trial."""


def explain(project: Project, trial_id: str, *, as_json: bool) -> None:
    """Prints the story of one trial of the newest study, or of all of it."""
    run = project.workspace.latest_run()
    story = project.explain()
    if trial_id == WHOLE_STUDY:
        selection = read_selection(run)
        if as_json:
            print_json({**story.to_json(), "selection": None if selection is None else selection.to_json()})
        else:
            click.echo(study_text(story, selection))
        return
    trial = trial_of(story, trial_id)
    if as_json:
        print_json({**trial_to_json(trial), "study_id": story.study_id, "metric": story.metric})
    else:
        click.echo(trial_text(trial, story))
