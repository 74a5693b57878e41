"""Which tables are there?

In: `data.sources`. Out: sources whose blocks can be read, and a record of each (columns, rows, owner, age, hash) with
the versions that were seen of it. Files are read where they lie; what a server, a query or a Delta table gives is
fetched once a command and read from a cache.
"""

from mlcluster.data.catalog.cache import SourceCache
from mlcluster.data.catalog.opening import OpenSource, Shelf, all_sources, check_name, open_main, open_named
from mlcluster.data.catalog.records import Column, SourceRecord, span_text, stale_findings
from mlcluster.data.catalog.versions import CatalogFile, SeenVersion

__all__ = [
    "CatalogFile",
    "Column",
    "OpenSource",
    "SeenVersion",
    "Shelf",
    "SourceCache",
    "SourceRecord",
    "all_sources",
    "check_name",
    "open_main",
    "open_named",
    "span_text",
    "stale_findings",
]
