"""What faults cost an endpoint. Ray reads these settings when it is imported: they keep its four nodes on loopback."""

import os

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
