"""The aliases of model versions that this project gives a meaning."""

CHAMPION = "champion"
"""The version that answers where a model is asked by its name alone."""
CHALLENGER = "challenger"
"""The newest that failed its gates."""
