"""`predict`: answers of the deployed model to a file of rows, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.cli.row_files import read_rows
from mlcluster.errors import SpecError


@click.command()
@project_options
@json_option
@click.argument("rows")
@click.option("--out", type=click.Path(path_type=Path), help="Write a Parquet file, or a folder of them; for any size.")
@click.option("--keep", help="With --out: the columns to write before the answers, with commas; all by default.")
def predict(
    config: Path, overrides: tuple[str, ...], as_json: bool, rows: str, out: Path | None, keep: str | None
) -> None:
    """Answer the rows of ROWS (.parquet, .csv, or .json with an object, a list of objects, or objects by line).

    With --out, ROWS may also be a folder, a glob or a URI.
    """
    project = load_project(config, overrides, quiet=False)
    if out is not None:
        kept = None if keep is None else [name for name in keep.split(",") if name]
        num_rows = project.score(rows, out, kept=kept)
        if as_json:
            print_json({"rows": num_rows, "out": str(out)})
        return
    if keep is not None:
        raise SpecError("--keep = what stands before the answers in a file; name the file with --out.")
    predictor = project.deployed()
    answers = project.predict(read_rows(Path(rows)))
    output: list[dict[str, Any]] = []
    for label, scores in zip(answers.labels, answers.scores.tolist(), strict=True):
        if predictor.classes:
            named = {str(name): score for name, score in zip(predictor.classes, scores, strict=True)}
            output.append({"label": label, "probabilities": named})
        else:
            output.append({"value": scores})
    if as_json:
        print_json({"model": predictor.name, "version": predictor.version, "predictions": output})
        return
    for answer in output:
        click.echo(json.dumps(answer))
