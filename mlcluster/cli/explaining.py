"""`tune --explain`: what the journal of the newest run's study tells. Nothing is started and nothing is spent."""

from __future__ import annotations

import difflib

import click

from mlcluster.cli.options import print_json
from mlcluster.cli.project import Project
from mlcluster.cli.story_text import study_text, trial_text
from mlcluster.cli.tune_stage import read_selection, read_story
from mlcluster.errors import SpecError
from mlcluster.tune import StudyStory, TrialStory, trial_to_json

WHOLE_STUDY = ""
"""What `--explain` asks for without a trial."""


def explain(project: Project, trial_id: str, *, as_json: bool) -> None:
    """Prints the story of one trial of the newest study, or of all of it."""
    run = project.workspace.latest_run()
    story = read_story(run)
    if trial_id == WHOLE_STUDY:
        selection = read_selection(run)
        if as_json:
            print_json({**story.to_json(), "selection": None if selection is None else selection.to_json()})
        else:
            click.echo(study_text(story, selection))
        return
    trial = _trial(story, trial_id)
    if as_json:
        print_json({**trial_to_json(trial), "study_id": story.study_id, "metric": story.metric})
    else:
        click.echo(trial_text(trial, story))


def _trial(story: StudyStory, trial_id: str) -> TrialStory:
    by_id = {trial.trial_id: trial for trial in story.trials}
    if trial_id in by_id:
        return by_id[trial_id]
    near = difflib.get_close_matches(trial_id, by_id, n=3, cutoff=0.5)
    known = f"it has {min(by_id)} to {max(by_id)}" if by_id else "it has none yet"
    fix = f"did you mean {' or '.join(near)}?" if near else "see them all with `mlcluster tune --explain`."
    raise SpecError(f"--explain = {trial_id!r} is no trial of study {story.study_id}, for {known}; {fix}")
