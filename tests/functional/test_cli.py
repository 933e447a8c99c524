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

"""The installed command, with real guests and real storage."""

from collections.abc import Iterator
import json
import os
import pathlib
import signal
import subprocess
import sys
import typing

import pytest

from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.tgt import IscsiTarget

PASSWORD = 'a-password-15'
MIB = 2**20
FILE_ID = 'c1b2d3e4-0015-4aaa-8bbb-000000000001'


class Command:
    """The installed script, with a configuration of its own."""

    def __init__(self, uri: str, directory: pathlib.Path, prefix: tuple[str, ...] = ()) -> None:
        self.config = directory / 'volumedrivers.conf'
        self.config.write_text(
            '[volumedrivers]\n'
            f'state_path = {directory / "state"}\n'
            'iscsi_client = qemu\n'
            'iscsi_initiator_name = iqn.2020-01.test:host\n'
            'endpoint_timeout = 2\n'
            'device_detach_attempts = 3\n'
        )
        self._uri = uri
        self._prefix = prefix
        self.said = ''

    def run(
        self, *arguments: str, code: int = 0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._words(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, 'COLUMNS': '80'},
        )
        self.said += done.stdout + done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the script; the caller ends it."""
        return subprocess.Popen(self._words(*arguments), stderr=subprocess.PIPE, text=True)

    def _words(self, *arguments: str) -> list[str]:
        script = pathlib.Path(sys.executable).parent / 'volumedrivers'
        return [
            *self._prefix,
            str(script),
            f'--connect={self._uri}',
            f'--config-file={self.config}',
            *arguments,
        ]

    def json(self, *arguments: str, code: int = 0, stdin: str | None = None) -> typing.Any:
        return json.loads(self.run(*arguments, '-f', 'json', code=code, stdin=stdin).stdout)


@pytest.fixture
def command(libvirtd: PrivateLibvirtd, tmp_path: pathlib.Path) -> Command:
    return Command(libvirtd.uri, tmp_path)


@pytest.fixture
def mount_namespace(libvirtd: PrivateLibvirtd) -> str:
    """The directory of the process whose mounts the private libvirtd and its guests see."""
    return f'/proc/{(libvirtd.directory / "libvirtd.pid").read_text().strip()}'


@pytest.fixture
def target(tmp_path: pathlib.Path) -> Iterator[IscsiTarget]:
    with IscsiTarget(tmp_path / 'target', size=16 * MIB, chap=('user', PASSWORD)) as started:
        yield started


def test_life_of_an_iscsi_volume(
    command: Command, guest: Guest, target: IscsiTarget, tmp_path: pathlib.Path
) -> None:
    raw = target.connection_info()
    volume_id = raw['serial']
    file = tmp_path / 'volume.json'
    file.write_text(json.dumps(raw))
    file.chmod(0o600)

    attached = command.json('attach', guest.name, '--connection-info', str(file), '--bus', 'scsi')
    assert attached['target'] == 'sda'
    assert attached['volume_id'] == volume_id
    assert attached['source'].startswith('iscsi:')
    assert attached['degraded'] is False
    assert set(attached['seconds']) == {'connect', 'identify', 'attach', 'record'}
    assert target.sessions() == 1

    again = command.run(
        'attach', guest.name, '--connection-info', str(file), '--bus', 'scsi', code=6
    )
    assert 'already, as sda' in again.stderr

    (row,) = command.json('list', guest.uuid)
    assert (row['volume_id'], row['target'], row['bus']) == (volume_id, 'sda', 'scsi')
    assert row['state'] == 'attached'
    tree = command.run('show', guest.name, 'sda', '--tree').stdout
    assert guest.name in tree
    assert volume_id in tree

    target.grow(32 * MIB)
    extended = command.json('extend', guest.name, volume_id, '32M')
    assert (extended['size'], extended['resized_in_guest']) == (32 * MIB, True)
    shrunk = command.run('extend', guest.name, volume_id, '16M', code=4)
    assert 'shrinking' in shrunk.stderr

    limited = command.json('qos', guest.name, 'sda', 'read_iops_sec=500')
    assert limited['limits'] == {'read_iops_sec': 500}
    assert guest.iotune('sda').read_iops_sec == 500

    detached = command.json('detach', guest.name, 'sda')
    assert detached['removed_from_guest'] is True
    assert detached['still_used_by'] == []
    assert target.sessions() == 0
    assert guest.disks() == ()

    # What is gone already is no failure.
    done = command.run(
        'detach', guest.name, volume_id, '--connection-info', str(file), '-f', 'json'
    )
    assert json.loads(done.stdout)['removed_from_guest'] is False
    assert 'did not have' in done.stderr
    assert command.json('list', guest.name) == []
    assert PASSWORD not in command.said


def attached_volume(
    command: Command, guest: Guest, target: IscsiTarget, tmp_path: pathlib.Path
) -> str:
    """Attach a volume of the target; return the name of its connection_info's file."""
    file = tmp_path / 'volume.json'
    file.write_text(json.dumps(target.connection_info()))
    file.chmod(0o600)
    command.json('attach', guest.name, '--connection-info', str(file), '--bus', 'scsi')
    return str(file)


