"""The command line: one verb a module, and one place that turns errors into exit codes.

0 done; 2 spec or data error; 3 a gate failed, or a replay differs; 4 budget spent, with a usable result; 5 without one.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import click

from mlcluster import __version__
from mlcluster.errors import MlclusterError

VERBS = {
    "init": ("init", "Make a project: sample data, project file, jobs/ and cluster-configs/."),
    "doctor": ("doctor", "Check this machine and the project file."),
    "config": ("config", "Print the project file with all defaults filled in."),
    "plan": ("plan", "Say what a run would do, and forecast its dollars."),
    "data": ("data", "Look at the data, prepare it, and label it."),
    "run": ("run", "Data, search, verification, registry and endpoint: the whole line."),
    "tune": ("run", "Search for the best configuration that the money can buy."),
    "verify": ("run", "Hold the winner against the requirements, and register it."),
    "deploy": ("run", "Serve the verified winner over HTTP."),
    "predict": ("predict", "Answer a file of rows with the deployed model."),
    "status": ("status", "Show the newest run, the endpoint and whether it answers."),
    "cost": ("cost", "Show forecast and actual cost by stage and trial."),
    "report": ("report", "Write the study's report, one page with pictures."),
    "feedback": ("feedback", "Add labels that came later; show how good the live answers are."),
    "lineage": ("lineage", "Trace a prediction back to data, code and dollars."),
    "key": ("key", "Make keys: what signs models, and what opens a cluster."),
    "cluster": ("cluster", "Check a cluster file and its prices; bring the cluster up and down."),
    "submit": ("submit", "Run a stage as a job on a Ray cluster."),
    "restore": ("restore", "Serve again what a lost head was serving; its cluster file calls this."),
    "down": ("down", "End the endpoint and the local Ray under it."),
}
"""Verb -> module of this package that holds it, and what it does."""


class _Verbs(click.Group):
    """Imports a verb's module when it is asked for, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"mlcluster.cli.{VERBS[cmd_name][0]}_verb")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, what) for verb, (_, what) in VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlcluster")
@click.option("--verbose", is_flag=True, help="Log each decision with its reason on stderr.")
def cli(verbose: bool) -> None:
    """From a table, a requirement and a sum of money to a served model, on Ray."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for vendor in ("ray", "mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(vendor).setLevel(logging.ERROR)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; an `MlclusterError` is one line a problem and an exit code, anything else a bug."""
    try:
        code = cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted; the same command goes on where this one ended", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except MlclusterError as error:
        for line in str(error).splitlines():
            click.echo(f"mlcluster: {line}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
