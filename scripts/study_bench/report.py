"""The tables, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from study_bench.runs import Results, Run
from study_bench.score import Quartiles, Reached, reached, runs_of, scores_at

SHARES = (0.25, 0.5, 1.0)


def policies_of(runs: Sequence[Run]) -> list[str]:
    """In the order in which they first ran."""
    return list(dict.fromkeys(run.policy for run in runs))


def datasets_of(runs: Sequence[Run]) -> list[str]:
    """In the order in which they first ran."""
    return list(dict.fromkeys(run.dataset for run in runs))


def score_table(results: Results, *, budget_usd: float) -> Iterator[str]:
    """Median and quartiles over seeds of the best model's scores, at shares of the dollars."""
    yield (
        "| data set (metric) | policy | validation at 1/4 of the dollars | at 1/2 | at the end "
        "| test at 1/4 | at 1/2 | at the end | dollars | trials | seeds |"
    )
    yield "|---" * 11 + "|"
    for dataset in datasets_of(results.runs):
        metric = results.datasets[dataset].metric
        for policy in policies_of(results.runs):
            runs = runs_of(results.runs, dataset, policy)
            if not runs:
                continue
            cells = [
                _scores(scores_at(runs, share * budget_usd, metric, split=split))
                for split in ("validation", "test")
                for share in SHARES
            ]
            usd, trials = median(run.usd for run in runs), median(run.trials for run in runs)
            cells += [f"{usd:.5f}", f"{trials:g}", str(len(runs))]
            yield f"| {dataset} ({metric}) | {policy} | {' | '.join(cells)} |"


def dollar_table(results: Results, *, budget_usd: float) -> Iterator[str]:
    """The share of the dollars at which each policy was as good as each other one's median is at the end."""
    yield "| data set | policy | as good as | at the share of the dollars | runs that were |"
    yield "|---" * 5 + "|"
    policies = policies_of(results.runs)
    for dataset in datasets_of(results.runs):
        metric = results.datasets[dataset].metric
        for mine, theirs in ((one, other) for one in policies for other in policies if one != other):
            runs, peers = (runs_of(results.runs, dataset, policy) for policy in (mine, theirs))
            found = reached(runs, peers, metric, budget_usd=budget_usd)
            if found is not None:
                yield f"| {dataset} | {mine} | {theirs}'s {found.validation:.4f} | {_shares(found)} |"


def run_line(run: Run) -> str:
    """What a run came to, in a line."""
    best = run.trace[-1] if run.trace else None
    score = "no score" if best is None else f"validation {best.validation:.4f}, test {best.test:.4f} ({best.family})"
    beside = ", ".join(f"{seconds:.1f} s {name}" for name, seconds in run.overhead_seconds.items())
    return (
        f"{run.policy} on {run.dataset}, seed {run.seed}: {score}; {run.trials} trials ({run.failed} failed), "
        f"${run.usd:.5f} in {run.seconds:.0f} s; beside the bill {beside}"
    )


def _scores(found: Quartiles) -> str:
    if found.median is None:
        return "-"
    low, high = (_number(value) for value in (found.worse, found.better))
    return f"{found.median:.4f} [{low}, {high}]"


def _shares(found: Reached) -> str:
    shares = found.usd_shares
    middle = "never" if shares.median is None else f"{shares.median:.2f}"
    return (
        f"{middle} [{_number(shares.better, 2)}, {_number(shares.worse, 2)}] | {found.num_reached} of {found.num_runs}"
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
