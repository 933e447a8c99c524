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

"""The commands on volumes of Cinder: a small Cinder on loopback, a host of fakes."""

from collections.abc import Iterator
import dataclasses
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import typing
import urllib.parse

import pytest

from tests.unit import fake_cinder
from tests.unit import fake_hypervisor as fake
from tests.unit import test_cmd_main
from tests.unit.fake_cinder import Said
from tests.unit.fake_cinder import fault
from tests.unit.test_cmd_main import PASSWORD
from tests.unit.test_cmd_main import FakeServices
from tests.unit.test_cmd_main import Shell
from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.results import VolumeRefreshResult
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Operation as HostOperation
from volumedrivers.attachment.results import Finding
from volumedrivers.attachment.results import paths_of
from volumedrivers.cmd import main
from volumedrivers.cmd.no_cinder import NoBlockStorage

NAME = 'data1'
OTHER = '22222222-2222-2222-2222-222222222222'
TYPE = '33333333-3333-3333-3333-333333333333'
INSTANCE = '44444444-4444-4444-4444-444444444444'
HOST = 'this-host'


class Cinder(fake_cinder.FakeCinder):
    """Two volumes, which have the states that Cinder gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.all = {
            fake.VOLUME_ID: self.made(fake.VOLUME_ID, NAME),
            OTHER: self.made(OTHER, 'logs'),
        }
        self.qos: dict[str, typing.Any] | None = None
        self.encryption: dict[str, typing.Any] | None = None

    def made(self, volume_id: str, name: str) -> dict[str, typing.Any]:
        return self.volume | {
            'id': volume_id,
            'name': name,
            'shared_targets': False,
            'volume_type': 'fast',
            'volume_type_id': TYPE,
            'metadata': {},
            'multiattach': False,
            'encrypted': False,
            'bootable': 'false',
            'attachments': [],
        }

    def answer(self, request: fake_cinder.Request) -> Said:
        parts = request.path.partition('?')[0].removeprefix('/v3').strip('/').split('/')
        if parts[0] == 'types':
            return Said(body={'volume_type': {'id': TYPE, 'qos_specs_id': self.qos and 'q'}})
        if parts[0] == 'qos-specs':
            return Said(body={'qos_specs': self.qos})
        if parts[0] == 'volumes' and parts[-1] == 'encryption':
            return Said(body=self.encryption)
        if parts[0] == 'volumes' and parts[-1] == 'action':
            self.act(parts[1], request.body)
            return Said('202 Accepted')
        if parts[0] == 'attachments' and parts[1:] in ([], ['detail']) and request.method == 'GET':
            return Said(body={'attachments': self.found(request)})
        if parts[0] == 'attachments':
            return self.attached(request, parts[1:])
        return super().answer(request)

    def found(self, request: fake_cinder.Request) -> list[dict[str, typing.Any]]:
        query = dict(urllib.parse.parse_qsl(request.path.partition('?')[2]))
        return [
            one
            for one in self.attachments.values()
            if query.get('volume_id', one['volume_id']) == one['volume_id']
            and query.get('instance_id', one['instance']) == one['instance']
        ]

    def volumes(self, parts: list[str]) -> Said:
        if parts in ([], ['detail']):
            return Said(body={'volumes': list(self.all.values())})
        if parts[0] in self.all:
            return Said(body={'volume': self.all[parts[0]]})
        return fault('404 Not Found', 'could not be found', said='itemNotFound')

    def attached(self, request: fake_cinder.Request, parts: list[str]) -> Said:
        before = self.attachments.get(parts[0]) if parts else None
        answer = self.attachment(request, parts)
        if parts and before is None:
            return answer
        made = before or next(iter(self.attachments.values()))
        found = self.all[made['volume_id']]
        if request.method == 'PUT':
            made['status'] = 'attaching'
            made['connection_info'] = fake.connection_info()['data'] | {
                'driver_volume_type': 'iscsi'
            }
        elif request.method == 'DELETE':
            found.update(status='available', attachments=[])
        elif request.method == 'POST' and parts:
            made['status'] = 'attached'
            found['status'] = 'in-use'
            found['attachments'] = [
                {'attachment_id': made['id'], 'server_id': made['instance'], 'host_name': HOST}
            ]
        elif request.method == 'POST':
            found['status'] = 'reserved'
        return answer

    def act(self, volume_id: str, body: dict[str, typing.Any]) -> None:
        found = self.all[volume_id]
        ((action, more),) = body.items()
        match action:
            case 'os-begin_detaching':
                found['status'] = 'detaching'
            case 'os-roll_detaching':
                found['status'] = 'in-use'
            case 'os-extend':
                found['size'] = more['new_size']

    @property
    def changes(self) -> list[str]:
        return [str(one) for one in self.requests if one.method != 'GET']


class VolumeServices(FakeServices):
    """Services on fakes, and a Cinder that is really asked."""

    @functools.cached_property
    def volumes(self) -> VolumeManager:
        return make_volume_manager(
            self.conf, self.storage, self.manager, connector=lambda: {'host': HOST}
        )


class CinderShell(Shell):
    """Runs the command on one host, one after the other."""

    def __init__(self, directory: pathlib.Path, cinder: Cinder) -> None:
        super().__init__(directory)
        self.cinder = cinder
        self.fail: dict[str, BaseException] = {}

    def make(self, options: typing.Any) -> FakeServices:
        before = self.services[-1] if self.services else None
        made = VolumeServices(options, self.directory)
        made.conf.set_override('host', HOST, 'volumedrivers')
        made.conf.set_override('cinder_retries', 0, 'volumedrivers')
        if before is not None:
            # What libvirt and storage have outlives a process.
            made.guest, made.driver = before.guest, before.driver
            made.guest.fakes = made.driver.fakes = made.fakes
        made.fakes.fail.update(self.fail)
        self.services.append(made)
        return made

    def attach(self, *options: str) -> typing.Any:
        return self.json('volume', 'attach', 'web1', NAME, *options)


@pytest.fixture
def cinder() -> Iterator[Cinder]:
    made = Cinder()
    with fake_cinder.served(made):
        yield made


@pytest.fixture
def shell(cinder: Cinder, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> CinderShell:
    file = tmp_path / 'clouds.yaml'
    file.write_text(
        'clouds:\n  demo:\n    auth_type: none\n'
        f'    block_storage_endpoint_override: {cinder.url}/v3\n'
    )
    for name in [name for name in os.environ if name.startswith('OS_')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(file))
    monkeypatch.setenv('OS_CLOUD', 'demo')
    return CinderShell(tmp_path / 'state', cinder)


def test_there_and_back(shell: CinderShell) -> None:
    done = shell.attach('--bus', 'scsi')
    assert list(done)[:5] == ['guest', 'target', 'volume_name', 'volume_id', 'attachment_id']
    assert (done['target'], done['volume_name'], done['mode']) == ('sda', NAME, 'rw')
    assert shell.err.splitlines()[0].startswith('volume attach: reserve ... ')
    assert [line.split(' ...')[0] for line in shell.err.splitlines()] == [
        'volume attach: reserve',
        'volume attach: export',
        'attach: connect',
        'attach: identify',
        'attach: attach',
        'attach: record',
        'volume attach: complete',
        'volume attach: record',
    ]
    assert shell.cinder.all[fake.VOLUME_ID]['status'] == 'in-use'
    assert shell.run('volume', 'detach', 'web1', NAME) == 0
    assert f'Volume name         {NAME}\n' in shell.out
    assert 'volume detach: release ... ' in shell.err
    assert shell.err.endswith(f'Guest web1 has volume {NAME} no more, and Cinder has it back.\n')
    assert shell.cinder.attachments == {}
    assert shell.run('volume', 'detach', 'web1', NAME) == 6
    assert f'"volumedrivers volume attachments {NAME}" shows who has it' in shell.err


def test_what_to_type_next(shell: CinderShell) -> None:
    assert shell.run('volume', 'attach', 'web1', NAME) == 0
    assert '"volumedrivers volume detach web1 vda" takes it away again.\n' in shell.err
    assert shell.run('-q', 'volume', 'detach', 'web1', 'vda') == 0
    assert shell.err == ''
    assert shell.run('volume', 'attach', 'web1', NAME, '-f', 'value', '-c', 'target') == 0
    assert shell.out == 'vda\n'
    assert 'takes it away' not in shell.err


def test_options_of_attach(shell: CinderShell, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    def attach(
        self: VolumeManager, guest: str, name: str, request: typing.Any, **more: typing.Any
    ) -> typing.NoReturn:
        given.update(more, guest=guest, name=name, request=request)
        raise exception.Busy(what='it', reason='enough')

    monkeypatch.setattr(VolumeManager, 'attach', attach)
    arguments = '--bus scsi --type lun --unit 3 --boot-index 1 --target sdx --read-only --legacy'
    assert shell.run('volume', 'attach', 'web1', NAME, '--allow-format', *arguments.split()) == 5
    request = given.pop('request')
    assert (request.bus, request.type, request.unit) == ('scsi', 'lun', 3)
    assert (request.boot_index, request.target) == (1, 'sdx')
    assert given == {
        'guest': 'web1',
        'name': NAME,
        'read_only': True,
        'legacy': True,
        'allow_format': True,
    }


def test_attach_with_fewer_paths(shell: CinderShell) -> None:
    shell.prepare = test_cmd_main.degraded
    made = shell.make

    def degraded(options: typing.Any) -> FakeServices:
        services = made(options)
        test_cmd_main.degraded(services)
        return services

    shell.make = degraded  # type: ignore[method-assign]
    done = shell.json('volume', 'attach', 'web1', NAME, '--fail-degraded', code=7)
    assert done['degraded'] is True
    assert done['paths_failed'] == [{'name': '192.0.2.2:3260', 'reason': 'refused ***'}]
    assert '1 of 2 paths' in shell.err


def test_attach_that_fails_half_way(shell: CinderShell) -> None:
    """The steps of guest and host are in those around them."""
    shell.fail['attach_disk'] = exception.AttachRefused(guest='web1', disk='vda', reason='no slot')
    assert shell.run('volume', 'attach', 'web1', NAME) == 1
    assert re.search(
        r'^  steps      reserve \S+ s, export \S+ s, attach failed after \S+ s '
        r'\(connect \S+ s, identify \S+ s, attach failed after \S+ s, undo connect \S+ s; '
        r'not done: record\), undo reserve \S+ s; not done: complete, record$',
        shell.err,
        re.MULTILINE,
    ), shell.err
    assert '\n  volume     wwn:3600, 2 of 2 paths\n' in shell.err
    assert '\n  left       nothing is recorded, and Cinder has the volume as before\n' in shell.err
    assert shell.cinder.attachments == {}
    told = shell.json('volume', 'attach', 'web1', NAME, code=1)
    assert (told['operation'], told['step'], told['record']) == ('volume attach', 'attach', 'none')
    assert (told['within']['step'], told['within']['undone']) == ('attach', ['connect'])


def test_what_cannot_be_undone(shell: CinderShell) -> None:
    """Cinder keeps what this host may still have."""
    shell.fail['attach_disk'] = exception.AttachRefused(guest='web1', disk='vda', reason='no slot')
    shell.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='no path')
    assert shell.run('volume', 'attach', 'web1', NAME) == 1
    left = 'the volume on this host, the attachment in Cinder; recorded as unfinished'
    assert f'\n  left       {left}' in shell.err, shell.err
    assert 'Cinder keeps the attachment' in shell.err
    assert len(shell.cinder.attachments) == 1


@pytest.mark.parametrize(
    ('request_', 'step', 'code'),
    [('POST /v3/attachments', 'reserve', 5), ('PUT /v3/attachments', 'export', 5)],
)
def test_cinder_that_fails(shell: CinderShell, request_: str, step: str, code: int) -> None:
    shell.cinder.say(request_, fault('500 Internal Server Error', 'oops'))
    told = shell.json('volume', 'attach', 'web1', NAME, code=code)
    assert (told['step'], told['within'], told['record']) == (step, None, 'none')
    assert 'volumedrivers recover' in shell.err


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_told_to_end_in_the_middle(
    shell: CinderShell,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    """The step ends, and what was done is undone, in Cinder as well."""
    made = shell.make

    def stopped(options: typing.Any) -> FakeServices:
        services = made(options)
        connect = services.driver.connect_volume

        def signalled(info: typing.Any, attachment: str) -> typing.Any:
            os.kill(os.getpid(), number)
            time.sleep(0.1)
            return connect(info, attachment)

        services.driver.connect_volume = signalled  # type: ignore[method-assign]
        return services

    assert main.main(['volume', 'attach', 'web1', NAME], make_services=stopped) == code
    err = capsys.readouterr().err
    assert 'Interrupted.' in err
    assert 'attach failed after' in err
    assert shell.cinder.attachments == {}
    assert shell.cinder.all[fake.VOLUME_ID]['status'] == 'available'
    assert shell.json('list') == []


def test_no_secret_of_cinder_is_shown(
    shell: CinderShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever repeats it: a tool's error, or the log of the SDK."""
    shell.fail['connect'] = exception.ConnectFailed(
        volume_id='v', driver_volume_type='iscsi', reason=f'iscsiadm said {PASSWORD}'
    )
    assert shell.run('--debug', 'volume', 'attach', 'web1', NAME) == 1
    assert 'iscsiadm said ***' in shell.err
    assert 'PUT' in shell.err  # the SDK has logged
    assert shell.run('volume', 'attach', 'web1', NAME, '-f', 'json') == 1
    assert PASSWORD not in shell.out + shell.err


