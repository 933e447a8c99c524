#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""The matrix as one HTML page, which needs nothing but itself, and no script."""

from collections.abc import Iterable
import pathlib
import re
import typing

from lxml import etree
from lxml.html import builder as html

from tests.lab.report import cells
from tests.lab.report import record
from tests.lab.report.style import STYLE

# What XML cannot hold, such as the colours of a terminal.
_UNPRINTABLE = re.compile(r'\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]')

_TITLE = 'Volumes in guests, by every protocol'
_INTRODUCTION = (
    'volumedrivers brings a storage volume to a computer (the host) and into a virtual machine '
    'on it (the guest), and takes it away again without leaving anything behind. '
    'Each row of this table is one way in which a volume comes to the host: a protocol, and how '
    'it was set up. Each column is one thing that has to be right; below the table a sentence '
    'says what. Each cell is a test that has run for real: click on it to see how long '
    'it took, which commands ran on the host, what was logged, and why it failed or does not '
    'apply.'
)
_STAND_IN = (
    'Rows with the word "stand-in" are of products whose hardware or software cannot be had '
    'here. The host uses its real client code; in the place of the product there is a program '
    'that answers as the product does.'
)


def write(path: pathlib.Path, run: dict[str, typing.Any], matrix: cells.Matrix) -> None:
    """Write the page."""
    text = etree.tostring(
        page(run, matrix), method='html', encoding='unicode', doctype='<!DOCTYPE html>'
    )
    path.write_text(text + '\n', encoding='utf-8')


def page(run: dict[str, typing.Any], matrix: cells.Matrix) -> typing.Any:
    """Return the page as an element."""
    parts = [
        html.H1(_TITLE),
        _verdict(matrix),
        html.P(_INTRODUCTION),
        *([html.P(_STAND_IN)] if any(row.stand_in for row in matrix.rows) else []),
        _legend(matrix),
        _table(matrix),
        *_alone(matrix),
        *_figures(matrix),
        html.H2('What the columns mean'),
        html.DL(*_columns([*matrix.columns, *matrix.alone])),
        html.H2('Where and when'),
        _facts(run),
    ]
    head = html.HEAD(
        html.META(charset='utf-8'),
        html.META(name='viewport', content='width=device-width, initial-scale=1'),
        html.TITLE(_TITLE),
        html.STYLE(STYLE),
    )
    return html.HTML(head, html.BODY(*parts), lang='en')


def _verdict(matrix: cells.Matrix) -> typing.Any:
    counts = matrix.counts()
    bad = sum(counts.get(name, 0) for name in cells.BAD)
    good = sum(counts.get(name, 0) for name in cells.GOOD)
    said = (
        f'{bad} of {bad + good} cells that apply are not as they have to be.'
        if bad
        else f'All {good} cells that apply are as they have to be.'
    )
    return html.P(said, html.CLASS('verdict ' + ('failed' if bad or not good else 'passed')))


def _legend(matrix: cells.Matrix) -> typing.Any:
    counts = matrix.counts()
    items = [
        html.LI(
            html.SPAN(name, html.CLASS(f'mark {_class(name)}')),
            f' {counts[name]}: {meaning}',
        )
        for name, meaning in cells.OUTCOMES.items()
        if name in counts
    ]
    return html.UL(*items, html.CLASS('legend'))


def _table(matrix: cells.Matrix) -> typing.Any:
    columns = matrix.columns
    first = html.TR(
        html.TH('row'),
        *(html.TH(html.SPAN(_words(column.name)), title=column.says) for column in columns),
    )
    rows = [
        html.TR(
            _heading(row),
            *(_cell(matrix.cells.get((row.name, column.name)), column) for column in columns),
        )
        for row in matrix.rows
    ]
    return html.DIV(
        html.TABLE(html.THEAD(first), html.TBODY(*rows), html.CLASS('matrix')),
        html.CLASS('wide'),
    )


def _heading(row: cells.Heading) -> typing.Any:
    parts: list[typing.Any] = [row.name]
    details = ', '.join(part for part in (row.protocol, row.detail) if part)
    if details:
        parts.append(html.SMALL(_clean(details)))
    if row.stand_in:
        parts.append(html.SMALL(_clean(f'stand-in: {row.stand_in}'), html.CLASS('stand-in')))
    return html.TH(*parts, scope='row')


