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

"""Monitors, portals and credentials that have changed, against a real Ceph and real targets."""

from collections.abc import Iterator
import dataclasses
import itertools
import pathlib
import typing

import libvirt
from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.qemu_io import GuestIO
from volumedrivers.testing.tgt import IscsiTarget

MIB = 2**20
VOLUME_ID = 'c0ffee00-0000-4000-8000-0000000000a1'
_numbers = itertools.count(1)


@pytest.fixture
def image(cluster: CephCluster) -> Iterator[str]:
    name = f'refreshed-{next(_numbers)}'
    cluster.create_image(name, 16 * MIB)
    yield name
    cluster.remove(name)


@pytest.fixture
def secret_uuids(hypervisor: Hypervisor, cluster: CephCluster) -> Iterator[tuple[str, str]]:
    """Two of one key, as while an operator changes from one to the other."""
    names = ('refresh, before', 'refresh, after')
    before, after = (hypervisor.secrets.ensure('ceph', name, cluster.key) for name in names)
    yield before, after
    for name in names:
        hypervisor.secrets.delete('ceph', name)


@pytest.fixture
def manager(
    hypervisor: Hypervisor, cluster: CephCluster, tmp_path: pathlib.Path
) -> AttachmentManager:
    conf = cfg.ConfigOpts()
    conf([])
    bootstrap.opts.register_opts(conf)
    for name, value in (
        ('state_path', str(tmp_path / 'host')),
        ('rbd_ceph_conf', str(cluster.conf)),
        ('endpoint_timeout', 2.0),
    ):
        conf.set_override(name, value, 'volumedrivers')
    bootstrap.setup(conf)
    return make_manager(conf, hypervisor)


def info_of(raw: dict[str, typing.Any], **data: typing.Any) -> ConnectionInfo:
    return ConnectionInfo.parse({**raw, 'data': {**raw['data'], **data}})


def hosts_of(disk: Disk) -> list[tuple[str | None, int | None]]:
    assert disk.source is not None
    return [(host.name, host.port) for host in disk.source.hosts]


def secret_of(disk: Disk) -> str | None:
    auth = disk.auth or (disk.source and disk.source.auth)
    return auth.secret.uuid if auth and auth.secret else None


@pytest.mark.parametrize('running', [True, False], ids=['running', 'stopped'])
def test_monitors_and_secret_have_changed(
    manager: AttachmentManager,
    cluster: CephCluster,
    guest: Guest,
    guest_io: GuestIO,
    image: str,
    secret_uuids: tuple[str, str],
    running: bool,
) -> None:
    raw = cluster.connection_info(image, secret_uuid=secret_uuids[0])
    # There is one monitor; another one has gone.
    ((host,), (port,)) = raw['data']['hosts'], raw['data']['ports']
    old = info_of(raw, hosts=['127.0.0.9', host], ports=['1', port])
    new = info_of(raw, secret_uuid=secret_uuids[1])
    assert new.volume_id is not None
    alias = f'ua-{new.volume_id}'
    manager.attach(old, guest.name, DiskRequest(bus='scsi'))
    manager.set_qos(guest.name, new.volume_id, IOTune(read_iops_sec=777))
    guest_io.write(alias, 0x5A, MIB, 65536)
    domain = guest.hypervisor.domain(guest.uuid)
    if not running:
        domain.destroy()
    (before,) = guest.disks(persistent=True)
    live = guest.disks()[0].to_xml()

    done = manager.refresh(guest.name, new.volume_id, new)
    assert done.changed == ('hosts', 'ports', 'secret_uuid')
    told, other = (done.next_start, done.now) if running else (done.now, done.next_start)
    assert told == (f'disk sda is opened as rbd:{cluster.pool}/{image} at {host}:{port}',)
    assert other == ()
    (now,) = guest.disks(persistent=True)
    assert hosts_of(before) == [('127.0.0.9', 1), (host, int(port))]
    assert hosts_of(now) == [(host, int(port))]
    assert (secret_of(before), secret_of(now)) == secret_uuids
    for name in ('address', 'target', 'serial', 'driver', 'iotune', 'alias'):
        assert getattr(now, name) == getattr(before, name)
    assert now.iotune is not None
    if running:
        # librbd knows all monitors since it spoke to the first.
        assert guest.disks()[0].to_xml() == live
        guest_io.read(alias, 0x5A, MIB, 65536)
        domain.destroy()
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    guest_io.read(alias, 0x5A, MIB, 65536)

    again = manager.refresh(guest.name, new.volume_id, new)
    assert (again.changed, again.now, again.next_start) == ((), (), ())
    manager.detach(guest.name, new.volume_id)
    assert cluster.watchers(image) == 0
    assert manager.context.journal.find() == ()


