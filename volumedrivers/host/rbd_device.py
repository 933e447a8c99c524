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

"""RBD images that the kernel of this host has mapped, from sysfs.

Documentation/ABI/testing/sysfs-bus-rbd of the kernel says what is in
``/sys/bus/rbd/devices/<number>``.
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib

SYSFS = pathlib.Path('/sys/bus/rbd/devices')
# The kernel's name of "not a snapshot".
_HEAD = '-'


@dataclasses.dataclass(frozen=True)
class RbdDevice:
    """/dev/rbd<number>.

    :ivar namespace: '' for the default one
    :ivar fsid: of the cluster; '' before Linux 4.9
    """

    number: int
    pool: str
    namespace: str
    image: str
    snapshot: str
    fsid: str

    @property
    def path(self) -> str:
        return f'/dev/rbd{self.number}'

    @property
    def identity(self) -> str:
        """fsid/pool[/namespace]/image."""
        return '/'.join(
            part for part in (self.fsid, self.pool, self.namespace, self.image) if part
        )


def devices(sysfs: pathlib.Path = SYSFS) -> tuple[RbdDevice, ...]:
    """Return all mapped images.

    :raises OSError: sysfs could not be read; without the module there is
        nothing to read, and nothing mapped
    """
    try:
        names = os.listdir(sysfs)
    except FileNotFoundError:
        return ()
    found = []
    for name in sorted(names, key=lambda text: (len(text), text)):
        directory = sysfs / name
        try:
            found.append(
                RbdDevice(
                    number=int(name),
                    pool=_read(directory, 'pool'),
                    namespace=_read(directory, 'pool_ns', missing=''),
                    image=_read(directory, 'name'),
                    snapshot=_read(directory, 'current_snap'),
                    fsid=_read(directory, 'cluster_fsid', missing=''),
                )
            )
        except FileNotFoundError:
            # Unmapped while we looked.
            if directory.exists():
                raise
    return tuple(found)


def mapped(
    pool: str, namespace: str | None, image: str, sysfs: pathlib.Path = SYSFS
) -> tuple[RbdDevice, ...]:
    """Return the devices of an image (not of its snapshots), in whatever cluster."""
    return tuple(
        device
        for device in devices(sysfs)
        if (device.pool, device.namespace, device.image, device.snapshot)
        == (pool, namespace or '', image, _HEAD)
    )


def size(number: int, sysfs: pathlib.Path = SYSFS) -> int | None:
    """Return the bytes of a device as the kernel has them; None: it is not mapped."""
    try:
        return int(_read(sysfs / str(number), 'size'))
    except FileNotFoundError:
        return None


def forget_conf(device_info: Mapping[str, object]) -> None:
    """Remove the ceph.conf with the key that os-brick wrote to map an image.

    It writes one only where the connection_info holds a keyring.
    """
    conf = device_info.get('conf')
    if conf:
        from os_brick.privileged import rbd  # noqa: PLC0415 - half a second to import

        rbd.delete_if_exists(conf)


def _read(directory: pathlib.Path, name: str, *, missing: str | None = None) -> str:
    try:
        return (directory / name).read_text(encoding='utf-8').rstrip('\n')
    except FileNotFoundError:
        if missing is None or not directory.exists():
            raise
        return missing
