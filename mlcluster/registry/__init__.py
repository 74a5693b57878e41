"""What exactly is deployed, under which name?

In: a trained structure, its transform and its evidence. Out: a `Bundle` of plain data files with hashes, which runs no
code when it is loaded. Not here: runs, versions and aliases; those are MLflow's, in `mlflow_*.py`.
"""

from mlcluster.registry.aliases import CHALLENGER, CHAMPION
from mlcluster.registry.bundle import Bundle, ModelCard, digest_of
from mlcluster.registry.onnx_export import to_onnx
from mlcluster.registry.signature import SigningKey, TrustedKeys

__all__ = ["CHALLENGER", "CHAMPION", "Bundle", "ModelCard", "SigningKey", "TrustedKeys", "digest_of", "to_onnx"]
