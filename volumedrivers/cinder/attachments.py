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

"""Cinder's attachments: whose they are, and the connection_info they hold."""

from collections.abc import Mapping
import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo

if typing.TYPE_CHECKING:
    from volumedrivers.cinder.block_storage import BlockStorage

# What Cinder adds to the flat answer, and is no datum of the protocol.
_NOT_DATA = ('driver_volume_type', 'attachment_id')
# All that Cinder says of an error of its own.
_FAILED = 'The server has either erred or is incapable of performing the requested operation'


# Cinder shows so many at most, and does not say that there are more.
_PAGE = 1000
# It may be told to show fewer, but nobody lets it show fewer than that.
_FEW = 100


def of_project(storage: 'BlockStorage') -> tuple[typing.Any, ...]:
    """Return the SDK's Attachments of all volumes of the project."""
    proxy = storage.proxy

    def attachments() -> tuple[typing.Any, ...]:
        found = tuple(proxy.attachments())
        # With a limit the SDK asks until there is nothing more; that fails if
        # the last one that was shown is deleted meanwhile.
        return found if len(found) < _FEW else tuple(proxy.attachments(limit=_PAGE))

    return storage.ask(attachments)


def of_volume(
    storage: 'BlockStorage', volume_id: str, *, instance: str | None = None
) -> tuple[typing.Any, ...]:
    """Return the SDK's Attachments of a volume, also those that are only reserved.

    :param instance: only those of this one
    """
    query = {'volume_id': volume_id}
    if instance is not None:
        query['instance_id'] = instance
    proxy = storage.proxy

    def attachments() -> tuple[typing.Any, ...]:
        return tuple(proxy.attachments(**query))

    return storage.ask(attachments)


def host_of(volume: typing.Any, attachment_id: str) -> str | None:
    """Return the host that an attachment is of; None: there is none yet, or Cinder does not say.

    It tells only an administrator, and of what is complete; a connector it
    shows to nobody.

    :param volume: the SDK's
    """
    for one in volume.attachments or ():
        if one.get('attachment_id') == attachment_id and one.get('host_name'):
            return str(one['host_name'])
    return None


def is_reserved(attachment: typing.Any) -> bool:
    """Tell whether nothing is exported yet; also Cinder may be about to do that."""
    return attachment.status == 'reserved' and not attachment.connection_info


def delete(storage: 'BlockStorage', attachment_id: str, *, instance: str | None) -> None:
    """Take an attachment away, and with it what is exported for it.

    :param instance: that it names; None: none
    :raises NotInCinder: it is gone; Cinder itself said so
    :raises ServiceRoleNeeded: Cinder wants to know from Nova whether the
        instance has let go, as the caller is no service (bug 2004555)
    """
    try:
        # The SDK would take any 404 for "gone", also that of a proxy.
        storage.ask(storage.proxy.delete_attachment, attachment_id, ignore_missing=False)
    except exception.CinderUnavailable as error:
        if instance is None or storage.sends_service_token or _FAILED not in error.reason:
            raise
        # It says no more where it cannot ask Nova.  If it cannot be asked
        # either, that is the reason.
        storage.tell(storage.proxy.get_attachment, attachment_id)
        raise exception.ServiceRoleNeeded(
            action=error.action, reason=f'it cannot ask Nova about the instance: {error.reason}'
        ) from error


def connection_info(
    answer: Mapping[str, typing.Any],
    volume: typing.Any,
    *,
    read_only: bool = False,
) -> ConnectionInfo:
    """Return how to connect a volume, from an attachment's or the legacy call's answer.

    An attachment has type and data in one level (Cinder's API, 3.27); the
    legacy call has them in two.

    :param answer: the SDK's ``Attachment.connection_info``, or what
        ``init_volume_attachment`` returns
    :param volume: the SDK's Volume
    :param read_only: the attachment is, which Cinder does not say in its answer
    :raises InvalidConnectionInfo
    """
    if isinstance(answer.get('data'), Mapping):
        found = {'driver_volume_type': answer.get('driver_volume_type')}
        data = dict(answer['data'])
    else:
        data = dict(answer)
        found = {name: data.pop(name) for name in _NOT_DATA if name in data}
        found.pop('attachment_id', None)
    if read_only:
        data['access_mode'] = 'ro'
    found['data'] = data
    found['serial'] = volume.id
    found['volume_id'] = volume.id
    if volume.is_multiattach:
        found['multiattach'] = True
    return ConnectionInfo.parse(found)
