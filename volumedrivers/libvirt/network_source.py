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

"""The family of volumes that QEMU opens itself, over the network.

Nothing of such a volume is on the host but, for some, a libvirt secret.  To
connect is to ask whether the storage answers, before libvirt is told of it:
QEMU opens a source while the whole guest stands still.
"""

import abc
from collections.abc import Sequence
import dataclasses
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import endpoint
from volumedrivers.libvirt import plan
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.connected_volume import check_recorded
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.sizes import check_size

LOG = logging.getLogger(__name__)


class SourceSecret(typing.NamedTuple):
    """A libvirt secret that the driver makes for one attachment.

    :ivar usage_type: libvirt's: iscsi or ceph
    :ivar usage_id: the name libvirt finds it by; of this attachment alone
    """

    usage_type: str
    usage_id: str
    value: bytes

    def __repr__(self) -> str:
        return f'SourceSecret({self.usage_type!r}, {self.usage_id!r}, ***)'


class NetworkSourceDriver(VolumeDriver):
    """A protocol that QEMU speaks itself.

    A driver says what the source is (``make_source``); what it may override
    is which endpoints are asked, the secret, and the identity.
    """

    API_VERSION = (1, 1)
    CAPABILITIES = frozenset((Capability.EXTEND, Capability.MULTIATTACH, Capability.UNPRIVILEGED))

    #: what host.endpoint calls the protocol
    PROTOCOL: typing.ClassVar[str]
    #: ports that are asked where a host is named without one; any may answer
    DEFAULT_PORTS: typing.ClassVar[tuple[int, ...]] = ()

    @abc.abstractmethod
    def make_source(self, connection_info: ConnectionInfo) -> NetworkSource:
        """Describe the source with all hosts that may be asked, without a secret.

        :raises InvalidConnectionInfo, MisconfiguredHost
        """

    @abc.abstractmethod
    def identify(self, connection_info: ConnectionInfo, source: NetworkSource) -> Identity:
        """Tell what the volume is, wherever it is reached."""

    def make_secret(self, connection_info: ConnectionInfo, attachment: str) -> SourceSecret | None:
        """Return the secret to make for this attachment; None: none is needed."""
        return None

    def hosts_to_ask(
        self, connection_info: ConnectionInfo, source: NetworkSource
    ) -> tuple[NetworkHost, ...]:
        """Return the hosts that have to answer; by default those of the source."""
        return source.hosts

    def choose(
        self,
        connection_info: ConnectionInfo,
        source: NetworkSource,
        answered: Sequence[NetworkHost],
    ) -> NetworkSource:
        """Return the source QEMU is given; by default with all hosts.

        A client that copes with a dead host may find it alive again later.
        """
        return source

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Ask the storage, make the secret, describe the source.

        :raises EndpointUnreachable: no host answers its protocol in time
        """
        start = time.monotonic()
        source = self.make_source(connection_info)
        source, paths = self._ask(connection_info, source)
        identity = self.identify(connection_info, source)
        secret = self.make_secret(connection_info, attachment)
        if secret is not None:
            uuid = self._secrets(connection_info).ensure(
                secret.usage_type, secret.usage_id, secret.value, ephemeral=False
            )
            source = dataclasses.replace(source, secret_type=secret.usage_type, secret_uuid=uuid)
        return ConnectedVolume(
            driver_volume_type=connection_info.driver_volume_type,
            volume_id=connection_info.volume_id,
            source_type='network',
            source=source,
            identity=identity,
            paths=paths,
            seconds=time.monotonic() - start,
        )

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Remove the secret that connect_volume made; there is nothing else."""
        secret = self.make_secret(connection_info, attachment)
        if secret is not None:
            self._secrets(connection_info).delete(secret.usage_type, secret.usage_id)

    def extend_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        requested_size: int,
        *,
        volume: ConnectedVolume | None = None,
    ) -> int:
        """Return the requested size: QEMU asks the storage when the disk is resized.

        While it does and nobody answers, the whole guest stands still; so the
        storage is asked first.

        :raises IdentityMismatch: the source names another volume
        :raises EndpointUnreachable: no host answers its protocol in time
        """
        size = check_size(requested_size, f'volume {connection_info.volume_id}')
        if volume is not None:
            check_recorded(volume, self.current_identity(connection_info, volume))
            if volume.source is not None:
                self._ask(connection_info, volume.source)
        return size

    def lock_names(
        self, connection_info: ConnectionInfo, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        """Name nothing: QEMU opens the volume, and nothing of this host is shared."""
        return ()

    def current_identity(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume
    ) -> Identity | None:
        """Tell what the source names; the storage is not asked."""
        if volume.source is None:
            return None
        return self.identify(connection_info, volume.source)

    def remains(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[Remainder, ...]:
        """Look for the secret that connect_volume made for this attachment."""
        secret = self.make_secret(connection_info, attachment)
        if secret is None:
            return ()
        uuid = self._secrets(connection_info).find(secret.usage_type, secret.usage_id)
        if uuid is None:
            return ()
        return (Remainder('secret', f'{secret.usage_type} {secret.usage_id}', uuid),)

    def plan_connect(self, connection_info: ConnectionInfo, attachment: str) -> tuple[str, ...]:
        """Name the hosts that are asked, the secret and the source."""
        source = self.make_source(connection_info)
        ports = self.DEFAULT_PORTS
        lines = [
            f'connect to {written(host)}'
            + (f' ({" or ".join(map(str, ports))})' if host.port is None and ports else '')
            for host in self.hosts_to_ask(connection_info, source)
        ]
        secret = self.make_secret(connection_info, attachment)
        if secret is not None:
            lines.append(f'define libvirt secret {secret.usage_type} {secret.usage_id}')
        lines.append(f'QEMU opens {source.protocol} {source.name}')
        return plan.without_secrets(connection_info, lines)

    def plan_disconnect(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[str, ...]:
        """Name the secret that is removed; there is nothing else."""
        found = self.remains(connection_info, attachment, volume=volume)
        if not found:
            return ('nothing: QEMU opened the volume itself',)
        return plan.without_secrets(
            connection_info,
            [f'undefine libvirt {each.kind} {each.name} ({each.detail})' for each in found],
        )

    def _secrets(self, connection_info: ConnectionInfo) -> typing.Any:
        secrets = self.context.secrets
        if secrets is None:
            raise exception.VolumeDriverNotSupported(
                driver_volume_type=connection_info.driver_volume_type,
                reason='its credentials go into a libvirt secret, and no libvirt connection '
                'was given',
            )
        return secrets

    def _ask(
        self, connection_info: ConnectionInfo, source: NetworkSource
    ) -> tuple[NetworkSource, PathReport]:
        """Ask all hosts; return the source to use, and the report."""
        hosts = self.hosts_to_ask(connection_info, source)
        if not hosts:
            # Where the storage is, only its client's own configuration knows.
            return source, PathReport()
        answered, failed = probe_hosts(
            self.context.endpoints,
            self.PROTOCOL,
            hosts,
            default_ports=self.DEFAULT_PORTS,
            timeout=self.conf.endpoint_timeout,
        )
        for path in failed:
            LOG.warning(
                'Volume %(volume)s: %(protocol)s endpoint %(endpoint)s does not answer: '
                '%(reason)s; going on with the others',
                {
                    'volume': connection_info.volume_id,
                    'protocol': self.PROTOCOL,
                    'endpoint': path.name,
                    'reason': path.reason,
                },
            )
        return self.choose(connection_info, source, answered), PathReport(
            asked=len(answered) + len(failed), found=len(answered), failed=failed
        )


def written(host: NetworkHost) -> str:
    """Return a host as it is shown to people: host:port or [address]:port."""
    name = f'[{host.name}]' if ':' in host.name else host.name
    return name if host.port is None else f'{name}:{host.port}'


def probe_hosts(
    probe: endpoint.Probe,
    protocol: str,
    hosts: Sequence[NetworkHost],
    *,
    default_ports: Sequence[int],
    timeout: float,
) -> tuple[tuple[NetworkHost, ...], tuple[FailedPath, ...]]:
    """Ask hosts whether they answer; return those that do, and the others.

    A host without a port answers when one of the default ports does.

    :raises EndpointUnreachable: none answers
    """
    asked = {
        host: [
            (host.name, port) for port in (default_ports if host.port is None else (host.port,))
        ]
        for host in hosts
    }
    result = probe.check(
        protocol, [place for places in asked.values() for place in places], timeout=timeout
    )
    reasons = dict(result.failed)
    answered: list[NetworkHost] = []
    failed: list[FailedPath] = []
    for host, places in asked.items():
        names = [written(NetworkHost(*place)) for place in places]
        if all(name in reasons for name in names):
            failed.append(FailedPath(written(host), reasons[names[0]]))
        else:
            answered.append(host)
    return tuple(answered), tuple(failed)
