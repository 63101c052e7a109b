"""The review page: what is on it, and what happens when the browser reports a key or a click.

The page is made of NiceGUI elements, which this module changes from Python; the browser moves pictures and reads keys
by itself (:mod:`projects.landcover.review.script`), since that has to be quicker than a way to the server and back.
Pictures are served by item number and kind, never by path.
"""

import json
import os
import shlex
from typing import Any

from fastapi import FastAPI, Response
from nicegui import Client, events, ui
from nicegui.elements.mixins.text_element import TextElement

from projects.engine.errors import UserError, told
from projects.landcover.data.decisions import DECISIONS_NAME, KEEP, SKIP
from projects.landcover.review.pictures import Pictures
from projects.landcover.review.script import SCRIPT
from projects.landcover.review.session import Session
from projects.landcover.review.style import STYLE

FAVICON = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" '
           'fill="#2d6cc0"/><path d="M8 17l5 5 11-12" fill="none" stroke="#fff" stroke-width="3.5" '
           'stroke-linecap="round" stroke-linejoin="round"/></svg>')
AHEAD = 3  # items whose pictures are fetched before they are needed
KEYS = (
    ('K', 'keep the label'), ('1 – 9', 'replace it by this prediction'), ('S', 'skip: cannot tell'),
    ('U or Z', 'undo the last decision'), ('← →', 'previous and next image'), ('N', 'write a note'),
    ('D', 'show differences only, or all'), ('H', 'hide or show the colours'), ('+ −', 'stronger or weaker colours'),
    (', .', 'zoom out and in; 0 fits the image'), ('Shift + arrows', 'move the enlarged image'), ('?', 'this help'),
)


class Text(TextElement):
    """Text in an HTML element of any kind."""

    def __init__(self, text: str = '', tag: str = 'span', classes: str = '') -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)


def box(tag: str = 'div', classes: str = '', **attributes: str) -> ui.element:
    """Return an HTML element; underscores in names of attributes become hyphens."""
    element = ui.element(tag).classes(classes)
    element._props.update({name.replace('_', '-'): value for name, value in attributes.items()})
    return element


def add_page(app: FastAPI, session: Session) -> None:
    """Add the page at ``/`` and its pictures below ``/picture`` to an application with NiceGUI."""
    pictures = Pictures(session.candidates)

    @app.get('/picture/{number}/{kind}')
    def picture(number: int, kind: str) -> Response:
        try:
            data, media = find_picture(session, pictures, number, kind)
        except UserError as error:
            return Response(told(error), 409, media_type='text/plain')
        return Response(data, media_type=media, headers={'cache-control': 'private, max-age=3600'})

    @ui.page('/', response_timeout=30)
    async def review(client: Client) -> None:
        ui.add_css(STYLE)
        ui.add_body_html(f'<script>{SCRIPT}</script>')
        page = Page(session, pictures, client)
        await client.connected(timeout=30)
        page.start()


def find_picture(session: Session, pictures: Pictures, number: int, kind: str) -> tuple[bytes, str]:
    """Return the bytes and the media type of a picture.

    Args:
        session, pictures: What is reviewed.
        number: The item.
        kind: ``image``; ``label`` or the place of a prediction from ``1``; either with ``-difference``.

    Raises:
        UserError: there is no such picture, or its file cannot be shown.
    """
    order = session.order(number)
    places = {'label': '', **{str(place): letter for place, letter in enumerate(order, 1)}}
    if kind == 'image':
        return pictures.image(number)
    name, _, rest = kind.partition('-')
    if name not in places or rest not in ('', 'difference'):
        raise UserError(f'no such picture: {kind!r}')
    return (pictures.difference if rest else pictures.classes)(number, places[name])


def apply_command(session: Session) -> str:
    """Return the command that applies a review's decisions."""
    folder = session.candidates.folder
    words = ['tools/landcover/correct.py', 'apply', os.path.normpath(session.candidates.data_root), str(folder)]
    if session.path != folder / DECISIONS_NAME:
        words += ['--decisions', str(session.path)]
    return shlex.join(words)


