"""The page that a person who opens the endpoint in a browser sees: the model's form, and what it answers.

One document that loads nothing, so that it works without the internet. Names and values of the model travel as JSON and
reach the page as text, and the browser is told to run this one script alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from mlcluster.data import FeatureColumn
from mlcluster.data.transform import CodedCategory, ColumnEncoding, ScaledNumber
from mlcluster.serve.openapi import example_row, infer_example
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.tensors import TensorSpec, input_specs, output_specs

_MAX_LEVELS = 500
_MAX_EXAMPLES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class HomePage:
    """A page, ready to be sent."""

    document: bytes
    policy: str
    """Of the header `content-security-policy`."""


def home_page(predictor: Predictor) -> HomePage:
    """The page of one model, the same for each request."""
    style, script = _text("page.css"), _text("page.js")
    path = f"v2/models/{predictor.name}"
    body = _quoted(infer_example(predictor))
    values = {
        "title": predictor.name,
        "version": predictor.version,
        "family": predictor.bundle.card.family,
        "target": predictor.schema.target.name,
        "task": predictor.bundle.card.task,
        "curl": f"curl -s $URL/{path}/infer -H 'content-type: application/json' -d '{body}'",
    }
    document = Template(_text("page.html")).substitute(
        {name: escape(value) for name, value in values.items()},
        inputs="".join(_row(spec) for spec in input_specs(predictor.schema)),
        outputs="".join(_row(spec) for spec in output_specs(predictor.schema)),
        # Nothing in the JSON may end the element that it stands in.
        model=json.dumps(_description(predictor)).replace("<", "\\u003c"),
        style=style,
        script=script,
    )
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HomePage(document=document.encode(), policy=policy)


def _text(name: str) -> str:
    return (files("mlcluster.serve") / "page" / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _quoted(body: dict[str, Any]) -> str:
    """JSON for a shell's single quotes."""
    return json.dumps(body).replace("'", "\\u0027")


def _description(predictor: Predictor) -> dict[str, Any]:
    """What the form is drawn from."""
    examples = [example_row(predictor), *predictor.bundle.input_example[1:_MAX_EXAMPLES]]
    columns = zip(
        predictor.schema.features, input_specs(predictor.schema), predictor.bundle.transform.columns, strict=True
    )
    return {
        "name": predictor.name,
        "target": predictor.schema.target.name,
        "classes": predictor.schema.target.classes,
        "columns": [_column(*each) for each in columns],
        "examples": examples,
    }


def _column(column: FeatureColumn, spec: TensorSpec, encoding: ColumnEncoding) -> dict[str, Any]:
    levels = encoding.levels[:_MAX_LEVELS] if isinstance(encoding, CodedCategory) else ()
    low, high = (encoding.low, encoding.high) if isinstance(encoding, ScaledNumber) else (None, None)
    return {
        "name": column.name,
        "kind": column.kind,
        "datatype": spec.datatype,
        "missing": column.has_missing,
        "levels": levels,
        "low": low,
        "high": high,
    }


def _row(spec: TensorSpec) -> str:
    shape = " by ".join("rows" if size == -1 else str(size) for size in spec.shape)
    return f"<tr><th scope='row'>{escape(spec.name)}</th><td>{escape(spec.datatype)}</td><td>{shape}</td></tr>"
