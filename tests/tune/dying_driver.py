"""A program that runs one study on a Ray of its own, until it ends or is killed: `dying_driver.py FOLDER`.

`drive_on` does the same on a Ray that is there already, as the target of a process.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from mlcluster.tune import StudyPlan
from tests.tune.studies import InWorker, SyntheticTrainer, open_study, synthetic_plan

CAP_USD = 0.05
SECONDS_PER_UNIT = 0.2


def many_kills_plan() -> StudyPlan:
    return synthetic_plan(num_slots=2, max_trials=27, unit_seconds=0.02, usd_per_second=1e-4)


def drive_on(address: str, folder: Path) -> None:
    import ray

    from mlcluster.tune.ray_study import run_study_on_ray

    ray.init(address=address, log_to_driver=False, configure_logging=False)
    study, ledger = open_study(many_kills_plan(), folder, cap_usd=CAP_USD, clock=time.time)
    trainer = SyntheticTrainer(folder, seconds_per_unit=0.02, reports_seconds=False)
    run_study_on_ray(study, trainer, folder=folder / "ray", progress=lambda _: None)
    ledger.close()
    ray.shutdown()


def main(folder: Path) -> None:
    import ray

    from mlcluster.tune.ray_study import run_study_on_ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    temp_dir = tempfile.mkdtemp(prefix="mlc-")
    (folder / "temp_dir").write_text(temp_dir)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=temp_dir, _node_ip_address="127.0.0.1")
    plan = synthetic_plan(num_slots=2, max_trials=9, unit_seconds=SECONDS_PER_UNIT, usd_per_second=1e-4)
    study, ledger = open_study(plan, folder, cap_usd=CAP_USD, clock=time.time)
    opened = {
        "losses": {trial.trial_id: trial.losses for trial in study.trials},
        "spent_usd": ledger.spent_usd,
        "reserved_usd": ledger.reserved_usd,
    }
    (folder / "opened.json").write_text(json.dumps(opened))
    trainer = InWorker(SyntheticTrainer(folder, seconds_per_unit=SECONDS_PER_UNIT))
    result = run_study_on_ray(study, trainer, folder=folder / "ray", progress=lambda _: None)
    ledger.close()
    ended = {
        "trials": {name: [trial.units, trial.rung] for name, trial in result.trials.items()},
        "usd": result.usd,
        "lost_usd": result.lost_usd,
    }
    (folder / "ended.json").write_text(json.dumps(ended))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
