"""A project's data from Python. It knows no learner and no cluster, so that `data` verbs answer at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlcluster.cli.cataloguing import Catalogue, SourceStatus
from mlcluster.cli.data_engine import data_engine
from mlcluster.cli.ray_local import LocalRay, is_on_cluster
from mlcluster.cli.run_options import RunOptions
from mlcluster.cli.workspace import Workspace
from mlcluster.data import (
    DataCheck,
    DataProfile,
    Encoding,
    Engine,
    LocalEngine,
    Shards,
    check_data,
    prepare_shards,
    profile,
)
from mlcluster.spec import YamlDocument, load_document, naming_lines, parse_spec

if TYPE_CHECKING:
    from mlcluster.cli.augmenting import Augmenting
    from mlcluster.cli.labelling import Labelling


class DataProject:
    """The `data:` section of a project file, and what is done with it before anything is learned."""

    def __init__(self, document: YamlDocument, *, folder: Path, options: RunOptions | None = None) -> None:
        self.spec = parse_spec(document)
        self._document = document
        self.folder = folder
        self.options = options or RunOptions()
        self.workspace = Workspace.of(folder, self.spec.project)
        self._catalogue = Catalogue(self.spec.data, folder=folder, workspace=self.workspace)

    @classmethod
    def load_data(
        cls, path: str | Path, *, overrides: Sequence[str] = (), options: RunOptions | None = None
    ) -> DataProject:
        """The project of a file; see `Project.load`.

        Raises:
            SpecError: the file is wrong, with one line a bad key.
        """
        document = load_document(Path(path), overrides=overrides)
        return DataProject(document, folder=Path(path).resolve().parent, options=options)

    def profile(self) -> DataProfile:
        """One pass over the data: columns, splits and findings."""
        return self._profile(is_lenient=True)

    def check(self, source: str | None = None) -> DataCheck:
        """The project's data with its labels from elsewhere, or other data of the same kind, held to `data.expect`."""
        spec = self.spec.data if source is None else self.spec.data.model_copy(update={"source": source})
        with naming_lines(self._document):
            base = self.folder if source is None else Path.cwd()
            return check_data(spec, base=base, cache=self._catalogue.cache, with_labels=source is None)

    @contextmanager
    def labelling(self) -> Iterator[Labelling]:
        """The work of labelling: ask, add, status, audit, functions. Errors name the line of the project file."""
        from mlcluster.cli.labelling import Labelling

        with naming_lines(self._document):
            yield Labelling(spec=self.spec.data, folder=self.folder, seed=self.options.seed)

    @contextmanager
    def augmenting(self) -> Iterator[Augmenting]:
        """What augmentation does: `overview`, and `ablation`, which trains. Errors name the project file's line."""
        from mlcluster.cli.augmenting import Augmenting, working_folder

        with naming_lines(self._document), working_folder() as work:
            yield Augmenting(
                spec=self.spec, folder=self.folder, seed=self.options.seed, engine=self._engine(), work=Path(work)
            )

    def prepare(self, folder: Path, *, encoding: Encoding = "mixed") -> Shards:
        """The splits, encoded, as Parquet shards in `folder`, for training code of one's own; see `data.shards`."""
        with naming_lines(self._document):
            return prepare_shards(
                self.spec.data,
                base=self.folder,
                folder=folder,
                seed=self.options.seed,
                engine=self._engine(),
                encoding=encoding,
            )

    def sources(self) -> list[SourceStatus]:
        """Each source of the project as it is now; one that cannot be read says why."""
        return self._catalogue.statuses()

    def source(self, name: str) -> SourceStatus:
        """One of them.

        Raises:
            DataError: there is none of that name, or it cannot be read.
        """
        with naming_lines(self._document):
            return self._catalogue.status(name)

    def _profile(self, *, is_lenient: bool) -> DataProfile:
        with naming_lines(self._document):
            found = profile(self.spec.data, base=self.folder, is_lenient=is_lenient, cache=self._catalogue.cache)
            return self._catalogue.with_freshness(found)

    def _engine(self) -> Engine:
        if not is_on_cluster():
            return LocalEngine()
        LocalRay(self.workspace.ray).connect(num_cpus=1)
        return data_engine(self.workspace.root)
