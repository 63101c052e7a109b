"""The measures of wireframes: structural AP, junction AP, heat-map F, endpoint error, planar faces."""

from projects.roofline.metrics.image_scores import ImageScores, score_image
from projects.roofline.metrics.split_scores import split_scores

__all__ = ['ImageScores', 'score_image', 'split_scores']
