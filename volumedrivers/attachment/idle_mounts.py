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

"""Unmount the shares that nobody uses any more.

The last counted user of a share may let go while a guest has something else on
it.  Then the share stays mounted, and no later detach has to do with it.
"""

from collections.abc import Iterator
import time
import typing

from volumedrivers import exception
from volumedrivers.attachment.results import Outcome
from volumedrivers.host.share import Share

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext


def remove(context: 'AttachmentContext') -> Iterator[Outcome]:
    """Unmount those of this package, one by one; say what came of each.

    One that a guest or a row of the journal still uses stays, and is not
    mentioned.
    """
    shares = context.registry.context.shares
    try:
        idle = shares.idle()
    except exception.VolumeDriversError as error:
        yield outcome('failed', f'shares that nobody uses cannot be looked for: {error}', 0.0)
        return
    for share in idle:
        started = time.monotonic()
        what = f'{share.source} at {share.mount_point}'
        try:
            was_there = shares.mount_of(share) is not None
            if shares.release_idle(share):
                continue
            detail = f'nobody used {what} any more; it is unmounted'
            if not was_there and shares.mount_of(share) is None:
                detail = f'{what} was to be mounted, and is not; its directory is removed'
            action = 'finished'
        except exception.VolumeDriversError as error:
            action, detail = 'failed', f'nobody counted uses {what} any more: {error}'
        yield outcome(action, detail, time.monotonic() - started)


def look(context: 'AttachmentContext') -> Iterator[tuple[Share, str | None]]:
    """Return those that would be unmounted, and why that cannot be known; changes nothing."""
    shares = context.registry.context.shares
    for share in shares.idle():
        try:
            counted = shares.users.users(share.mount_point)
            if (
                counted
                or shares.elsewhere(share, '')
                or not shares.users.claimed(share.mount_point)
            ):
                continue
        except exception.VolumeDriversError as error:
            yield share, str(error)
        else:
            yield share, None


def outcome(action: str, detail: str, seconds: float) -> Outcome:
    """Return what was made of a mount."""
    return Outcome(
        guest='',
        guest_uuid='',
        volume_id='',
        operation=None,
        step='unmount',
        action=action,
        detail=detail,
        seconds=round(seconds, 3),
    )
