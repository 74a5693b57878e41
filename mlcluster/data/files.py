"""Finding files: a path, folder, glob or URI as the sorted files of one format behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow as pa
from pyarrow import fs

from mlcluster.data.places import expanded, first_line, without_credentials
from mlcluster.errors import DataError

Format = Literal["parquet", "csv", "json"]

FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}

# `?name=` begins the options of an object store; any other `?` is that of a glob.
_OPTIONS = re.compile(r"\?(?=[a-z_]+=)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What was asked for: the key of the project file that asks, and its value. `shown` has no credentials."""

    key: str
    text: str

    @property
    def shown(self) -> str:
        return without_credentials(self.text)

    def error(self, problem: str) -> DataError:
        """`problem` said of the key and its value."""
        return DataError(f"{self.key} = {self.shown} {problem}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """A path on a file system. `root` is a URI for a remote one, options and credentials included, else None."""

    root: str | None
    filesystem: fs.FileSystem
    path: str


def locate(asked: Asked, base: Path) -> Location:
    """The file system and the path in it; a relative path starts at `base`, `${NAME}` is filled in.

    Raises:
        DataError: no file system goes by that scheme, or a variable is not set.
    """
    text = expanded(asked.text, key=asked.key)
    if "://" not in text:
        path = (base / Path(text).expanduser()).resolve().as_posix()
        return Location(root=None, filesystem=fs.LocalFileSystem(), path=path)
    if text.startswith("file://"):
        return Location(root=None, filesystem=fs.LocalFileSystem(), path=text.removeprefix("file://"))
    place, *options = _OPTIONS.split(text, maxsplit=1)
    plain = re.split(r"[*?\[]", place, maxsplit=1)[0]
    root = "?".join([plain, *options])
    try:
        filesystem, path = fs.FileSystem.from_uri(root)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise asked.error(f"cannot be opened ({first_line(error, secret=text)}); use s3:// or gs://.") from error
    return Location(root=root, filesystem=filesystem, path=path + place[len(plain) :])


def find_files(asked: Asked, location: Location) -> list[str]:
    """The files of a path, directory or glob, sorted.

    Raises:
        DataError: there are none, or they are of several formats or of one that is not known.
    """
    filesystem, path = location.filesystem, location.path
    if re.search(r"[*?\[]", path) and filesystem.get_file_info(path).type == fs.FileType.NotFound:
        fixed = re.split(r"[*?\[]", path, maxsplit=1)[0].rsplit("/", maxsplit=1)[0]
        pattern = re.compile(_glob_pattern(path))
        found = [each for each in _listed(filesystem, fixed) if pattern.match(each)]
    elif filesystem.get_file_info(path).type == fs.FileType.File:
        found = [path]
    else:
        found = [each for each in _listed(filesystem, path) if format_of(each)]
    if not found:
        raise asked.error("matches no file; check the path, which is relative to the project file.")
    unknown = next((each for each in found if format_of(each) is None), None)
    if unknown is not None:
        known = ", ".join(FORMATS)
        raise DataError(f"{asked.key} = {unknown} has an unknown format; give a file that ends in {known}.")
    formats = sorted({str(format_of(each)) for each in found})
    if len(formats) > 1:
        raise asked.error(f"mixes formats ({', '.join(formats)}); name the files of one of them.")
    return sorted(found)


def format_of(path: str) -> Format | None:
    """By the end of the file's name; a `.gz` behind it is unpacked where the format allows."""
    pure = PurePosixPath(path.lower())
    if pure.suffix == ".gz":
        pure = pure.with_suffix("")
        return FORMATS.get(pure.suffix) if pure.suffix not in (".parquet", ".pq") else None
    return FORMATS.get(pure.suffix)


def short_names(paths: list[str]) -> list[str]:
    """The paths without the folders that they share."""
    if len(paths) == 1:
        return [PurePosixPath(paths[0]).name]
    folders = [PurePosixPath(path).parent.parts for path in paths]
    shared = 0
    while all(len(folder) > shared for folder in folders) and len({folder[shared] for folder in folders}) == 1:
        shared += 1
    return ["/".join(PurePosixPath(path).parts[shared:]) for path in paths]


def _glob_pattern(path: str) -> str:
    """`*` and `?` stay within one folder, `**/` crosses any number of them."""
    meanings = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    tokens = re.findall(r"\*\*/|\*|\?|\[[^]]+\]|[^*?\[]+|\[", path)
    return "".join(meanings.get(t) or (t if t[:1] == "[" and len(t) > 1 else re.escape(t)) for t in tokens) + "$"


def _listed(filesystem: fs.FileSystem, folder: str) -> list[str]:
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    infos = [info for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    hidden = re.compile(r"(^|/)[._]")
    return [info.path for info in infos if not hidden.search(info.path.removeprefix(folder)) and info.size]
