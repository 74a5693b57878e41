"""Recorded learning curves, on which search policies are compared without training.

A benchmark is a folder with a `benchmark.json` and either a surrogate (one ONNX model of all its tasks) or a table of
curves a task. Whatever the kind, a task answers with the same thing: the losses of a configuration after each epoch,
lower is better, and the seconds that it took to get there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from mlcluster.errors import DataError, SpecError
from mlcluster.spec import Configuration, FloatDomain, IntDomain, SearchSpace

Floats = npt.NDArray[np.float64]

SHORTEST_TRAINING_SECONDS = 1e-3
"""A surrogate may extrapolate to no time or less; nothing trains for nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """What a training reports after each epoch, both of shape (max_epochs,)."""

    losses: Floats
    """Lower is better; infinite where the metric was not a number."""
    seconds: Floats
    """From the start of the training to the end of the epoch; never falls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Losses that the best 5 %, 1 % and 0.1 % of random configurations have after their last epoch."""

    q95: float
    q99: float
    q999: float


class CurveSource(Protocol):
    """Where the curves of one task come from."""

    def curve(self, configuration: Configuration) -> Curve:
        """The whole curve of a configuration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkTask:
    """One data set of a benchmark, with what a search on it is measured by."""

    name: str
    space: SearchSpace
    max_epochs: int
    mean_cost_seconds: float
    """C: one whole training of a random configuration, on average."""
    thresholds: Thresholds
    source: CurveSource

    def curve(self, configuration: Configuration) -> Curve:
        """The recorded curve of `configuration`, or of the one that was recorded nearest to it."""
        return self.source.curve(configuration)


class Benchmark:
    """A folder of tasks; see `load_benchmark`. A task's curves are read when it is first asked for."""

    def __init__(self, folder: Path, document: _SurrogateDocument | _TableDocument) -> None:
        self._folder = folder
        self._document = document
        self._tasks: dict[str, BenchmarkTask] = {}
        self._surrogate: Any = None
        self.name = document.name
        self.metric = document.metric
        self.direction = document.direction
        self.max_epochs = document.max_epochs
        self.space: SearchSpace = {axis.name: axis.domain() for axis in document.space}

    @property
    def task_names(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self._document.tasks)

    def task(self, name: str) -> BenchmarkTask:
        """The task of that name.

        Raises:
            SpecError: there is none; it names those that there are.
            DataError: its curves are missing or malformed.
        """
        if name not in self._document.tasks:
            raise SpecError(
                f"task = {name!r} is not in the benchmark {self.name}; take one of {', '.join(self.task_names)}."
            )
        if name not in self._tasks:
            self._tasks[name] = self._open(name)
        return self._tasks[name]

    def _open(self, name: str) -> BenchmarkTask:
        document = self._document
        described = document.tasks[name]
        sign = document.sign
        source: CurveSource
        if isinstance(document, _SurrogateDocument):
            self._surrogate = self._surrogate or _open_surrogate(self._folder / "surrogate.onnx")
            source = _SurrogateCurves(self._surrogate, document, document.tasks[name].code)
        else:
            source = _read_table(self._folder / "curves", name, document, self.space)
        return BenchmarkTask(
            name=name,
            space=self.space,
            max_epochs=document.max_epochs,
            mean_cost_seconds=described.mean_cost_seconds,
            thresholds=Thresholds(q95=sign * described.q95, q99=sign * described.q99, q999=sign * described.q999),
            source=source,
        )


def load_benchmark(folder: Path) -> Benchmark:
    """The benchmark in a folder.

    Raises:
        SpecError: there is no such folder, or no `benchmark.json` in it.
        DataError: the file is not of the documented form; it names each bad key.
    """
    file = folder / "benchmark.json"
    if not file.is_file():
        nearby = sorted(path.parent.name for path in folder.parent.glob("*/benchmark.json"))
        there = f"beside it there are {', '.join(nearby)}" if nearby else "give a folder that holds benchmark.json"
        raise SpecError(f"benchmark = {folder} has no benchmark.json; {there}.")
    try:
        return Benchmark(folder, _DOCUMENT.validate_json(file.read_bytes()))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in found['loc']) or 'the file'}: {found['msg']}"
            for found in error.errors(include_url=False)
        )
        raise DataError(f"{file}: {problems}; mend these keys.") from error


class _Document(BaseModel):
    # A benchmark may carry notes of its own (origin, how time was measured), which concern no loader.
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Axis(_Document):
    name: str
    type: Literal["int", "float"]
    low: float
    high: float
    log: bool = False

    def domain(self) -> IntDomain | FloatDomain:
        """The axis as a domain; no default was recorded, so the middle stands for it."""
        if self.type == "int":
            low, high = int(self.low), int(self.high)
            whole = IntDomain(low=low, high=high, default=low, log=self.log)
            return IntDomain(low=low, high=high, default=whole.at(0.5), log=self.log)
        real = FloatDomain(low=self.low, high=self.high, default=self.low, log=self.log)
        return FloatDomain(low=self.low, high=self.high, default=real.at(0.5), log=self.log)


class _Task(_Document):
    mean_cost_seconds: PositiveFloat
    q95: float
    q99: float
    q999: float


