"""The tables, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from search_bench.runs import Run
from search_bench.score import Score, median_cost_c, score_policy


def policies_of(runs: Sequence[Run]) -> list[str]:
    """In the order in which they ran."""
    return list(dict.fromkeys(run.policy for run in runs))


def short_task(task: str) -> str:
    """Its benchmark and the end of its name, which is what tells long names apart."""
    benchmark, _, name = task.partition("/")
    return f"{benchmark}/{name if len(name) <= 24 else '…' + name[-24:]}"


def score_table(runs: Sequence[Run], *, budget_c: float) -> Iterator[str]:
    """A line a policy."""
    yield (
        "| policy | cost to Q99 over ASHA promotion's (95 % interval) | arrive | Q99.9 in 30 C | worst task "
        "| max billed C | decision ms (s a run) | tasks x seeds |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for policy in policies_of(runs):
        yield _line(score_policy(policy, runs, budget_c=budget_c))


def _line(score: Score) -> str:
    against, worst = "-", "-"
    if score.ratio is not None:
        against = f"{score.ratio.mean:.2f} ({score.ratio.low:.2f} to {score.ratio.high:.2f})"
        worst = f"{score.ratio.worst:.2f} ({short_task(score.ratio.worst_task)})"
    return (
        f"| {score.policy} | {against} | {score.q99_share:.0%} | {score.q999_share:.0%} | {worst} "
        f"| {score.max_billed_c:.2f} | {score.median_decision_ms:.2f} ({score.median_decision_seconds:.1f}) "
        f"| {score.num_tasks} x {score.num_seeds} |"
    )


def task_table(runs: Sequence[Run], *, budget_c: float) -> Iterator[str]:
    """Median cost to Q99 in C, a line a task; in brackets how many seeds of how many arrive."""
    policies = policies_of(runs)
    yield f"| task | {' | '.join(policies)} |"
    yield "|---" * (len(policies) + 1) + "|"
    for task in sorted({run.task for run in runs}):
        cells = [
            _cell([run for run in runs if (run.policy, run.task) == (policy, task)], budget_c) for policy in policies
        ]
        yield f"| {short_task(task)} | {' | '.join(cells)} |"


def _cell(runs: Sequence[Run], budget_c: float) -> str:
    if not runs:
        return "-"
    arrived = sum(run.q99 is not None for run in runs)
    cost = median_cost_c(runs, runs[0].policy, runs[0].task, budget_c=budget_c)
    return f"{cost:.1f} ({arrived}/{len(runs)})"
