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

"""What is to be made of Cinder's side of an attachment, by what is true now.

No question is asked here, and nothing is changed: ``settle`` does both.
"""

import enum
import itertools
import typing

from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.reservation import Operation

# Steps of an attach in which Cinder may still be exporting the volume.
_EXPORTS = frozenset(('export', 'undo reserve'))
# The step of a refresh in which it may.
_EXPORTS_AGAIN = frozenset(('export',))
# Steps of a detach in which Cinder may not have begun to detach it.
_BEGINS = frozenset(('begin', 'undo begin'))


class Do(enum.StrEnum):
    """What is done."""

    NOTHING = 'nothing'
    SETTLE = 'settle'  # the row; after a detach the volume is in use again
    COMPLETE = 'complete'  # tell Cinder that the guest has it, then settle
    RELEASE = 'release'  # Cinder gets it back, then forget
    FORGET = 'forget'  # the row
    REPORT = 'report'  # a person has to look: Cinder lost it
    WAIT = 'wait'  # it is too early to know what Cinder does


class Seen(typing.NamedTuple):
    """What is there.

    :ivar operation: that was interrupted; None: none was
    :ivar step: that was begun
    :ivar here: whether guest or host have the volume
    :ivar side: what Cinder has
    :ivar known: whether the row has the attachment's id
    :ivar named: whether Cinder's attachment names the guest
    :ivar begun: whether the volume is detaching
    :ivar early: whether Cinder may still be at what it was asked for last
    """

    operation: Operation | None
    step: str
    here: bool
    side: Side
    known: bool
    named: bool = True
    begun: bool = False
    early: bool = False


def decide(seen: Seen) -> Do:
    """Return what is to be done; Cinder is to have what guest and host have."""
    if seen.here:
        return _of_what_is_here(seen)
    if seen.early and _may_still_come(seen):
        return Do.WAIT
    if seen.side is Side.NONE:
        return Do.FORGET
    return Do.RELEASE


def is_undone(seen: Seen, done: Do) -> bool:
    """Tell whether the operation was undone by that; else it was finished."""
    attached = done in (Do.SETTLE, Do.COMPLETE)
    if attached:
        return seen.operation in (Operation.DETACH, Operation.REFRESH)
    return seen.operation is Operation.ATTACH


def all_steps() -> typing.Iterator[tuple[Operation | None, str]]:
    """Yield every step at which a row may stand, for whoever goes through all."""
    yield None, ''
    attach = ('', 'reserve', 'export', 'attach', 'complete', 'undo attach', 'undo reserve')
    detach = ('', 'begin', 'detach', 'release', 'undo begin')
    refresh = ('', 'export', 'complete', 'refresh', 'undo export')
    yield from itertools.product((Operation.ATTACH,), attach)
    yield from itertools.product((Operation.DETACH,), detach)
    yield from itertools.product((Operation.REFRESH,), refresh)


def _of_what_is_here(seen: Seen) -> Do:
    if seen.side in (Side.NONE, Side.RESERVED):
        # Cinder has not given it to this host, and may give it to another one.
        return Do.REPORT
    if seen.side is Side.EXPORTED:
        return Do.COMPLETE
    if seen.operation is None:
        return Do.NOTHING
    begins = seen.operation is Operation.DETACH and seen.step in _BEGINS and not seen.begun
    # Cinder may still be about to export what is attached.
    exports = seen.operation is Operation.REFRESH and seen.step in _EXPORTS_AGAIN
    if seen.early and (begins or exports):
        return Do.WAIT
    return Do.SETTLE


def _may_still_come(seen: Seen) -> bool:
    """Tell whether Cinder may have something of it only later."""
    if seen.operation is not Operation.ATTACH:
        return False
    if seen.side is Side.NONE:
        return not seen.known
    if seen.side is not Side.RESERVED:
        return False
    # What is exported after it was taken away would be nobody's; and what names
    # no guest may be of another host that is just about to export it.
    return seen.step in _EXPORTS or not (seen.known or seen.named)
