"""What faults cost an endpoint, with the load and the bad replicas of the tests.

Ray reads these settings when it is imported: they keep its four nodes on loopback.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
