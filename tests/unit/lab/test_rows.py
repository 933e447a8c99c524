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

"""The rows of the lab's matrix, and which of them show a column for others."""

import pytest

from tests.lab import rows
from tests.lab.report import cells

COLUMNS = [
    ('crash_in_detach', 'test_crash.py'),
    ('portal_drops', 'test_faults.py'),
    ('place_taken', 'test_faults.py'),
    ('libvirtd_killed', 'test_faults.py'),
    ('cycles', 'test_figures.py'),
    ('reboot', 'test_reboot.py'),
    ('two_guests', 'test_sharing.py'),
]


def test_every_protocol_is_in_the_short_matrix() -> None:
    named = {row.protocol for row in rows.ROWS}
    assert named == {row.protocol for row in rows.ROWS if row.short}
    assert {'iscsi', 'iser', 'fibre_channel', 'nvmeof', 'nfs', 'smbfs', 'rbd'} < named


@pytest.mark.parametrize('row', rows.ROWS, ids=lambda row: row.name)
def test_what_another_row_shows_is_shown_there(row: rows.Row) -> None:
    for column, file in COLUMNS:
        reason = row.why_not(column, file) or ''
        if not reason.endswith('shows it for this one as well'):
            continue
        other = rows.BY_NAME[reason.split()[1]]
        assert other.name != row.name
        because = other.why_not(column, file)
        assert (
            because is None or because in row.missing.values() or because in other.missing.values()
        )


@pytest.mark.parametrize(('column', 'file'), COLUMNS)
def test_every_column_is_shown_by_some_row(column: str, file: str) -> None:
    assert file in cells.FILES
    assert [row for row in rows.ROWS if row.why_not(column, file) is None]


def test_a_life_is_shown_by_each_row_itself() -> None:
    empty = {row.name for row in rows.ROWS if row.why_not('attach', 'test_life.py')}
    assert empty == {row.name for row in rows.ROWS if '*' in row.missing}
