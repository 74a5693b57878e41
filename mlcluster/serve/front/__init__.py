"""The front door: an HAProxy before the replicas, its configuration, its keeper and who stands behind it."""
