"""Labels for predictions, from a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mlcluster.cli.row_files import read_rows
from mlcluster.data import TargetColumn
from mlcluster.errors import DataError
from mlcluster.serve.feedback import Feedback, FeedbackLog, feedback_of


def add_labels(path: Path, folder: Path, target: TargetColumn, *, model: str) -> int:
    """Adds the labels of a file with the columns `prediction_id` and `label` to the feedback in `folder`; how many.

    Raises:
        DataError: the file cannot be read, a column is missing, or a row is wrong; none of them is added.
    """
    read = read_rows(path)
    rows = read if isinstance(read, list) else read.to_pylist()
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    items: list[Feedback] = []
    for position, row in enumerate(rows):
        for name in ("prediction_id", "label"):
            if row.get(name) is None:
                raise DataError(f"{path}, row {position} has no {name}; give prediction_id and label.")
        try:
            items.append(feedback_of(str(row["prediction_id"]), row["label"], target, model=model, now=now))
        except DataError as error:
            raise DataError(f"{path}, row {position}: {error}") from error
    FeedbackLog(folder).add(items)
    return len(items)
