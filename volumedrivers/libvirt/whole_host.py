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

"""What libvirt knows of all guests and secrets, asked for in one call."""

import typing

import libvirt

from volumedrivers import exception

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.hypervisor import Hypervisor

_TYPES: typing.Final[typing.Mapping[int, str]] = {
    libvirt.VIR_SECRET_USAGE_TYPE_VOLUME: 'volume',
    libvirt.VIR_SECRET_USAGE_TYPE_CEPH: 'ceph',
    libvirt.VIR_SECRET_USAGE_TYPE_ISCSI: 'iscsi',
    libvirt.VIR_SECRET_USAGE_TYPE_TLS: 'tls',
}
# A hint that is missing costs less than waiting for a guest that hangs.
_SECONDS = 5.0


class KnownSecret(typing.NamedTuple):
    """A secret, without its value.

    :ivar usage_type: volume, ceph, iscsi, tls; '' of any other
    """

    uuid: str
    usage_type: str
    usage_id: str


def secrets(hypervisor: 'Hypervisor') -> tuple[KnownSecret, ...]:
    """Return all of libvirt's secrets.

    :raises HypervisorUnavailable, HypervisorError: libvirt could not say
    """

    def question(connection: libvirt.virConnect) -> tuple[KnownSecret, ...]:
        try:
            found = connection.listAllSecrets()
        except libvirt.libvirtError as error:
            # An embedded libvirt has none.
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
            found = []
        return tuple(
            KnownSecret(
                secret.UUIDString(), _TYPES.get(secret.usageType(), ''), secret.usageID() or ''
            )
            for secret in found
        )

    return hypervisor.ask('list the secrets', question)


def capacities(
    hypervisor: 'Hypervisor', guest_uuids: typing.Collection[str]
) -> dict[tuple[str, str], int]:
    """Return the bytes of the disks of running guests, by guest's UUID and target.

    A guest that is busy, or a libvirt that cannot say it at once, has none.

    :param guest_uuids: of guests none of whose disks hangs: libvirt looks at
        each of their files, and would hang with it
    :raises HypervisorUnavailable
    """
    if not guest_uuids:
        return {}

    def question(connection: libvirt.virConnect) -> dict[tuple[str, str], int]:
        domains = [hypervisor.domain(uuid) for uuid in sorted(guest_uuids)]
        found = {}
        for domain, stats in connection.domainListGetStats(
            domains,
            libvirt.VIR_DOMAIN_STATS_BLOCK,
            libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
        ):
            uuid = domain.UUIDString()
            for number in range(stats.get('block.count', 0)):
                capacity = stats.get(f'block.{number}.capacity')
                if capacity:
                    found[uuid, str(stats[f'block.{number}.name'])] = int(capacity)
        return found

    action = 'ask for the sizes of the disks'
    try:
        return hypervisor.ask(
            action,
            lambda connection: hypervisor.within_deadline(
                action, lambda: question(connection), seconds=_SECONDS
            ),
            of_qemu=True,
        )
    except (
        exception.HypervisorError,
        exception.DeadlineExceeded,
        exception.Busy,
        exception.GuestNotFound,
    ):
        return {}
