"""A file at `http://` or `https://`: asked whether it has changed, and fetched only then."""

from __future__ import annotations

import base64
import hashlib
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from mlcluster.data.catalog.cache import Fetched, SourceCache
from mlcluster.data.files import FORMATS, Asked, format_of
from mlcluster.data.places import expanded, first_line, without_credentials
from mlcluster.data.source import SourceFile, refuse_unlisted
from mlcluster.errors import DataError

_WAIT_SECONDS = 30.0
"""For each answer of the server, and for each next piece of it."""
_WHOLE_SECONDS = 1800.0
_UNCHANGED = 304
_SUFFIXES = {
    "text/csv": ".csv",
    "application/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/x-ndjson": ".ndjson",
    "application/jsonl": ".jsonl",
    "application/vnd.apache.parquet": ".parquet",
    "application/x-parquet": ".parquet",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """What is let in: at most so many bytes, and, where hashes are given, only a file with one of them."""

    max_bytes: float
    allowed: tuple[str, ...] = ()


def fetch_file(asked: Asked, limits: HttpLimits, cache: SourceCache) -> Fetched:
    """The file, fetched anew only if the server says that it has changed.

    Raises:
        DataError: the server does not give it, it is larger than the limit, of no known format, or not on the list.
    """
    url = expanded(asked.text, key=asked.key)

    def ask(known: Fetched | None) -> Fetched:
        try:
            with closing(_open(url, known)) as answer:
                if answer.status == _UNCHANGED and known is not None:
                    return known
                return _fetched(asked, limits, cache, answer)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the answer, and with it the line to the server
            reason = first_line(error, secret=url)
            raise DataError(
                f"{asked.key} = {asked.shown} cannot be fetched ({reason}); check the URL, and that it answers."
            ) from error

    fetched = cache.fetch(("http", without_credentials(url)), ask)
    refuse_unlisted(asked.key, [_as_file(asked, fetched.sha256, fetched.size_bytes)], limits.allowed)
    return fetched


def file_name(asked: Asked) -> str:
    """The last part of the URL's path."""
    return PurePosixPath(urllib.parse.urlsplit(asked.shown).path).name or urllib.parse.urlsplit(asked.shown).netloc


def _as_file(asked: Asked, sha256: str, size: int) -> SourceFile:
    return SourceFile(name=file_name(asked), size_bytes=size, sha256=sha256)


def _open(url: str, known: Fetched | None) -> Any:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SafeRedirects(),
        _Unchanged(),
    ):
        opener.add_handler(handler)
    return opener.open(_request(url, known), timeout=_WAIT_SECONDS)


def _request(url: str, known: Fetched | None) -> urllib.request.Request:
    """User and password of the URL go to its own host alone, and not where that redirects to."""
    parts = urllib.parse.urlsplit(url)
    plain = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(plain)  # noqa: S310 - http and https only
    request.add_header("User-Agent", "mlcluster")
    request.add_header("Accept-Encoding", "identity")
    if known is not None and known.etag is not None:
        request.add_header("If-None-Match", known.etag)
    elif known is not None and known.last_modified is not None:
        request.add_header("If-Modified-Since", known.last_modified)
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return request


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """To http and https alone, and never from https to http."""

    def redirect_request(self, req: urllib.request.Request, *answer: Any) -> urllib.request.Request | None:
        new_url = str(answer[-1])
        scheme = urllib.parse.urlsplit(new_url).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            answer[0].close()
            raise ValueError(f"it redirects to {scheme}://, which is not followed")
        return super().redirect_request(req, *answer)


class _Unchanged(urllib.request.BaseHandler):
    """304 is an answer, and no error."""

    def http_error_304(self, _request: object, answer: Any, *_more: object) -> Any:
        return answer


def _fetched(asked: Asked, limits: HttpLimits, cache: SourceCache, answer: Any) -> Fetched:
    suffix = _suffix(asked, answer.headers.get_content_type())
    with cache.new_file() as path:
        sha256, size = _download(answer, path, limits.max_bytes)
        refuse_unlisted(asked.key, [_as_file(asked, sha256, size)], limits.allowed)
        cache.adopt(path, sha256 + suffix)
    last_modified = answer.headers.get("Last-Modified")
    return Fetched(
        file=sha256 + suffix,
        sha256=sha256,
        size_bytes=size,
        modified_at=None if last_modified is None else parsedate_to_datetime(last_modified).timestamp(),
        etag=answer.headers.get("ETag"),
        last_modified=last_modified,
    )


def _download(answer: Any, path: Path, max_bytes: float) -> tuple[str, int]:
    digest, size, until = hashlib.sha256(), 0, time.monotonic() + _WHOLE_SECONDS
    with path.open("wb") as file:
        while chunk := answer.read(1 << 20):
            size += len(chunk)
            if size > max_bytes:
                raise ValueError(f"it is larger than max_mb = {max_bytes / 1e6:g}")
            if time.monotonic() > until:
                raise ValueError(f"it was not there after {_WHOLE_SECONDS:g} s")
            digest.update(chunk)
            file.write(chunk)
    expected = answer.headers.get("Content-Length")
    if expected is not None and int(expected) != size:
        raise ValueError(f"it broke off after {size} of {expected} bytes")
    return digest.hexdigest(), size


def _suffix(asked: Asked, content_type: str) -> str:
    """Of the URL's path; where that says nothing, by the type that the server gives."""
    path = PurePosixPath(file_name(asked).lower())
    if format_of(path.name) is not None:
        return "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:])
    if content_type in _SUFFIXES:
        return _SUFFIXES[content_type]
    raise ValueError(f"its format is unknown: the URL ends in none of {', '.join(FORMATS)}, and it is {content_type}")
