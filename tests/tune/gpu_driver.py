"""A program that runs one study on a Ray of its own with two CPUs and one logical GPU: `gpu_driver.py FOLDER`.

Its learners take as long as they say, in three hundredths of the seconds, and note which resources their worker holds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mlcluster.cost import WorkerKind
from mlcluster.train import Segment, TrialReport
from tests.tune.studies import Speeds, note, open_study, report_of, width_plan

PACE = 0.03
"""Real seconds for each nominal one."""
SPEEDS = Speeds()
KINDS = (
    WorkerKind(name="cpu", num_slots=1, usd_per_second=1e-4),
    WorkerKind(name="gpu", num_slots=1, usd_per_second=3e-4, resources={"CPU": 1.0, "GPU": 1.0}),
)
MAX_TRIALS = 24


@dataclass(frozen=True)
class WidthTrainer:
    """Takes the seconds of the width on the device of its worker."""

    folder: Path

    def __call__(self, segment: Segment) -> TrialReport:
        import ray

        started = time.monotonic()
        units = segment.stop_units - segment.start_units
        time.sleep(PACE * SPEEDS.seconds(float(segment.configuration["width"]), units, segment.device))
        resources = ray.get_runtime_context().get_assigned_resources()
        seen = {"trial": segment.trial_id, "device": segment.device, "gpus": resources.get("GPU", 0.0)}
        note(self.folder / "seen.jsonl", {**seen, "pid": os.getpid()})
        return report_of(segment, seconds=time.monotonic() - started)


def main(folder: Path) -> None:
    import ray

    from mlcluster.tune.ray_study import run_study_on_ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    temp_dir = tempfile.mkdtemp(prefix="mlc-")
    (folder / "temp_dir").write_text(temp_dir)
    ray.init(
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=temp_dir,
        _node_ip_address="127.0.0.1",
    )
    plan = width_plan(KINDS, SPEEDS, max_trials=MAX_TRIALS, unit_seconds=PACE)
    study, ledger = open_study(plan, folder, cap_usd=1.0, clock=time.time)
    result = run_study_on_ray(study, WidthTrainer(folder), folder=folder / "ray", progress=lambda _: None)
    ledger.close()
    usd = {"bill": result.usd, "trials": sum(trial.usd for trial in result.trials.values())}
    (folder / "ended.json").write_text(json.dumps(usd))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
