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

"""The journal: rows, files, several processes, and what goes wrong."""

import dataclasses
import json
import multiprocessing
import os
import pathlib
import random
import re
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import pytest

from volumedrivers import exception
from volumedrivers.attachment import journal_schema
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.record import Opened
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.connected_volume import PathReport

VOLUME = ConnectedVolume(
    driver_volume_type='iscsi',
    volume_id='volume-1',
    source_type='block',
    path='/dev/disk/by-id/wwn-1',
    identity=Identity('wwn', 'naa.6001'),
    multipath_id='36001',
    paths=PathReport(2, 1, (FailedPath('10.0.0.2:3260', 'no answer'),)),
    seconds=1.5,
    use_multipath=True,
    device_info={'type': 'block', 'path': '/dev/dm-3', 'scsi_wwn': '36001', 'n': [1, None]},
)
NETWORK = ConnectedVolume(
    driver_volume_type='rbd',
    volume_id='volume-1',
    source_type='network',
    source=NetworkSource(
        'rbd', 'pool/image', (NetworkHost('ceph1', 6789),), 'cinder', 'ceph', 'u'
    ),
)


def record(volume_id='volume-1', domain='domain-1', **changes):
    values = {
        'key': make_key(domain, volume_id),
        'boot_id': 'boot-1',
        'host': 'host1',
        'domain_uuid': domain,
        'domain_name': f'name of {domain}',
        'volume_id': volume_id,
        'driver_volume_type': 'iscsi',
        'connection_info': {'driver_volume_type': 'iscsi', 'data': {'target_lun': 1}},
        'began': 5.0,
    }
    return Record(**(values | changes))


@pytest.fixture(name='journal')
def _journal(tmp_path):
    journal = Journal(str(tmp_path / 'state' / 'journal.sqlite'))
    yield journal
    journal.close()


def modes(directory):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


class TestRows:
    @pytest.mark.parametrize(
        'changes',
        [
            {},
            {'volume': VOLUME, 'target': 'vdb', 'attachment_id': 'a-1'},
            {'volume': NETWORK, 'operation': Operation.DETACH, 'step': 'prove'},
            {
                'operation': Operation.ATTACH,
                'step': 'connect',
                'was_attached': True,
                'problem': 'it was killed',
                'wanted': {'size': 2**40, 'limits': {'total_iops_sec': 5}},
                'disk': {'bus': 'scsi', 'boot_index': None},
                'source': '/dev/disk/by-id/wwn-1',
                'encryption': {'provider': 'luks', 'encryption_key_id': 'k', 'key_size': 256},
                'opened': Opened('luks2', 'host', path='/dev/mapper/x', header_size=2**24),
            },
        ],
    )
    def test_a_row_comes_back_as_it_was_put(self, journal, changes):
        put = journal.put(record(**changes))
        assert put == dataclasses.replace(
            record(**changes), changed=put.changed, process=os.getpid()
        )
        assert journal.get(put.key) == put
        assert journal.find() == (put,)

    def test_every_field_of_a_record_is_kept(self, journal):
        # A field that somebody adds must not be forgotten here.
        columns = {
            'protocol' if f.name == 'driver_volume_type' else f.name
            for f in dataclasses.fields(Record)
        }
        journal.put(record())
        with sqlite3.connect(journal.path) as connection:
            found = {row[1] for row in connection.execute('PRAGMA table_info(attachments)')}
        assert found == columns | {'identity'}

    def test_a_row_is_replaced_as_a_whole(self, journal):
        journal.put(record(volume=VOLUME, operation=Operation.ATTACH, problem='x'))
        second = journal.put(record(target='vdc'))
        assert journal.find() == (second,)
        assert second.volume is None

    def test_what_is_not_there(self, journal):
        assert journal.get('x/y') is None
        assert journal.find() == ()
        assert journal.remove('x/y') is False

    def test_remove(self, journal):
        key = journal.put(record()).key
        assert journal.remove(key) is True
        assert journal.remove(key) is False
        assert journal.get(key) is None

    def test_find(self, journal):
        rows = {
            name: journal.put(row)
            for name, row in {
                'b2': record('v2', 'b', target='vdc', operation=Operation.DETACH),
                'b1': record('v1', 'b', target='vdb'),
                'a1': record('v1', 'a', target='vdz', operation=Operation.ATTACH),
                'b0': record('v0', 'b'),
            }.items()
        }

        def found(**conditions):
            names = {row.key: name for name, row in rows.items()}
            return [names[row.key] for row in journal.find(**conditions)]

        assert found() == ['a1', 'b0', 'b1', 'b2']
        assert found(volume_id='v1') == ['a1', 'b1']
        assert found(domain_uuid='b') == ['b0', 'b1', 'b2']
        assert found(unfinished=True) == ['a1', 'b2']
        assert found(unfinished=False) == ['b0', 'b1']
        assert found(volume_id='v1', domain_uuid='b', unfinished=False) == ['b1']
        assert found(volume_id="v1' OR 1=1 --") == []

    def test_columns_for_who_looks_with_sqlite(self, journal):
        journal.put(record(volume=VOLUME, target='vdb'))
        with sqlite3.connect(journal.path) as connection:
            row = connection.execute(
                'SELECT domain_name, target, protocol, identity, operation FROM attachments'
            ).fetchone()
        assert row == ('name of domain-1', 'vdb', 'iscsi', 'wwn:naa.6001', None)


