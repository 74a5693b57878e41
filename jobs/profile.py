"""Job: a profile of the data.

    ray job submit --working-dir . -- python jobs/profile.py --config mlcluster.yaml

The last line of its output is one JSON object; a failed gate fails the job with exit code 3.
"""

import sys

from mlcluster.cli.main import main

if __name__ == "__main__":
    main(["data", "profile", "--json", *sys.argv[1:]])
