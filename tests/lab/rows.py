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

"""The rows of the matrix: every driver and its variants, one line each.

The columns are the tests; what a row says here decides which of them apply.
"""

from collections.abc import Mapping
import dataclasses
import typing

from tests.lab.keys import PASSPHRASE

# Files of the columns of the short matrix.
SHORT_FILES = frozenset(('test_life.py',))

# Files of columns that variants of a row have in common with it.
SHARED_COLUMNS = frozenset(
    ('test_crash.py', 'test_faults.py', 'test_figures.py', 'test_reboot.py', 'test_sharing.py')
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One variant of one driver.

    :ivar name: as it is typed: ``tools/lab.sh run iscsi-multipath``
    :ivar protocol: driver_volume_type
    :ivar backend: name in ``storage.backends``
    :ivar variant: what that back end is asked for
    :ivar options: of the group [volumedrivers]
    :ivar paths: how many lead to the volume when all is well
    :ivar bus: of the disk in the guest
    :ivar encryption: what Cinder says of an encrypted volume, as its provider
    :ivar stand_in: what stands in for hardware that cannot be here
    :ivar short: in the short matrix, which has every protocol once
    :ivar like: the row whose crashes, faults, users and costs are this one's as
        well, because it differs from it only in how the volume is found
    :ivar shown_by: columns, and files of columns, that some other row shows for
        this one as well, because what differs has no part in them
    :ivar shared_way: all its volumes come to the host by one connection or mount
    :ivar missing: columns that do not apply, each with the reason; a name that
        ends in ``*`` is for all columns that begin so
    """

    name: str
    protocol: str
    backend: str
    variant: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    paths: int = 1
    bus: str = 'virtio'
    encryption: str | None = None
    stand_in: str | None = None
    short: bool = False
    like: str | None = None
    shown_by: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shared_way: bool = False
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def needs_multipathd(self) -> bool:
        """Whether its paths are joined by device mapper."""
        return self.paths > 1 and self.protocol in ('iscsi', 'iser', 'fibre_channel')

    def why_not(self, column: str, file: str = '') -> str | None:
        """Return why a column does not apply to this row, or None.

        :param file: in which the column is, such as test_life.py
        """
        other = self._shower(column, file)
        if other != self.name:
            return f'row {other} shows it for this one as well'
        for name, reason in self.missing.items():
            if name == column or (name.endswith('*') and column.startswith(name[:-1])):
                return reason
        return None

    def _shower(self, column: str, file: str) -> str:
        """Return the row that shows a column for this one, which may be itself."""
        other = self.like if file in SHARED_COLUMNS else None
        other = other or self.shown_by.get(column) or self.shown_by.get(file)
        return self.name if other is None else BY_NAME[other]._shower(column, file)


MULTIPATH = {'volume_use_multipath': True}
ISER_MULTIPATH = {'iser_use_multipath': True}
TWO = {'portals': 2}
CHAP = {'chap': True}
SECRET = {'encrypted': True}
# os-brick looks every two seconds; udev may need longer on an emulated machine.
PATIENT = {'num_volume_scan_tries': 12}

# Of rows for something that cannot be.
NO_QEMU_PLACE = (
    "QEMU's own client finds the volume by itself; the host has no device and no file of it that "
    'it could ask'
)
NO_NVME_DM = (
    'os-brick connects one portal only where the multipath of nvme_core is off, and device '
    'mapper has nothing to join; while it is on, the kernel joins the paths itself'
)

# What becomes of a disk while libvirtd is away depends only on what QEMU has open.
A_DEVICE = {'libvirtd_killed': 'iscsi-multipath-chap'}
A_FILE = {'libvirtd_killed': 'nfs-v4.2'}
A_NETWORK = {'libvirtd_killed': 'rbd'}
# What does not depend on what carries the packets: the host, the target behind it.
ANY_CARRIER = (
    'test_crash.py',
    'test_reboot.py',
    'test_sharing.py',
    'portal_refuses',
    'portal_drops',
    'withdrawn',
    'place_taken',
    'daemon_killed',
)
# What a target does as a whole, whether it has one volume or several.
WHOLE_TARGET = ('portal_refuses', 'portal_drops', 'daemon_killed', 'test_figures.py')


ISCSI = (
    Row('iscsi', 'iscsi', 'iscsi', like='iscsi-multipath-chap'),
    Row('iscsi-chap', 'iscsi', 'iscsi', CHAP, like='iscsi-multipath-chap'),
    Row('iscsi-ipv6', 'iscsi', 'iscsi', {'ipv6': True}, like='iscsi-multipath-chap'),
    Row(
        'iscsi-ipv6-upper',
        'iscsi',
        'iscsi',
        CHAP | {'ipv6': True, 'upper': True},
        like='iscsi-multipath-chap',
    ),
    Row(
        'iscsi-shared-target',
        'iscsi',
        'iscsi',
        CHAP | {'target': 'shared'},
        shared_way=True,
        shown_by=A_DEVICE | dict.fromkeys(WHOLE_TARGET, 'iscsi-multipath-chap'),
    ),
    Row(
        'iscsi-qemu',
        'iscsi',
        'iscsi',
        {'client': 'qemu'},
        {'iscsi_client': 'qemu'},
        like='iscsi-qemu-chap',
    ),
    Row(
        'iscsi-qemu-chap',
        'iscsi',
        'iscsi',
        CHAP | {'client': 'qemu'},
        {'iscsi_client': 'qemu'},
        shown_by=A_NETWORK,
        missing={'place_taken': NO_QEMU_PLACE},
    ),
    Row('iscsi-multipath', 'iscsi', 'iscsi', TWO, MULTIPATH, paths=2, like='iscsi-multipath-chap'),
    Row('iscsi-multipath-chap', 'iscsi', 'iscsi', TWO | CHAP, MULTIPATH, paths=2, short=True),
    # Cinder names one portal; the host asks it for the others.
    Row(
        'iscsi-multipath-discovery',
        'iscsi',
        'iscsi',
        TWO | {'named': 1},
        MULTIPATH,
        paths=2,
        like='iscsi-multipath-chap',
    ),
    Row(
        'iscsi-multipath-discovery-chap',
        'iscsi',
        'iscsi',
        TWO | CHAP | {'named': 1, 'discovery_chap': True},
        MULTIPATH,
        paths=2,
        like='iscsi-multipath-chap',
    ),
    Row(
        'iscsi-multipath-ipv6-upper',
        'iscsi',
        'iscsi',
        TWO | {'ipv6': True, 'upper': True},
        MULTIPATH,
        paths=2,
        like='iscsi-multipath-chap',
    ),
    Row(
        'iscsi-multipath-shared-target',
        'iscsi',
        'iscsi',
        TWO | {'target': 'shared-by-two'},
        MULTIPATH,
        paths=2,
        like='iscsi-multipath-chap',
    ),
    Row('iscsi-luks', 'iscsi', 'iscsi', SECRET, encryption='luks', like='iscsi-luks2'),
    Row(
        'iscsi-luks2',
        'iscsi',
        'iscsi',
        SECRET,
        encryption='luks2',
        short=True,
        shown_by=A_DEVICE
        | dict.fromkeys(('test_faults.py', 'test_figures.py'), 'iscsi-multipath-chap'),
    ),
    Row(
        'iscsi-multipath-luks2',
        'iscsi',
        'iscsi',
        TWO | CHAP | SECRET,
        MULTIPATH,
        paths=2,
        encryption='luks2',
        like='iscsi-luks2',
    ),
)

ISER = (
    Row('iser', 'iser', 'iser', CHAP, short=True, like='iser-multipath'),
    Row(
        'iser-multipath',
        'iser',
        'iser',
        TWO | CHAP,
        ISER_MULTIPATH,
        paths=2,
        shown_by=A_DEVICE | dict.fromkeys(ANY_CARRIER, 'iscsi-multipath-chap'),
    ),
)

FIBRE_CHANNEL = (
    Row(
        'fc',
        'fibre_channel',
        'fibre_channel',
        {},
        PATIENT,
        bus='scsi',
        like='fc-multipath',
    ),
    Row(
        'fc-multipath',
        'fibre_channel',
        'fibre_channel',
        TWO,
        MULTIPATH | PATIENT,
        paths=2,
        short=True,
        shown_by=A_DEVICE,
    ),
)

NVME = (
    Row('nvme-tcp', 'nvmeof', 'nvme_tcp', like='nvme-tcp-multipath'),
    Row('nvme-tcp-old', 'nvmeof', 'nvme_tcp', {'form': 'old'}, like='nvme-tcp-multipath'),
    Row('nvme-tcp-nguid', 'nvmeof', 'nvme_tcp', {'known_by': 'nguid'}, like='nvme-tcp-multipath'),
    Row('nvme-tcp-4k', 'nvmeof', 'nvme_tcp', {'block': 4096}, like='nvme-tcp-multipath'),
    Row('nvme-tcp-ipv6', 'nvmeof', 'nvme_tcp', {'ipv6': True}, like='nvme-tcp-multipath'),
    Row(
        'nvme-tcp-shared-subsystem',
        'nvmeof',
        'nvme_tcp',
        {'subsystem': 'shared'},
        shared_way=True,
        shown_by=A_DEVICE | dict.fromkeys(WHOLE_TARGET, 'nvme-tcp-multipath'),
    ),
    Row(
        'nvme-tcp-multipath',
        'nvmeof',
        'nvme_tcp',
        TWO,
        MULTIPATH,
        paths=2,
        short=True,
        shown_by=A_DEVICE,
    ),
    Row(
        'nvme-tcp-dm-multipath',
        'nvmeof',
        'nvme_tcp',
        TWO,
        MULTIPATH,
        paths=2,
        missing={'*': NO_NVME_DM},
    ),
    Row('nvme-tcp-luks', 'nvmeof', 'nvme_tcp', SECRET, encryption='luks', like='iscsi-luks2'),
    Row('nvme-tcp-luks2', 'nvmeof', 'nvme_tcp', SECRET, encryption='luks2', like='iscsi-luks2'),
    Row('nvme-rdma', 'nvmeof', 'nvme_rdma', short=True, like='nvme-rdma-multipath'),
    Row('nvme-rdma-old', 'nvmeof', 'nvme_rdma', {'form': 'old'}, like='nvme-rdma-multipath'),
    Row(
        'nvme-rdma-multipath',
        'nvmeof',
        'nvme_rdma',
        TWO,
        MULTIPATH,
        paths=2,
        shown_by=A_DEVICE | dict.fromkeys(ANY_CARRIER, 'nvme-tcp-multipath'),
    ),
)

# That a name leads to another file now a client of NFS hears after a minute, or this.
NFS3 = {'options': 'vers=3,acdirmin=1,acdirmax=1'}
NFS4 = {'options': 'vers=4.2,acdirmin=1,acdirmax=1'}
# A file belongs to whoever QEMU runs as; the server does not know that user.  The
# server would enforce QEMU's locks against QEMU itself.  A guest waits for a server
# that is away; its client looks for it every 5 s.
CIFS = {'smbfs_mount_options': 'uid=libvirt-qemu,gid=kvm,nobrl,hard,echo_interval=5'}
# A minute is long where it is certain that nobody is going to answer.
IMPATIENT = {'mount_timeout': 25}
QCOW2 = {'format': 'qcow2'}
NO_LUKS2_FILE = (
    'QEMU decrypts LUKS version 1 only, and dm-crypt, which decrypts version 2, needs a block '
    'device'
)
NO_LUKS2_LIBRBD = (
    'librbd decrypts LUKS version 2 for a guest that starts; libvirt of Debian 12 cannot give a '
    'running guest the passphrase'
)
NO_LOCAL_EXTEND = "the driver has none: as in Nova, it hands on a device of Cinder's own host"
NO_WITHDRAWAL = 'a file is not taken away from its share alone'
NO_RBD_WITHDRAWAL = 'Ceph removes no image that a client watches'
NO_RBD_PLACE = 'an image is known by its name in its pool: what has the name is the volume'

NO_SMB_PLACE = (
    'nobody can rename a file that is open over SMB, and its lease says that nobody else touches '
    'it: until QEMU closes it, the client does not ask what the name leads to'
)

FILE = {'withdrawn': NO_WITHDRAWAL}
SMB = FILE | {'place_taken': NO_SMB_PLACE}
RBD = {'withdrawn': NO_RBD_WITHDRAWAL, 'place_taken': NO_RBD_PLACE}
LOCAL = {
    'extend': NO_LOCAL_EXTEND,
    'crash_in_extend': NO_LOCAL_EXTEND,
    'place_taken': NO_LOCAL_EXTEND,
}

SHARES = (
    Row('nfs-v3', 'nfs', 'nfs', NFS3, missing=FILE, like='nfs-v4.2'),
    Row('nfs-v4.2', 'nfs', 'nfs', NFS4, IMPATIENT, short=True, missing=FILE),
    Row(
        'nfs-qcow2',
        'nfs',
        'nfs',
        NFS4 | QCOW2,
        missing=FILE,
        like='nfs-v4.2',
    ),
    Row('nfs-luks', 'nfs', 'nfs', SECRET, encryption='luks', missing=FILE, like='nfs-v4.2'),
    Row('nfs-luks2', 'nfs', 'nfs', SECRET, encryption='luks2', missing={'*': NO_LUKS2_FILE}),
    Row('smbfs', 'smbfs', 'smb', {}, CIFS, short=True, shown_by=A_FILE, missing=SMB),
    Row('smbfs-qcow2', 'smbfs', 'smb', QCOW2, CIFS, missing=SMB, like='smbfs'),
    Row(
        'glusterfs',
        'glusterfs',
        'gluster',
        options=IMPATIENT,
        short=True,
        shown_by=A_FILE,
        missing=FILE,
    ),
    Row('glusterfs-qcow2', 'glusterfs', 'gluster', QCOW2, missing=FILE, like='glusterfs'),
    Row(
        'glusterfs-qemu',
        'glusterfs',
        'gluster',
        {'client': 'qemu'},
        {'glusterfs_client': 'qemu'},
        # The host has nothing of it that a reboot could take away.
        shown_by=A_NETWORK | {'test_reboot.py': 'rbd'},
        missing=FILE | {'place_taken': NO_QEMU_PLACE},
    ),
)

CEPH = (
    Row('rbd', 'rbd', 'ceph', short=True, missing=RBD),
    Row(
        'rbd-krbd',
        'rbd',
        'ceph',
        {},
        {'rbd_client': 'kernel'},
        short=True,
        shown_by=A_DEVICE,
        missing=RBD,
    ),
    Row(
        'rbd-krbd-keyring',
        'rbd',
        'ceph',
        {'keyring': True},
        {'rbd_client': 'kernel'},
        missing=RBD,
        like='rbd-krbd',
    ),
    # Cinder formats an image that QEMU is going to decrypt.
    Row(
        'rbd-luks',
        'rbd',
        'ceph',
        SECRET | {'formatted_for': PASSPHRASE},
        encryption='luks',
        missing=RBD,
        like='rbd',
    ),
    Row('rbd-luks2', 'rbd', 'ceph', SECRET, encryption='luks2', missing={'*': NO_LUKS2_LIBRBD}),
    Row(
        'rbd-krbd-luks2',
        'rbd',
        'ceph',
        SECRET,
        {'rbd_client': 'kernel'},
        encryption='luks2',
        missing=RBD,
        like='rbd-krbd',
    ),
)

LVM = (Row('local-lvm', 'local', 'lvm', short=True, shown_by=A_DEVICE, missing=LOCAL),)

# Hardware and services that cannot be here.
GATEWAY = 'a HTTPS gateway, /dev/scini of CUSE with its ioctls, and loop devices'
NO_HOST_EXTEND = "os-brick's connector has no extend_volume, and the vendor's tool no such command"

STAND_INS = (
    Row('scaleio', 'scaleio', 'scaleio', stand_in=GATEWAY, short=True, shown_by=A_DEVICE),
    Row(
        'scaleio-by-name',
        'scaleio',
        'scaleio',
        {'by_name': True},
        stand_in=GATEWAY,
        like='scaleio',
    ),
    Row(
        'scaleio-mapped-by-cinder',
        'scaleio',
        'scaleio',
        {'cinder_maps': True},
        stand_in=GATEWAY,
        like='scaleio',
    ),
    Row(
        'storpool',
        'storpool',
        'storpool',
        stand_in="a server of StorPool's management API, and loop devices",
        short=True,
        shown_by=A_DEVICE,
    ),
    Row(
        'lightos',
        'lightos',
        'lightos',
        paths=2,
        stand_in="a discovery client that reads os-brick's files, and nvmet",
        short=True,
        shown_by=A_DEVICE,
    ),
    Row(
        'huaweisds',
        'huaweisdshypervisor',
        'huaweisds',
        stand_in="a program with sds_cli's arguments and output, and loop devices",
        short=True,
        shown_by=A_DEVICE,
        missing={
            'extend': NO_HOST_EXTEND,
            'crash_in_extend': NO_HOST_EXTEND,
            'place_taken': NO_HOST_EXTEND,
        },
    ),
    Row(
        'quobyte',
        'quobyte',
        'quobyte',
        stand_in='mount.quobyte, which mounts a FUSE file system of type fuse.quobyte',
        short=True,
        shown_by=A_FILE,
        shared_way=True,
    ),
    Row(
        'vzstorage',
        'vzstorage',
        'vzstorage',
        options={'vzstorage_mount_user': 'libvirt-qemu', 'vzstorage_mount_group': 'kvm'},
        stand_in='pstorage and pstorage-mount, and a FUSE file system of type fuse.vstorage',
        short=True,
        shown_by=A_FILE | {'test_reboot.py': 'quobyte'},
        shared_way=True,
    ),
    Row(
        'gpfs',
        'gpfs',
        'gpfs',
        stand_in="the kernel's ext4 under the name gpfs, mounted before the volume comes",
        short=True,
        shown_by=A_FILE,
    ),
    Row(
        'scality',
        'scality',
        'scality',
        stand_in='mount.sofs, which mounts a FUSE file system',
        short=True,
        shown_by=A_FILE | {'test_reboot.py': 'quobyte'},
        shared_way=True,
    ),
)

ROWS = (
    *ISCSI,
    *ISER,
    *FIBRE_CHANNEL,
    *NVME,
    *SHARES,
    *CEPH,
    *LVM,
    *STAND_INS,
)

# With a Cinder in front; the names are those of its back ends and volume types.
_FILE_IN_USE = "Cinder's NFS driver refuses it while a guest has the file (bug 1870367)"
_ASSISTED = (
    "Cinder's NFS driver leaves it to the compute API (os-assisted-volume-snapshots), which is "
    'no part of this package'
)
# What Cinder does with a volume that nobody has is one for all back ends but that one
# which cannot do it with a volume in use.
_AVAILABLE = dict.fromkeys(
    ('cinder_extend_available', 'cinder_snapshot', 'cinder_attach_with_snapshot'), 'cinder-nfs'
)
CINDER_ROWS = (
    Row('cinder-lvm-iscsi', 'iscsi', 'cinder', shown_by=_AVAILABLE),
    Row('cinder-lvm-nvme', 'nvmeof', 'cinder', shown_by=_AVAILABLE),
    Row(
        'cinder-nfs',
        'nfs',
        'cinder',
        missing={
            'cinder_extend': _FILE_IN_USE,
            'cinder_extended': _FILE_IN_USE,
            'cinder_snapshot_in_use': _ASSISTED,
        },
    ),
    Row('cinder-rbd', 'rbd', 'cinder', shown_by=_AVAILABLE),
)

# With Nova's LibvirtDriver in front.
NOVA_ROWS = (
    Row('nova-iscsi-multipath', 'iscsi', 'iscsi', TWO | CHAP, MULTIPATH, paths=2),
    Row('nova-nvme-tcp-multipath', 'nvmeof', 'nvme_tcp', TWO, MULTIPATH, paths=2),
)

# Files whose tests are for rows of their own, not for those above.
OF_FILES = {'test_cinder.py': CINDER_ROWS, 'test_nova.py': NOVA_ROWS}

BY_NAME = {row.name: row for row in (*ROWS, *CINDER_ROWS, *NOVA_ROWS)}
