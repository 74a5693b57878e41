"""What `data augment` found, for a terminal."""

from __future__ import annotations

from typing import Any

from mlcluster.cli.augmenting import NONE
from mlcluster.spec import AugmentSpec

_SHOWN_CELLS = 20


def overview_text(told: dict[str, Any]) -> str:
    """Counts and thin cells for a terminal."""
    lines = [f"{told['train_rows']:,} train rows, {told['extra_rows']:,} more by oversampling"]
    for name, counts in told["groups"].items():
        after = f" -> {counts['after']:,}" if counts["after"] != counts["before"] else ""
        lines.append(f"  {name}: {counts['before']:,}{after}")
    augment = AugmentSpec.model_validate(told["augment"])
    if augment.is_per_epoch:
        lines.append(f"nets, in each epoch: {epoch_text(augment)}")
    cells = told["thin_cells"]
    lines.append(
        f"{told['num_thin_cells']} thin cells of {', '.join(told['covered_columns'])}"
        f" (under {augment.coverage.min_rows} train rows, {told['num_empty_cells']} have none)"
    )
    lines += [f"  ! {cell['finding']['message']}" for cell in cells[:_SHOWN_CELLS]]
    if len(cells) > _SHOWN_CELLS:
        lines.append(f"  and {len(cells) - _SHOWN_CELLS} more; see --json")
    return "\n".join(lines)


def epoch_text(augment: AugmentSpec) -> str:
    """What nets see anew in each epoch: `noise 0.1 and images with crop 2, rotate 10`."""
    words = [f"{name} {value:g}" for name in ("noise", "mixup") if (value := getattr(augment, name))]
    moved = augment.images.model_dump(exclude_defaults=True)
    if moved:
        shown = ", ".join(name if value is True else f"{name} {value:g}" for name, value in moved.items())
        words.append(f"images with {shown}")
    return " and ".join(words)


def ablation_text(told: dict[str, Any]) -> str:
    """Each variant's difference with its interval, for a terminal."""
    how = "each seed splits anew" if told["splits_anew"] else "one split, so intervals are of the training alone"
    rows = f"{told['train_rows']:,} train rows"
    lines = [f"{told['family']} with its defaults, {rows}, validation split, {told['num_seeds']} seeds ({how}):"]
    for name, arm in told["arms"].items():
        shown = [(told["metric"], arm["metric"]), *((f"recall {key}", one) for key, one in arm["recall"].items())]
        for what, one in shown:
            change = f"  {one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] {one['verdict']}"
            lines.append(f"  {name:<11} {what:<24} {one['mean']:.4f}{'' if name == NONE else change}")
    return "\n".join(lines)
