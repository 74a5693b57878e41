"""What has become of a job: `ray job submit` itself ends with 1 whatever its job ended with."""

from __future__ import annotations

from ray.job_submission import JobStatus, JobSubmissionClient

from mlcluster.errors import ClusterError

_FAILED = 1


def exit_code_of(job_id: str, *, address: str | None) -> int | None:
    """The exit code of a job that has ended; None while it runs.

    A driver that a signal has ended gives 128 and the signal's number, as in a shell. A job that was stopped, or whose
    driver was lost with its node, has no code of its own: that is 1.

    Raises:
        ClusterError: the cluster cannot be asked.
    """
    try:
        details = JobSubmissionClient(address).get_job_info(job_id)
    except (ConnectionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ClusterError(
            f"job {job_id} cannot be asked for ({reason}); see what became of it with: ray job status {job_id}."
        ) from error
    if not details.status.is_terminal():
        return None
    if details.status == JobStatus.SUCCEEDED:
        return 0
    code = int(details.driver_exit_code or _FAILED)
    return code if code > 0 else 128 - code
