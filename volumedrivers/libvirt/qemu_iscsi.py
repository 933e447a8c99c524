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

"""iSCSI by QEMU's own initiator, libiscsi (iscsi_client = qemu).

It needs no root, no iscsid and no module, and nothing of the volume is on
this host but a libvirt secret where the target wants CHAP.  It has one
connection to one portal: no multipath, and a portal that dies takes the disk
with it.
"""

from collections.abc import Sequence
import dataclasses

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiData
from volumedrivers.connection_info import IscsiTarget
from volumedrivers.host import initiator
from volumedrivers.host import qemu_modules
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.network_source import NetworkSourceDriver
from volumedrivers.libvirt.network_source import SourceSecret


class QemuInitiator(NetworkSourceDriver):
    """What IscsiVolumeDriver does when QEMU is the initiator.

    The same methods as any driver; made with the DriverContext, whose
    ``secrets`` has to be there for a target with CHAP.  connect_volume
    returns a volume with source_type ``network``.
    """

    PROTOCOL = 'iscsi'

    def make_source(self, connection_info: ConnectionInfo) -> NetworkSource:
        """Describe the logical unit, with the first portal."""
        data = _data_of(connection_info)
        source = NetworkSource(
            protocol='iscsi',
            name='',
            auth_username=data.auth.username if data.auth else None,
            initiator_iqn=initiator.initiator_name(self.conf.iscsi_initiator_name),
        )
        return _by_way_of(source, data.targets[0])

    def hosts_to_ask(
        self, connection_info: ConnectionInfo, source: NetworkSource
    ) -> tuple[NetworkHost, ...]:
        """Return all portals."""
        return tuple(_host_of(target) for target in _data_of(connection_info).targets)

    def choose(
        self,
        connection_info: ConnectionInfo,
        source: NetworkSource,
        answered: Sequence[NetworkHost],
    ) -> NetworkSource:
        """Take the first portal that answers; each may lead to a target of its own."""
        for target in _data_of(connection_info).targets:
            if _host_of(target) in answered:
                return _by_way_of(source, target)
        return source

    def make_secret(self, connection_info: ConnectionInfo, attachment: str) -> SourceSecret | None:
        """Return the CHAP password, under a name of this attachment alone.

        Two guests of this host that use the volume have a secret each, so that
        the one that lets go does not take it from the other.
        """
        data = _data_of(connection_info)
        if data.auth is None:
            return None
        volume = connection_info.volume_id or _name_of(data.targets[0])
        return SourceSecret(
            'iscsi', f'{volume}/{attachment}', data.auth.password.reveal().encode()
        )

    def identify(self, connection_info: ConnectionInfo, source: NetworkSource) -> Identity:
        """Name the unit by Cinder's first target, by whichever portal it is reached."""
        names = [_name_of(target) for target in _data_of(connection_info).targets]
        is_one_of_them = not source.name or source.name in names
        return Identity('path', f'iscsi:{names[0] if is_one_of_them else source.name}')

    def why_not(self) -> str | None:
        """Look for QEMU's iscsi driver and for the initiator's name."""
        missing = qemu_modules.why_no_block_driver('iscsi')
        if missing is None:
            try:
                initiator.initiator_name(self.conf.iscsi_initiator_name)
            except exception.VolumeDriverNotSupported as error:
                missing = error.reason
        return missing


def _data_of(connection_info: ConnectionInfo) -> IscsiData:
    data = connection_info.data
    if not isinstance(data, IscsiData) or not data.targets:
        raise exception.InvalidConnectionInfo(
            driver_volume_type=connection_info.driver_volume_type,
            key='data',
            found=type(data).__name__,
            expected='an iSCSI target',
        )
    return data


def _host_of(target: IscsiTarget) -> NetworkHost:
    return NetworkHost(target.portal.host, target.portal.port)


def _name_of(target: IscsiTarget) -> str:
    """The name QEMU knows a unit by."""
    if '/' in target.iqn:
        # libvirt would take the rest for the unit's number.
        raise exception.InvalidConnectionInfo(
            driver_volume_type='iscsi',
            key='data.target_iqn',
            found=repr(target.iqn),
            expected='a name without "/"',
        )
    return f'{target.iqn}/{target.lun}'


def _by_way_of(source: NetworkSource, target: IscsiTarget) -> NetworkSource:
    return dataclasses.replace(source, name=_name_of(target), hosts=(_host_of(target),))
