"""Networks of the roof-line room."""

from projects.roofline.models.line_verifier import LineVerifier
from projects.roofline.models.map_head import RoofMapHead
from projects.roofline.models.roofmapnet import RoofMapNet
from projects.roofline.models.stacked_hourglass import StackedHourglass

__all__ = ['LineVerifier', 'RoofMapHead', 'RoofMapNet', 'StackedHourglass']
