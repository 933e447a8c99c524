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

"""The installed command on volumes of a real Cinder, which it reaches on loopback."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import typing

import pytest

from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder import faults as make
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
GIB = 2**30
EXPORT = 'PUT /attachments/*'


class Command:
    """The installed script, with a configuration and a clouds.yaml of its own."""

    def __init__(self, uri: str, url: str, directory: pathlib.Path) -> None:
        self.config = directory / 'volumedrivers.conf'
        self.config.write_text(
            '[volumedrivers]\n'
            f'connection_uri = {uri}\n'
            f'state_path = {directory / "state"}\n'
            'host = this-host\n'
            'iscsi_client = qemu\n'
            'iscsi_initiator_name = iqn.2020-01.test:this-host\n'
            'device_detach_attempts = 3\n'
        )
        clouds = directory / 'clouds.yaml'
        clouds.write_text(
            f'clouds:\n  test:\n    auth_type: none\n    block_storage_endpoint_override: {url}\n'
        )
        inherited = {name: value for name, value in os.environ.items() if name[:3] != 'OS_'}
        self.environment = {**inherited, 'OS_CLIENT_CONFIG_FILE': str(clouds), 'COLUMNS': '80'}
        self.said = ''

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._words(*arguments),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment,
        )
        self.said += done.stdout + done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the script; the caller ends it."""
        return subprocess.Popen(
            self._words(*arguments), stderr=subprocess.PIPE, text=True, env=self.environment
        )

    def json(self, *arguments: str, code: int = 0) -> typing.Any:
        return json.loads(self.run(*arguments, '-f', 'json', code=code).stdout)

    def _words(self, *arguments: str) -> list[str]:
        script = pathlib.Path(sys.executable).parent / 'volumedrivers'
        return [str(script), f'--config-file={self.config}', '--os-cloud=test', *arguments]


@pytest.fixture
def command(libvirtd: PrivateLibvirtd, cinder: EmbeddedCinder, tmp_path: pathlib.Path) -> Command:
    assert cinder.url is not None
    return Command(libvirtd.uri, cinder.url, tmp_path)


@pytest.fixture
def volume(make_volume: VolumeMaker, iscsi: IscsiBackend) -> MadeVolume:
    return make_volume(iscsi)


def own(rows: list[dict[str, typing.Any]], guest: Guest) -> list[dict[str, typing.Any]]:
    """Return what is said of one guest: the libvirtd has those of other tests, too."""
    return [row for row in rows if row['guest_uuid'] == guest.uuid]


def test_life_of_a_volume(
    command: Command, volume: MadeVolume, guest: Guest, guest_io: GuestIO
) -> None:
    plan = command.run('volume', 'attach', guest.name, volume.name, '--bus', 'scsi', '--dry-run')
    assert f'create an attachment of volume {volume.name} in Cinder' in plan.stdout
    assert volume.attachments() == []

    # With --debug the SDK logs what it is answered.
    done = command.run(
        '--debug', 'volume', 'attach', guest.name, volume.name, '--bus', 'scsi', '-f', 'json'
    )
    attached = json.loads(done.stdout)
    assert (attached['volume_name'], attached['target']) == (volume.name, 'sda')
    (attachment,) = volume.attachments()
    assert (attachment.id, attachment.status) == (attached['attachment_id'], 'attached')
    guest_io.write(volume.alias, 0x5A, MIB, 65536)
    assert volume.holds(0x5A, MIB)

    again = command.run('volume', 'attach', guest.name, volume.name, code=6)
    assert 'already, as sda' in again.stderr
    (row,) = own(command.json('list'), guest)
    assert (row['volume_name'], row['attachment_id']) == (volume.name, attachment.id)
    (listed,) = command.json('volume', 'list')
    assert (listed['name'], listed['attached_to']) == (volume.name, [f'{guest.name} as sda'])
    (known,) = command.json('volume', 'attachments', volume.id)
    assert (known['guest'], known['host'], known['recorded']) == (guest.name, 'this-host', 'yes')
    shown = command.run('volume', 'show', volume.name).stdout
    assert f'{attachment.id}  attached, rw, {guest.name} as sda on this-host' in shown

    extended = command.json('volume', 'extend', volume.name, '1500M')
    assert (extended['size'], extended['guests'][0]['resized_in_guest']) == (2 * GIB, True)
    refreshed = command.json('volume', 'refresh', guest.name, 'sda')
    assert refreshed['attachment_id'] == attachment.id

    plan = command.run('volume', 'detach', guest.name, volume.name, '--dry-run')
    assert f'delete attachment {attachment.id} in Cinder' in plan.stdout
    assert volume.status == 'in-use'
    detached = command.run('volume', 'detach', guest.name, volume.name)
    assert detached.stderr.splitlines()[-1] == (
        f'Guest {guest.name} has volume {volume.name} no more, and Cinder has it back.'
    )
    assert [line.split(' ...')[0] for line in detached.stderr.splitlines()[:-1]] == [
        'volume detach: begin',
        'detach: detach',
        'detach: disconnect',
        'detach: prove',
        'detach: record',
        'volume detach: release',
        'volume detach: record',
    ]
    assert (volume.status, volume.attachments(), guest.disks()) == ('available', [], ())
    password = attachment.connection_info['auth_password']
    assert password not in command.said