def test_list(shell: CinderShell) -> None:
    shell.attach()
    assert shell.run('volume', 'list') == 0
    assert shell.out.splitlines() == [
        'Name   ID                                    Status     Size GiB  Volume type  '
        'Attached to',
        f'data1  {fake.VOLUME_ID}  in-use     1         fast         web1 as vda',
        f'logs   {OTHER}  available  1         fast         -',
    ]
    rows = shell.json('volume', 'list')
    assert rows[0]['attached_to'] == ['web1 as vda']
    assert (rows[1]['bootable'], rows[1]['encrypted'], rows[1]['read_only']) == (False,) * 3
    shell.cinder.all.clear()
    assert shell.run('volume', 'list') == 0
    assert shell.out == 'There is no volume in this project.\n'


def test_list_of_what_others_have(shell: CinderShell) -> None:
    shell.cinder.all[OTHER] |= {
        'status': 'in-use',
        'multiattach': True,
        'attachments': [
            {'attachment_id': 'a', 'server_id': INSTANCE, 'host_name': 'that-host'},
            {'attachment_id': 'b', 'server_id': fake.GUEST_UUID, 'host_name': None},
            {'attachment_id': 'c', 'server_id': None, 'host_name': 'image-host'},
        ],
    }
    rows = shell.json('volume', 'list')
    assert rows[1]['attached_to'] == [
        f'instance {INSTANCE} on that-host',
        f'instance {fake.GUEST_UUID} (web1)',
        'something that is no instance on image-host',
    ]
    # Looking makes no journal.
    assert not (shell.directory / 'attachments.sqlite').exists()


