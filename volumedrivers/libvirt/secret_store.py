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

"""libvirt's secrets: what QEMU opens volumes and portals with.

A value goes to libvirt and nowhere else: it is in no document, error or log.
"""

import contextlib
import typing

import libvirt
from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.libvirt.secret import Secret
from volumedrivers.libvirt.secret import Usage

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.hypervisor import Hypervisor

LOG = logging.getLogger(__name__)

_TYPES: typing.Final[typing.Mapping[str, int]] = {
    'volume': libvirt.VIR_SECRET_USAGE_TYPE_VOLUME,
    'ceph': libvirt.VIR_SECRET_USAGE_TYPE_CEPH,
    'iscsi': libvirt.VIR_SECRET_USAGE_TYPE_ISCSI,
    'tls': libvirt.VIR_SECRET_USAGE_TYPE_TLS,
}

#: description of a secret that may have no value yet
UNFINISHED = 'being made'


class SecretStore:
    """libvirt's secrets; implements driver.Secrets.

    An embedded libvirt can hold none: defining an ephemeral secret in one, or
    undefining one, makes libvirt 9.0 crash the process it lives in, and QEMU
    cannot use the others.  It is not asked to.
    """

    def __init__(self, hypervisor: 'Hypervisor') -> None:
        self._hypervisor = hypervisor

    def ensure(
        self, usage_type: str, usage_id: str, value: bytes, *, ephemeral: bool = True
    ) -> str:
        """Define the secret, or set its value if there is one.

        :param usage_type: volume, ceph, iscsi or tls
        :param usage_id: the volume's id, the Ceph client's or the target's name
        :param ephemeral: libvirt forgets it when it ends; otherwise it writes
            it to disk, readable by root.  One that is there stays as it is.
        :returns: its UUID
        :raises InvalidDocument: no such type, or an id that XML cannot hold
        :raises SecretsNotSupported: the hypervisor is an embedded one
        :raises HypervisorUnavailable, HypervisorError
        """
        self._refuse_embedded()
        number = _number_of(usage_type, usage_id)
        document = Secret(ephemeral=ephemeral, private=True, usage=Usage.of(usage_type, usage_id))

        def define(connection: libvirt.virConnect) -> str:
            secret = _look_up(connection, number, usage_id)
            defined = secret is None
            if secret is None:
                document.description = UNFINISHED
                secret = _define(connection, document.to_xml(), number, usage_id)
            try:
                secret.setValue(value, 0)
                _finish(connection, secret)
            except libvirt.libvirtError:
                if defined:
                    with contextlib.suppress(libvirt.libvirtError):
                        secret.undefine()
                raise
            return str(secret.UUIDString())

        uuid = self._hypervisor.change(f'set the {usage_type} secret for {usage_id}', define)
        LOG.debug('libvirt has secret %s for %s %s', uuid, usage_type, usage_id)
        return uuid

    def find(self, usage_type: str, usage_id: str) -> str | None:
        """Return the UUID; None only when libvirt said there is none.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        number = _number_of(usage_type, usage_id)

        def look_up(connection: libvirt.virConnect) -> str | None:
            secret = _look_up(connection, number, usage_id)
            return None if secret is None else str(secret.UUIDString())

        return self._hypervisor.ask(f'look up the {usage_type} secret for {usage_id}', look_up)

    def find_complete(self, usage_type: str, usage_id: str) -> str | None:
        """Return the UUID of a secret that has its value; None: there is no such one.

        One that was being made when its maker was killed may have none.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        number = _number_of(usage_type, usage_id)

        def look_up(connection: libvirt.virConnect) -> str | None:
            secret = _look_up(connection, number, usage_id)
            if secret is None:
                return None
            if Secret.parse(secret.XMLDesc(0)).description == UNFINISHED:
                return None
            return str(secret.UUIDString())

        return self._hypervisor.ask(f'look up the {usage_type} secret for {usage_id}', look_up)

    def value(self, uuid: str) -> bytes | None:
        """Return the value of a secret; None: libvirt gives it to nobody, or has none.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """

        def read(connection: libvirt.virConnect) -> bytes | None:
            try:
                return bytes(connection.secretLookupByUUIDString(uuid).value(0))
            except libvirt.libvirtError as e:
                if _is_no_secret(e) or e.get_error_code() == libvirt.VIR_ERR_INVALID_SECRET:
                    return None
                raise

        return self._hypervisor.ask(f'read secret {uuid}', read)

    def delete(self, usage_type: str, usage_id: str) -> bool:
        """Undefine the secret; False when there was none.

        :raises SecretsNotSupported: the hypervisor is an embedded one
        :raises HypervisorUnavailable, HypervisorError
        """
        self._refuse_embedded()
        number = _number_of(usage_type, usage_id)

        def undefine(connection: libvirt.virConnect) -> bool:
            secret = _look_up(connection, number, usage_id)
            if secret is None:
                return False
            try:
                secret.undefine()
            except libvirt.libvirtError as e:
                if not _is_no_secret(e):
                    raise
                return False
            return True

        return self._hypervisor.change(f'delete the {usage_type} secret for {usage_id}', undefine)

    def _refuse_embedded(self) -> None:
        if self._hypervisor.is_embedded:
            raise exception.SecretsNotSupported(
                uri=self._hypervisor.uri,
                reason='an embedded libvirt crashes when secrets change',
            )


def _number_of(usage_type: str, usage_id: str) -> int:
    if usage_type not in _TYPES:
        raise exception.InvalidDocument(
            element='usage',
            where='@type',
            found=repr(usage_type),
            expected=f'one of {", ".join(_TYPES)}',
        )
    if not usage_id:
        raise exception.InvalidDocument(
            element='usage', where='id', found='empty', expected='what the secret is found by'
        )
    return _TYPES[usage_type]


def _is_no_secret(error: libvirt.libvirtError) -> bool:
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_SECRET)


def _look_up(
    connection: libvirt.virConnect, number: int, usage_id: str
) -> libvirt.virSecret | None:
    try:
        return connection.secretLookupByUsage(number, usage_id)
    except libvirt.libvirtError as e:
        # Only this code says that there is none.  A guest whose encrypted disk
        # is set up as if it had no secret would write over its LUKS header.
        if _is_no_secret(e):
            return None
        raise


def _define(
    connection: libvirt.virConnect, xml: str, number: int, usage_id: str
) -> libvirt.virSecret:
    try:
        return connection.secretDefineXML(xml, 0)
    except libvirt.libvirtError:
        # Somebody else may have defined it since it was looked up.
        secret = _look_up(connection, number, usage_id)
        if secret is None:
            raise
        return secret


def _finish(connection: libvirt.virConnect, secret: libvirt.virSecret) -> None:
    """Take the mark away that the secret may have no value; it keeps the value."""
    document = Secret.parse(secret.XMLDesc(0))
    if document.description == UNFINISHED:
        document.description = None
        connection.secretDefineXML(document.to_xml(), 0)
