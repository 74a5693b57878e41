"""`predict`: answers of the deployed model to a file of rows, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.options import json_option, load_project, print_json, project_options
from mlcluster.data import rows_to_table
from mlcluster.errors import DataError, SpecError


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
    answers = project.predict(_read_rows(Path(rows), predictor.schema))
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


def _read_rows(path: Path, schema: Any) -> Any:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path, partitioning=None)
        if path.suffix == ".csv":
            from pyarrow import csv

            return csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))
        if path.suffix in (".json", ".jsonl"):
            return _json_table(path.read_text(encoding="utf-8"), schema)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}); give a file of rows.") from error
    raise DataError(f"{path} = {path.suffix or 'no suffix'} is no format that is read; use .parquet, .csv or .json.")


def _json_table(text: str, schema: Any) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = [json.loads(line) for line in text.splitlines() if line.strip()]
    rows = [value] if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError("the JSON holds no rows; give an object, a list of objects, or one object a line.")
    return rows_to_table(rows, schema)
