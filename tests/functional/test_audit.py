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

"""Who uses a share, and what an audit finds, on a real GlusterFS with real guests."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import signal
import subprocess
import threading

import libvirt
from oslo_config import cfg
import pytest

from tests.functional import gluster_host
from tests.functional import volumes
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import Finding
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host import mount_table
from volumedrivers.libvirt import whole_host
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd

SIZE = 8 * 2**20
SCSI = DiskRequest(bus='scsi')
VOLUME_ID = 'd2c3b4a5-0001-4aaa-8bbb-000000000001'
OTHER_ID = 'd2c3b4a5-0002-4aaa-8bbb-000000000002'


server = gluster_host.server
mounts = gluster_host.mounts
libvirtd = gluster_host.libvirtd
hypervisor = gluster_host.hypervisor


@pytest.fixture
def conf(tmp_path: pathlib.Path, mounts: pathlib.Path) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    for name, value in (
        ('state_path', str(tmp_path)),
        ('glusterfs_mount_point_base', str(mounts)),
        ('mount_timeout', 10),
    ):
        conf.set_override(name, value, group='volumedrivers')
    bootstrap.setup(conf)
    return conf


@pytest.fixture
def manager(conf: cfg.ConfigOpts, hypervisor: Hypervisor) -> AttachmentManager:
    return make_manager(conf, hypervisor)


@pytest.fixture
def clean(server: GlusterServer) -> Iterator[None]:
    """What one test leaves is not to fail the next."""
    yield
    for mount_point in server.mounted_at():
        subprocess.run(['umount', '--lazy', mount_point], check=False)
        os.rmdir(mount_point)


def make_volume(server: GlusterServer, volume_id: str, kind: str = 'raw') -> ConnectionInfo:
    """Make a volume, as Cinder would."""
    name = f'volume-{volume_id}'
    # Through the servers, or GlusterFS would not know the file.
    place = server.directory / 'cinder'
    place.mkdir(exist_ok=True)
    subprocess.run(['mount', '-t', 'glusterfs', server.export, str(place)], check=True)
    try:
        volumes.run('qemu-img', 'create', '-q', '-f', kind, str(place / name), str(SIZE))
    finally:
        subprocess.run(['umount', str(place)], check=True)
    return ConnectionInfo.parse(
        {
            'driver_volume_type': 'glusterfs',
            'serial': volume_id,
            'data': {
                'export': server.export,
                'name': name,
                'format': kind,
                'volume_id': volume_id,
            },
        }
    )


def mounted_at(server: GlusterServer) -> str:
    (place,) = server.mounted_at()
    return place


def of_kind(found: tuple[Finding, ...], kind: str) -> Finding:
    (one,) = [finding for finding in found if finding.kind == kind]
    return one


@contextlib.contextmanager
def defined(hypervisor: Hypervisor, name: str, devices: str) -> Iterator[None]:
    """A guest that does not run."""
    domain = hypervisor.connection().defineXML(
        f"""<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>
        <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
        <os><type>hvm</type></os><devices>{devices}</devices></domain>"""
    )
    try:
        yield
    finally:
        domain.undefine()


def test_nothing_to_say(
    server: GlusterServer, manager: AttachmentManager, guest: Guest, clean: None
) -> None:
    manager.attach(make_volume(server, VOLUME_ID), guest.name, SCSI)
    assert manager.audit() == ()
    manager.detach(guest.name, VOLUME_ID)
    assert manager.audit() == ()
    assert server.mounted_at() == []


def test_beside_running_operations(
    server: GlusterServer,
    manager: AttachmentManager,
    conf: cfg.ConfigOpts,
    libvirtd: PrivateLibvirtd,
    guest: Guest,
    clean: None,
) -> None:
    """What is just being done is no problem."""
    volume = make_volume(server, VOLUME_ID)
    ended = threading.Event()
    found: list[Finding] = []
    audits = 0

    def look() -> None:
        nonlocal audits
        with Hypervisor(libvirtd.uri) as another:
            auditor = make_manager(conf, another)
            while not ended.is_set():
                found.extend(auditor.audit())
                audits += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(4):
            manager.attach(volume, guest.name, SCSI)
            manager.detach(guest.name, VOLUME_ID)
    finally:
        ended.set()
        thread.join(60)
    assert audits > 4
    assert {one.kind for one in found} <= {'running'}
    assert manager.audit() == ()


def test_virtiofs_keeps_the_share(
    server: GlusterServer,
    manager: AttachmentManager,
    guest: Guest,
    hypervisor: Hypervisor,
    clean: None,
) -> None:
    """W14: a guest that does not run, with the share as a directory."""
    manager.attach(make_volume(server, VOLUME_ID), guest.name, SCSI)
    place = mounted_at(server)
    directory = f"""<filesystem type='mount'><driver type='virtiofs'/>
        <source dir='{place}'/><target dir='share'/></filesystem>"""
    with defined(hypervisor, 'with-a-directory', directory):
        manager.detach(guest.name, VOLUME_ID)
        assert mounted_at(server) == place
        assert manager.audit() == ()
        assert manager.recover() == ()
        assert mounted_at(server) == place
    assert of_kind(manager.audit(), 'idle-mount').what == place
    (outcome,) = manager.recover()
    assert outcome.action == 'finished'
    assert server.mounted_at() == []
    assert manager.audit() == ()


@pytest.mark.parametrize('device', ['cdrom', 'backing file', 'volume of a pool'])
def test_another_guest_keeps_the_share(
    server: GlusterServer,
    manager: AttachmentManager,
    guest: Guest,
    hypervisor: Hypervisor,
    clean: None,
    device: str,
) -> None:
    manager.attach(make_volume(server, VOLUME_ID), guest.name, SCSI)
    place = mounted_at(server)
    disk = f"""<disk type='file' device='cdrom'><source file='{place}/image.iso'/>
        <target dev='sda' bus='sata'/><readonly/></disk>"""
    if device == 'backing file':
        disk = f"""<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
            <source file='/var/lib/over.qcow2'/><backingStore type='file'><format type='raw'/>
            <source file='{place}/base'/><backingStore/></backingStore>
            <target dev='vda' bus='virtio'/></disk>"""
    if device == 'volume of a pool':
        disk = """<disk type='volume'><source pool='on-the-share' volume='image'/>
            <target dev='vda' bus='virtio'/></disk>"""
    pool = hypervisor.connection().storagePoolDefineXML(
        f"""<pool type='dir'><name>on-the-share</name><target><path>{place}</path></target>
        </pool>"""
    )
    try:
        with defined(hypervisor, 'another', disk):
            manager.detach(guest.name, VOLUME_ID)
            assert mounted_at(server) == place
    finally:
        pool.undefine()
    assert [one.action for one in manager.recover()] == ['finished']
    assert server.mounted_at() == []


def test_snapshot_renames_the_file(
    server: GlusterServer, manager: AttachmentManager, guest: Guest, clean: None
) -> None:
    """W15: the last user unmounts, whatever its file is called by now."""
    first, second = make_volume(server, VOLUME_ID, 'qcow2'), make_volume(server, OTHER_ID)
    attached = manager.attach(first, guest.name, SCSI)
    manager.attach(second, guest.name, SCSI)
    place = mounted_at(server)
    over = f'{attached.source}.snapshot'
    guest.hypervisor.domain(guest.uuid).snapshotCreateXML(
        f"""<domainsnapshot><disks>
        <disk name='{attached.target}' snapshot='external'><source file='{over}'/></disk>
        <disk name='sdb' snapshot='no'/></disks></domainsnapshot>""",
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA,
    )
    assert over in guest.sources().paths
    assert of_kind(manager.audit(), 'snapshot').severity == 'note'

    manager.detach(guest.name, OTHER_ID)
    assert mounted_at(server) == place
    manager.detach(guest.name, VOLUME_ID)
    assert server.mounted_at() == []
    assert manager.audit() == ()


def test_share_that_hangs(
    server: GlusterServer,
    manager: AttachmentManager,
    guest: Guest,
    conf: cfg.ConfigOpts,
    clean: None,
) -> None:
    """W16: an audit says so, and does not hang."""
    manager.attach(make_volume(server, VOLUME_ID), guest.name, SCSI)
    place = mounted_at(server)
    conf.set_override('mount_timeout', 1, group='volumedrivers')
    (pid,) = [
        int(path.parent.name)
        for path in pathlib.Path('/proc').glob('[0-9]*/cmdline')
        if place in path.read_bytes().decode(errors='replace').split('\0')
        and 'glusterfs' in path.read_bytes().decode(errors='replace')
    ]
    os.kill(pid, signal.SIGSTOP)
    try:
        found = manager.audit()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert of_kind(found, 'no-answer').what == place
    assert len(found) == 1
    conf.set_override('mount_timeout', 10, group='volumedrivers')
    assert manager.audit() == ()
    manager.detach(guest.name, VOLUME_ID)
    assert mount_table.find(place) is None


def test_disk_that_was_attached_behind_our_back(
    manager: AttachmentManager, guest: Guest, raw_volume: volumes.Volume
) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda', VOLUME_ID))
    found = of_kind(manager.audit(), 'not-recorded')
    assert (found.guest, found.volume_id, found.severity) == (guest.name, VOLUME_ID, 'note')


def test_recorded_file_that_another_guest_has(
    server: GlusterServer,
    manager: AttachmentManager,
    guest: Guest,
    hypervisor: Hypervisor,
    clean: None,
) -> None:
    attached = manager.attach(make_volume(server, VOLUME_ID), guest.name, SCSI)
    disk = f"""<disk type='file'><source file='{attached.source}'/>
        <target dev='vda' bus='virtio'/></disk>"""
    with defined(hypervisor, 'thief', disk):
        found = of_kind(manager.audit(), 'used-by-another')
        assert (found.guest, found.severity) == ('thief', 'problem')
    manager.detach(guest.name, VOLUME_ID)


def test_guest_that_was_removed(
    server: GlusterServer, manager: AttachmentManager, hypervisor: Hypervisor, clean: None
) -> None:
    guest = guests.start_guest(hypervisor, 'removed', persistent=True)
    try:
        manager.attach(make_volume(server, VOLUME_ID), guest.name, SCSI)
    finally:
        guests.remove_guest(guest)
    found = of_kind(manager.audit(), 'guest-gone')
    assert f'volumedrivers detach {guest.uuid} {VOLUME_ID}' in found.what_to_do
    manager.detach(guest.uuid, VOLUME_ID)
    assert manager.audit() == ()
    assert server.mounted_at() == []


def test_secret_without_a_row(manager: AttachmentManager, hypervisor: Hypervisor) -> None:
    uuid = hypervisor.secrets.ensure('volume', OTHER_ID, b'a passphrase')
    hypervisor.secrets.ensure('ceph', 'client.of-somebody-else', b'a key', ephemeral=True)
    try:
        found = of_kind(manager.audit(), 'stray-secret')
        assert uuid in found.what
        assert found.volume_id == OTHER_ID
        assert 'passphrase' not in str(found)
    finally:
        hypervisor.secrets.delete('volume', OTHER_ID)
        hypervisor.secrets.delete('ceph', 'client.of-somebody-else')
    assert manager.audit() == ()


def test_sizes_of_all_disks(guest: Guest, raw_volume: volumes.Volume) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda', VOLUME_ID))
    sizes = whole_host.capacities(guest.hypervisor, [guest.uuid])
    assert sizes[guest.uuid, 'sda'] == volumes.SIZE


def test_disk_of_a_network_source(guest: Guest, tmp_path: pathlib.Path) -> None:
    """A guest's sources hold no path for what QEMU opens itself."""
    with volumes.NbdVolume(tmp_path) as volume:
        guest.attach_disk(volume.disk('scsi', 'sda', VOLUME_ID))
        (live, persistent) = guest.sources().disks
        assert (live.live, persistent.live) == (True, False)
        assert live.type == 'network'
        assert str(volume.path) not in guest.sources().paths
        guest.detach_disk(alias=f'ua-{VOLUME_ID}')


def test_libvirt_that_is_gone(conf: cfg.ConfigOpts, libvirtd: PrivateLibvirtd) -> None:
    closed = Hypervisor(libvirtd.uri)
    closed.close()
    manager = make_manager(conf, closed)
    with pytest.raises(exception.HypervisorUnavailable):
        manager.audit()
