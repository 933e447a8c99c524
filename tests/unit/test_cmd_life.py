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

"""The commands on the life of an attachment, on fakes with a real journal."""

import dataclasses
import io
import json
import logging
import pathlib
import re
import sys
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import test_cmd_main
from tests.unit.test_cmd_main import FakeServices
from tests.unit.test_cmd_main import Shell
from volumedrivers import exception
from volumedrivers.attachment import idle_mounts
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.plan import Plan
from volumedrivers.attachment.plan import PlannedOutcome
from volumedrivers.attachment.results import Finding
from volumedrivers.attachment.results import Outcome
from volumedrivers.cmd import progress
from volumedrivers.host.share import Share
from volumedrivers.libvirt.connected_volume import FailedPath

shell = test_cmd_main.shell
file = test_cmd_main.file

REBOOTED = 'a boot before this one'


class Host:
    """A host on which one command runs after the other."""

    def __init__(self, shell: Shell, file: str) -> None:
        self.shell = shell
        self.file = file
        self.made: FakeServices | None = None
        self.fail: dict[str, BaseException] = {}
        shell.prepare = self._prepare

    def _prepare(self, made: FakeServices) -> None:
        if self.made is not None:
            # What libvirt and storage have outlives a process.
            made.guest = self.made.guest
            made.driver = self.made.driver
            made.guest.fakes = made.driver.fakes = made.fakes
        made.fakes.fail.update(self.fail)
        self.made = made

    @property
    def driver(self) -> fake.FakeDriver:
        assert self.made is not None
        return self.made.driver

    @property
    def guest(self) -> fake.FakeGuest:
        assert self.made is not None
        return self.made.guest

    @property
    def calls(self) -> list[str]:
        assert self.made is not None
        return self.made.fakes.calls

    @property
    def manager(self) -> AttachmentManager:
        assert self.made is not None
        return self.made.manager

    def attach(self, *options: str, code: int = 0) -> None:
        assert self.shell.run('attach', 'web1', '--connection-info', self.file, *options) == code

    def change(self, **changes: typing.Any) -> None:
        """Change the only row of the journal."""
        journal = self.manager.context.journal
        (record,) = journal.find()
        journal.put(dataclasses.replace(record, **changes))

    def reboot(self) -> None:
        self.change(boot_id=REBOOTED)


@pytest.fixture
def host(shell: Shell, file: str) -> Host:
    return Host(shell, file)


def test_detach_and_extend_need_no_connection_info(host: Host, shell: Shell) -> None:
    host.attach()
    extended = shell.json('extend', 'web1', 'vda', '1G')
    assert extended['seconds'].keys() == {'identify', 'extend', 'resize', 'record'}
    detached = shell.json('detach', 'web1', 'vda')
    assert detached['identity'] == 'wwn:3600'
    assert detached['leftovers'] == []
    assert shell.run('detach', 'web1', 'vda') == 6
    assert 'no attachment of volume vda to guest web1 is recorded' in shell.err
    assert shell.run('extend', 'web1', 'vda', '1G') == 2


def test_attach_that_fails_half_way(host: Host, shell: Shell) -> None:
    """What was done, undone and left is printed, for people and for programs."""
    host.fail['attach_disk'] = exception.AttachRefused(guest='web1', disk='vda', reason='no slot')
    host.attach(code=1)
    assert shell.out == ''
    assert re.search(
        r'^  steps      connect [\d.e-]+ s, identify [\d.e-]+ s, attach failed after [\d.e-]+ s, '
        r'undo connect [\d.e-]+ s; not done: record$',
        shell.err,
        re.MULTILINE,
    )
    assert '\n  volume     wwn:3600, 2 of 2 paths\n' in shell.err
    assert '\n  left       nothing is recorded\n' in shell.err
    told = shell.json('attach', 'web1', '--connection-info', host.file, code=1)
    assert (told['step'], told['undone'], told['record']) == ('attach', ['connect'], 'none')
    assert (told['identity'], told['paths_found'], told['degraded']) == ('wwn:3600', 2, False)
    assert told['error'] == 'AttachRefused'

    host.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='no path')
    told = shell.json('attach', 'web1', '--connection-info', host.file, code=1)
    assert (told['record'], told['leftovers']) == ('unfinished', ['the volume on this host'])
    assert 'no path' in told['notes'][0]