def test_list_without_libvirt(shell: CinderShell) -> None:
    shell.fail['disks'] = exception.HypervisorUnavailable(uri='u', reason='gone')
    assert len(shell.json('volume', 'list')) == 2
    assert 'what the guests of this host have is not known' in shell.err


def test_show(shell: CinderShell) -> None:
    shell.attach()
    found = shell.cinder.all[fake.VOLUME_ID]
    found |= {
        'description': 'of the shop',
        'metadata': {'readonly': 'True'},
        'encrypted': True,
        'volume_image_metadata': {'hw_disk_bus': 'scsi'},
    }
    shell.cinder.encryption = {'provider': 'luks', 'encryption_key_id': 'k-1', 'cipher': 'aes'}
    shell.cinder.qos = {'name': 'slow', 'consumer': 'front-end', 'specs': {'read_iops_sec': '5'}}
    shown = shell.json('volume', 'show', NAME)
    assert shown['read_only'] is True
    assert shown['encryption'] == shell.cinder.encryption
    assert shown['qos'] == {'name': 'slow', 'consumer': 'front-end', 'read_iops_sec': '5'}
    assert shown['image_metadata'] == {'hw_disk_bus': 'scsi'}
    (attachment,) = shown['attachments']
    assert (attachment['guest'], attachment['target'], attachment['host']) == (
        'web1',
        'vda',
        HOST,
    )
    assert attachment['recorded'] == 'yes'
    assert shown['on_this_host'][0]['source'] == fake.PATH
    assert shell.run('volume', 'show', NAME) == 0
    assert f'web1 as vda: attached, {fake.PATH}\n' in shell.out
    assert re.search(
        rf'^Attachments +{attachment["attachment_id"]}  attached, rw, web1 as vda on {HOST}, '
        r'recorded here$',
        shell.out,
        re.MULTILINE,
    )
    assert PASSWORD not in shell.out