def test_read_only(command: Command, volume: MadeVolume, guest: Guest) -> None:
    done = command.json('volume', 'attach', guest.name, volume.id, '--bus', 'scsi', '--read-only')
    assert done['mode'] == 'ro'
    assert command.json('list', guest.name)[0]['read_only'] is True
    command.run('volume', 'detach', guest.name, 'sda')


def test_told_to_end_while_cinder_exports(
    command: Command, volume: MadeVolume, guest: Guest, faults: Faults
) -> None:
    """The step ends, and Cinder has its volume back when the command has ended."""
    faults.add(EXPORT, make.slow(2), times=1)
    process = command.start('volume', 'attach', guest.name, volume.name, '--bus', 'scsi')
    faults.wait_seen(EXPORT)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143, said
    assert 'Interrupted.' in said
    assert 'volume attach: undo reserve ... ' in said
    assert 'nothing is recorded, and Cinder has the volume as before' in said
    assert (volume.status, volume.attachments(), guest.disks()) == ('available', [], ())
    assert command.json('list', guest.name) == []


def test_killed_while_cinder_is_told(
    command: Command, volume: MadeVolume, guest: Guest, faults: Faults
) -> None:
    faults.add('POST /attachments/* os-complete', make.slow(2), times=1)
    process = command.start('volume', 'attach', guest.name, volume.name, '--bus', 'scsi')
    faults.wait_seen('POST /attachments/* os-complete')
    process.kill()
    process.communicate(timeout=30)
    (row,) = command.json('list', guest.name)
    assert row['state'] == 'volume attach unfinished in step complete'
    faults.wait_idle()
    (outcome,) = command.json('recover')
    assert (outcome['operation'], outcome['action']) == ('volume attach', 'finished')
    assert volume.status == 'in-use'
    assert command.run('recover').stdout == 'Nothing was interrupted.\n'
    command.run('volume', 'detach', guest.name, volume.name)
    assert volume.status == 'available'


def test_detach_of_guest_and_host_alone(
    command: Command, volume: MadeVolume, guest: Guest
) -> None:
    command.run('volume', 'attach', guest.name, volume.name, '--bus', 'scsi')
    done = command.run('detach', guest.name, 'sda')
    assert f'"volumedrivers volume detach {guest.name} {volume.id}" gives it back' in done.stderr
    assert volume.status == 'in-use'
    assert command.json('list', guest.name)[0]['state'] == 'attached in Cinder only'
    (outcome,) = command.json('recover')
    assert outcome['action'] == 'finished'
    assert volume.status == 'available'

    command.run('volume', 'attach', guest.name, volume.name, '--bus', 'scsi')
    command.run('detach', guest.name, 'sda')
    assert command.json('volume', 'detach', guest.name, volume.id)['settled']
    assert (volume.status, command.json('list', guest.name)) == ('available', [])


def test_no_such_volume_and_no_cinder(
    command: Command, volume: MadeVolume, guest: Guest, faults: Faults
) -> None:
    said = command.run('volume', 'attach', guest.name, 'nothing', code=2).stderr
    assert "has no volume 'nothing'" in said
    assert '"volumedrivers volume list" shows those of this project' in said
    said = command.run('--os-cloud', 'none', 'volume', 'list', code=3).stderr
    assert "has no cloud 'none', which --os-cloud names; it has test" in said
    faults.add('*', make.status(503))
    command.config.write_text(command.config.read_text() + 'cinder_retries = 0\n')
    said = command.run('volume', 'attach', guest.name, volume.name, code=5).stderr
    assert 'Check Cinder and the network to it' in said
    assert guest.disks() == ()
