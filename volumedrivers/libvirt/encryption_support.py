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

"""Who can decrypt a volume: QEMU, librbd in QEMU, or dm-crypt on this host."""

import typing

from volumedrivers import exception
from volumedrivers.libvirt.connected_volume import ConnectedVolume

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.hypervisor import Hypervisor

#: the first libvirt and QEMU that let librbd decrypt; numbers as libvirt's
LIBVIRT_WITH_LIBRBD = 7_009_000
QEMU_WITH_LIBRBD = 6_001_000
#: image formats in which QEMU decrypts LUKS version 1
NATIVE_FORMATS = ('raw', 'qcow2')
_INSTEAD = {
    'rbd': 'set rbd_client=kernel on this host',
    'iscsi': 'set iscsi_client=kernel on this host',
}

_TOO_LATE = '-encryption-secret'


class Way(typing.NamedTuple):
    """Who decrypts.

    :ivar engine: libvirt's, where it is not QEMU itself
    """

    by: typing.Literal['qemu', 'host']
    engine: str | None = None


def choose(hypervisor: 'Hypervisor', volume: ConnectedVolume, provider: str) -> Way:
    """Say who decrypts a volume.

    :param provider: luks, luks2 or plain; what the header says, where there is one
    :raises EncryptionNotSupported: nobody can; says what to do
    :raises HypervisorUnavailable, HypervisorError
    """
    if provider == 'luks':
        if volume.format not in NATIVE_FORMATS:
            raise _no(volume, provider, f'QEMU decrypts raw and qcow2 only, not {volume.format}')
        return Way('qemu')
    if volume.source_type == 'block' and volume.format == 'raw':
        return Way('host')
    if volume.source is None:
        raise _no(
            volume,
            provider,
            'QEMU decrypts LUKS version 1 only, and dm-crypt on this host needs a block device, '
            'not a file; retype the volume to an encryption type with provider luks',
        )
    protocol = volume.source.protocol
    why = 'QEMU decrypts LUKS version 1 only'
    if protocol == 'rbd' and provider == 'luks2':
        lacking = _no_librbd(hypervisor)
        if lacking is None:
            return Way('qemu', 'librbd')
        why = lacking
    instead = _INSTEAD.get(protocol)
    raise _no(
        volume,
        provider,
        f'{why}; '
        + (f'{instead}, where dm-crypt decrypts, or ' if instead else '')
        + 'retype the volume to an encryption type with provider luks',
    )


def explain(error: Exception, volume: ConnectedVolume, engine: str | None) -> Exception:
    """Return what a refusal to attach a disk means; the error itself where that is clear.

    libvirt up to 9.10 at least adds the passphrase to a running QEMU after the
    image that librbd needs it for.  A guest that starts with the disk is
    fine, and no capability tells the difference.
    """
    if engine != 'librbd' or _TOO_LATE not in str(error):
        return error
    return _no(
        volume,
        'luks2',
        'this libvirt lets librbd decrypt for a guest that starts, not for one that runs; stop '
        f'the guest, or {_INSTEAD["rbd"]}, where dm-crypt decrypts',
    )


def _no_librbd(hypervisor: 'Hypervisor') -> str | None:
    libvirt, qemu = hypervisor.ask(
        "ask for its version and QEMU's",
        lambda connection: (int(connection.getLibVersion()), int(connection.getVersion())),
    )
    if libvirt >= LIBVIRT_WITH_LIBRBD and qemu >= QEMU_WITH_LIBRBD:
        return None
    return (
        f'LUKS2 in librbd needs libvirt {_written(LIBVIRT_WITH_LIBRBD)} and QEMU '
        f'{_written(QEMU_WITH_LIBRBD)}; here are {_written(libvirt)} and {_written(qemu)}'
    )


def _written(version: int) -> str:
    return f'{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}'


def _no(volume: ConnectedVolume, provider: str, reason: str) -> exception.EncryptionNotSupported:
    return exception.EncryptionNotSupported(
        volume_id=volume.volume_id, provider=provider, reason=reason
    )
