"""For which share of the test rows is the class proved not to change when the numbers move a little?

Proofs are sought on a seeded sample of at most 500 rows; the share is held against a bound by its confidence interval,
as any measure is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data import Transform
from mlcluster.train import DenseNet, Structure, TreeEnsemble, apply_link
from mlcluster.train.metrics import predicted_classes
from mlcluster.verify.dense_proof import prove_dense
from mlcluster.verify.intervals import Estimate, proportion
from mlcluster.verify.proof import RowProof
from mlcluster.verify.region import Boxes, reachable_boxes
from mlcluster.verify.tree_proof import prove_trees

MAX_SAMPLE_ROWS = 500
_MAX_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Certification:
    """What was proved of each of m sampled rows, for one `eps`; `rows` (m,) are their places in the test split."""

    eps: float
    rows: npt.NDArray[np.int64]
    proofs: tuple[RowProof, ...]
    boxes: Boxes
    input_names: tuple[str, ...]

    def share(self, rows: npt.NDArray[np.int64], confidence: float) -> Estimate | None:
        """The proved share of the sampled rows among `rows`, None without any; the upper bound counts unknowns too."""
        wanted = np.isin(self.rows, rows)
        statuses = Counter(proof.status for proof, want in zip(self.proofs, wanted, strict=True) if want)
        total = statuses.total()
        if not total:
            return None
        proved = proportion(statuses["proved"], total, confidence)
        possible = proportion(statuses["proved"] + statuses["unknown"], total, confidence)
        return Estimate(value=proved.value, lower=proved.lower, upper=possible.upper)

    def count(self, rows: npt.NDArray[np.int64]) -> int:
        """How many of `rows` were sampled."""
        return int(np.isin(self.rows, rows).sum())

    def to_json(self) -> dict[str, Any]:
        """Counts, and the first refutations in model inputs: what moved, from where to where."""
        statuses = Counter(proof.status for proof in self.proofs)
        refuted = [index for index, proof in enumerate(self.proofs) if proof.example is not None]
        return {
            "eps": self.eps,
            "num_rows": len(self.rows),
            **{status: statuses[status] for status in ("proved", "refuted", "unknown")},
            "examples": [self._example(index) for index in refuted[:_MAX_EXAMPLES]],
        }

    def _example(self, index: int) -> dict[str, Any]:
        before, after = self.boxes.center[index], np.asarray(self.proofs[index].example)
        moved = np.flatnonzero((before != after) & ~np.isnan(before))
        changed = {self.input_names[one]: [float(before[one]), float(after[one])] for one in moved}
        return {"row": int(self.rows[index]), "changed": changed}


@dataclass(frozen=True, kw_only=True)
class Certifier:
    """A model, and how its inputs come about."""

    structure: Structure
    transform: Transform
    number_scales: Mapping[str, float]
    seed: int

    def certify(self, table: pa.Table, eps: float) -> Certification:
        """Proofs for a sample of the rows of `table` when each number moves by at most `eps` standard deviations."""
        rng = np.random.default_rng(self.seed)
        size = min(MAX_SAMPLE_ROWS, table.num_rows)
        rows = np.sort(rng.choice(table.num_rows, size, replace=False)).astype(np.int64)
        boxes = reachable_boxes(table.take(rows), self.transform, self.number_scales, eps)
        proofs = self._simplified(self._prove(boxes, rng), boxes) if size else []
        return Certification(
            eps=eps, rows=rows, proofs=tuple(proofs), boxes=boxes, input_names=self.transform.output_names
        )

    def _prove(self, boxes: Boxes, rng: np.random.Generator) -> list[RowProof]:
        if isinstance(self.structure, DenseNet):
            return prove_dense(self.structure, boxes, rng)
        assert isinstance(self.structure, TreeEnsemble), "images are not asked about"
        return prove_trees(self.structure, boxes)

    def _simplified(self, proofs: list[RowProof], boxes: Boxes) -> list[RowProof]:
        """The examples that will be shown, with every input put back that the change of class does not need."""
        refuted = [index for index, proof in enumerate(proofs) if proof.example is not None]
        for index in refuted[:_MAX_EXAMPLES]:
            center, example = boxes.center[index], np.array(proofs[index].example)
            own_class = self._class_of(center)
            for moved in np.flatnonzero((example != center) & ~np.isnan(center)):
                candidate = example.copy()
                candidate[moved] = center[moved]
                if self._class_of(candidate) != own_class:
                    example = candidate
            proofs[index] = RowProof.refuted_by(example)
        return proofs

    def _class_of(self, inputs: npt.NDArray[np.float32]) -> int:
        structure = self.structure
        return int(predicted_classes(apply_link(structure.raw_scores(inputs[None]), structure.link))[0])
