"""What the label tools are worth: each against its baseline, over seeds, with 95 % intervals of the mean.

    .venv/bin/python scripts/bench_labels.py --out labels.json
    .venv/bin/python scripts/bench_labels.py --data DIR --seeds 10 --out labels.json    # with the real tables

Planted label functions, annotators and poison need no data. The audit, the queue and the clean screen run on real
tables (DIR holds adult, bank_marketing, bike_sharing_hourly and electricity_elec2 as Parquet) and are left out without.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_files import provenance, say, write_document
from label_bench.planted import agreeing_functions, annotators, copied_functions, one_sided_functions, uneven_functions
from label_bench.poison import attacked_classes_scores, attacked_scores
from label_bench.real import audit_scores, clean_screen, labels_needed, rules_on_adult
from label_bench.rules import RULE_SETS, rules_on

from mlcluster.data.labels import ABSTAINED, Votes, dawid_skene, fit_label_model, majority

Scores = dict[str, float]
Codes = np.ndarray[Any, np.dtype[np.int64]]
Case = tuple[str, str, int, Callable[[int], Scores]]
"""Part, case, number of seeds, and what scores one seed."""
NUM_PLANTED_SEEDS = 20
ADULT_SHARES = (0.75, 0.25)
"""What a person would say of how frequent the two classes of adult are: three quarters earn less."""


def main() -> None:
    """Runs what was asked for, prints a table, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the real tables")
    parser.add_argument("--seeds", type=int, default=10, help="of the parts on real tables; planted ones take 20")
    parser.add_argument("--parts", default="functions,rules,annotators,audit,queue,screen", help="which, by commas")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for part, case, seeds, score in cases(options.data, options.seeds, set(options.parts.split(","))):
        say(f"{part}: {case}")
        runs.append({"part": part, "case": case, **summary([score(seed) for seed in range(seeds)])})
        print(line(runs[-1]), flush=True)
        if options.out:
            write_document(options.out, {"made": provenance("bench_labels.py", ["numpy", "scikit-learn"])}, runs)


def cases(data: Path | None, seeds: int, parts: set[str]) -> Iterator[Case]:
    """Those of the parts that were asked for."""
    every = [*planted_cases(), *(real_cases(data, seeds) if data is not None else ())]
    yield from (case for case in every if case[0] in parts)


def planted_cases() -> Iterator[Case]:
    """Where the truth is known, since it was planted."""
    functions: dict[str, Callable[[int], tuple[Codes, Codes]]] = {
        "independent": agreeing_functions,
        "classes 80 to 20": uneven_functions,
        "copies": copied_functions,
        "one-sided": one_sided_functions,
    }
    for name, plant in functions.items():
        yield "functions", name, NUM_PLANTED_SEEDS, lambda seed, plant=plant: function_scores(*plant(seed))
    for share in (0.0, 0.3):
        name = f"{share:.0%} answer by lot"
        yield "annotators", name, NUM_PLANTED_SEEDS, lambda seed, s=share: annotator_scores(*annotators(seed, s))
    for noise in (0.05, 0.1, 0.2):
        yield "screen", f"8 % attack, noise {noise}", NUM_PLANTED_SEEDS, lambda seed, n=noise: attacked_scores(seed, n)
    yield "screen", "8 % of labels turned", NUM_PLANTED_SEEDS, attacked_classes_scores


def real_cases(data: Path, seeds: int) -> Iterator[Case]:
    """On real tables."""
    for num_known in (0, 50, 300):
        name = f"six rules on adult, {num_known} labels known"
        yield "functions", name, seeds, lambda seed, n=num_known: function_scores(*rules_on_adult(data, n, seed))
    name = "six rules on adult, none known, class shares given"
    yield "functions", name, seeds, lambda seed: function_scores(*rules_on_adult(data, 0, seed), shares=ADULT_SHARES)
    for name in RULE_SETS:
        yield "rules", name, seeds, lambda seed, name=name: function_scores(*rules_on(data, name, seed))
    for table in ("adult", "electricity_elec2"):
        yield "audit", table, seeds, lambda seed, table=table: audit_scores(data, table, seed)
        yield "queue", table, seeds, lambda seed, table=table: labels_needed(data, table, seed)
    for table in ("adult", "bank_marketing", "bike_sharing_hourly", "electricity_elec2"):
        yield "screen", f"clean {table}", 3, lambda seed, table=table: clean_screen(data, table, seed)


def function_scores(
    truth: Codes, codes: Codes, known: Codes | None = None, shares: tuple[float, ...] | None = None
) -> Scores:
    """The label model against majority vote and against EM that takes all functions for independent."""
    size = int(truth.max()) + 1
    names = tuple(f"f{index}" for index in range(codes.shape[1]))
    priors = None if shares is None else np.array(shares)
    model = fit_label_model(codes, names=names, num_classes=size, known=known, priors=priors)
    votes = Votes.of_matrix(codes, num_classes=size)
    # Known rows are no merit of the model's.
    is_covered = model.is_covered if known is None else model.is_covered & (known == ABSTAINED)
    given = codes != ABSTAINED
    true = [float((codes[given[:, j], j] == truth[given[:, j]]).mean()) for j in range(codes.shape[1])]
    off = np.abs(np.array([function.accuracy for function in model.functions]) - true)

    def right(posterior: np.ndarray[Any, Any]) -> float:
        return float((posterior.argmax(axis=1) == truth)[is_covered].mean())

    by_majority = broken_ties(votes)
    plain = dawid_skene(votes, silence_tells=True).posterior
    return {
        "label_model": right(model.posterior),
        "majority": right(by_majority),
        "gain": right(model.posterior) - right(by_majority),
        "gain_of_plain_em": right(plain) - right(by_majority),
        "accuracy_off_mean": float(off.mean()),
        "accuracy_off_worst": float(off.max()),
    }


def annotator_scores(truth: np.ndarray[Any, Any], votes: Votes) -> Scores:
    """Dawid and Skene against majority vote."""
    consensus, by_majority = dawid_skene(votes).posterior.argmax(axis=1), broken_ties(votes).argmax(axis=1)
    right = {"dawid_skene": float((consensus == truth).mean()), "majority": float((by_majority == truth).mean())}
    return {**right, "gain": right["dawid_skene"] - right["majority"]}


def broken_ties(votes: Votes) -> np.ndarray[Any, Any]:
    """The majority with ties broken by lot, which is the fair baseline."""
    shares = majority(votes)
    return np.asarray(shares + np.random.default_rng(0).random(shares.shape) * 1e-6)


def summary(scores: list[Scores]) -> dict[str, Any]:
    """Mean and 95 % interval (Student's t) of each number over the seeds, and the number of seeds."""
    from scipy.stats import t

    told: dict[str, Any] = {"seeds": len(scores)}
    for name in scores[0]:
        values = np.array([one[name] for one in scores])
        half = (
            float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0
        )
        told[name] = {
            "mean": float(values.mean()),
            "low": float(values.mean() - half),
            "high": float(values.mean() + half),
        }
        told[name] |= {"least": float(values.min()), "most": float(values.max())}
    return told


def line(run: dict[str, Any]) -> str:
    """One run as a paragraph of the table."""
    lines = [f"{run['part']}, {run['case']} ({run['seeds']} seeds)"]
    for name, value in run.items():
        if isinstance(value, dict):
            lines.append(f"    {name:<28} {value['mean']:>10.4f}  [{value['low']:.4f}, {value['high']:.4f}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
