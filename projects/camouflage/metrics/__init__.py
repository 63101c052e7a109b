"""The measures of camouflaged object detection, equal to PySODMetrics and quicker."""

from projects.camouflage.metrics.scores import camouflage_scores, dataset_scores, score_image

__all__ = ['camouflage_scores', 'dataset_scores', 'score_image']
