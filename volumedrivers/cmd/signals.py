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

"""Being told to end is like Ctrl-C: the step is ended, and what was done is undone.

systemd and ``kill`` send SIGTERM, a terminal that is closed SIGHUP.
"""

from collections.abc import Iterator
import contextlib
import signal
import threading
import types
import typing

_WANTED = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal told this process to end.

    :ivar number: of the signal
    """

    def __init__(self, number: int) -> None:
        super().__init__(f'stopped by {signal.Signals(number).name}')
        self.number = number


@contextlib.contextmanager
def like_interrupts() -> Iterator[None]:
    """Raise Stopped within the block; a signal that is ignored stays so, as under nohup."""
    before: dict[int, typing.Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _WANTED:
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _raise)
    try:
        yield
    finally:
        for changed, handler in before.items():
            signal.signal(changed, handler)


def _raise(number: int, frame: types.FrameType | None) -> None:
    raise Stopped(number)
