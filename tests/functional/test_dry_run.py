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

"""A dry run of every kind of volume, against a real guest; and of the installed command."""

import dataclasses
import json
import pathlib
import typing

from oslo_config import cfg
import pytest

from tests.functional import test_cli
from tests.unit.connection_infos import DATA
from tests.unit.connection_infos import sample
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.tgt import IscsiTarget

command = test_cli.command

SECRET = 'secret-99'
# What a host without the parts for it can still be told.
CLIENTS: typing.Final = {
    'glusterfs': ('glusterfs_client', 'qemu'),
    'iscsi': ('iscsi_client', 'qemu'),
    'rbd': ('rbd_client', 'kernel'),
}


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> cfg.ConfigOpts:
    made = cfg.ConfigOpts()
    opts.register_opts(made)
    made([], project='volumedrivers', default_config_files=[])
    made.set_override('state_path', str(tmp_path / 'state'), 'volumedrivers')
    made.set_override('iscsi_initiator_name', 'iqn.2020-01.test:host', 'volumedrivers')
    bootstrap.setup(made, make_lock_path=False)
    return made


@pytest.mark.parametrize(
    ('kind', 'client'), [*((kind, False) for kind in DATA), *((kind, True) for kind in CLIENTS)]
)
def test_every_kind(
    conf: cfg.ConfigOpts, hypervisor: Hypervisor, guest: Guest, kind: str, client: bool
) -> None:
    if client:
        conf.set_override(*CLIENTS[kind], 'volumedrivers')
    info = ConnectionInfo.parse(sample(kind, **{'format': 'raw'} if kind == 'glusterfs' else {}))
    before = guest.definitions().disks()
    plan = make_manager(conf, hypervisor).plan.attach(info, guest.name)

    actions = [action for step in plan.steps for action in step.actions]
    assert [step.name for step in plan.steps] == ['connect', 'identify', 'attach', 'record']
    assert plan.xml is not None
    assert all(actions)
    assert SECRET not in json.dumps(plan.to_dict())
    assert guest.definitions().disks() == before
    assert not pathlib.Path(conf.volumedrivers.state_path).exists()


@pytest.mark.parametrize(
    ('provider', 'expected'),
    [
        ('luks', 'let QEMU decrypt: <encryption format="luks">'),
        ('luks2', 'cryptsetup luksOpen'),
    ],
)
def test_encrypted_volumes(
    conf: cfg.ConfigOpts, hypervisor: Hypervisor, guest: Guest, provider: str, expected: str
) -> None:
    """No key manager is configured: none is asked."""
    info = ConnectionInfo.parse(sample('iscsi', encrypted=True))
    plan = make_manager(conf, hypervisor).plan.attach(
        info, guest.name, encryption=VolumeEncryption(provider, 'key-1')
    )
    (step,) = (step for step in plan.steps if step.name == 'encrypt')
    assert any(expected in action for action in step.actions)
    assert 'ask the key manager for key key-1' in step.actions


def test_the_command_makes_no_directory(
    command: test_cli.Command, guest: Guest, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / 'volume.json'
    file.write_text(json.dumps(sample('smbfs')))
    file.chmod(0o600)
    said = command.run('attach', guest.name, '--connection-info', str(file), '--dry-run').stdout
    assert '   - mount -t cifs -o vers=3.0,credentials=*** //192.168.1.1/volumes' in said
    assert SECRET not in said
    assert command.json('recover', '--dry-run') == []
    assert not (tmp_path / 'state').exists()


def test_recover_does_what_its_plan_says(
    conf: cfg.ConfigOpts, hypervisor: Hypervisor, guest: Guest, tmp_path: pathlib.Path
) -> None:
    conf.set_override('iscsi_client', 'qemu', 'volumedrivers')
    bootstrap.setup(conf)
    with IscsiTarget(tmp_path / 'target', size=16 * 2**20, chap=('user', SECRET)) as target:
        info = ConnectionInfo.parse(target.connection_info())
        manager = make_manager(conf, hypervisor)
        # A guest without an operating system lets go of a SCSI disk.
        manager.attach(info, guest.name, DiskRequest(bus='scsi'))
        journal = manager.context.journal
        (record,) = journal.find()
        row = journal.put(
            dataclasses.replace(
                record,
                operation=Operation.DETACH,
                step='detach',
                was_attached=True,
            )
        )
        disks = guest.definitions().disks()

        (planned,) = manager.plan.recover()
        assert journal.get(row.key) == row
        assert guest.definitions().disks() == disks
        actions = [action for step in planned.steps for action in step.actions]
        assert f'take sda out of guest {guest.name}' in actions[0]
        assert any(action.startswith('undefine libvirt secret iscsi ') for action in actions)
        assert SECRET not in repr(planned)

        (done,) = manager.recover()
        assert (planned.action, planned.detail) == (done.action, done.detail)
        assert done.detail == 'removed from the guest and host'
        assert journal.find() == ()