def test_another_image_is_refused(
    manager: AttachmentManager,
    cluster: CephCluster,
    guest: Guest,
    image: str,
    secret_uuids: tuple[str, str],
) -> None:
    raw = cluster.connection_info(image, secret_uuid=secret_uuids[0])
    manager.attach(ConnectionInfo.parse(raw), guest.name, DiskRequest(bus='scsi'))
    before = [disk.to_xml() for disk in guest.all_disks()]
    row = manager.context.journal.find()
    with pytest.raises(exception.IdentityMismatch, match='other'):
        manager.refresh(guest.name, None, info_of(raw, name=f'{cluster.pool}/other'))
    assert [disk.to_xml() for disk in guest.all_disks()] == before
    assert manager.context.journal.find() == row
    manager.detach(guest.name, raw['volume_id'])


def test_monitors_that_do_not_answer(
    manager: AttachmentManager,
    cluster: CephCluster,
    guest: Guest,
    image: str,
    secret_uuids: tuple[str, str],
) -> None:
    """The definition is not given what a start would hang at."""
    raw = cluster.connection_info(image, secret_uuid=secret_uuids[0])
    manager.attach(ConnectionInfo.parse(raw), guest.name, DiskRequest(bus='scsi'))
    before = [disk.to_xml() for disk in guest.all_disks()]
    with pytest.raises(exception.EndpointUnreachable):
        manager.refresh(guest.name, None, info_of(raw, hosts=['127.0.0.1'], ports=['1']))
    assert [disk.to_xml() for disk in guest.all_disks()] == before
    (row,) = manager.context.journal.find()
    assert row.is_settled
    assert row.problem.startswith('refresh: ')
    manager.refresh(guest.name, None, ConnectionInfo.parse(raw))
    (row,) = manager.context.journal.find()
    assert row.problem == ''
    manager.detach(guest.name, raw['volume_id'])


class Killed(BaseException):
    """The process has ended."""


@pytest.fixture
def target(tmp_path: pathlib.Path) -> Iterator[IscsiTarget]:
    made = IscsiTarget(tmp_path / 'target', size=16 * MIB, chap=('refreshed', 'before-123456'))
    made.start()
    yield made
    made.stop()


def info_of_target(target: IscsiTarget) -> ConnectionInfo:
    assert target.chap is not None
    user, password = target.chap
    return ConnectionInfo.parse(
        {
            'driver_volume_type': 'iscsi',
            'serial': VOLUME_ID,
            'data': {
                'target_portal': target.portal,
                'target_iqn': target.iqn,
                'target_lun': target.lun,
                'auth_method': 'CHAP',
                'auth_username': user,
                'auth_password': password,
            },
        }
    )


@pytest.mark.parametrize('running', [True, False], ids=['running', 'stopped'])
@pytest.mark.parametrize('step', ['connect', 'verify', 'define', 'record'])
@pytest.mark.parametrize('moment', ['before', 'after'])
def test_killed_while_the_portal_has_moved(
    manager: AttachmentManager,
    guest: Guest,
    guest_io: GuestIO,
    target: IscsiTarget,
    running: bool,
    step: str,
    moment: str,
) -> None:
    """What was begun is undone or finished; refreshed again the guest finds its data."""
    options = manager.context.registry.context.conf
    options.set_override('iscsi_client', 'qemu', 'volumedrivers')
    options.set_override('iscsi_initiator_name', 'iqn.2020-01.test:this-host', 'volumedrivers')
    others = secrets_in(guest)
    manager.attach(info_of_target(target), guest.name, DiskRequest(bus='scsi'))
    guest_io.write(f'ua-{VOLUME_ID}', 0x77, MIB, 65536)
    domain = guest.hypervisor.domain(guest.uuid)
    if not running:
        domain.destroy()
    target.stop()
    target.chap = ('refreshed', 'afterwards-12')
    target.start()
    new = info_of_target(target)
    dead: list[str] = []
    put = manager.context.journal.put

    def look(operation: str, name: str, when: str) -> None:
        if (name, when) == (step, moment):
            dead.append(name)
            raise Killed

    def put_unless_dead(record: Record) -> Record:
        if dead:
            raise Killed
        return put(record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager.context.journal, 'put', put_unless_dead)
        context = dataclasses.replace(manager.context, observer=look)
        with pytest.raises(Killed):
            AttachmentManager(context).refresh(guest.name, VOLUME_ID, new)
    outcomes = manager.recover()
    assert {one.action for one in outcomes} <= {'finished', 'undone'}
    assert manager.recover() == ()
    (row,) = manager.context.journal.find()
    assert row.is_settled
    assert len(secrets_in(guest) - others) == 1

    manager.refresh(guest.name, VOLUME_ID, new)
    (row,) = manager.context.journal.find()
    assert row.problem == ''
    (disk,) = guest.disks(persistent=True)
    assert hosts_of(disk) == [('127.0.0.1', target.port)]
    if running:
        domain.destroy()
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    guest_io.read(f'ua-{VOLUME_ID}', 0x77, MIB, 65536)
    manager.detach(guest.name, VOLUME_ID)
    assert secrets_in(guest) == others
    assert manager.context.journal.find() == ()


def secrets_in(guest: Guest) -> set[str]:
    """Return libvirt's secrets; other tests share the libvirtd."""
    return {one.UUIDString() for one in guest.hypervisor.connection().listAllSecrets()}
