"""What exactly is learned from?

In: the `data:` section of a project file; `catalog/` opens its sources, `joins/` puts them together. Out: a
`DatasetSnapshot`, with schema, splits, fitted transforms and a content hash, or one error that names the key. Not here:
Ray, which runs the same functions from `ray_engine.py`.
"""

from mlcluster.data.catalog import CatalogFile, SourceCache, SourceRecord
from mlcluster.data.checking import BrokenRule, DataCheck, check_data
from mlcluster.data.conform import RowError, columns_to_table, conform, rows_to_table
from mlcluster.data.engine import Engine, EngineBySize, LocalEngine
from mlcluster.data.findings import Finding
from mlcluster.data.prepare import prepare
from mlcluster.data.profile import ColumnProfile, DataProfile, profile
from mlcluster.data.reference import ColumnReference, ReferenceProfile, answer_columns, reference_profile
from mlcluster.data.schema import ColumnKind, FeatureColumn, ImageShape, Label, TableSchema, TargetColumn, TaskKind
from mlcluster.data.shards import Shards, prepare_shards
from mlcluster.data.snapshot import DatasetSnapshot
from mlcluster.data.target import encode_target, infer_task
from mlcluster.data.transform import ALL_ENCODINGS, ENCODINGS, Encoding, Transform

__all__ = [
    "ALL_ENCODINGS",
    "ENCODINGS",
    "BrokenRule",
    "CatalogFile",
    "ColumnKind",
    "ColumnProfile",
    "ColumnReference",
    "DataCheck",
    "DataProfile",
    "DatasetSnapshot",
    "Encoding",
    "Engine",
    "EngineBySize",
    "FeatureColumn",
    "Finding",
    "ImageShape",
    "Label",
    "LocalEngine",
    "ReferenceProfile",
    "RowError",
    "Shards",
    "SourceCache",
    "SourceRecord",
    "TableSchema",
    "TargetColumn",
    "TaskKind",
    "Transform",
    "answer_columns",
    "check_data",
    "columns_to_table",
    "conform",
    "encode_target",
    "infer_task",
    "prepare",
    "prepare_shards",
    "profile",
    "reference_profile",
    "rows_to_table",
]
