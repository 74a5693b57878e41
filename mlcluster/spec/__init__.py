"""What was asked for?

In: the text of `mlcluster.yaml`. Out: a frozen `ProjectSpec` with a stable fingerprint, or one error that names
every bad key with its line. Not here: whether the data holds what the spec names; that is `data/`'s to say.
"""

from mlcluster.spec.augment import AugmentSpec, CoverageSpec, ImageAugmentSpec
from mlcluster.spec.axis import AxisSpec, narrowed
from mlcluster.spec.cluster import Cloud, NodePriceSpec, PriceListSpec, PriceSourceSpec
from mlcluster.spec.data import BadRows, DataSpec, Expectation, Range, SplitSpec, Task
from mlcluster.spec.images import ImageSpec
from mlcluster.spec.labels import LabelsSpec, ScreenAction, ScreenSpec
from mlcluster.spec.load import load_document, load_spec, naming_lines, parse_section, parse_spec, spec_to_yaml
from mlcluster.spec.project import ProjectSpec
from mlcluster.spec.serve import DriftSpec, ModelName, MonitorSpec, Replicas, ServeSpec
from mlcluster.spec.sources import NORMALISATIONS, JoinKey, JoinSpec, Normalisation, PlaceKey, SourceSpec
from mlcluster.spec.space import (
    ChoiceDomain,
    Configuration,
    Domain,
    FloatDomain,
    IntDomain,
    SearchSpace,
    Value,
    default_configuration,
    holds,
    space_fingerprint,
)
from mlcluster.spec.spans import span_seconds
from mlcluster.spec.tune import (
    DEFAULT_FAMILIES,
    FAMILIES,
    BudgetSpec,
    Device,
    Family,
    LimitsSpec,
    Metric,
    PricesSpec,
    Search,
    TuneSpec,
    WarmStart,
    Workers,
    WorthSpec,
)
from mlcluster.spec.verify import FAIRNESS_METRICS, GATE_METRICS, GateSpec
from mlcluster.spec.yaml_document import YamlDocument, dump_yaml, parse_yaml, read_yaml

__all__ = [
    "DEFAULT_FAMILIES",
    "FAIRNESS_METRICS",
    "FAMILIES",
    "GATE_METRICS",
    "NORMALISATIONS",
    "AugmentSpec",
    "AxisSpec",
    "BadRows",
    "BudgetSpec",
    "ChoiceDomain",
    "Cloud",
    "Configuration",
    "CoverageSpec",
    "DataSpec",
    "Device",
    "Domain",
    "DriftSpec",
    "Expectation",
    "Family",
    "FloatDomain",
    "GateSpec",
    "ImageAugmentSpec",
    "ImageSpec",
    "IntDomain",
    "JoinKey",
    "JoinSpec",
    "LabelsSpec",
    "LimitsSpec",
    "Metric",
    "ModelName",
    "MonitorSpec",
    "NodePriceSpec",
    "Normalisation",
    "PlaceKey",
    "PriceListSpec",
    "PriceSourceSpec",
    "PricesSpec",
    "ProjectSpec",
    "Range",
    "Replicas",
    "ScreenAction",
    "ScreenSpec",
    "Search",
    "SearchSpace",
    "ServeSpec",
    "SourceSpec",
    "SplitSpec",
    "Task",
    "TuneSpec",
    "Value",
    "WarmStart",
    "Workers",
    "WorthSpec",
    "YamlDocument",
    "default_configuration",
    "dump_yaml",
    "holds",
    "load_document",
    "load_spec",
    "naming_lines",
    "narrowed",
    "parse_section",
    "parse_spec",
    "parse_yaml",
    "read_yaml",
    "space_fingerprint",
    "span_seconds",
    "spec_to_yaml",
]