def test_show_what_cinder_does_not_tell(shell: CinderShell) -> None:
    shell.cinder.all[OTHER]['encrypted'] = True
    for page in ('GET /v3/types', f'GET /v3/volumes/{OTHER}/encryption'):
        shell.cinder.say(page, fault('403 Forbidden', 'not you', said='forbidden'))
    shown = shell.json('volume', 'show', 'logs')
    assert (shown['encryption'], shown['qos']) == (None, None)
    assert shell.run('volume', 'show', 'logs') == 0
    assert 'QoS          Cinder does not tell this user\n' in shell.out
    assert shell.run('volume', 'show', 'nothing') == 2
    assert '"volumedrivers volume list" shows those of this project' in shell.err


def test_attachments(shell: CinderShell) -> None:
    assert shell.run('volume', 'attachments') == 0
    assert shell.out == 'Cinder has no attachment, and nothing is recorded on this host.\n'
    done = shell.attach()
    shell.cinder.attachments['b-2'] = {
        'id': 'b-2',
        'status': 'reserved',
        'volume_id': OTHER,
        'instance': INSTANCE,
        'attach_mode': 'ro',
    }
    ours, others = shell.json('volume', 'attachments')
    assert (ours['volume_name'], ours['guest'], ours['target']) == (NAME, 'web1', 'vda')
    assert (ours['recorded'], ours['attachment_id']) == ('yes', done['attachment_id'])
    assert (others['guest'], others['guest_uuid'], others['mode']) == (None, INSTANCE, 'ro')
    assert (others['recorded'], others['host']) == ('no', None)
    assert shell.run('volume', 'attachments') == 0
    assert f'logs         {INSTANCE}  ' in shell.out


def test_attachment_that_cinder_has_lost(shell: CinderShell) -> None:
    done = shell.attach()
    shell.cinder.attachments.clear()
    (row,) = shell.json('volume', 'attachments', NAME)
    assert (row['status'], row['recorded']) == ('not in Cinder', 'yes')
    assert (row['guest'], row['target']) == ('web1', 'vda')
    assert row['attachment_id'] == done['attachment_id']
    assert shell.json('volume', 'attachments', 'logs') == []


def test_extend(shell: CinderShell) -> None:
    shell.attach()
    shell.services[-1].driver.size = 2 * fake.GIB
    assert shell.run('volume', 'extend', NAME, '1500M') == 0
    assert 'the size becomes 2 GiB, and not 1500 MiB' in shell.err
    assert 'Size         2 GiB (2147483648 bytes)\n' in shell.out
    assert 'Guests       web1 as vda: sees it\n' in shell.out
    assert shell.err.endswith('and guest web1 sees that.\n')
    assert shell.cinder.all[fake.VOLUME_ID]['size'] == 2
    told = shell.json('volume', 'extend', 'logs', '3G')
    assert told['guests'] == []
    assert shell.run('volume', 'extend', NAME, '2,5G') == 2


