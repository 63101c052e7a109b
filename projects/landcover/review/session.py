"""What happens during a review, without a page: order of the predictions, position, decisions, undo, notes."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from projects.engine.errors import UserError
from projects.landcover.data.candidates import Candidates, Item
from projects.landcover.data.decisions import KEEP, SKIP, UNDONE, Decision, append_decision, last_rows, read_rows


@dataclass(frozen=True)
class Counts:
    """How far a review is. Replaced labels are one number: counts of each model would give away which is which."""

    total: int
    kept: int
    replaced: int
    skipped: int

    @property
    def decided(self) -> int:
        return self.kept + self.replaced + self.skipped


class Session:
    """A review of candidates whose every decision is on disk before the next image is shown.

    Args:
        candidates: What to review.
        path: The decisions file; it is read first, so that a review goes on where it stopped.
        now: Gives the time of a decision.

    Raises:
        UserError: the decisions file cannot be read.
    """

    def __init__(self, candidates: Candidates, path: Path,
                 now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.candidates = candidates
        self.path = path
        self.now = now
        self.numbers = {item.sample_id: number for number, item in enumerate(candidates.items)}
        rows = read_rows(path, candidates.letters) if path.is_file() else []
        self.foreign = sorted({row.sample_id for row in rows} - set(self.numbers))
        # Last row of each sample, the latest last: undo goes backwards through it.
        self.rows = last_rows([row for row in rows if row.sample_id in self.numbers])

    def item(self, number: int) -> Item:
        """Return an item by its position, from 0.

        Raises:
            UserError: there is no such item.
        """
        if not 0 <= number < len(self.candidates.items):
            raise UserError(f'item {number}: expected 0 to {len(self.candidates.items) - 1}')
        return self.candidates.items[number]

    def order(self, number: int) -> tuple[str, ...]:
        """Return the models' letters as they are shown for an item: shuffled by a seed of its own, always alike."""
        seed = hashlib.sha256(f'{self.candidates.hash}/{self.item(number).sample_id}'.encode()).digest()
        letters = sorted(self.candidates.letters)
        random.Random(seed).shuffle(letters)
        return tuple(letters)

    def shown(self, number: int) -> str | None:
        """Return the choice made for an item as the page calls it: keep, skip or the place from '1'; None if none."""
        row = self.rows.get(self.item(number).sample_id)
        if row is None or row.decision == UNDONE:
            return None
        if row.decision in (KEEP, SKIP):
            return row.decision
        return str(self.order(number).index(row.decision) + 1)

    def note(self, number: int) -> str:
        """Return what was noted about an item."""
        row = self.rows.get(self.item(number).sample_id)
        return '' if row is None else row.note

    def next_undecided(self, after: int = -1) -> int | None:
        """Return the first undecided item behind a position, or else before it; None when all are decided."""
        numbers = [*range(after + 1, len(self.candidates.items)), *range(after + 1)]
        return next((number for number in numbers if self.shown(number) is None), None)

    def counts(self) -> Counts:
        """Count the decisions."""
        shown = [self.shown(number) for number in range(len(self.candidates.items))]
        kept, skipped = shown.count(KEEP), shown.count(SKIP)
        return Counts(len(shown), kept, len(shown) - kept - skipped - shown.count(None), skipped)

    def decide(self, number: int, choice: str, note: str = '') -> int | None:
        """Write a decision and return the next undecided item, or None.

        Args:
            number: The item.
            choice: ``keep``, ``skip``, or the place of a prediction on the page, from ``1``.
            note: Free text.

        Raises:
            UserError: there is no such item or choice, or a file that it rests on has changed; then nothing is written.
            OSError: the decision cannot be written; it does not count then.
        """
        item, order = self.item(number), self.order(number)
        if choice in (KEEP, SKIP):
            decision = choice
        elif choice in [str(place) for place in range(1, len(order) + 1)]:
            decision = order[int(choice) - 1]
            item.predictions[decision].read()
        else:
            raise UserError(f'decision: expected {KEEP}, {SKIP} or 1 to {len(order)}, found {choice!r}')
        if decision != SKIP:
            item.mask.read()
        self._write(number, decision, note)
        return self.next_undecided(number)

    def undo(self) -> int | None:
        """Take back the latest decision that still counts and return its item; None when there is none."""
        for sample_id, row in reversed(self.rows.items()):
            if row.decision != UNDONE:
                number = self.numbers[sample_id]
                self._write(number, UNDONE, row.note)
                return number
        return None

    def write_note(self, number: int, note: str) -> bool:
        """Write a changed note at once, with the decision as it stands; say whether there was something to write."""
        note = ' '.join(note.split())
        if note == self.note(number):
            return False
        row = self.rows.get(self.item(number).sample_id)
        self._write(number, UNDONE if row is None else row.decision, note)
        return True

    def _write(self, number: int, decision: str, note: str) -> None:
        sample_id = self.item(number).sample_id
        row = Decision(sample_id, decision, ' '.join(note.split()), self.now().isoformat(timespec='seconds'),
                       ''.join(self.order(number)))
        append_decision(self.path, row)
        self.rows.pop(sample_id, None)
        self.rows[sample_id] = row
