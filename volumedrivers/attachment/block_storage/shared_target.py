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

"""Keep volumes of one back end from each other while they are mapped and unmapped.

Where volumes share a target, connecting one makes the host look at all of
them: a device appears that another operation is about to have removed, and
nobody removes it again.  So between Cinder's export and the host's connect,
and between the host's disconnect and Cinder's release, such volumes go one
after the other.
"""

import contextlib
import threading
import types
import typing

from volumedrivers import exception
from volumedrivers.host import guard

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.cinder.block_storage import BlockStorage


def name_of(storage: 'BlockStorage', volume: typing.Any) -> str | None:
    """Return what a volume shares its target under; None: it has to wait for nobody.

    Cinder says it in three ways: it does (of no matter where the initiator
    does not scan by itself), it does not, or it does and matters everywhere.
    A Cinder that has only the first two says the first for the third, too.

    :param volume: the SDK's; None: Cinder has it no more
    """
    if volume is None or not volume.service_uuid or not storage.speaks('3.48'):
        return None
    shared = volume.shared_targets
    if shared is False:
        return None
    if shared and storage.speaks('3.69') and not guard.scans_by_itself():
        return None
    return str(volume.service_uuid)


class SharedTarget:
    """The lock of one operation; a context manager at the end of which nothing is held."""

    def __init__(self, context: 'StorageContext', volume: typing.Any, what: str) -> None:
        """Hold nothing yet.

        :param volume: the SDK's; None: there is nothing to wait for
        :param what: the operation, as it is told to others who wait
        """
        self._context = context
        self._volume = volume
        self._what = what
        self._changing = threading.Lock()
        self._held: contextlib.ExitStack | None = None
        self._ended = False

    def hold(self) -> None:
        """Wait until nobody else maps or unmaps; nothing if it is held, or need not be.

        :raises LockHeld: names who does
        """
        context = self._context
        if self._held is not None:
            return
        name = name_of(context.storage, self._volume)
        if name is None:
            return
        seconds = float(context.options.lock_timeout)
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                context.locks.acquire((f'shared target {name}',), what=self._what, seconds=seconds)
            )
            stack.enter_context(guard.hold(name, seconds))
            with self._changing:
                if self._ended:
                    # The operation was given up while its step waited here.
                    raise exception.LockHeld(
                        lock=f'shared target {name}', holder='others', seconds=seconds
                    )
                self._held = stack.pop_all()

    @property
    def patience(self) -> float:
        """Seconds that ``hold`` waits at most."""
        if name_of(self._context.storage, self._volume) is None:
            return 0.0
        return 2 * float(self._context.options.lock_timeout)

    def drop(self) -> None:
        """Let others map and unmap; calling it again does nothing."""
        with self._changing:
            held, self._held = self._held, None
        if held is not None:
            held.close()

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        with self._changing:
            self._ended = True
        self.drop()