def test_dry_run_of_extend(shell: CinderShell, only_reads: None) -> None:
    """Of a volume that nobody has, of one that a guest has, and of nothing to do."""
    assert shell.run('volume', 'extend', 'logs', '1500M', '--dry-run') == 0
    assert shell.out.startswith(
        f'Nothing is done; volume extend of volume logs, {OTHER} would be:\n'
    )
    assert '   - let Cinder extend it from 1 to 2 GiB, and wait for that\n' in shell.out
    plan = shell.json('volume', 'extend', 'logs', '1G', '--dry-run')
    assert plan['steps'][0]['actions'] == ['nothing: Cinder has it with 1 GiB']
    assert plan['guest'] == ''
    shell.cinder.all[OTHER]['status'] = 'error'
    assert shell.run('volume', 'extend', 'logs', '2G', '--dry-run') == 2


def test_dry_run_of_extend_in_a_guest(shell: CinderShell) -> None:
    shell.attach()
    before = list(shell.cinder.changes)
    plan = shell.json('volume', 'extend', NAME, '2G', '--dry-run')
    assert [step['name'] for step in plan['steps']] == [
        'cinder',
        'identify of guest web1',
        'extend of guest web1',
        'resize of guest web1',
        'record of guest web1',
    ]
    assert (plan['guest'], plan['status']) == ('web1', 'in-use')
    assert shell.cinder.changes == before
    assert shell.cinder.all[fake.VOLUME_ID]['size'] == 1