def test_detach_that_fails_half_way(host: Host, shell: Shell) -> None:
    host.attach()
    host.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='no path')
    assert shell.run('detach', 'web1', 'vda') == 4
    assert 'disconnect failed after' in shell.err
    assert 'not done: prove, record' in shell.err
    assert '\n  left       recorded as unfinished; "volumedrivers recover" goes on\n' in shell.err
    assert shell.run('detach', 'web1', 'vda', '-f', 'table') == 4
    assert shell.out == ''


def test_attach_keeps_what_cinder_said(host: Host, shell: Shell, tmp_path: pathlib.Path) -> None:
    metadata = tmp_path / 'encryption.json'
    metadata.write_text(
        json.dumps(
            {
                'provider': 'luks',
                'encryption_key_id': 'key-1',
                'cipher': 'aes-xts-plain64',
                'key_size': 256,
                'control_location': 'front-end',
            }
        )
    )
    host.attach('--encryption', str(metadata), '--attachment-id', 'a-1', '--allow-format')
    assert 'Encryption          luks (qemu)\n' in shell.out
    assert host.manager.context.encryptor.allow_format is True  # type: ignore[attr-defined]
    shown = shell.json('show', 'web1', 'vda')
    assert shown['record_attachment_id'] == 'a-1'
    assert shown['record_encryption'] == 'luks (qemu)'
    assert shown['record_paths_found'] == 2
    assert shown['record_this_boot'] is True


@pytest.mark.parametrize(
    ('content', 'said'),
    [('{"provider": "luks"}', 'encryption_key_id'), ('[]', 'a JSON list'), (None, 'cannot be')],
)
def test_bad_encryption(
    host: Host, shell: Shell, tmp_path: pathlib.Path, content: str | None, said: str
) -> None:
    metadata = tmp_path / 'encryption.json'
    if content is not None:
        metadata.write_text(content)
    host.attach('--encryption', str(metadata), code=2)
    assert said in shell.err
    assert shell.services == []


def test_standard_input_is_one_file(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'stdin', io.StringIO(json.dumps(fake.connection_info())))
    assert shell.run('attach', 'web1', '--connection-info', '-', '--encryption', '-') == 2
    assert 'a file for one of them' in shell.err


def test_dry_run_as_text(host: Host, shell: Shell) -> None:
    host.attach('--dry-run')
    assert shell.out.startswith(f'Nothing is done; attach of volume {fake.VOLUME_ID} (iscsi)')
    assert '1. connect  (at most 300 s; locks iscsi 192.0.2.1:3260)\n' in shell.out
    assert '   - log in to 192.0.2.1:3260\n' in shell.out
    assert '<target dev="vda" bus="virtio"/>' in shell.out
    assert 'connect' not in host.calls
    assert not (shell.directory / 'attachments.sqlite').exists()


@pytest.mark.parametrize(
    'arguments',
    [
        ('detach', 'web1', 'vda'),
        ('extend', 'web1', 'vda', '1G'),
        ('qos', 'web1', 'vda', 'read_iops_sec=5'),
        ('forget', 'web1', 'vda', '--force'),
    ],
)
def test_dry_run_as_json(host: Host, shell: Shell, arguments: tuple[str, ...]) -> None:
    host.attach()
    plan = shell.json(*arguments, '--dry-run')
    assert plan['operation'] == arguments[0]
    assert [step['name'] for step in plan['steps']][-1] == 'record'
    assert set(host.calls) <= {'look', 'current_identity', 'remains', 'close'}
    assert shell.run(*arguments, '--dry-run') == 0
    assert f'  recorded         block {fake.PATH}\n' in shell.out