def _cell(cell: cells.Cell | None, column: cells.Column) -> typing.Any:
    if cell is None:
        return html.TD('not chosen', html.CLASS('not-chosen'))
    summary: list[typing.Any] = [html.SPAN(cell.outcome)]
    if cell.outcome not in (cells.EMPTY, cells.NOT_RUN):
        summary.append(html.SMALL(f'{cell.seconds:.1f} s'))
    if cell.notes:
        summary.append(html.SMALL('with a note'))
    # One is open at a time: they have the same name.
    details = html.DETAILS(
        html.SUMMARY(*summary, title=_clean(cell.reason[:300])), _inside(cell, column), name='cell'
    )
    return html.TD(details, html.CLASS(_class(cell.outcome)))


def _inside(cell: cells.Cell, column: cells.Column) -> typing.Any:
    parts: list[typing.Any] = [
        html.H3(f'{cell.row or "whole host"}: {_words(column.name)}: {cell.outcome}'),
        html.P(column.says),
        html.P(f'{cell.seconds:.2f} s, and {cell.preparing:.2f} s to prepare it and clear away'),
    ]
    if cell.reason:
        parts += [html.H4('Reason'), html.PRE(_clean(cell.reason))]
    if cell.notes:
        parts += [html.H4('Notes'), *(html.P(_clean(note)) for note in cell.notes)]
    ran = record.cell_commands(cell)
    if ran:
        lines = [
            f'{command.seconds:8.3f} s  exit {command.code:>3}  {command.command}'
            if command.seconds is not None
            else f'  not ended          {command.command}'
            for command in ran
        ]
        parts += [html.H4('Commands'), html.PRE(_clean('\n'.join(lines)))]
    if cell.log:
        where = str(record.log_path(cell))
        parts += [
            html.H4('Log (', html.A('all of it', href=where), ')'),
            html.PRE(_clean('\n'.join(record.log_lines(cell)))),
        ]
    return html.DIV(*parts, html.CLASS('inside'))


def _alone(matrix: cells.Matrix) -> list[typing.Any]:
    """Return the tests of the whole host as a list."""
    if not matrix.alone:
        return []
    rows = [
        html.TR(
            html.TH(_words(column.name), html.SMALL(column.says), scope='row'),
            _cell(matrix.cells.get((None, column.name)), column),
        )
        for column in matrix.alone
    ]
    return [
        html.H2('Tests of the whole host'),
        html.TABLE(html.TBODY(*rows), html.CLASS('matrix alone')),
    ]


def _figures(matrix: cells.Matrix) -> list[typing.Any]:
    found = record.figures(matrix)
    if not found:
        return []
    names = list(dict.fromkeys(figure['name'] for figure in found))
    values = {(figure['row'], figure['name']): figure['value'] for figure in found}
    rows = list(dict.fromkeys(figure['row'] for figure in found))
    order = {row.name: place for place, row in enumerate(matrix.rows)}
    rows.sort(key=lambda row: order.get(row, len(order)))
    body = [
        html.TR(
            html.TH(_clean(row or 'whole host'), scope='row'),
            *(html.TD(_clean(_value(values.get((row, name))))) for name in names),
        )
        for row in rows
    ]
    head = html.TR(html.TH('row'), *(html.TH(html.SPAN(_clean(name))) for name in names))
    return [
        html.H2('Figures'),
        html.P('Durations are in seconds; measured on the host, in this run.'),
        html.DIV(
            html.TABLE(html.THEAD(head), html.TBODY(*body), html.CLASS('figures')),
            html.CLASS('wide'),
        ),
    ]


def _columns(columns: Iterable[cells.Column]) -> typing.Iterator[typing.Any]:
    for column in columns:
        yield html.DT(_words(column.name))
        yield html.DD(column.says or column.file)


def _facts(run: dict[str, typing.Any]) -> typing.Any:
    facts = {
        'host under test': ', '.join(run['hosts']) or 'none could be had',
        **run['versions'],
        'started': run.get('started', ''),
        'took': f'{run.get("seconds", 0):.0f} s',
    }
    return html.TABLE(
        html.TBODY(
            *(
                html.TR(html.TH(_clean(name), scope='row'), html.TD(_clean(str(value))))
                for name, value in facts.items()
            )
        ),
        html.CLASS('facts'),
    )


def _words(name: str) -> str:
    return _clean(name.replace('_', ' '))


def _class(outcome: str) -> str:
    return outcome.replace(' ', '-')


def _value(value: object) -> str:
    return '' if value is None else str(value)


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub('', text)