class TestReserve:
    def test_the_other_rows_of_the_guest_are_given(self, journal):
        own = journal.put(record('v1', 'a'))
        other = journal.put(record('v2', 'a'))
        journal.put(record('v3', 'b'))
        seen = []

        def choose(others):
            seen.append(others)
            return record('v1', 'a', target='vdq')

        put = journal.reserve(own.key, choose)
        assert seen == [(other,)]
        assert journal.get(own.key) == put
        assert put.target == 'vdq'
        assert put.process == os.getpid()

    def test_what_choose_raises_undoes_it(self, journal):
        def choose(_others):
            raise KeyError('no name is free')

        with pytest.raises(KeyError, match='no name is free'):
            journal.reserve('domain-1/volume-1', choose)
        with pytest.raises(ValueError, match='domain-1/volume-1'):
            journal.reserve('domain-1/other', lambda _others: record())
        assert journal.find() == ()
        journal.put(record())

    def test_no_two_get_the_same_name(self, journal):
        def reserve(number):
            for volume in range(5):
                name = f'{number}-{volume}'

                def choose(others, name=name):
                    used = {other.target for other in others}
                    free = next(n for n in range(100) if f'vd{n}' not in used)
                    return record(name, target=f'vd{free}')

                journal.reserve(make_key('domain-1', name), choose)

        threads = [threading.Thread(target=reserve, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {row.target for row in journal.find()} == {f'vd{n}' for n in range(30)}


class TestSecrets:
    def test_none_reaches_the_disk(self, journal, tmp_path):
        data = {'auth_password': 'secret-99', 'list': [{'apiKey': 'secret-99'}], 'keyring': None}
        put = journal.put(
            record(
                connection_info={'driver_volume_type': 'iscsi', 'data': data},
                volume=dataclasses.replace(
                    VOLUME, device_info={'token': 'secret-99', 'path': '/dev/sda'}
                ),
                wanted={'passphrase': 'secret-99', 'options': '-o password=secret-99,ro'},
                disk={'secret': 'secret-99'},
                encryption={'key': 'secret-99', 'encryption_key_id': 'id-1', 'key_size': 256},
                problem='https://admin:secret-99@gateway/x did not answer',
                source='https://admin:secret-99@gateway/x',
            )
        )
        found = journal.get(put.key)
        assert found.connection_info['data']['auth_password'] == '***'
        assert found.volume.device_info == {'token': '***', 'path': '/dev/sda'}
        assert found.encryption == {'key': '***', 'encryption_key_id': 'id-1', 'key_size': 256}
        assert found.problem == 'https://admin:***@gateway/x did not answer'
        for path in (tmp_path / 'state').iterdir():
            assert b'secret-99' not in path.read_bytes()
        # What the caller has is as it was.
        assert data['auth_password'] == 'secret-99'

    def test_of_device_info_only_plain_values_are_kept(self, journal):
        class Device:
            pass

        info = {
            'path': '/dev/sda',
            'device': Device(),
            'lock': threading.Lock(),
            5: 'x',
            'raw': b'x',
            'pair': (1, Device(), 'b'),
            'deep': {'nan': float('nan'), 'ok': 1.5, 'none': None, 'true': True},
        }
        put = journal.put(record(volume=dataclasses.replace(VOLUME, device_info=info)))
        assert put.volume.device_info is info
        assert journal.get(put.key).volume.device_info == {
            'path': '/dev/sda',
            'pair': [1, 'b'],
            'deep': {'ok': 1.5, 'none': None, 'true': True},
        }


class TestFile:
    def test_nothing_is_made_before_it_is_used(self, tmp_path):
        Journal(str(tmp_path / 'state' / 'journal.sqlite')).close()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize('umask', [0o000, 0o077])
    def test_modes(self, journal, tmp_path, umask):
        before = os.umask(umask)
        try:
            journal.put(record())
        finally:
            os.umask(before)
        assert modes(tmp_path / 'state') == dict.fromkeys(
            ['journal.sqlite', 'journal.sqlite-wal', 'journal.sqlite-shm'], 0o600
        )
        assert stat.S_IMODE((tmp_path / 'state').stat().st_mode) == 0o755 & ~umask

    def test_a_directory_that_is_there_keeps_its_mode(self, journal, tmp_path):
        (tmp_path / 'state').mkdir(mode=0o755)
        journal.put(record())
        assert stat.S_IMODE((tmp_path / 'state').stat().st_mode) == 0o755

    def test_a_file_that_others_may_read_is_closed_to_them(self, journal, tmp_path):
        journal.put(record())
        journal.close()
        pathlib.Path(journal.path).chmod(0o644)
        assert journal.find()
        assert modes(tmp_path / 'state')['journal.sqlite'] == 0o600

    def test_an_empty_file_is_taken(self, journal, tmp_path):
        # Somebody died right after making it.
        (tmp_path / 'state').mkdir()
        pathlib.Path(journal.path).touch()
        assert journal.find() == ()
        journal.check()

    def test_it_is_written_through_to_the_disk(self, journal):
        journal.put(record())
        with journal._database.transaction(write=False) as connection:
            assert connection.execute('PRAGMA journal_mode').fetchone() == ('wal',)
            # 2 is FULL: a commit waits for the disk.
            assert connection.execute('PRAGMA synchronous').fetchone() == (2,)

    def test_a_row_outlives_who_wrote_it(self, journal):
        code = (
            'import os, signal, sys\n'
            'from tests.unit.test_journal import record\n'
            'from volumedrivers.attachment.journal import Journal\n'
            'Journal(sys.argv[1]).put(record())\n'
            'os.kill(os.getpid(), signal.SIGKILL)\n'
        )
        done = subprocess.run([sys.executable, '-c', code, journal.path], check=False)
        assert done.returncode == -9
        assert [row.key for row in journal.find()] == ['domain-1/volume-1']
        journal.check()


class TestRefused:
    def refused(self, journal, match):
        for call in (journal.find, journal.check, lambda: journal.put(record())):
            with pytest.raises(exception.JournalUnusable, match=match) as caught:
                call()
            assert journal.path in str(caught.value)

    def test_a_newer_one_is_left_alone(self, journal):
        journal.put(record())
        journal.close()
        with sqlite3.connect(journal.path) as connection:
            connection.execute(f'PRAGMA user_version = {journal_schema.VERSION + 1}')
        connection.close()
        before = pathlib.Path(journal.path).read_bytes()
        self.refused(journal, f'version {journal_schema.VERSION + 1}.*newer release')
        assert pathlib.Path(journal.path).read_bytes() == before

    def test_one_that_became_newer_meanwhile(self, journal):
        journal.put(record())
        with sqlite3.connect(journal.path) as connection:
            connection.execute(f'PRAGMA user_version = {journal_schema.VERSION + 1}')
        connection.close()
        self.refused(journal, 'newer release')

    def test_a_database_of_somebody_else(self, journal, tmp_path):
        (tmp_path / 'state').mkdir()
        with sqlite3.connect(journal.path) as connection:
            connection.execute('CREATE TABLE theirs (x)')
        connection.close()
        before = pathlib.Path(journal.path).read_bytes()
        self.refused(journal, 'another program')
        assert pathlib.Path(journal.path).read_bytes() == before

    def test_what_is_no_database(self, journal, tmp_path):
        (tmp_path / 'state').mkdir()
        pathlib.Path(journal.path).write_text('[volumedrivers]\n' * 100)
        self.refused(journal, 'damaged .*move it away')
        assert pathlib.Path(journal.path).read_text() == '[volumedrivers]\n' * 100

    def test_a_damaged_one(self, journal):
        for number in range(40):
            journal.put(record(f'volume-{number}'))
        journal.close()
        with open(journal.path, 'r+b') as file:
            file.seek(4096)
            file.write(b'\xa5' * 20480)
        with pytest.raises(exception.JournalUnusable, match=r'damaged .*move it away'):
            journal.check()

    def test_a_damaged_one_of_which_sqlite_cannot_even_tell(self, journal):
        journal.put(record())
        journal.close()
        with open(journal.path, 'r+b') as file:
            place = file.read().index(b'CREATE TABLE')
            file.seek(place + len(b'CREATE '))
            file.write(b'\xe4' * 5)
        with pytest.raises(exception.JournalUnusable, match=r'damaged .*move it away'):
            journal.get('domain-1/volume-1')

    def test_a_row_that_nobody_can_read(self, journal):
        journal.put(record())
        with sqlite3.connect(journal.path) as connection:
            connection.execute("UPDATE attachments SET volume = 'x'")
        connection.close()
        with pytest.raises(exception.JournalUnusable, match='row domain-1/volume-1'):
            journal.check()
        with pytest.raises(exception.JournalUnusable, match='row domain-1/volume-1'):
            journal.get('domain-1/volume-1')

    def test_a_directory_in_its_place(self, journal):
        os.makedirs(journal.path)
        self.refused(journal, 'cannot be opened')

    def test_a_directory_that_cannot_be_made(self, tmp_path):
        (tmp_path / 'state').touch()
        self.refused(Journal(str(tmp_path / 'state' / 'journal.sqlite')), 'state')

    def test_a_full_disk(self, journal):
        rows = [journal.put(record('volume-1'))]
        # SQLite takes a write that is cut short for a full disk.
        size = os.path.getsize(journal.path + '-wal')
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, hard))
        try:
            with pytest.raises(exception.JournalUnusable, match='disk'):
                journal.put(record('volume-2', source='x' * 100000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(journal.find()) == rows
        rows.append(journal.put(record('volume-3')))
        assert list(journal.find()) == rows
        journal.check()

    def test_one_that_was_removed_meanwhile(self, journal):
        journal.put(record())
        os.unlink(journal.path)
        self.refused(journal, 'was removed while it was in use')

    def test_one_that_was_put_back_from_a_copy(self, journal, tmp_path):
        journal.put(record('old'))
        journal.close()
        copy = tmp_path / 'copy'
        copy.write_bytes(pathlib.Path(journal.path).read_bytes())
        journal.put(record('new'))
        journal.close()
        journal.find()
        os.replace(copy, journal.path)
        for suffix in ('-wal', '-shm'):
            os.unlink(journal.path + suffix)
        assert [row.volume_id for row in journal.find()] == ['old']

    def test_somebody_who_writes_for_long(self, journal):
        journal.put(record())
        impatient = Journal(journal.path, timeout=0.05)
        other = sqlite3.connect(journal.path, isolation_level=None)
        other.execute('BEGIN IMMEDIATE')
        with pytest.raises(exception.Busy, match='journal'):
            impatient.put(record('volume-2'))
        # Nobody waits to read.
        assert [row.volume_id for row in impatient.find()] == ['volume-1']
        other.close()
        impatient.put(record('volume-2'))
        impatient.close()


class TestMigration:
    V1 = pathlib.Path(__file__).with_name('documents') / 'journal-1.sql'

    def test_a_first_release_is_kept_readable(self, journal, tmp_path):
        """The dump of a journal that version 1 wrote; never to be changed."""
        (tmp_path / 'state').mkdir()
        with sqlite3.connect(journal.path) as connection:
            connection.executescript(self.V1.read_text())
        connection.close()
        (row,) = journal.find()
        assert row.volume == VOLUME
        assert row.opened == Opened('luks', 'qemu', secret_uuid='s-1', header_size=2068480)
        assert row.operation is Operation.DETACH
        assert row.wanted == {'force': True}
        journal.check()

    def test_migrations_are_applied_in_order_and_once(self, journal, monkeypatch):
        journal.put(record())
        journal.close()
        monkeypatch.setattr(
            journal_schema,
            'MIGRATIONS',
            (
                *journal_schema.MIGRATIONS,
                ('ALTER TABLE attachments ADD COLUMN a TEXT', "UPDATE attachments SET a = 'x'"),
                ("UPDATE attachments SET a = a || 'y'",),
            ),
        )
        version = len(journal_schema.MIGRATIONS)
        monkeypatch.setattr(journal_schema, 'VERSION', version)
        for _ in range(2):
            assert [row.key for row in journal.find()] == ['domain-1/volume-1']
            journal.close()
        with sqlite3.connect(journal.path) as connection:
            assert connection.execute('SELECT a FROM attachments').fetchall() == [('xy',)]
            assert connection.execute('PRAGMA user_version').fetchone() == (version,)

    def test_one_that_fails_changes_nothing(self, journal, monkeypatch):
        put = journal.put(record())
        journal.close()
        with monkeypatch.context() as patch:
            patch.setattr(
                journal_schema,
                'MIGRATIONS',
                (*journal_schema.MIGRATIONS, ('DELETE FROM attachments', 'nonsense')),
            )
            patch.setattr(journal_schema, 'VERSION', journal_schema.VERSION + 1)
            with pytest.raises(exception.JournalUnusable, match='nonsense'):
                journal.find()
        assert journal.find() == (put,)

    def test_the_first_release_is_what_was_released(self):
        # Who changes it breaks the journals that are out there.
        first, released = (
            ' '.join(re.sub(r'--.*', '', text).split())
            for text in (journal_schema.MIGRATIONS[0][0], self.V1.read_text())
        )
        assert first in released


def write_rows(path, number, count, gate):
    journal = Journal(path)
    gate.wait(30)
    for index in range(count):
        journal.put(record(f'volume-{number}-{index}', f'domain-{number}'))
        journal.put(record(f'volume-{number}-{index}', f'domain-{number}', step='second'))
        if index % 5 == 4:
            journal.remove(make_key(f'domain-{number}', f'volume-{number}-{index}'))


def write_for_ever(path, number):
    journal = Journal(path)
    step = 0
    while True:
        step += 1
        journal.put(
            record(
                f'volume-{step % 7}',
                f'domain-{number}',
                step=f'step {step}',
                volume=dataclasses.replace(VOLUME, device_info={'step': step}),
            )
        )


class TestProcesses:
    @pytest.mark.parametrize('method', ['fork', 'spawn'])
    def test_eight_that_open_and_write_at_once(self, journal, method):
        context = multiprocessing.get_context(method)
        count = 8 if method == 'fork' else 2
        gate = context.Barrier(count)
        workers = [
            context.Process(target=write_rows, args=(journal.path, number, 20, gate))
            for number in range(count)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * count
        rows = journal.find()
        assert len(rows) == count * 16
        assert {row.step for row in rows} == {'second'}
        assert {row.process for row in rows} == {worker.pid for worker in workers}
        journal.check()

    def test_threads(self, journal):
        gate = threading.Barrier(6)
        threads = [
            threading.Thread(target=write_rows, args=(journal.path, number, 10, gate))
            for number in range(5)
        ]
        for thread in threads:
            thread.start()
        gate.wait(30)
        for _ in range(20):
            journal.find()
        for thread in threads:
            thread.join()
        assert len(journal.find()) == 40

    def test_a_fork_waits_for_a_transaction_and_shares_nothing(self, journal):
        journal.put(record())
        inside = threading.Event()
        go_on = threading.Event()

        def choose(_others):
            inside.set()
            go_on.wait(30)
            return record('volume-2')

        writer = threading.Thread(target=journal.reserve, args=('domain-1/volume-2', choose))
        writer.start()
        inside.wait(30)
        threading.Timer(0.05, go_on.set).start()
        pid = os.fork()
        if pid == 0:
            # The child sees what was committed, and can write at once.
            try:
                found = len(journal.find())
                journal.put(record('volume-3'))
                os._exit(0 if found == 2 else 1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        writer.join()
        assert [row.volume_id for row in journal.find()] == ['volume-1', 'volume-2', 'volume-3']

    def test_forks_of_two_threads_at_once(self, journal):
        other = Journal(journal.path + '-other')
        statuses = []

        def fork():
            for _ in range(5):
                pid = os.fork()
                if pid == 0:
                    # Not the threads' affair: one that is stuck would hang here.
                    signal.alarm(20)
                    try:
                        journal.find()
                        other.put(record())
                        os._exit(0)
                    finally:
                        os._exit(2)
                statuses.append(os.waitpid(pid, 0)[1])
                journal.put(record())

        threads = [threading.Thread(target=fork) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [0] * 20
        other.close()

    def test_kills_at_any_moment(self, journal):
        chance = random.Random(7)
        context = multiprocessing.get_context('fork')
        for number in range(15):
            worker = context.Process(target=write_for_ever, args=(journal.path, number))
            worker.start()
            time.sleep(chance.random() * 0.03)
            worker.kill()
            worker.join()
            assert worker.exitcode == -signal.SIGKILL
            # A row is there as a whole or not at all, and others can write.
            for row in journal.find(domain_uuid=f'domain-{number}'):
                assert row.step == f'step {row.volume.device_info["step"]}'
            journal.put(record(f'volume-{number}', 'after'))
        journal.check()
        assert len(journal.find(domain_uuid='after')) == 15

    def test_a_child_has_no_file_of_its_parent_open(self, journal):
        journal.put(record())
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                names = [
                    os.readlink(f'/proc/self/fd/{name}')
                    for name in os.listdir('/proc/self/fd')
                    if os.path.exists(f'/proc/self/fd/{name}')
                ]
                os.write(write, json.dumps([n for n in names if 'journal' in n]).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, 'rb') as answer:
            assert json.loads(answer.read()) == []
        os.waitpid(pid, 0)
        assert journal.find()


def test_it_can_be_used_after_close(journal):
    journal.put(record())
    journal.close()
    journal.close()
    assert len(journal.find()) == 1


def test_an_interrupt_leaves_nothing_half_done(journal):
    def choose(_others):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.reserve('domain-1/volume-1', choose)
    journal.put(record('volume-2'))
    assert len(journal.find()) == 1
