"""One HTML page about a run, or about several beside each other: self-contained, without scripts, light or dark."""

from projects.evaluation.report.page import embed_picture
from projects.evaluation.report.write import write_report

__all__ = ['embed_picture', 'write_report']