class _CodedTask(_Task):
    code: int


class _AnyDocument(_Document):
    name: str
    metric: str
    direction: Literal["minimize", "maximize"]
    max_epochs: PositiveInt
    space: Annotated[list[_Axis], Field(min_length=1)]

    @property
    def sign(self) -> float:
        """What turns the metric into a loss."""
        return -1.0 if self.direction == "maximize" else 1.0


class _SurrogateDocument(_AnyDocument):
    kind: Literal["surrogate"]
    first_raw_epoch: int = 1
    outputs: list[str]
    tasks: Annotated[dict[str, _CodedTask], Field(min_length=1)]


class _TableDocument(_AnyDocument):
    kind: Literal["table"]
    tasks: Annotated[dict[str, _Task], Field(min_length=1)]


_DOCUMENT: TypeAdapter[_SurrogateDocument | _TableDocument] = TypeAdapter(
    Annotated[_SurrogateDocument | _TableDocument, Field(discriminator="kind")]
)


class _SurrogateCurves:
    """Curves of one task from the model of all tasks: one call answers for all epochs."""

    def __init__(self, session: Any, document: _SurrogateDocument, code: int) -> None:
        epochs = np.arange(document.max_epochs) + document.first_raw_epoch
        self._session = session
        self._names = [axis.name for axis in document.space]
        self._sign = document.sign
        self._seconds_column = _column(document, "seconds_cumulative")
        self._metric_column = _column(document, document.metric)
        self._codes = np.full((document.max_epochs, 1), code, np.int32)
        self._inputs = np.empty((document.max_epochs, 1 + len(self._names)), np.float32)
        self._inputs[:, 0] = epochs

    def curve(self, configuration: Configuration) -> Curve:
        self._inputs[:, 1:] = [configuration[name] for name in self._names]
        (answer,) = self._session.run(None, {"x_cat": self._codes, "x_cont": self._inputs})
        raw = np.asarray(answer, float)
        return _as_curve(self._sign * raw[:, self._metric_column], raw[:, self._seconds_column])


class _TableCurves:
    """Curves of the configurations that were recorded; a proposal gets those of its nearest, in the unit cube."""

    def __init__(self, space: SearchSpace, units: Floats, curves: list[Curve]) -> None:
        self._space = space
        self._units = units
        self._curves = curves

    def curve(self, configuration: Configuration) -> Curve:
        proposed = _units_of(self._space, configuration)
        return self._curves[int(np.square(self._units - proposed).sum(axis=1).argmin())]


def _units_of(space: SearchSpace, configuration: Mapping[str, Any]) -> list[float]:
    return [domain.unit(configuration[name]) for name, domain in space.items()]


def _as_curve(losses: Floats, seconds: Floats) -> Curve:
    # The running maximum: a surrogate's seconds are not exactly monotone.
    elapsed = np.maximum.accumulate(np.maximum(seconds, SHORTEST_TRAINING_SECONDS))
    return Curve(losses=np.where(np.isfinite(losses), losses, np.inf), seconds=elapsed)


def _column(document: _SurrogateDocument, name: str) -> int:
    if name not in document.outputs:
        raise DataError(f"benchmark.json: outputs = {document.outputs} has no {name}; name the model's columns there.")
    return document.outputs.index(name)


def _open_surrogate(file: Path) -> Any:
    import onnxruntime

    if not file.is_file():
        raise DataError(f"{file} is missing; a benchmark of kind surrogate needs it.")
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen classes of its own, which share no base but this one
        raise DataError(f"{file} cannot be read as an ONNX model: {error}.") from error


def _read_table(folder: Path, task: str, document: _TableDocument, space: SearchSpace) -> _TableCurves:
    file = folder / f"{task}.parquet"
    curves = _read_columns(file, ["config_id", "epoch", document.metric, "seconds_cumulative"])
    configs = _read_columns(folder / f"{task}.configs.parquet", ["config_id", *space])
    ids = configs["config_id"]
    order = np.lexsort((curves["epoch"], curves["config_id"]))
    expected = np.tile(np.arange(1, document.max_epochs + 1), len(ids))
    if not np.array_equal(curves["epoch"][order], expected) or not np.array_equal(
        curves["config_id"][order], np.repeat(np.sort(ids), document.max_epochs)
    ):
        raise DataError(f"{file}: epoch must run from 1 to {document.max_epochs} for each of {len(ids)} config_id.")
    losses = document.sign * curves[document.metric][order].reshape(len(ids), -1)
    seconds = curves["seconds_cumulative"][order].reshape(len(ids), -1)
    rows = np.argsort(ids)
    units = np.array([_units_of(space, {name: configs[name][row] for name in space}) for row in rows])
    return _TableCurves(space, units, [_as_curve(*curve) for curve in zip(losses, seconds, strict=True)])


def _read_columns(file: Path, names: list[str]) -> dict[str, Floats]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}.") from error
    for name in names:
        if name not in table.column_names:
            raise DataError(f"{file} has no column {name}; it has {', '.join(table.column_names)}.")
    return {name: table.column(name).to_numpy().astype(float) for name in names}
