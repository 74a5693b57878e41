"""`data label`: ask people for the labels that are missing, take their answers in, and look for wrong ones."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import click

from mlcluster.cli.options import json_option, load_data, print_json, project_options
from mlcluster.cli.run_options import RunOptions
from mlcluster.errors import SpecError


@click.command()
@project_options
@json_option
@click.option("--next", "count", type=click.IntRange(min=1), help="Write a queue of so many rows to ask about.")
@click.option("--add", "answers", type=click.Path(path_type=Path, dir_okay=False), help="Take a filled-in queue in.")
@click.option("--status", "is_status", is_flag=True, help="Counts, agreement, budget (the default).")
@click.option("--audit", "is_audit", is_flag=True, help="Labels that are probably wrong.")
@click.option("--functions", "is_functions", is_flag=True, help="What each label function covers, and how good it is.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("queue.csv"),
    show_default=True,
    help="Where --next writes.",
)
@click.option("--annotator", default=None, help="Whose answers --add takes in, where the file does not say.")
@click.option(
    "--replace", "may_replace", is_flag=True, help="With --add: later answers of an annotator correct earlier."
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Rows that --audit names.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --next and --audit.")
def label(config: Path, overrides: tuple[str, ...], as_json: bool, **asked: Any) -> None:
    """Ask for labels, take answers in, and audit what there is."""
    actions = [name for name in ("count", "answers", "is_status", "is_audit", "is_functions") if asked[name]]
    if len(actions) > 1:
        raise SpecError(
            "data label = several things at once; give one of --next, --add, --status, --audit, --functions."
        )
    project = load_data(config, overrides, options=RunOptions(seed=asked["seed"]))
    action = actions[0] if actions else "is_status"
    with project.labelling() as labelling:
        match action:
            case "count":
                told, text = labelling.ask(asked["count"], asked["out"]), queue_text
            case "answers":
                annotator = asked["annotator"] or getpass.getuser()
                told = labelling.add(asked["answers"], annotator=annotator, may_replace=asked["may_replace"])
                text = added_text
            case "is_audit":
                told, text = labelling.audit(limit=asked["limit"]), audit_text
            case "is_functions":
                told, text = labelling.functions(), functions_text
            case _:
                told, text = labelling.status(), status_text
    if as_json:
        print_json(told)
    else:
        click.echo(text(told))


def queue_text(told: dict[str, Any]) -> str:
    """What `--next` says."""
    why = (
        "the rows that a model of the labels so far is least sure of" if told["by_model"] else "rows unlike each other"
    )
    return f"wrote {told['asked']} rows to {told['file']}: {why}{_left(told['budget'])}"


def added_text(told: dict[str, Any]) -> str:
    """What `--add` says."""
    counts = ", ".join(f"{told[name]} {name}" for name in ("added", "repeated", "replaced", "unanswered"))
    return f"{counts}; {told['store']} holds {told['answers']} answers{_left(told['budget'])}"


def status_text(told: dict[str, Any]) -> str:
    """What `--status` says."""
    lines = [
        f"{told['target']}: {told['rows']} rows, {told['labelled_by_source']} labelled by the source, "
        f"{told['labelled_by_answers']} by answers, {told['unlabelled']} without a label",
        f"answers    {told['answers']}{_left(told['budget'])}",
    ]
    if told["stale_answers"]:
        lines.append(f"stale      {told['stale_answers']} answers are to rows that the source no longer holds")
    if told["by_label"]:
        lines.append("by label   " + ", ".join(f"{name} {count}" for name, count in told["by_label"].items()))
    if told["agreement"] is not None:
        lines.append(f"agreement  Krippendorff's alpha {told['agreement']['krippendorff_alpha']:.3f}")
        lines += [
            f"           Cohen's kappa {pair['kappa']:.3f}  {' and '.join(pair['annotators'])}"
            for pair in told["agreement"]["cohen_kappa"]
        ]
        lines += [
            f"           right {accuracy:.1%} of the time, by the consensus  {name}"
            for name, accuracy in told["agreement"]["estimated_accuracy"].items()
        ]
    return "\n".join(lines)


def audit_text(told: dict[str, Any]) -> str:
    """What `--audit` says."""
    lines = [
        f"{told['suspects']} of {told['audited']} labels are probably wrong ({told['wrong_share']:.1%} by the counts)"
    ]
    if told["rows"]:
        lines.append(f"{'row':>9}  {'margin':>7}  given -> suggested")
    lines += [f"{one['row']:>9}  {one['margin']:>7.3f}  {one['given']} -> {one['suggested']}" for one in told["rows"]]
    return "\n".join(lines)


def functions_text(told: dict[str, Any]) -> str:
    """What `--functions` says."""
    width = max(len(function["name"]) for function in told["functions"])
    lines = [f"{'':<{width}}  coverage  overlap  conflict  accuracy  known  weight"]
    for one in told["functions"]:
        accuracy, known = ("-" if one[name] is None else f"{one[name]:.3f}" for name in ("accuracy", "known_accuracy"))
        lines.append(
            f"{one['name']:<{width}}  {one['coverage_share']:>8.1%}  {one['overlap_share']:>7.1%}  "
            f"{one['conflict_share']:>8.1%}  {accuracy:>8}  {known:>5}  {one['weight']:>6.2f}"
        )
    if told["known"] < told["judged_from"] and not told["has_class_shares"]:
        lines.append(
            f"accuracies are guesses: {told['known']} labels are known, and {told['judged_from']} or "
            "data.labels.class_shares would tell how frequent each class is; ask for some with --next"
        )
    bound = told["fill_above"]
    done = (
        f"{told['would_fill']} unlabelled rows are filled in where they are train rows (fill_above: {bound:g})"
        if bound is not None
        else f"none is filled in; data.labels.fill_above: 0.9 would fill in up to {told['would_fill']}"
    )
    lines.append(f"{told['covered']} of {told['rows']} rows have a label from some function; {done}")
    return "\n".join(lines)


def _left(budget: dict[str, int | None]) -> str:
    if budget["given"] is None:
        return ""
    return f"; {budget['left']} of a budget of {budget['given']} answers left"
