"""Is the winner fit to ship?

In: a `VerifyRequest` (gates, the test rows, the answers of the exported artifact, the model as numbers). Out: a
`Verdict` in which each gate is passed, failed or unmeasured, by its confidence bound, with proofs where one was asked
for. What cannot be measured has not passed. Not here: scoring the artifact, and what to do about a failure.
"""

from mlcluster.verify.certify import Certification, Certifier
from mlcluster.verify.intervals import Estimate
from mlcluster.verify.proof import RowProof
from mlcluster.verify.region import Boxes, number_scales
from mlcluster.verify.request import VerifyRequest
from mlcluster.verify.verdict import GateResult, SliceResult, Verdict
from mlcluster.verify.verification import verify

__all__ = [
    "Boxes",
    "Certification",
    "Certifier",
    "Estimate",
    "GateResult",
    "RowProof",
    "SliceResult",
    "Verdict",
    "VerifyRequest",
    "number_scales",
    "verify",
]
