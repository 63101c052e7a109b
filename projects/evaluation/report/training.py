"""The curves of one run."""

from projects.evaluation.plots import curve_figures
from projects.evaluation.report.page import Section, note, panels
from projects.evaluation.report.score_tables import task_scores
from projects.evaluation.workdir import Run


def curve_section(run: Run) -> list[Section]:
    """Return the loss, the validation scores and the learning rate of one run."""
    if not run.curves:
        return []
    runs = [(0, run.curves)]
    drawn = panels(lambda theme: curve_figures(runs, theme, task_scores([run])))
    words = 'Pale lines are single readings, strong ones their running mean.'
    if run.curves.starts:
        words += ' Dotted lines mark where the run was resumed.'
    return [('curves', 'Training', drawn + note(words))]