def own(rows: list[dict[str, typing.Any]], guest: Guest) -> list[dict[str, typing.Any]]:
    """Return what is said of one guest: the libvirtd has those of other tests, too."""
    return [row for row in rows if row['guest_uuid'] == guest.uuid]


def test_dry_runs_change_nothing(
    command: Command, guest: Guest, target: IscsiTarget, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / 'volume.json'
    file.write_text(json.dumps(target.connection_info()))
    file.chmod(0o600)
    arguments = ('attach', guest.name, '--connection-info', str(file), '--bus', 'scsi')

    said = command.run(*arguments, '--dry-run').stdout
    assert '1. connect ' in said
    assert '<target dev="sda" bus="scsi"/>' in said
    assert guest.disks() == ()
    assert target.sessions() == 0
    assert not (tmp_path / 'state' / 'attachments.sqlite').exists()

    command.run(*arguments)
    extension = command.json('extend', guest.name, 'sda', '32M', '--dry-run')
    assert [step['name'] for step in extension['steps']][1:3] == ['extend', 'resize']
    removal = command.json('detach', guest.name, 'sda', '--dry-run')
    assert removal['recorded'][0].startswith('network iscsi:')
    assert any(found.startswith('secret iscsi ') for found in removal['on_host'])
    assert len(guest.disks()) == 1
    assert command.json('list', guest.name)[0]['state'] == 'attached'

    command.run('detach', guest.name, 'sda')
    assert PASSWORD not in command.said


def test_a_command_that_was_killed(
    command: Command,
    guest: Guest,
    libvirtd: PrivateLibvirtd,
    target: IscsiTarget,
    tmp_path: pathlib.Path,
) -> None:
    """At three in the morning: list, audit, recover."""
    file = attached_volume(command, guest, target, tmp_path)
    assert own(command.json('audit'), guest) == []

    qemu = int((libvirtd.directory / 'run' / 'qemu' / f'{guest.name}.pid').read_text())
    os.kill(qemu, signal.SIGSTOP)
    try:
        killed = command.start('-v', 'detach', guest.name, 'sda')
        assert killed.stderr is not None
        assert killed.stderr.read(len('detach: detach ...')) == 'detach: detach ...'
        # Another one is told whom it would have to wait for.
        plan = command.json('detach', guest.name, 'sda', '--dry-run')
        assert f'process {killed.pid}' in plan['locked_by']
        killed.kill()
        killed.communicate()
    finally:
        os.kill(qemu, signal.SIGCONT)

    (row,) = command.json('list', guest.name)
    assert row['state'] == 'detach unfinished in step detach'
    (finding,) = own(command.json('audit', code=8), guest)
    assert (finding['kind'], finding['severity']) == ('unfinished', 'problem')
    assert 'volumedrivers recover' in finding['what_to_do']

    (outcome,) = command.json('recover')
    assert (outcome['operation'], outcome['action']) == ('detach', 'finished')
    assert guest.disks() == ()
    assert target.sessions() == 0
    assert command.json('list', guest.name) == []
    assert own(command.json('audit'), guest) == []
    assert command.run('recover').stdout == 'Nothing was interrupted.\n'
    command.run('attach', guest.name, '--connection-info', file, '--bus', 'scsi')
    command.run('detach', guest.name, 'sda')
    assert PASSWORD not in command.said


def test_an_attachment_is_forgotten_and_taken_over_again(
    command: Command, guest: Guest, target: IscsiTarget, tmp_path: pathlib.Path
) -> None:
    file = attached_volume(command, guest, target, tmp_path)
    assert 'is still in use' in command.run('forget', guest.name, 'sda', code=4).stderr
    assert command.json('forget', guest.name, 'sda', '--force')['forgotten'] is True
    (row,) = command.json('list', guest.name)
    assert row['state'] == 'unrecorded'
    said = command.run('detach', guest.name, 'sda', code=2).stderr
    assert '--connection-info is missing' in said
    command.run('detach', guest.name, 'sda', '--connection-info', file)
    assert guest.disks() == ()


def test_a_silent_target_leaves_nothing(
    command: Command, guest: Guest, target: IscsiTarget, tmp_path: pathlib.Path
) -> None:
    raw = target.connection_info()
    file = tmp_path / 'volume.json'
    file.write_text(json.dumps(raw))
    target.stop()

    done = command.run('attach', guest.name, '--connection-info', str(file), code=5)
    assert 'does not answer' in done.stderr
    assert 'Traceback' not in done.stderr
    assert guest.disks() == ()


def test_life_of_a_file_on_a_share(
    libvirtd: PrivateLibvirtd, mount_namespace: str, guest: Guest, tmp_path: pathlib.Path
) -> None:
    command = Command(
        libvirtd.uri,
        tmp_path,
        ('nsenter', f'--mount={mount_namespace}/ns/mnt', f'--root={mount_namespace}/root', '--'),
    )
    with GlusterServer(tmp_path / 'gluster') as server:
        (server.brick / 'volume-1').write_bytes(bytes(8 * MIB))
        raw = json.dumps(
            {
                'driver_volume_type': 'glusterfs',
                'serial': FILE_ID,
                'data': {
                    'export': server.export,
                    'name': 'volume-1',
                    'format': 'raw',
                    'options': None,
                    'volume_id': FILE_ID,
                },
            }
        )
        arguments = ('attach', guest.name, '--connection-info', '-', '--bus', 'scsi')
        plan = command.json(*arguments, '--dry-run', stdin=raw)
        assert any(server.export in line for line in plan['steps'][0]['actions'])
        assert 'type="file"' in plan['xml']
        assert not (tmp_path / 'state' / 'attachments.sqlite').exists()
        assert not (tmp_path / 'state' / 'mnt').exists()

        attached = command.json(*arguments, stdin=raw)
        path = pathlib.Path(f'{mount_namespace}/root{attached["source"]}')
        assert path.stat().st_size == 8 * MIB

        shown = command.json('show', guest.name, FILE_ID)
        assert shown['host_mount'].startswith(server.export)
        assert server.export in command.run('show', guest.name, FILE_ID, '--tree').stdout

        command.json('extend', guest.name, FILE_ID, str(12 * MIB))
        assert path.stat().st_size == 12 * MIB

        removal = command.json('detach', guest.name, FILE_ID, '--dry-run')
        assert any('unmount' in line for step in removal['steps'] for line in step['actions'])
        assert path.exists()
        command.json('detach', guest.name, FILE_ID)
        assert not path.parent.exists()
        assert guest.disks() == ()


def test_unknown_guest_and_unreachable_libvirt(
    command: Command, libvirtd: PrivateLibvirtd, tmp_path: pathlib.Path
) -> None:
    assert 'virsh list' in command.run('list', 'nobody', code=2).stderr
    elsewhere = Command(f'qemu+unix:///system?socket={tmp_path}/none', tmp_path)
    done = elsewhere.run('list', code=5)
    assert 'cannot be reached' in done.stderr
    assert 'Traceback' not in done.stderr


def test_journal_that_was_moved_away(
    command: Command, guest: Guest, target: IscsiTarget, tmp_path: pathlib.Path
) -> None:
    """As doc/source/night.rst has it, for one that is damaged."""
    file = attached_volume(command, guest, target, tmp_path)
    volume_id = target.connection_info()['serial']
    journal = tmp_path / 'state' / 'attachments.sqlite'
    journal.write_bytes(b'no database')
    refused = command.run('detach', guest.name, volume_id, code=3)
    assert 'move it away together with its -wal and -shm' in refused.stderr
    command.run('audit', code=3)

    (tmp_path / 'kept').mkdir()
    for part in journal.parent.glob('attachments.sqlite*'):
        part.rename(tmp_path / 'kept' / part.name)
    (finding,) = own(command.json('audit'), guest)
    assert (finding['kind'], finding['volume_id']) == ('not-recorded', volume_id)
    refused = command.run('detach', guest.name, volume_id, code=2)
    assert '--connection-info' in refused.stderr
    detached = command.json('detach', guest.name, volume_id, '--connection-info', str(file))
    assert detached['removed_from_guest'] is True
    assert target.sessions() == 0

    # What is attached from now on is recorded.
    command.run('attach', guest.name, '--connection-info', str(file), '--bus', 'scsi')
    assert own(command.json('audit'), guest) == []
    command.run('detach', guest.name, volume_id)
