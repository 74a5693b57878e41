"""Job: the endpoint of the verified winner.

    ray job submit --working-dir . -- python jobs/deploy.py --config mlcluster.yaml

The last line of its output is one JSON object; a failed gate fails the job with exit code 3.
"""

import sys

from mlcluster.cli.main import main

if __name__ == "__main__":
    main(["deploy", "--json", *sys.argv[1:]])
