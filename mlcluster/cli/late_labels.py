"""Labels for predictions, from a file."""

from __future__ import annotations

from pathlib import Path

from mlcluster.cli.row_files import read_rows
from mlcluster.errors import DataError
from mlcluster.serve.feedback import Feedback, FeedbackLog, TargetOf, feedback_of, time_now


def add_labels(path: Path, folder: Path, target_of: TargetOf) -> int:
    """Adds the labels of a file with the columns `prediction_id` and `label` to the feedback in `folder`; how many.

    Raises:
        DataError: the file cannot be read, a column is missing, or a row is wrong; none of them is added.
    """
    read = read_rows(path)
    rows = read if isinstance(read, list) else read.to_pylist()
    now = time_now()
    items: list[Feedback] = []
    for position, row in enumerate(rows):
        for name in ("prediction_id", "label"):
            if row.get(name) is None:
                raise DataError(f"{path}, row {position} has no {name}; give prediction_id and label.")
        try:
            items.append(feedback_of(str(row["prediction_id"]), row["label"], target_of, now=now))
        except DataError as error:
            raise DataError(f"{path}, row {position}: {error}") from error
    FeedbackLog(folder).add(items)
    return len(items)
