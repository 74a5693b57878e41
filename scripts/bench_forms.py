"""What a request takes by the form that its numbers come in: from its body to its answer, in one process, no socket.

    .venv/bin/python scripts/bench_forms.py [--models mlp,wide] [--rows 1,32] [--seconds 0.5] [--repeats 9] [--seed 0]

`mlp` has ten columns, `wide` 54. *bare* reads the same bytes with orjson and numpy and asks ONNX Runtime, and checks,
names and counts nothing; *ours* is the short way without records. Each is held against the batch path first. Both, and
all forms, take turns within each repeat; the table shows medians of CPU-microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench_serve import some_of, whole_numbers
from serve_bench.answering import ByHand
from serve_bench.models import Model, train
from serve_bench.requests import Question, check, question

from mlcluster.serve import NoRecords, Predictor, build_app

FORMS = ("json", "binary", "matrix")
_LENGTH = "inference-header-content-length"
Answer = Callable[[], tuple[bytes, int | None]]


def main() -> int:
    given = arguments()
    print("| model | rows | form | bytes | bare, CPU-µs | ours | of the JSON form |")
    print("|---|---|---|---|---|---|---|")
    for name in given.models:
        model = train(name, seed=given.seed)
        for num_rows in given.rows:
            for line in compared(model, num_rows, given):
                print(line)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=some_of(("mlp", "wide")), default="mlp,wide")
    parser.add_argument("--rows", type=whole_numbers, default="1,32")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def compared(model: Model, num_rows: int, given: argparse.Namespace) -> list[str]:
    """A line of the table for each form."""
    asked = {form: question(model, form, num_rows) for form in FORMS}
    answers = {
        (form, who): make(model, one) for form, one in asked.items() for who, make in (("bare", bare), ("ours", ours))
    }
    for (form, _), answer in answers.items():
        content, length = answer()
        check(asked[form], {} if length is None else {_LENGTH: str(length)}, content)
    taken: dict[Any, list[float]] = {key: [] for key in answers}
    for _ in range(given.repeats):
        for key, answer in answers.items():
            taken[key].append(cpu_us(answer, given.seconds))
    medians = {key: statistics.median(values) for key, values in taken.items()}
    return [
        f"| {model.name} | {num_rows} | {form} | {len(asked[form].body)} | {medians[form, 'bare']:.0f} "
        f"| {medians[form, 'ours']:.0f} | {medians[form, 'ours'] / medians['json', 'ours']:.2f} |"
        for form in FORMS
    ]


def bare(model: Model, asked: Question) -> Answer:
    by_hand, length = ByHand(model.bundle), asked.headers.get(_LENGTH)
    return lambda: by_hand.infer(asked.body, length)


def ours(model: Model, asked: Question) -> Answer:
    answers = build_app(Predictor(model.bundle), record=NoRecords()).answers
    headers = {name.encode(): value.encode() for name, value in asked.headers.items()}

    def answer() -> tuple[bytes, int | None]:
        found = answers.answer(asked.path, headers, asked.body, time.perf_counter())
        assert found is not None, "it did not take the short way"
        length = dict(found.headers).get(_LENGTH.encode())
        return found.content, None if length is None else int(length)

    return answer


def cpu_us(answer: Answer, seconds: float) -> float:
    """Of one request, in the mean over that time."""
    count, started, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        for _ in range(50):
            answer()
        count += 50
    return (time.process_time() - cpu) / count * 1e6


if __name__ == "__main__":
    raise SystemExit(main())
