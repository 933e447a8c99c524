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

"""Add the paths that are back to every volume that lacks some."""

from collections.abc import Callable
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import failure
from volumedrivers.attachment import recover
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import ConnectResult
from volumedrivers.attachment.results import Repaired

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext

LOG = logging.getLogger(__name__)


def lacking(context: 'AttachmentContext', domain_uuid: str | None) -> tuple[Record, ...]:
    """Return the attached volumes with fewer paths than were asked for.

    Those that were missing when the volume was connected, and those that were
    lost since.

    :param domain_uuid: of one guest; None: all
    """
    return tuple(
        record
        for record in context.journal.find(domain_uuid=domain_uuid, unfinished=False)
        if record.boot_id == context.boot_id and _lacks_paths(context, record)
    )


def repair(
    context: 'AttachmentContext', record: Record, function: Callable[[Record], ConnectResult]
) -> Repaired:
    """Repair one; an error is told in the result."""
    LOG.info('repairing volume %s of guest %s', record.volume_id, record.domain_name)
    before = _paths_now(context, record)
    volume = record.volume
    result, problem, seconds = None, None, {}
    try:
        result = function(record)
        seconds = result.seconds
    except Exception as error:
        problem = recover.problem_of(error, record)
        stopped = failure.of(error)
        seconds = {} if stopped is None else stopped.seconds
    asked = 0 if volume is None else volume.paths.asked
    recorded = None if volume is None or volume.identity is None else str(volume.identity)
    return Repaired(
        guest=record.domain_name,
        guest_uuid=record.domain_uuid,
        volume_id=record.volume_id,
        target=record.target,
        identity=recorded if result is None else result.identity,
        paths_before=before,
        paths_found=None if result is None else result.paths_found,
        paths_asked=asked if result is None else result.paths_asked,
        paths_failed=() if result is None else result.paths_failed,
        degraded=result is None or result.degraded,
        problem=problem,
        seconds=seconds,
    )


def _lacks_paths(context: 'AttachmentContext', record: Record) -> bool:
    volume = record.volume
    # What came back by itself is still to be written down.
    return volume is not None and (
        volume.degraded or _paths_now(context, record) < volume.paths.asked
    )


def _paths_now(context: 'AttachmentContext', record: Record) -> int:
    """Return how many paths there are; for what has no devices, how many there were."""
    volume = record.volume
    if volume is None:
        return 0
    if volume.source_type != 'block' or volume.path is None or volume.paths.asked < 2:
        return volume.paths.found
    try:
        paths = context.registry.context.devices.paths(volume.path)
    except exception.VolumeNotConnected:
        return 0
    return len(paths.names) - len(paths.failed)
