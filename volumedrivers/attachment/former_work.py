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

"""Wait for the programs of an operation that was interrupted, before its row is gone on with."""

from collections.abc import Iterator
import os
import typing

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import former_processes
from volumedrivers.privsep import crypt
from volumedrivers.protocol_data import FibreChannelData
from volumedrivers.protocol_data import IscsiData
from volumedrivers.protocol_data import LightOSData
from volumedrivers.protocol_data import LocalData
from volumedrivers.protocol_data import NvmeData
from volumedrivers.protocol_data import RbdData
from volumedrivers.protocol_data import ShareData

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.record import Record

# What os-brick's connectors call the device and its map.
_OF_DEVICE = ('path', 'multipath_id', 'scsi_wwn')


def wait(
    context: 'AttachmentContext', record: 'Record', info: ConnectionInfo, *, force: bool = False
) -> None:
    """Wait until no program of an unfinished row is at work any more.

    What it makes would come after the row is gone, and nobody would know it.
    The lock of the volume is held.

    :param force: programs that unmount something are not waited for, as they
        hang on a share that does not answer
    :raises Busy: names those that still run; the row stays
    :raises HostUnreadable: what runs cannot be said
    """
    if record.is_settled or record.boot_id != context.boot_id:
        return
    former_processes.wait_until_ended(
        frozenset(words(record, info)),
        context.options.prove_timeout,
        what=f'volume {record.volume_id}',
        unmounting=not force,
    )


def words(record: 'Record', info: ConnectionInfo) -> Iterator[str]:
    """Yield what a program at work on the volume has for an argument; none is secret."""
    yield record.volume_id
    yield f'{crypt.PREFIX}{record.volume_id}'
    yield from _of_connection(info)
    if record.opened is not None and record.opened.path:
        yield record.opened.path
    volume = record.volume
    if volume is None:
        return
    if volume.path:
        yield volume.path
        if volume.source_type == 'file':
            yield os.path.dirname(volume.path)
    if volume.multipath_id:
        yield volume.multipath_id
    for name in _OF_DEVICE:
        value = volume.device_info.get(name)
        if isinstance(value, str):
            yield value


def _of_connection(info: ConnectionInfo) -> Iterator[str]:
    data = info.data
    if isinstance(data, IscsiData):
        for target in data.targets:
            yield target.iqn
            yield str(target.portal)
    elif isinstance(data, NvmeData):
        for subsystem in data.targets:
            yield subsystem.nqn
    elif isinstance(data, LightOSData):
        yield data.subsystem_nqn
        yield data.uuid
    elif isinstance(data, FibreChannelData):
        yield from data.wwpns
    elif isinstance(data, ShareData):
        yield data.export
    elif isinstance(data, RbdData):
        yield data.image
        yield f'{data.pool}/{data.image}'
    elif isinstance(data, LocalData):
        yield data.device_path
