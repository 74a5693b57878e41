"""The plan of a run and its dollars, before anything is spent: pure, but for a look at the data's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlcluster.cli.leasing import Lease
from mlcluster.cost import CostModel, Forecast, StageForecast
from mlcluster.data import DataProfile
from mlcluster.data.augment import VALUES_A_DRAW
from mlcluster.errors import SpecError
from mlcluster.spec import AugmentSpec, ProjectSpec, narrowed
from mlcluster.train import FAMILIES, METRICS, DataSize, Encoding, default_metric
from mlcluster.tune import Limits, StudyBudget, StudyPlan, check_room_for_one_trial, plan_study
from mlcluster.tune.plan import SEARCH_SHARE, cheapest_first_segment_seconds
from mlcluster.tune.purse import RELEASE_SECONDS, WORKER_START_SECONDS

_DATA_SECONDS, _DATA_SECONDS_PER_MILLION_ROWS = 12.0, 30.0
_VERIFY_SECONDS, _RECORD_SECONDS, _DEPLOY_SECONDS = 12.0, 15.0, 20.0
_WORST_CASE_FACTOR = 3.0
_MAX_TOGETHER = 16


def resolve_metric(spec: ProjectSpec, task: str) -> str:
    """The metric that the search follows.

    Raises:
        SpecError: the metric that was asked for does not measure that task.
    """
    metric = spec.tune.metric or default_metric(task)  # type: ignore[arg-type]
    if task not in METRICS[metric].tasks:
        usable = ", ".join(name for name, definition in METRICS.items() if task in definition.tasks)
        raise SpecError(f"tune.metric = {metric} does not measure a {task} task; use one of {usable}.")
    return metric


def check_gates(spec: ProjectSpec, kinds: Mapping[str, str]) -> None:
    """That each gate can be measured on features of these kinds, by name, as far as that is known before.

    Raises:
        SpecError: one cannot, so that nothing would ever ship.
    """
    image = next((name for name, kind in kinds.items() if kind == "image"), None)
    for gate in spec.verify:
        if gate.metric == "certified" and image is not None:
            raise SpecError(
                f"verify = {gate} moves numbers, and {image} is an image, of which nothing is proved; drop it."
            )


def stage_forecasts(lease: Lease, *, num_rows: int) -> dict[str, StageForecast]:
    """The stages around the search, by name; the workers are leased through all of them."""
    expected = {
        "data": _DATA_SECONDS + _DATA_SECONDS_PER_MILLION_ROWS * num_rows / 1e6,
        "verify": _VERIFY_SECONDS,
        "record": _RECORD_SECONDS,
        "deploy": _DEPLOY_SECONDS,
    }
    return {
        stage: StageForecast(
            stage=stage,
            expected_seconds=seconds,
            worst_case_seconds=_WORST_CASE_FACTOR * seconds,
            usd_per_second=lease.usd_per_second,
        )
        for stage, seconds in expected.items()
    }


def search_usd(spec: ProjectSpec, around: Mapping[str, StageForecast]) -> float:
    """What the stages around the search leave of the cap at worst."""
    return spec.tune.budget.usd - sum(stage.worst_case_usd for stage in around.values())


def study_budget(spec: ProjectSpec, lease: Lease, *, free_usd: float) -> StudyBudget:
    """What the search may use of the dollars that are left, and of its minutes."""
    seconds = min(spec.tune.budget.minutes * 60, free_usd / lease.usd_per_second)
    return StudyBudget.of_kinds(
        lease.kinds,
        seconds=seconds,
        beside_usd_per_second=lease.beside_usd_per_second,
        max_together=_MAX_TOGETHER,
    )


def guess_sizes(profile: DataProfile, augment: AugmentSpec | None = None) -> dict[Encoding, DataSize]:
    """Sizes of the train split's matrices, before they exist."""
    train_rows = max(1, profile.num_split_rows.get("train", profile.num_rows))
    features = [column for column in profile.columns if column.role == "feature"]
    pixels = sum(column.image.num_values for column in features if column.image is not None)
    others = [column for column in features if column.image is None]
    dense = sum(min(column.distinct or 32, 32) if column.kind == "category" else 2 for column in others)
    outputs = max(1, len(profile.classes))
    image = features[0].image if len(features) == 1 else None
    draws = _draws_per_row(sum(column.kind == "number" for column in features), pixels, augment or AugmentSpec())
    ordinal = DataSize(rows=train_rows, columns=max(1, len(others) + pixels), outputs=outputs, image=image)
    return {"ordinal": ordinal, "dense": replace(ordinal, columns=max(1, dense + pixels), draws_per_row=draws)}


def _draws_per_row(numbers: int, pixels: int, augment: AugmentSpec) -> int:
    """As `EpochAugmentation.draws_per_row` will say."""
    own = numbers * (augment.noise > 0) + pixels // VALUES_A_DRAW * augment.images.is_on
    return 2 * (own + 2) if augment.mixup else own


def forecast_run(spec: ProjectSpec, lease: Lease, study: StudyPlan, *, num_rows: int) -> Forecast:
    """The whole run. The search is expected to use its share of what it may, and at worst all of it."""
    around = stage_forecasts(lease, num_rows=num_rows)
    search = StageForecast(
        stage="tune",
        expected_seconds=study.budget.seconds * (1 + SEARCH_SHARE) / 2,
        worst_case_seconds=study.budget.seconds,
        usd_per_second=study.budget.usd_per_second,
        note=" and ".join(f"{kind.num_slots} {kind.name}" for kind in lease.kinds)
        + " workers, rungs at "
        + ", ".join(f"{seconds:.1f}" for seconds in study.settings.rungs_seconds)
        + " s",
    )
    stages = (around["data"], search, around["verify"], around["record"], around["deploy"])
    return Forecast(stages=stages, cap_usd=spec.tune.budget.usd)


def plan_search(
    spec: ProjectSpec, sizes: dict[Encoding, DataSize], budget: StudyBudget, *, task: str, seed: int
) -> StudyPlan:
    """The study of a run.

    Raises:
        SpecError: the budget cannot hold one trial, or the metric or a bound of `tune.space` does not fit.
    """
    study = plan_study(
        f"{spec.project}-{spec.fingerprint}",
        {name: narrowed(name, FAMILIES[name].space, spec.tune.space.get(name, {})) for name in spec.models},
        sizes,
        metric=resolve_metric(spec, task),
        seed=seed,
        budget=budget,
    )
    if spec.tune.worth is not None:
        study = replace(study, usd_per_point=spec.tune.worth.usd_per_point)
    study = replace(study, limits=limits_of(spec))
    first = CostModel().predict("any", cheapest_first_segment_seconds(study))
    check_room_for_one_trial(
        study,
        worst_case_seconds=WORKER_START_SECONDS + RELEASE_SECONDS + first.worst_case_seconds,
        key=_tightest(spec, budget),
    )
    return study


def limits_of(spec: ProjectSpec) -> Limits:
    """What serving the winner may need."""
    return Limits(p99_ms=spec.tune.limits.p99_ms, model_mb=spec.tune.limits.model_mb)


def _tightest(spec: ProjectSpec, budget: StudyBudget) -> str:
    """Which of the two ends the search first, as `key = value`."""
    given = spec.tune.budget
    if budget.seconds < given.minutes * 60:
        return f"tune.budget.usd = {given.usd:g}"
    return f"tune.budget.minutes = {given.minutes:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run would do and cost."""

    profile: DataProfile
    lease: Lease
    study: StudyPlan
    forecast: Forecast
    metric: str