def test_dry_run_of_reconnect(host: Host, shell: Shell) -> None:
    host.attach()
    host.reboot()
    assert shell.run('reconnect', 'web1', 'vda', '--dry-run') == 2
    plan = shell.json('reconnect', 'web1', 'vda', '--dry-run', '--connection-info', host.file)
    assert [step['name'] for step in plan['steps']] == ['connect', 'identify', 'record']
    assert 'connect' not in host.calls
    assert shell.json('list')[0]['state'] == 'not connected since the host started'
    assert shell.run('reconnect', 'web1', 'vdz', '--dry-run') == 2


def test_dry_run_of_repair(host: Host, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    host.attach()
    (whole,) = shell.json('repair', 'web1', 'vda', '--dry-run')
    assert [step['name'] for step in whole['steps']] == ['identify']
    assert whole.keys() == {field.name for field in dataclasses.fields(Plan)}
    assert shell.run('repair', '--dry-run') == 0
    assert shell.out == 'No volume has fewer paths than were asked for.\n'

    monkeypatch.setattr(fake.FakeDevices, 'failed', (('sdb', 'offline'),))
    assert shell.run('repair', '--dry-run') == 1
    assert '  would fail       connection_info is missing' in shell.out
    assert shell.run('repair', '--dry-run', '--connection-info', host.file) == 0
    assert shell.out.startswith(f'Nothing is done; repair of volume {fake.VOLUME_ID} (iscsi)')
    assert '   - log in to 192.0.2.1:3260\n' in shell.out
    assert shell.run('repair', '--dry-run', '-f', 'table', '--connection-info', host.file) == 0
    assert set(host.calls) <= {'look', 'current_identity', 'remains', 'close'}


def test_dry_run_of_recover(host: Host, shell: Shell) -> None:
    assert shell.run('recover', '--dry-run') == 0
    assert shell.out == 'Nothing was interrupted.\n'
    assert not (shell.directory / 'attachments.sqlite').exists()
    host.attach()
    host.guest.present.clear()
    host.change(operation='detach', step='disconnect')
    (row,) = shell.json('recover', '--dry-run')
    fields = {field.name for field in dataclasses.fields(PlannedOutcome)}
    assert row.keys() == fields | {'volume_name'}
    assert (row['action'], row['detail']) == ('finished', 'removed from the host')
    assert shell.run('recover', '--dry-run') == 0
    assert shell.out.startswith(
        f'Nothing is done; detach of volume {fake.VOLUME_ID} and guest web1, stopped in step '
        'disconnect, would be finished:\n  removed from the host\n\n1. detach  (at most '
    )
    assert '   - log out of 192.0.2.1:3260\n' in shell.out
    assert set(host.calls) <= {'look', 'current_identity', 'remains', 'close'}
    with host.manager.context.lock_volume(fake.VOLUME_ID, 'detach', 'web1'):
        assert shell.run('recover', '--dry-run') == 5
    assert ' would be left alone:\n' in shell.out

    host.change(operation=None)
    host.reboot()
    assert shell.run('recover', '--dry-run') == 0
    assert f'volume {fake.VOLUME_ID} of guest web1 would be removed:\n' in shell.out


def test_dry_run_of_recover_has_the_idle_mounts(
    host: Host, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share('192.0.2.1:/vol', '/mnt/vol', 'nfs', ('nfs4',))
    monkeypatch.setattr(idle_mounts, 'look', lambda context: [(share, None), (share, 'gone')])
    assert shell.run('recover', '--dry-run') == 5
    assert shell.out.startswith(
        'Nothing is done; the share would be unmounted:\n'
        '  nobody uses 192.0.2.1:/vol at /mnt/vol any more\n'
    )
    assert '   - unmount /mnt/vol\n' in shell.out
    assert 'Nothing is done; the share would fail:\n  whether 192.0.2.1:/vol' in shell.out


def test_dry_run_says_what_is_so_already(host: Host, shell: Shell) -> None:
    host.attach()
    host.attach('--dry-run', code=6)
    assert shell.run('extend', 'web1', 'vdz', '1G', '--dry-run') == 2


def test_list_says_how_far_it_is(host: Host, shell: Shell) -> None:
    host.attach()
    (row,) = shell.json('list')
    assert (row['state'], row['operation'], row['problem']) == ('attached', None, None)

    host.change(operation='detach', step='disconnect', problem='the flush failed')
    (row,) = shell.json('list')
    assert row['state'] == 'detach unfinished in step disconnect'
    assert row['problem'] == 'the flush failed'
    with host.manager.context.lock_volume(fake.VOLUME_ID, 'detach', 'web1'):
        (row,) = shell.json('list')
    assert row['state'] == 'detach running in step disconnect'

    host.change(operation=None)
    host.reboot()
    (row,) = shell.json('list')
    assert row['state'] == 'not connected since the host started'


def test_list_and_show_have_what_no_guest_has(host: Host, shell: Shell) -> None:
    host.attach()
    host.guest.present.clear()
    (row,) = shell.json('list')
    assert (row['target'], row['state']) == ('vda', 'recorded, not in the guest')
    assert shell.json('list', 'web1') == [row]
    shown = shell.json('show', 'web1', 'vda')
    assert shown['source'] == fake.PATH
    assert shown['record_identity'] == 'wwn:3600'


def test_a_guest_that_is_gone_is_found_by_its_uuid(host: Host, shell: Shell) -> None:
    host.attach()
    host.guest.uuid = fake.OTHER_UUID
    (row,) = shell.json('list', fake.GUEST_UUID)
    assert row['state'] == 'recorded, not in the guest'
    assert shell.json('show', fake.GUEST_UUID, 'vda')['record_identity'] == 'wwn:3600'
    assert shell.json('forget', fake.GUEST_UUID, fake.VOLUME_ID)['forgotten'] is True
    assert shell.run('list', fake.GUEST_UUID) == 2


def test_list_makes_no_journal(host: Host, shell: Shell) -> None:
    assert shell.run('list') == 0
    assert not shell.directory.exists()


def test_list_without_a_readable_journal(host: Host, shell: Shell) -> None:
    host.attach()
    host.manager.context.journal.close()
    (shell.directory / 'attachments.sqlite').write_bytes(b'no database at all' * 100)
    (shell.directory / 'attachments.sqlite-wal').unlink(missing_ok=True)
    (row,) = shell.json('list')
    assert row['state'] == 'unknown'
    assert 'what is recorded is not known' in shell.err


def test_qos(host: Host, shell: Shell) -> None:
    host.attach()
    result = shell.json('qos', 'web1', 'vda', 'read_iops_sec=100', 'total_bytes_sec=10M')
    assert result['limits'] == {'total_bytes_sec': 10 << 20, 'read_iops_sec': 100}
    assert host.guest.limits.read_iops_sec == 100
    assert shell.json('qos', 'web1', 'vda', '--unlimited')['limits'] == {}
    assert host.guest.limits.read_iops_sec is None


def test_qos_of_cinder(host: Host, shell: Shell, tmp_path: pathlib.Path) -> None:
    host.attach()
    raw = fake.connection_info()
    raw['data']['qos_specs'] = {'write_iops_sec': '7', 'unknown': 'x'}
    new = tmp_path / 'new.json'
    new.write_text(json.dumps(raw))
    result = shell.json('qos', 'web1', 'vda', '--from-connection-info', str(new))
    assert result['limits'] == {'write_iops_sec': 7}


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ((), 'missing'),
        (('read_iops=1',), 'such as read_iops_sec'),
        (('read_iops_sec',), 'unknown'),
        (('read_iops_sec=many',), 'whole number'),
        (('read_iops_sec=-1',), 'whole number'),
        (('read_iops_sec=1', 'read_iops_sec=2'), 'given twice'),
        (('group_name=a b',), 'letters'),
        (('read_iops_sec=1', '--unlimited'), 'in two ways'),
    ],
)
def test_bad_limits(host: Host, shell: Shell, words: tuple[str, ...], said: str) -> None:
    host.attach()
    assert shell.run('qos', 'web1', 'vda', *words) == 2
    assert said in shell.err
    assert not any(call.startswith('set_iotune') for call in host.calls)


