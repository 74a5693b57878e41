"""The page that a person who opens the endpoint in a browser sees."""

from __future__ import annotations

import json
from html import escape

from mlcluster.serve.openapi import infer_example
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.tensors import input_specs, output_specs

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{text-align:left;padding:.15rem 1rem .15rem 0}}
pre{{background:#8881;padding:1rem;overflow:auto}}</style>
<h1>{name}</h1>
<p>Version {version}: {family} for <b>{target}</b> ({task}). It answers.</p>
<p><a href="docs">Try it</a> · <a href="{metadata}">Metadata</a> · <a href="metrics">Metrics</a>
· <a href="openapi.json">OpenAPI</a></p>
<h2>Inputs</h2><table>{inputs}</table>
<h2>Outputs</h2><table>{outputs}</table>
<h2>From a shell</h2><pre>{curl}</pre>
</html>
"""


def home_page(predictor: Predictor, *, base_url: str) -> str:
    """HTML with the model's name, columns and a command that works; `base_url` ends without a slash."""
    path = f"v2/models/{predictor.name}"
    body = json.dumps(infer_example(predictor)).replace("'", "\\u0027")
    curl = f"curl -s {base_url}/{path}/infer -H 'content-type: application/json' -d '{body}'"
    values = {
        "name": predictor.name,
        "version": predictor.version,
        "family": predictor.bundle.card.family,
        "target": predictor.schema.target.name,
        "task": predictor.bundle.card.task,
        "metadata": path,
        "curl": curl,
    }
    return _PAGE.format(
        **{key: escape(value) for key, value in values.items()},
        inputs="".join(_row(spec.name, spec.datatype) for spec in input_specs(predictor.schema)),
        outputs="".join(_row(spec.name, spec.datatype) for spec in output_specs(predictor.schema)),
    )


def _row(name: str, datatype: str) -> str:
    return f"<tr><td>{escape(name)}</td><td>{escape(datatype)}</td></tr>"
