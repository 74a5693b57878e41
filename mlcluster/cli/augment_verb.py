"""`data augment`: what is added to the train split, where it is thin, and with --ablation, whether that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlcluster.cli.augmenting_text import ablation_text, overview_text
from mlcluster.cli.options import json_option, load_data, print_json, project_options
from mlcluster.cli.run_options import RunOptions
from mlcluster.spec import FAMILIES


@click.command()
@project_options
@json_option
@click.option("--ablation", "is_ablation", is_flag=True, help="Train with and without, and say what differs.")
@click.option("--family", type=click.Choice(FAMILIES), default="mlp", show_default=True, help="That --ablation trains.")
@click.option("--seeds", "num_seeds", type=click.IntRange(min=2), default=5, show_default=True, help="Of --ablation.")
@click.option("--train-rows", type=click.IntRange(min=2), help="Of each training of --ablation; all by default.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first, or the only one.")
def augment(config: Path, overrides: tuple[str, ...], as_json: bool, is_ablation: bool, **asked: Any) -> None:
    """Rows that augmentation adds to the train split, and pairs of columns that too few rows cover."""
    project = load_data(config, overrides, options=RunOptions(seed=asked["seed"]))
    with project.augmenting() as augmenting:
        told = augmenting.overview()
        if is_ablation:
            told["ablation"] = augmenting.ablation(
                asked["family"],
                num_seeds=asked["num_seeds"],
                train_rows=asked["train_rows"],
                say=lambda line: click.echo(line, err=True),
            )
    if as_json:
        print_json(told)
        return
    click.echo(overview_text(told))
    if is_ablation:
        click.echo(ablation_text(told["ablation"]))
