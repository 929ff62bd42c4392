"""How a picture was made goes into its file and comes back here."""

from modules.metadata.files import MetadataError, read, source_type, write
from modules.metadata.recipe import Recipe, adapters

__all__ = ["MetadataError", "Recipe", "adapters", "read", "source_type", "write"]
