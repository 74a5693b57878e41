"""Plays a recorded study to a fresh policy: with the same seed and reports, does it decide the same?

For audits, and to hold a changed policy against old studies. The journal holds its events in the order in which they
happened, whatever the number of workers was; each suggestion that was taken up has in it what the policy was asked, and
each segment's end what was decided. The policy is asked again at the same points, and what is recorded is what
happens then, so that every decision is compared with the same past behind it. On which kind of worker a segment ran,
and what it cost, are taken from the journal as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mlcluster.search import Decision, SearchPolicy, TrialRecord
from mlcluster.tune.course import Course
from mlcluster.tune.events import question_of, suggestion_of
from mlcluster.tune.journal import Event
from mlcluster.tune.plan import StudyPlan
from mlcluster.tune.restoring import apply


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """The first decision that is another now. `recorded` and `now` are a suggestion or a decision, with its reason."""

    number: int
    """Of the decision, from 1."""
    line: int
    """Of the journal, from 1."""
    kind: str
    """Of the event there: `start`, `line` or `decision`."""
    trial_id: str
    recorded: dict[str, Any]
    now: dict[str, Any] | None
    """None where the policy has nothing to suggest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What came of it: `num_equal` decisions are as recorded, up to the first that is not."""

    num_equal: int
    divergence: Divergence | None
    num_guessed: int
    """Suggestions in a journal from before it held what the policy was asked: with no limit of room, then."""
    trials: tuple[TrialRecord, ...]

    @property
    def is_equal(self) -> bool:
        return self.divergence is None


def replay_study(events: Iterable[Event], plan: StudyPlan, policy: SearchPolicy) -> Replay:
    """Plays a journal to a policy that has seen nothing yet, up to the first decision that differs.

    `plan` is that of the study; of its budget only the prices count.
    """
    player = _Player(plan, policy)
    for line, event in enumerate(events, start=1):
        if not player.hear(event, line):
            break
    return player.replay()


class _Player:
    def __init__(self, plan: StudyPlan, policy: SearchPolicy) -> None:
        self._course = Course(plan, policy)
        self._pending: dict[str, Decision] = {}
        """By trial: what was decided now at the end of its segment."""
        self._num_equal = 0
        self._num_guessed = 0
        self._divergence: Divergence | None = None

    def replay(self) -> Replay:
        return Replay(
            num_equal=self._num_equal,
            divergence=self._divergence,
            num_guessed=self._num_guessed,
            trials=tuple(self._course.trials),
        )

    def hear(self, event: Event, line: int) -> bool:
        """Whether the policy has decided as is recorded."""
        match event.kind:
            case "start" | "line":
                is_asked = not self._course.lines.holds(str(event.data["trial_id"]))
                if is_asked and not self._compare(event, line, asdict(suggestion_of(event)), self._suggest(event)):
                    return False
                apply(self._course, event)
            case "report" | "lost" | "failed":
                trial_id = str(event.data["trial_id"])
                piece = self._course.running[trial_id].piece
                apply(self._course, event)
                self._pending[trial_id] = piece.decisions[trial_id]
            case "decision":
                return self._compare(event, line, _recorded(event), self._decided(str(event.data["trial_id"])))
            case "begin" | "interrupted" | "unline" | "end":
                apply(self._course, event)
        return True

    def _suggest(self, event: Event) -> dict[str, Any] | None:
        policy, asked = self._course.policy, question_of(event)
        if asked is not None:
            found = policy.suggest(new_trials=asked.new_trials, room_seconds=asked.room_seconds)
            return None if found is None else asdict(found)
        self._num_guessed += 1
        free, bound = policy.suggest(), policy.suggest(new_trials=False)
        found = bound if bound == suggestion_of(event) else free
        return None if found is None else asdict(found)

    def _decided(self, trial_id: str) -> dict[str, Any]:
        return {**asdict(self._pending.pop(trial_id)), "rung": self._course.policy.trial(trial_id).rung}

    def _compare(self, event: Event, line: int, recorded: dict[str, Any], now: dict[str, Any] | None) -> bool:
        if _as_read_back(recorded) == _as_read_back(now):
            self._num_equal += 1
            return True
        self._divergence = Divergence(
            number=self._num_equal + 1,
            line=line,
            kind=event.kind,
            trial_id=str(event.data["trial_id"]),
            recorded=recorded,
            now=now,
        )
        return False


def _recorded(event: Event) -> dict[str, Any]:
    return {name: event.data[name] for name in ("action", "reason", "rung")}


def _as_read_back(value: Any) -> Any:
    """As a journal gives it back, where NaN equals itself."""
    return json.dumps(value, sort_keys=True)