def test_names_are_known_without_cinder(
    shell: CinderShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = shell.attach()
    asked = len(shell.cinder.requests)
    monkeypatch.delenv('OS_CLOUD')
    (row,) = shell.json('list')
    assert (row['volume_name'], row['attachment_id']) == (NAME, done['attachment_id'])
    assert shell.run('list') == 0
    assert shell.out.splitlines()[0].startswith('Guest  Target  Volume name  Volume ID')
    shown = shell.json('show', 'web1', NAME)
    assert (shown['target'], shown['cinder_attachment_id']) == ('vda', done['attachment_id'])
    assert shell.run('show', 'web1', NAME, '--tree') == 0
    assert f'volume {NAME}  {fake.VOLUME_ID}' in shell.out
    assert len(shell.cinder.requests) == asked


def test_detach_of_guest_and_host_alone(shell: CinderShell) -> None:
    """Cinder's attachment is not forgotten silently."""
    done = shell.attach()
    told = shell.json('detach', 'web1', 'vda')
    assert told['cinder']['attachment_id'] == done['attachment_id']
    assert f'"volumedrivers volume detach web1 {fake.VOLUME_ID}" gives it back' in shell.err
    assert shell.json('list')[0]['state'] == 'attached in Cinder only'
    plan = shell.json('volume', 'detach', 'web1', fake.VOLUME_ID, '--dry-run')
    assert [step['name'] for step in plan['steps']] == ['release', 'record']
    assert len(shell.cinder.attachments) == 1
    assert shell.run('volume', 'detach', 'web1', fake.VOLUME_ID) == 0
    assert shell.err.endswith(
        f'Guest and host had let go of volume {NAME} before; Cinder has the volume back.\n'
    )
    assert 'did not have volume' not in shell.err
    assert shell.cinder.attachments == {}
    assert shell.json('list') == []
    assert shell.run('volume', 'detach', 'web1', NAME) == 6


def test_detach_that_cinder_did_not_hear_of(shell: CinderShell) -> None:
    """The second time there is only Cinder left to tell; what is left is said in its terms."""
    done = shell.attach()
    shell.cinder.say('DELETE /v3/attachments', fault('500 Internal Server Error', 'oops'))
    assert shell.run('volume', 'detach', 'web1', NAME) == 5
    left = f'attachment {done["attachment_id"]} in Cinder; recorded as unfinished'
    assert f'\n  left       {left}' in shell.err, shell.err
    shell.cinder.said.clear()
    told = shell.json('volume', 'detach', 'web1', NAME)
    assert (told['settled'], told['attachment_id']) == (
        'Cinder has the volume back',
        done['attachment_id'],
    )
    assert (told['removed_from_guest'], list(told['seconds'])) == (False, ['release'])
    assert shell.cinder.attachments == {}


def test_forget(shell: CinderShell) -> None:
    done = shell.attach()
    assert shell.run('forget', 'web1', NAME) == 4
    plan = shell.json('forget', 'web1', NAME, '--force', '--dry-run')
    assert 'Cinder keeps it' in plan['steps'][0]['actions'][-1]
    told = shell.json('forget', 'web1', NAME, '--force')
    assert told['cinder']['attachment_id'] == done['attachment_id']
    assert f'volume attachment delete {done["attachment_id"]}"' in shell.err
    assert len(shell.cinder.attachments) == 1
    assert shell.json('list')[0]['state'] == 'unrecorded'


def test_forget_what_is_in_cinder_only(shell: CinderShell) -> None:
    shell.attach()
    shell.run('detach', 'web1', 'vda')
    plan = shell.json('forget', 'web1', NAME, '--dry-run')
    assert plan['steps'][0]['actions'][0].startswith('remove what is recorded of attachment')
    told = shell.json('forget', 'web1', NAME)
    assert (told['forgotten'], told['leftovers']) == (True, [])
    assert shell.json('list') == []
    assert shell.run('forget', 'web1', NAME) == 6


@pytest.fixture
def only_reads(shell: CinderShell) -> Iterator[None]:
    before = list(shell.cinder.changes)
    yield
    assert shell.cinder.changes == before


def test_dry_run_of_attach(shell: CinderShell, only_reads: None) -> None:
    assert shell.run('volume', 'attach', 'web1', NAME, '--dry-run') == 0
    assert shell.out.startswith(
        f'Nothing is done; volume attach of volume {NAME}, {fake.VOLUME_ID} and guest web1 as vda'
    )
    assert 'connect it to this host, as Cinder says when it has exported the volume' in shell.out
    plan = shell.json('volume', 'attach', 'web1', NAME, '--dry-run', '--read-only')
    assert [step['name'] for step in plan['steps']] == [
        'reserve',
        'export',
        'connect',
        'identify',
        'attach',
        'complete',
        'record',
    ]
    assert 'mode ro' in plan['steps'][0]['actions'][0]
    assert plan['lock'] == f'reservation {fake.VOLUME_ID}, then volume {fake.VOLUME_ID}'
    shell.cinder.all[fake.VOLUME_ID]['encrypted'] = True
    legacy = shell.json('volume', 'attach', 'web1', NAME, '--dry-run', '--legacy')
    assert 'os-reserve' in legacy['steps'][0]['actions'][0]
    assert 'encrypt' in [step['name'] for step in legacy['steps']]
    assert not (shell.directory / 'attachments.sqlite').exists()


def test_dry_run_refuses_what_would_be_refused(shell: CinderShell) -> None:
    shell.cinder.all[OTHER]['status'] = 'in-use'
    assert shell.run('volume', 'attach', 'web1', 'logs', '--dry-run') == 2
    assert shell.run('volume', 'attach', 'web1', 'nothing', '--dry-run') == 2
    shell.attach()
    assert shell.run('volume', 'attach', 'web1', NAME, '--dry-run') == 6
    assert shell.run('volume', 'detach', 'web1', 'logs', '--dry-run') == 6


def test_dry_run_of_detach(shell: CinderShell) -> None:
    done = shell.attach()
    before = list(shell.cinder.changes)
    plan = shell.json('volume', 'detach', 'web1', 'vda', '--dry-run')
    assert [step['name'] for step in plan['steps']] == [
        'begin',
        'detach',
        'disconnect',
        'prove',
        'record',
        'release',
        'record',
    ]
    assert plan['recorded'][0].startswith(f'attachment {done["attachment_id"]} at ')
    assert shell.run('volume', 'detach', 'web1', 'vda', '--dry-run') == 0
    assert f'   - delete attachment {done["attachment_id"]} in Cinder' in shell.out
    assert shell.cinder.changes == before


def test_recover_settles_cinder_too(shell: CinderShell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.cinder.say('POST /v3/attachments/', fault('500 Internal Server Error', 'oops'), times=1)
    shell.cinder.say('DELETE /v3/attachments/', fault('500 Internal Server Error', 'oops'), 1)
    told = shell.json('volume', 'attach', 'web1', NAME, code=5)
    assert (told['step'], told['record']) == ('complete', 'unfinished')
    assert shell.json('recover', '--no-cinder') == []
    monkeypatch.delenv('OS_CLOUD')
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', '/nonexistent')
    (row,) = shell.json('recover', code=5)
    assert (row['operation'], row['action']) == ('volume attach', 'failed')
    assert 'only guests and this host are recovered: ' in shell.err
    monkeypatch.undo()
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(shell.directory.parent / 'clouds.yaml'))
    before = list(shell.cinder.changes)
    (row,) = shell.json('--os-cloud', 'demo', 'recover', '--dry-run')
    assert (row['operation'], row['action']) == ('volume attach', 'undone')
    assert row['steps'][0]['actions'][0].startswith('delete attachment ')
    assert shell.run('--os-cloud', 'demo', 'recover', '--dry-run') == 0
    assert 'nothing of the volume is in the guest or on this host' in shell.out
    assert shell.cinder.changes == before
    (row,) = shell.json('--os-cloud', 'demo', 'recover')
    assert row['action'] == 'undone'
    assert shell.cinder.attachments == {}
    assert shell.run('recover') == 0
    assert shell.out == 'Nothing was interrupted.\n'


def test_recover_asks_no_cinder_that_nobody_named(
    shell: CinderShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('OS_CLOUD')
    assert shell.run('recover') == 0
    assert shell.cinder.requests == []
    monkeypatch.setenv('OS_CLOUD', 'nothing')
    assert shell.run('recover') == 0
    assert 'only guests and this host are recovered: ' in shell.err
    assert "has no cloud 'nothing'" in shell.err


def test_configuration_names_cinder(shell: CinderShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('OS_CLOUD')
    file = shell.directory.parent / 'own.conf'
    file.write_text(f'[cinder]\nauth_type = none\nendpoint_override = {shell.cinder.url}/v3\n')
    assert len(shell.json('--config-file', str(file), 'volume', 'list')) == 2
    file.write_text('[cinder]\nauth_type = nonsense\n')
    assert shell.run('--config-file', str(file), 'recover') == 0
    assert 'nonsense' in shell.err


@pytest.mark.parametrize('arguments', [['--help'], ['volume', 'attach', '--help'], ['host', '-h']])
def test_help_loads_no_sdk(arguments: list[str]) -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            '-c',
            'import sys, json\nfrom volumedrivers.cmd import main\n'
            f'main.main({arguments!r})\nprint(json.dumps(sorted(sys.modules)))',
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    modules = set(json.loads(loaded.splitlines()[-1]))
    assert modules.isdisjoint({'openstack', 'keystoneauth1', 'sqlite3', 'os_brick', 'libvirt'})


def test_refresh(shell: CinderShell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.attach()
    told: dict[str, typing.Any] = {
        'guest': 'web1',
        'guest_uuid': fake.GUEST_UUID,
        'volume_id': fake.VOLUME_ID,
        'driver_volume_type': 'iscsi',
        'target': 'vda',
        'source': fake.PATH,
        'changed': ('target_portal',),
        'now': ('one path more',),
        'next_start': (),
        'left': ('path sdb',),
        'seconds': {},
        'volume_name': NAME,
        'attachment_id': 'a-1',
        'mode': 'rw',
        **paths_of(None),
    }
    monkeypatch.setattr(
        VolumeManager, 'refresh', lambda self, guest, volume: VolumeRefreshResult(**told)
    )
    assert shell.run('volume', 'refresh', 'web1', NAME) == 0
    assert 'Changed             target_portal\n' in shell.out
    assert f'of the old ways to volume {fake.VOLUME_ID} is still there: path sdb' in shell.err
    assert shell.err.endswith(f'Guest web1 reaches volume {NAME} as Cinder says now.\n')
    told |= {'next_start': ('its monitors',)}
    assert shell.run('volume', 'refresh', 'web1', NAME) == 0
    assert shell.err.endswith('The rest is for the next start of guest web1.\n')
    told |= {'next_start': (), 'changed': ()}
    assert shell.run('volume', 'refresh', 'web1', NAME) == 0
    assert shell.err.endswith(f'Cinder says nothing new of volume {NAME}.\n')


def test_swap_takes_the_ids_that_cinder_gives(
    shell: CinderShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[typing.Any] = []

    def swap(
        self: VolumeManager, guest: str, volume_id: str, new: str, *, bandwidth: int
    ) -> typing.NoReturn:
        given.extend((guest, volume_id, new, bandwidth))
        raise exception.Busy(what='it', reason='enough')

    monkeypatch.setattr(VolumeManager, 'swap', swap)
    code = shell.run('volume', 'swap', 'web1', fake.VOLUME_ID, OTHER, '--bandwidth', '1M')
    assert code == 5
    assert given == ['web1', fake.VOLUME_ID, OTHER, 2**20]


def test_audit_looks_at_cinder_where_there_is_one(
    shell: CinderShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(name: str) -> typing.Any:
        finding = Finding('lost', 'problem', 'web1', fake.GUEST_UUID, 'v', name, 'why', 'do it')
        return lambda self: (finding,) if name in found else ()

    found = ['Cinder']
    monkeypatch.setattr(VolumeManager, 'audit', of('Cinder'))
    monkeypatch.setattr(AttachmentManager, 'audit', of('host'))
    assert [row['what'] for row in shell.json('audit', code=8)] == ['Cinder']
    assert shell.run('audit', '--no-cinder') == 0
    assert shell.out == 'The journal, the guests and this host agree.\n'
    found.clear()
    assert shell.run('audit') == 0
    assert shell.out == 'The journal, the guests, this host and Cinder agree.\n'
    monkeypatch.delenv('OS_CLOUD')
    found.append('host')
    assert [row['what'] for row in shell.json('audit', code=8)] == ['host']
    # What is recorded of a Cinder is enough, and one that is not found is no error.
    shell.run('--os-cloud', 'demo', 'volume', 'attach', 'web1', NAME)
    monkeypatch.setenv('OS_CLOUD', 'nothing')
    assert shell.run('audit') == 0


def test_audit_of_a_cinder_that_cannot_be_asked() -> None:
    storage = NoBlockStorage(exception.CinderNotConfigured(reason='nobody says where it is'))
    for ask in (lambda: storage.proxy, lambda: storage.endpoint):
        with pytest.raises(exception.CinderNotConfigured, match='nobody says where it is'):
            ask()


def plan_of_recover(shell: CinderShell, code: int = 0) -> list[tuple[str, str, str]]:
    before = list(shell.cinder.changes)
    rows = shell.json('recover', '--dry-run', code=code)
    assert shell.cinder.changes == before
    assert all(row['volume_name'] == NAME for row in rows)
    return [(row['operation'], row['action'], row['detail']) for row in rows]


def interrupt(shell: CinderShell, operation: Operation, step: str, **more: typing.Any) -> None:
    """Let it look as if an operation had stopped, long ago."""
    reservations = shell.services[-1].volumes.context.reservations  # type: ignore[attr-defined]
    (row,) = reservations.find()
    reservations.put(dataclasses.replace(row, operation=operation, step=step, **more))


def test_dry_run_of_recover_after_a_detach(
    shell: CinderShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What guest and host will have by then counts."""
    shell.attach()
    assert plan_of_recover(shell) == []
    interrupt(shell, Operation.DETACH, 'detach')
    assert plan_of_recover(shell) == [
        ('volume detach', 'undone', 'guest web1 has the volume'),
    ]
    made = shell.services[-1]
    journal = made.manager.context.journal
    (record,) = journal.find()
    journal.put(dataclasses.replace(record, operation=HostOperation.DETACH, step='disconnect'))
    made.guest.present.clear()
    of_host, of_cinder = plan_of_recover(shell)
    assert of_host[:2] == ('detach', 'finished')
    assert of_cinder == (
        'volume detach',
        'finished',
        'nothing of the volume is in the guest or on this host',
    )
    monkeypatch.setattr(fake.FakeDriver, 'plan_disconnect', lambda *_, **__: 1 / 0)
    of_host, of_cinder = plan_of_recover(shell, code=5)
    assert (of_host[1], of_cinder[1]) == ('failed', 'failed')
    assert of_cinder[2].startswith('guest and host come first, and are not settled: ')


def test_dry_run_of_recover_and_a_lost_attachment(shell: CinderShell) -> None:
    shell.attach()
    shell.cinder.attachments.clear()
    ((_, action, detail),) = plan_of_recover(shell, code=5)
    assert (action, detail) == (
        'failed',
        'guest web1 has the volume, and Cinder has lost its attachment',
    )
    shell.cinder.say('GET /v3/attachments', fault('403 Forbidden', 'not you', said='forbidden'))
    ((_, action, detail),) = plan_of_recover(shell, code=5)
    assert action == 'failed'
    assert 'not you' in detail


def test_dry_run_of_recover_beside_what_runs(shell: CinderShell) -> None:
    shell.attach()
    interrupt(shell, Operation.DETACH, 'release')
    locks = shell.services[-1].manager.context.locks
    with locks.acquire((f'reservation {fake.VOLUME_ID}',), what='a test', seconds=1):
        ((_, action, detail),) = plan_of_recover(shell, code=5)
    assert action == 'running'
    assert 'a test' in detail


def test_dry_run_of_recover_after_a_migration(shell: CinderShell) -> None:
    shell.attach()
    interrupt(shell, Operation.MIGRATE, 'finish', wanted={'new': {'volume_id': OTHER}})
    ((operation, action, _),) = plan_of_recover(shell)
    assert (operation, action) == ('volume migrate', 'finished')


@pytest.mark.parametrize(
    'arguments',
    [
        ('qos', 'web1', NAME, 'read_iops_sec=5'),
        ('repair', 'web1', NAME),
        ('extend', 'web1', NAME, '1G'),
        ('detach', 'web1', NAME),
    ],
)
def test_names_are_known_to_commands_on_the_host(
    shell: CinderShell, arguments: tuple[str, ...]
) -> None:
    shell.attach()
    shell.json(*arguments, '--dry-run')
    done = shell.json(*arguments)
    assert (done[0] if isinstance(done, list) else done)['volume_id'] == fake.VOLUME_ID


def test_a_target_comes_before_a_name(shell: CinderShell) -> None:
    shell.cinder.all[fake.VOLUME_ID]['name'] = 'vdb'
    assert shell.run('volume', 'attach', 'web1', 'vdb') == 0
    shell.services[-1].guest.present.append(fake.make_disk(OTHER, 'vdb'))
    assert shell.json('show', 'web1', 'vdb')['volume_id'] == OTHER
    shell.services[-1].guest.present.pop()
    assert shell.json('show', 'web1', 'vdb')['volume_id'] == fake.VOLUME_ID


def test_a_name_that_two_volumes_have(shell: CinderShell) -> None:
    shell.attach()
    reservations = shell.services[-1].volumes.context.reservations  # type: ignore[attr-defined]
    (row,) = reservations.find()
    reservations.put(dataclasses.replace(row, key=f'{fake.GUEST_UUID}/{OTHER}', volume_id=OTHER))
    assert shell.run('qos', 'web1', NAME, 'read_iops_sec=5') == 2
    assert f"has more than one volume '{NAME}'; give its id" in shell.err
    assert shell.run('qos', 'web1', fake.VOLUME_ID, 'read_iops_sec=5') == 0
