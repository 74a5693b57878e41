"""The keys that clients of an endpoint show: kept as hashes, with a rate and a quota each.

A key has 256 random bits, so that its SHA-256 alone tells nothing of it: no salt and no slow hash are needed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from mlcluster.errors import SpecError
from mlcluster.serve.private_file import replace_private

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PREFIX = "mlc_"
"""For scanners of leaked secrets, and people, to know one by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """One key, without the secret."""

    name: str = Field(pattern=f"^{_NAME.pattern}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    per_second: PositiveInt | None = None
    """Requests that may come within a second; None sets no limit."""
    per_day: PositiveInt | None = None
    """Within the last 24 hours."""


_FILE = TypeAdapter(tuple[ApiKey, ...])


class ApiKeys:
    """The keys of one endpoint."""

    def __init__(self, keys: tuple[ApiKey, ...] = ()) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self.keys)

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """Those in the file.

        Raises:
            SpecError: it is not there, or holds something else.
        """
        if not path.exists():
            raise SpecError(f"serve.api_keys = {path} is not there; make a key with `mlcluster key api NAME`.")
        try:
            return cls(_FILE.validate_json(path.read_bytes()))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise SpecError(
                f"serve.api_keys = {path} holds no keys ({where} {problem['msg']}); make one with `mlcluster key api`."
            ) from error

    def write(self, path: Path) -> None:
        """Into the file, for its owner alone, in one step."""
        replace_private(path, _FILE.dump_json(self.keys, indent=1).decode() + "\n")

    def with_new(self, name: str, *, per_second: int | None, per_day: int | None) -> tuple[ApiKeys, str]:
        """These and a new one; and its secret, which is kept nowhere.

        Raises:
            SpecError: the name is taken, or has other characters than letters, digits, `.`, `_` and `-`.
        """
        if not _NAME.fullmatch(name):
            raise SpecError(f"NAME = {name} is no name of a key; take up to 64 letters, digits, dots, - and _.")
        if any(key.name == name for key in self.keys):
            raise SpecError(f"NAME = {name} has a key already; revoke that, or take another name.")
        secret = _PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(name=name, sha256=sha256_of(secret), per_second=per_second, per_day=per_day)
        return ApiKeys((*self.keys, key)), secret

    def without(self, name: str) -> ApiKeys:
        """These but that one.

        Raises:
            SpecError: there is none of that name.
        """
        left = tuple(key for key in self.keys if key.name != name)
        if len(left) == len(self.keys):
            known = ", ".join(key.name for key in self.keys) or "there is none"
            raise SpecError(f"NAME = {name} has no key; those there are: {known}.")
        return ApiKeys(left)


def sha256_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
