"""Job: the winner against its requirements.

    ray job submit --working-dir . -- python jobs/verify.py --config mlcluster.yaml

The last line of its output is one JSON object; a failed gate fails the job with exit code 3.
"""

import sys

from mlcluster.cli.main import main

if __name__ == "__main__":
    main(["verify", "--json", *sys.argv[1:]])
