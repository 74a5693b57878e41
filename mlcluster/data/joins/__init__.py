"""What else is known of each row?

In: a source, another one, and the key by which they belong together. Out: one source with the columns of both, the same
for one block and for fifty, and a report of what found its key and what did not.
"""

from mlcluster.data.joins.join import join_sources
from mlcluster.data.joins.normalise import normalised
from mlcluster.data.joins.report import JoinReport

__all__ = ["JoinReport", "join_sources", "normalised"]
