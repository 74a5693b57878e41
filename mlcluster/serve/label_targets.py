"""What a label may be: the target of the model that a prediction id names, of all that answer at one address."""

from __future__ import annotations

from mlcluster.data import TargetColumn
from mlcluster.errors import DataError
from mlcluster.serve.other_models import ServedModels
from mlcluster.serve.prediction_ids import PredictionId, id_words
from mlcluster.serve.problem import shorten


class LabelTargets:
    """The targets of an endpoint's own model and of those beside it, none of which has to be loaded for it."""

    def __init__(self, models: ServedModels, own: TargetColumn) -> None:
        targets = {models.own.path: own, **{path: other.target for path, other in models.others.items()}}
        self.own = own
        self.others = tuple(dict.fromkeys(target for path, target in targets.items() if target != own))
        """Each once."""
        self._names = tuple(dict.fromkeys(served.name for served in models.all))
        self._by_version: dict[tuple[str, str], TargetColumn] = {}
        self._by_name: dict[str, TargetColumn] = {}
        for served in models.all:
            name, version = id_words(served.name, served.version)
            self._by_version.setdefault((name, version), targets[served.path])
            meant = models.named(served.name, None) or served
            self._by_name.setdefault(name, targets[meant.path])

    def of(self, prediction: PredictionId) -> TargetColumn:
        """The target of that version; of one that is not served any more, that of what its name means now.

        Raises:
            DataError: no model of that name is served here.
        """
        found = self._by_version.get((prediction.model, prediction.version)) or self._by_name.get(prediction.model)
        if found is None:
            raise unknown_model(prediction, self._names)
        return found


def unknown_model(prediction: PredictionId, names: tuple[str, ...]) -> DataError:
    """What is said to an id of a model that is none of `names`."""
    known = shorten(", ".join(names), 300)
    return DataError(
        f"prediction id = {shorten(prediction.request_id)} is of {shorten(prediction.model)}; labels are taken for "
        f"{known}. What answers beside a project's own model stands in serve.also."
    )