class Page:
    """The page in one browser tab.

    Args:
        session: The review, which all tabs share.
        pictures: Its pictures.
        client: The tab.
    """

    def __init__(self, session: Session, pictures: Pictures, client: Client) -> None:
        self.session, self.pictures, self.client = session, pictures, client
        self.taxonomy = session.candidates.taxonomy
        self.places = [str(place) for place in range(1, len(session.candidates.letters) + 1)]
        self.number: int | None = None  # None: all are decided
        self._build()
        ui.on('review', self._on_event)

    def start(self) -> None:
        """Show the first undecided item; called once the browser listens."""
        classes = [[name, *colour] for name, colour in zip(self.taxonomy.classes, self.taxonomy.palette)]
        self._run(f'review.start({json.dumps(classes)})')
        self._go(self.session.next_undecided())

    def _build(self) -> None:
        with box('div', 'review'):
            with box('main', 'shown'):
                self._build_panels()
                self.problem = Text(tag='p', classes='problem').props('role=alert')
            with box('aside', 'side', aria_label='Decision and view'):
                self._build_head()
                self._build_decisions()
                self._build_view()
                self._build_legend()
                self._build_note()
            self.status = Text(tag='div', classes='status').props('role=status aria-live=polite')
            self._build_help()

    def _build_panels(self) -> None:
        columns = (len(self.places) + 3) // 2  # image, label and predictions in two rows
        panels = [('image', 'Image', ''), ('label', 'Current label', 'K')]
        panels += [(place, f'Prediction {place}', place) for place in self.places]
        self.captions: dict[str, Text] = {}
        with box('section', f'panels columns-{columns}', aria_label='Pictures'):
            for kind, name, key in panels:
                with box('figure', 'panel', data_kind=kind):
                    with box('figcaption'):
                        Text(name, 'span', 'name')
                        if key:
                            Text(key, 'kbd')
                        self.captions[kind] = Text(classes='fact')
                        Text(classes='under').props('aria-hidden=true')
                    with box('div', 'stage'), box('div', 'plane'):
                        box('img', 'base', alt='Aerial image', draggable='false')
                        if kind != 'image':
                            box('img', 'layer', alt=name, draggable='false')
                    box('div', 'cross', aria_hidden='true')
            with box('div', 'done') as self.done:
                Text('Every label is decided', 'h2')
                self.summary = Text(tag='p')
                Text('Apply them with', 'p')
                Text(apply_command(self.session), 'code')
                Text('U undoes the last decision; ← goes back to look again.', 'p', 'hint')

    def _build_head(self) -> None:
        with box('header', 'head'):
            self.title = Text(tag='h1')
            self.facts = Text(tag='p', classes='facts')
            self.bar = box('div', 'bar', role='progressbar', aria_label='decided', aria_valuemin='0')
            with self.bar:
                self.parts = [box('span', name) for name in ('kept', 'replaced', 'skipped')]
            with box('div', 'numbers'):
                self.progress = Text(tag='p', classes='count')
                self.counts = Text(tag='p', classes='counts')

    def _build_decisions(self) -> None:
        self.buttons: dict[str, ui.element] = {}
        with box('section', 'group decide', aria_label='Decision'):
            choices = [(KEEP, 'Keep label', 'K'), *((place, f'Prediction {place}', place) for place in self.places),
                       (SKIP, 'Skip', 'S')]
            for choice, name, key in choices:
                css = 'choice'
                if choice != SKIP:
                    css += ' place'
                if choice == KEEP or (choice == self.places[-1] and len(self.places) % 2):
                    css += ' whole'  # a row of its own
                with box('button', css, type='button', aria_pressed='false', data_choice=choice) as button:
                    Text(name)
                    Text(key, 'kbd').props('aria-hidden=true')
                button.on('click', js_handler=f'() => review.decide({json.dumps(choice)})')
                self.buttons[choice] = button
            self._button('Undo', 'U', 'review.undo()')

    def _button(self, name: str, key: str, script: str, css: str = 'choice', label: str = '') -> ui.element:
        with box('button', css, type='button', title=f'{label or name} ({key})') as button:
            Text(name)
            if css == 'choice':
                Text(key, 'kbd').props('aria-hidden=true')
        if label:
            button._props['aria-label'] = label
        button.on('click', js_handler=f'() => {script}')
        return button

    def _build_view(self) -> None:
        with box('section', 'group view', aria_label='View'):
            with box('label', 'slider'):
                Text('Colours')
                box('input', 'opacity', type='range', min='0', max='100', step='5',
                    aria_label='Opacity of the colours in per cent')
                Text(tag='output')
            with box('div', 'tools'):
                self._button('Differences', 'D', 'review.differences()', 'tool wide toggle-difference'
                             )._props['aria-pressed'] = 'false'
                self._button('−', ',', 'review.zoom(1 / 1.5)', 'tool', 'Zoom out')
                self._button('Fit', '0', 'review.fit()', 'tool zoomed', 'Fit the image')
                self._button('+', '.', 'review.zoom(1.5)', 'tool', 'Zoom in')
            with box('div', 'tools'):
                self._button('←', 'left arrow', 'review.step(-1)', 'tool', 'Previous image')
                self._button('→', 'right arrow', 'review.step(1)', 'tool', 'Next image')
                self._button('Keys', '?', 'review.help()', 'tool wide', 'All keys')

    def _build_note(self) -> None:
        with box('section', 'group grow'), box('label', 'note'):
            with box('span', 'heading'):
                Text('Note')
                Text('N', 'kbd').props('aria-hidden=true')
            box('textarea', 'text', rows='2', maxlength='1000', placeholder='Saved with the decision')

    def _build_legend(self) -> None:
        self.legend: list[tuple[int, ui.element]] = []
        ids = [*range(len(self.taxonomy.classes)), self.taxonomy.ignore_index]
        with box('section', 'group legend', aria_label='Classes'), box('ul'):
            for index in ids:
                known = index != self.taxonomy.ignore_index
                with box('li', data_index=str(index)) as entry:
                    swatch = box('span', 'swatch' if known else 'swatch hatched', aria_hidden='true')
                    if known:
                        swatch.style(f'background: rgb{tuple(self.taxonomy.palette[index])}')
                    # A zero-width space lets long names break behind an underscore.
                    Text(self.taxonomy.classes[index].replace('_', '_\u200b') if known else 'not labelled')
                self.legend.append((index, entry))

    def _build_help(self) -> None:
        with box('dialog', 'help', aria_label='Keys'):
            Text('Keys', 'h2')
            with box('dl'):
                for key, meaning in KEYS:
                    with box('dt'):
                        Text(key, 'kbd')
                    Text(meaning, 'dd')
            Text('The wheel zooms, dragging moves, a double click fits. Which prediction is which model is hidden, and '
                 'their order changes from image to image.', 'p')
            self._button('Close', 'Esc', 'review.help()', 'tool', 'Close')

    async def _on_event(self, event: events.GenericEventArguments) -> None:
        """Take what the browser reports: ``{action, number, choice, note}``; always answer, so that it waits no more.

        A decision names the item that was on the screen: a key that comes late decides about no other one.
        """
        report = event.args if isinstance(event.args, dict) else {}
        number, note = report.get('number'), str(report.get('note') or '')
        try:
            match report.get('action'):
                case 'decide' if number == self.number is not None:
                    choice = str(report.get('choice'))
                    following = self.session.decide(self.number, choice, note)
                    self._tell('saved: ' + {KEEP: 'label kept', SKIP: 'skipped'}.get(choice, f'prediction {choice}'))
                    self._go(following)
                case 'undo':
                    self._save_note(number, note)
                    undone = self.session.undo()
                    self._tell('nothing to undo' if undone is None else 'undone')
                    self._go(self.number if undone is None else undone)
                case 'step':
                    self._save_note(number, note)
                    last = len(self.session.candidates.items) - 1
                    here = last + 1 if self.number is None else self.number
                    self._go(min(max(here + (1 if report.get('by') == 1 else -1), 0), last))
                case 'note':
                    if self._save_note(number, note):
                        self._tell('note saved')
                case _:
                    self._go(self.number)
        except UserError as error:
            self._fail(told(error))
        except OSError as error:
            self._fail(f'not saved: {self.session.path}: {error.strerror or error}')

    def _save_note(self, number: Any, note: str) -> bool:
        return isinstance(number, int) and number == self.number and self.session.write_note(number, note)

    def _tell(self, text: str) -> None:
        self.status.text = text

    def _fail(self, text: str) -> None:
        self._tell('')
        self.problem.text = text
        self._run('review.answer()')

    def _run(self, script: str) -> None:
        self.client.run_javascript(script)

    def _go(self, number: int | None) -> None:
        """Show an item, or that all are decided."""
        self.number = number
        counts = self.session.counts()
        self.progress.text = f'{counts.decided} of {counts.total}'
        self.counts.text = f'{counts.kept} kept · {counts.replaced} replaced · {counts.skipped} skipped'
        for part, value in zip(self.parts, (counts.kept, counts.replaced, counts.skipped)):
            part.style(f'width: {100 * value / counts.total:.2f}%')
        self.bar._props.update({'aria-valuemax': str(counts.total), 'aria-valuenow': str(counts.decided)})
        self.bar.update()
        self.problem.text = ''
        if number is None:
            self.title.text, self.facts.text = 'Done', f'{counts.total} labels'
            self.summary.text = f'{self.counts.text}. Decisions: {self.session.path}'
            self._run('review.show(null)')
            return
        item, shown = self.session.item(number), self.session.shown(number)
        self.title.text = item.sample_id
        score = '' if item.score is None else f' · score {item.score:.3g}'
        rank = f'rank {item.rank} of {counts.total}' if item.rank == number + 1 else (
            f'rank {item.rank} · {number + 1} of {counts.total}')
        self.facts.text = f'{rank}{score} · {item.split}'
        for choice, button in self.buttons.items():
            if button._props['aria-pressed'] != str(choice == shown).lower():
                button._props['aria-pressed'] = str(choice == shown).lower()
                button.update()
        problem = ''
        try:
            present = set(self.pictures.present(number))
            for place, letter in zip(self.places, self.session.order(number)):
                self.captions[place].text = f'{100 * self.pictures.share(number, letter):.1f} % differ'
        except UserError as error:
            problem, present = told(error), set()
            for place in self.places:
                self.captions[place].text = ''
        self.problem.text = problem
        for index, entry in self.legend:
            entry.classes(add='absent' if index not in present else '', remove='absent' if index in present else '')
        self._run(f'review.show({json.dumps(self._state(number))})')

    def _state(self, number: int) -> dict[str, Any]:
        """Return what the browser has to know about an item."""
        item = self.session.item(number)
        ahead = [n for n in range(number + 1, len(self.session.candidates.items)) if self.session.shown(n) is None]
        return {
            'number': number, 'width': item.width, 'height': item.height, 'note': self.session.note(number),
            'pictures': self._addresses(number),
            'ahead': [address for n in ahead[:AHEAD] for address in self._addresses(n).values()],
        }

    def _addresses(self, number: int) -> dict[str, str]:
        names = ['label', *self.places]
        kinds = ['image', *names, *(f'{name}-difference' for name in names)]
        return {kind: f'/picture/{number}/{kind}?v={self.session.candidates.hash[:12]}' for kind in kinds}
