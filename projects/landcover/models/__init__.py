"""Networks of the land-cover room."""

from projects.landcover.models.band_preprocessor import BandDataPreProcessor
from projects.landcover.models.ftunetformer_head import FTUNetFormerHead

__all__ = ['BandDataPreProcessor', 'FTUNetFormerHead']
