"""Networks of the land-cover room."""

from projects.landcover.models.ftunetformer_head import FTUNetFormerHead

__all__ = ['FTUNetFormerHead']