def test_qos_of_nothing(host: Host, shell: Shell) -> None:
    host.attach()
    assert shell.run('qos', 'web1', 'vdz', 'read_iops_sec=1') == 2


def test_repair(host: Host, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.run('repair') == 0
    assert shell.out == 'No volume has fewer paths than were asked for.\n'
    monkeypatch.setattr(fake.FakeDevices, 'failed', (('sdb', 'offline'),))
    host.driver.failed_paths = (FailedPath('192.0.2.2:3260', 'no answer'),)
    host.attach()
    (row,) = shell.json('repair', '--connection-info', host.file, code=7)
    assert (row['paths_before'], row['paths_found'], row['paths_asked']) == (1, 1, 2)
    assert row['paths_failed'] == [{'name': '192.0.2.2:3260', 'reason': 'no answer'}]

    host.driver.failed_paths = ()
    (row,) = shell.json('repair', 'web1', '--connection-info', host.file)
    assert (row['target'], row['paths_before'], row['paths_found']) == ('vda', 1, 2)
    monkeypatch.setattr(fake.FakeDevices, 'failed', ())
    assert shell.json('repair') == []


def test_repair_of_a_volume_whose_paths_came_back_by_themselves(host: Host, shell: Shell) -> None:
    shell.run('list')
    host.driver.failed_paths = (FailedPath('192.0.2.2:3260', 'no answer'),)
    host.attach()
    host.driver.failed_paths = ()
    (row,) = shell.json('repair', '--connection-info', host.file)
    assert (row['paths_before'], row['paths_found']) == (2, 2)
    assert shell.json('show', 'web1', 'vda')['record_paths_found'] == 2


def test_repair_without_the_password(
    host: Host, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.attach()
    # It is not needed where no path is missing.
    assert shell.json('repair', 'web1', 'vda')[0]['paths_found'] == 2
    monkeypatch.setattr(fake.FakeDevices, 'failed', (('sdb', 'offline'),))
    assert shell.run('repair', 'web1', 'vda') == 2
    assert '--connection-info is missing' in shell.err
    assert shell.run('repair', 'web1', 'vdz') == 2
    (row,) = shell.json('repair', 'web1', 'vda', '--connection-info', host.file)
    assert row['seconds'].keys() == {'identify', 'connect', 'verify', 'record'}
    assert row['identity'] == 'wwn:3600'


def test_repair_of_one_does_not_stop_the_others(
    host: Host, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.FakeDevices, 'failed', (('sdb', 'faulty'),))
    host.attach()
    (row,) = shell.json('repair', code=1)
    assert row['paths_before'] == 1
    assert 'credentials are not recorded' in row['problem']
    host.fail['connect'] = exception.VolumeDeviceNotFound(volume_id='v', reason='no LUN')
    (row,) = shell.json('repair', '--connection-info', host.file, code=1)
    assert 'no LUN' in row['problem']


def test_infos_of_two_volumes(host: Host, shell: Shell) -> None:
    assert shell.run('recover', *('--connection-info', host.file) * 2) == 2
    assert 'given twice' in shell.err


def test_reconnect(host: Host, shell: Shell) -> None:
    host.attach()
    host.reboot()
    host.guest.running = False
    assert shell.run('reconnect', 'web1', 'vda') == 2
    result = shell.json('reconnect', 'web1', 'vda', '--connection-info', host.file)
    assert result['target'] == 'vda'
    assert result['seconds'].keys() == {'connect', 'identify', 'record'}
    assert shell.json('list')[0]['state'] == 'attached'
    assert shell.run('reconnect', 'web1', 'vdz') == 2


def test_reconnect_of_another_volume(host: Host, shell: Shell, tmp_path: pathlib.Path) -> None:
    host.attach()
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(fake.connection_info(fake.OTHER_ID)))
    for command in ('reconnect', 'repair'):
        assert shell.run(command, 'web1', 'vda', '--connection-info', str(other)) == 2
        assert 'connect' not in host.calls


def test_recover(host: Host, shell: Shell) -> None:
    assert shell.run('recover') == 0
    assert shell.out == 'Nothing was interrupted.\n'
    host.attach()
    host.guest.present.clear()
    host.change(operation='detach', step='disconnect')
    (row,) = shell.json('recover')
    assert (row['operation'], row['action']) == ('detach', 'finished')
    assert 'disconnect' in host.calls
    assert shell.json('list') == []


def test_recover_that_has_to_be_run_again(host: Host, shell: Shell) -> None:
    host.attach()
    host.guest.present.clear()
    host.change(operation='detach', step='disconnect')
    with host.manager.context.lock_volume(fake.VOLUME_ID, 'detach', 'web1'):
        (row,) = shell.json('recover', code=5)
    assert row['action'] == 'running'
    host.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='I/O error')
    (row,) = shell.json('recover', code=5)
    assert row['action'] == 'failed'
    assert 'I/O error' in row['detail']


