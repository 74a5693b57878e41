"""The report of a run's study, from what the run has left in its folder."""

from __future__ import annotations

from mlcluster.cli.tune_stage import read_selection, read_story
from mlcluster.cli.workspace import RunFolder, write_whole
from mlcluster.cost import read_bills, read_ledger
from mlcluster.tune import StudyReport, render_report, report_on


def make_report(run: RunFolder, *, cap_usd: float) -> StudyReport:
    """The numbers of a run's study, whether it has ended or not; `cap_usd` holds where no ledger names one.

    Raises:
        SpecError: the run has no study yet.
    """
    story = read_story(run)
    cap_usd, lost_usd, lost_with_workers_usd = _money_of_search(run, cap_usd)
    return report_on(
        story,
        cap_usd=cap_usd,
        lost_usd=lost_usd,
        lost_with_workers_usd=lost_with_workers_usd,
        selection=read_selection(run),
    )


def write_report(run: RunFolder, *, cap_usd: float) -> StudyReport:
    """As `make_report`, and the page into the run's folder."""
    report = make_report(run, cap_usd=cap_usd)
    write_whole(run.report, render_report(report))
    return report


def _money_of_search(run: RunFolder, cap_usd: float) -> tuple[float, float, float]:
    """Cap, and what was lost with drivers and with workers: of the attempt that searched, for later ones found it done.

    The latter is among its trials' dollars, and the former is not.
    """
    lost_usd = lost_with_workers_usd = 0.0
    for path in sorted(run.path.glob("ledger-*.jsonl")):
        cap_of_attempt, has_searched = cap_usd, False
        entries = list(read_ledger(path))
        for entry in entries:
            if entry.operation == "open":
                cap_of_attempt = float(entry.details["cap_usd"])
            has_searched |= entry.account == "tune" and entry.usd > 0
        if (bill := read_bills(entries).get("tune")) is not None:
            lost_usd += bill.lost_usd
            lost_with_workers_usd += bill.lost_with_workers_usd
        cap_usd = cap_of_attempt if has_searched else cap_usd
    return cap_usd, lost_usd, lost_with_workers_usd
