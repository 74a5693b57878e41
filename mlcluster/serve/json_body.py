"""JSON as the RFC has it: no NaN, no key twice, no nesting that topples the parser."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response

from mlcluster.serve.problem import RequestError, invalid, malformed

JSON = "application/json"


def parse_json(data: bytes) -> Any:
    """The value in `data`, which is UTF-8.

    Raises:
        RequestError: 400 with the position for text that is not JSON, 422 for NaN, Infinity or a key given twice.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise malformed(f"The body is not UTF-8 (byte {error.start}); encode it as UTF-8.") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise malformed(f"The body is not JSON: {error.msg} at {where} (character {error.pos}).") from error
    except RecursionError as error:
        raise malformed("The body nests too deeply; send rows as flat lists or objects.") from error
    except ValueError as error:  # an integer of more than 4,300 digits
        raise RequestError(422, "The body holds a number with too many digits; send a 64-bit number.") from error


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; see `parse_json`."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise malformed(f"The body is {json_type(value)}, not an object; send an object like the one under /docs.")
    return value


def json_type(value: object) -> str:
    """What JSON calls the type of `value`, with its article."""
    if value is None:
        return "null"
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        (list, "a list"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "an object")


def refuse_unknown(names: Iterable[str], known: Iterable[str], *, where: str) -> None:
    """Passes when `names` are all `known`.

    Raises:
        RequestError: 422 naming the first unknown one and the nearest known one.
    """
    candidates = list(known)
    for name in names:
        if name not in candidates:
            nearest = difflib.get_close_matches(name, candidates, n=1)
            fix = f"did you mean {nearest[0]}?" if nearest else f"{where} knows {', '.join(candidates)}."
            raise invalid(name, f"is unknown in {where}; {fix}")


def _refuse_constant(token: str) -> Any:
    raise RequestError(422, f"The body holds {token}, which is not JSON; send null for a missing value.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise invalid(twice, "is given twice in one object; send it once.")
    return result


def json_response(members: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """The answer of these members."""
    return Response(json.dumps(members, allow_nan=False), headers=dict(headers or {}), media_type=JSON)