def test_recover_after_a_reboot(host: Host, shell: Shell) -> None:
    host.attach()
    host.reboot()
    assert shell.json('recover', code=5)[0]['action'] == 'failed'
    (row,) = shell.json('recover', '--connection-info', host.file)
    assert row['action'] == 'reconnected'
    assert shell.run('recover') == 0


def test_the_last_outcome_of_a_volume_counts(
    host: Host, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Outcome('web1', fake.GUEST_UUID, fake.VOLUME_ID, 'repair', 's', 'failed', '', 0.1)
    second = dataclasses.replace(first, operation=None, action='reconnected')
    monkeypatch.setattr(AttachmentManager, 'recover', lambda manager, infos: (first, second))
    assert len(shell.json('recover')) == 2
    monkeypatch.setattr(AttachmentManager, 'recover', lambda manager, infos: (second, first))
    assert len(shell.json('recover', code=5)) == 2


def test_forget(host: Host, shell: Shell) -> None:
    host.attach()
    assert shell.run('forget', 'web1', 'vda') == 4
    assert 'the guest has it as vda' in shell.err
    forgotten = shell.json('forget', 'web1', 'vda', '--force')
    assert (forgotten['volume_id'], forgotten['identity']) == (fake.VOLUME_ID, 'wwn:3600')
    assert shell.json('list')[0]['state'] == 'unrecorded'
    assert shell.run('forget', 'web1', 'vda') == 6


PROBLEM = Finding(
    kind='degraded',
    severity='problem',
    guest='web1',
    guest_uuid=fake.GUEST_UUID,
    volume_id=fake.VOLUME_ID,
    what=fake.PATH,
    detail='1 of 2 paths work',
    what_to_do='Run "volumedrivers repair".',
)
NOTE = Finding('stray-secret', 'note', '', '', '', 'secret 1', '', 'Look at it.')


@pytest.mark.parametrize(
    ('found', 'code', 'said'),
    [
        ((), 0, 'The journal, the guests and this host agree.\n'),
        ((NOTE,), 0, '\n1 finding: 1 note\n'),
        ((PROBLEM, NOTE), 8, '\n2 findings: 1 note, 1 problem\n'),
    ],
)
def test_audit(
    host: Host,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[Finding, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(AttachmentManager, 'audit', lambda manager: found)
    assert shell.json('audit', code=code) == [
        one.to_dict() | {'volume_name': None} for one in found
    ]
    assert shell.run('audit') == code
    assert shell.out.endswith(said)
    assert len(shell.json('audit', '--problems', code=code)) == (PROBLEM in found)


def test_audit_as_text(host: Host, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AttachmentManager, 'audit', lambda manager: (PROBLEM,))
    shell.run('audit')
    assert shell.out.splitlines()[:3] == [
        f'problem  degraded web1 {fake.VOLUME_ID}',
        f'         {fake.PATH}: 1 of 2 paths work',
        '         -> Run "volumedrivers repair".',
    ]


def test_notes_of_an_error_are_printed(host: Host, shell: Shell) -> None:
    host.fail['attach_disk'] = exception.AttachRefused(guest='web1', disk='vda', reason='full')
    host.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='I/O error')
    host.attach(code=1)
    (line,) = (line for line in shell.err.splitlines() if line.startswith('  moreover '))
    assert "undoing the step 'connect' failed" in line
    assert 'I/O error' in line
    (row,) = shell.json('list')
    assert row['state'].startswith('attach unfinished in step undo connect')


def test_verbose_says_each_step(host: Host, shell: Shell) -> None:
    host.attach('-v')
    lines = shell.err.splitlines()
    assert [re.sub(r'\d+\.\d\d s', 'N s', line) for line in lines] == [
        'attach: connect ... N s',
        'attach: identify ... N s',
        'attach: attach ... N s',
        'attach: record ... N s',
    ]
    assert shell.run('detach', 'web1', 'vda') == 0
    assert shell.err == ''


def test_verbose_says_which_volume_of_several(host: Host, shell: Shell) -> None:
    host.attach()
    host.guest.present.clear()
    host.change(operation='detach', step='disconnect')
    assert shell.run('-v', 'recover') == 0
    assert f'INFO: recovering volume {fake.VOLUME_ID} of guest web1\n' in shell.err
    assert 'detach: disconnect ... ' in shell.err


def test_verbose_says_what_failed_and_is_undone(host: Host, shell: Shell) -> None:
    host.fail['attach_disk'] = exception.AttachRefused(guest='web1', disk='vda', reason='full')
    host.attach('-v', code=1)
    assert re.search(r'^attach: attach \.\.\. failed after \d', shell.err, re.MULTILINE)
    assert re.search(r'^attach: undo connect \.\.\. \d', shell.err, re.MULTILINE)


def test_verbose_says_whom_it_waits_for(host: Host, shell: Shell, tmp_path: pathlib.Path) -> None:
    config = tmp_path / 'my.conf'
    config.write_text('[volumedrivers]\nlock_timeout = 0.1\n')
    host.attach()
    with host.manager.context.lock_volume(fake.VOLUME_ID, 'extend', 'web2'):
        assert shell.run('-v', '--config-file', str(config), 'detach', 'web1', 'vda') == 5
    waiting, failed, _ = shell.err.splitlines()
    assert waiting.startswith(
        f'INFO: waiting for volume {fake.VOLUME_ID}, which is held by extend'
    )
    assert failed.startswith('Error: gave up after 0.1 s')
    assert 'detach_disk' not in host.calls


def test_a_log_line_between_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    handler = progress.StepHandler(stream)
    handler.setLevel(logging.INFO)
    handler.observe('attach', 'connect', 'before')
    handler.handle(logging.makeLogRecord({'msg': 'look here', 'levelno': logging.WARNING}))
    handler.observe('attach', 'connect', 'after')
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ['attach: connect ...', 'look here']
    assert re.fullmatch(r'attach: connect \d+\.\d\d s', lines[2])
