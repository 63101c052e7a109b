"""Score a model against the original and against the corrected labels: the same predictions, two truths."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.progress import progress
from projects.evaluation.confusion import confusion_numpy
from projects.evaluation.result import Evaluation, SampleResult
from projects.evaluation.tables import text_table
from projects.landcover.correction.candidates import Member, dataset_of, predicting
from projects.landcover.data.changes import check_settled
from projects.landcover.data.ledger import last_rows, original_masks, read_ledger
from projects.landcover.data.manifest import read_manifest
from projects.landcover.taxonomy import get_taxonomy


@dataclass(frozen=True)
class TwoScores:
    """Scores of one model on one split.

    Args:
        original, corrected: Against the labels that the data came with, and against those in use.
        replaced: Number of the split's labels that differ.
        own: How many of these are this very checkpoint's predictions (by SHA-256).
    """

    original: Evaluation
    corrected: Evaluation
    replaced: int
    own: int

    def lines(self) -> list[str]:
        """Return both tables and the differences, and what must be known to read them."""
        before, after = self.original.summary(), self.corrected.summary()
        rows = [[name, f'{before[name]:.2%}', f'{after[name]:.2%}', f'{100 * (after[name] - before[name]):+.2f}']
                for name in before]
        for index, name in enumerate(self.original.classes):
            one, two = self.original.scores.iou[index], self.corrected.scores.iou[index]
            rows.append([f'IoU {name}', f'{one:.2%}', f'{two:.2%}', f'{100 * (two - one):+.2f}'])
        lines = ['against the original labels:', *self.original.text().splitlines(), '',
                 f'against the corrected labels ({self.replaced} of {len(self.original.samples)} images differ):',
                 *self.corrected.text().splitlines(), '',
                 *text_table(['', 'original', 'corrected', 'difference'], rows).splitlines()]
        if self.own:
            lines.append(f'{self.own} of the {self.replaced} corrected labels are predictions of this very checkpoint: '
                         'on them the model is judged by itself, so the corrected scores prove nothing')
        elif self.replaced:
            lines.append('the corrected labels are predictions of other models: a model trained from them, or like '
                         'them, is judged by its own kind')
        return lines


def score_both(root: str | Path, member: Member, split: str = 'val', cfg_options: dict[str, Any] | None = None,
               device: str | None = None) -> TwoScores:
    """Score a model on a split against original and corrected labels; every image is predicted once.

    Args:
        root: Root folder of the prepared data set.
        member: The model.
        split: 'train', 'val' or 'test' (whose labels are never corrected).
        cfg_options: Dotted paths and values for the config.
        device: Default CUDA where it works, else the CPU.

    Raises:
        UserError: nothing in the split, or a ledger, config or checkpoint that cannot be used.
    """
    root = Path(root)
    check_settled(root)
    manifest = read_manifest(root)
    taxonomy = get_taxonomy(manifest['taxonomy'])
    total = sum(item['split'] == split for item in manifest['items'])
    if not total:
        raise UserError(f'{root}: no images in split {split}')
    originals, last = original_masks(root), last_rows(read_ledger(root))
    classes, found = len(taxonomy.classes), ([], [])
    members = {item['id'] for item in manifest['items'] if item['split'] == split}
    with predicting(member, root, taxonomy, cfg_options, device) as (predict, cfg):
        before = dataset_of(cfg, root, split, taxonomy, 'original')
        for index, (name, label, probabilities) in enumerate(progress(predict(split), 'score', total, 'image')):
            prediction = probabilities.argmax(axis=0)
            old = label
            if name in originals:
                sample = before[index]['data_samples']
                assert sample.sample_id == name
                old = sample.gt_sem_seg.data[0].numpy()
            for truth, samples in ((old, found[0]), (label, found[1])):
                samples.append(SampleResult(name, confusion_numpy(truth, prediction, classes, where=name)))
    evaluations = [Evaluation.from_samples(samples, taxonomy.classes, palette=taxonomy.palette,
                                           background=taxonomy.background) for samples in found]
    changed = [row for name, row in last.items() if name in members]
    digest = sha256_of(member.checkpoint)
    own = sum(row.checkpoint_sha256 == digest for row in changed)
    return TwoScores(*evaluations, replaced=len(changed), own=own)
