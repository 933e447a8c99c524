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

"""The journal on a disk of its own, which is full."""

import contextlib
import pathlib
import subprocess

import pytest

from volumedrivers import exception
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key


def fill(place: pathlib.Path) -> None:
    with contextlib.suppress(OSError), place.open('wb', buffering=0) as opened:
        while opened.write(b'x' * 4096):
            pass


ROW = Record(
    key=make_key('guest', 'volume'),
    boot_id='boot',
    host='host',
    domain_uuid='guest',
    domain_name='name',
    volume_id='volume',
    driver_volume_type='iscsi',
    connection_info={},
)


def test_it_says_what_is_wrong_and_goes_on_when_there_is_room(tmp_path: pathlib.Path) -> None:
    disk, full = tmp_path / 'disk', tmp_path / 'disk' / 'full'
    disk.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(disk)], check=True)
    try:
        journal = Journal(str(disk / 'journal.sqlite'))
        rows = [journal.put(ROW)]
        journal.close()
        fill(full)
        # Not even the index of its log can be made.
        with pytest.raises(exception.JournalUnusable, match='its disk is full; free some space'):
            journal.find()
        full.unlink()
        assert list(journal.find()) == rows
        journal.close()
    finally:
        subprocess.run(['umount', str(disk)], check=True)
