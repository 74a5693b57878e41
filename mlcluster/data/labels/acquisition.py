"""Which rows are worth a person's time next.

The rows between whose two best classes the model hesitates most are asked about, but not rows that are all alike:
the least certain ones are preselected, and of those, the ones that lie apart are taken (after F. Zhdanov, "Diverse
mini-batch active learning", 2019, with greedy k-centres in place of k-means: as good, and each choice has its reason).
Three times the wanted rows are preselected; with ten times, outliers were chosen, and on adult half of the gain was
lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcluster.data.labels.votes import FloatArray

# Of this many times the wanted rows, the least certain ones, the diverse are chosen.
_PRESELECTED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A row to ask about, by its place among the candidates, with what spoke for it."""

    place: int
    margin: float | None
    """Between the two best classes; None while there is no model."""
    distance: float
    """To the nearest row that is chosen before; infinite for the first."""

    @property
    def reason(self) -> str:
        words = [] if self.margin is None else [f"margin {self.margin:.3f}"]
        words += [f"{self.distance:.2f} from the rows before"] if np.isfinite(self.distance) else ["the first"]
        return ", ".join(words)


def margins_of(probabilities: FloatArray) -> FloatArray:
    """The probability of the best class less that of the second, (n,)."""
    best = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0])


def choose_rows(
    features: npt.NDArray[np.float32],
    probabilities: FloatArray | None,
    count: int,
    *,
    rng: np.random.Generator,
) -> list[Choice]:
    """`count` of n candidates, the first asked first; fewer where there are fewer.

    `features` (n, d) are the candidates, scaled. Without `probabilities` (n, k), while too few labels are there for a
    model, rows that lie apart among a random sample.
    """
    num_rows = len(features)
    count = min(count, num_rows)
    size = min(num_rows, _PRESELECTED * count)
    if probabilities is None:
        margins = None
        places = rng.choice(num_rows, size, replace=False)
    else:
        margins = margins_of(probabilities)
        # Ties, of which trees give many, are broken by lot.
        places = np.lexsort((rng.random(num_rows), margins))[:size]
    chosen = _spread_out(features[places], count)
    return [
        Choice(place=int(places[at]), margin=None if margins is None else float(margins[places[at]]), distance=distance)
        for at, distance in chosen
    ]


def _spread_out(points: npt.NDArray[np.float32], count: int) -> list[tuple[int, float]]:
    """Greedy k-centres: the first, then each time the farthest from all before."""
    nearest = np.full(len(points), np.inf)
    chosen: list[tuple[int, float]] = []
    place = 0
    for _ in range(count):
        chosen.append((place, float(np.sqrt(nearest[place]))))
        distances = ((points - points[place]) ** 2).sum(axis=1, dtype=np.float64)
        nearest = np.minimum(nearest, distances)
        nearest[[at for at, _ in chosen]] = -1.0
        place = int(nearest.argmax())
    return chosen
