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

"""Calls that may hang, with a deadline.

A file system call on a share whose server is gone waits in the kernel, for
ever if the mount is "hard".  The call is made in a thread of its own; when
the time is up the thread is left to wait, and the caller goes on.
"""

import collections
from collections.abc import Callable
import contextvars
import logging
import os
import queue
import threading
import time
import typing

from volumedrivers import exception

LOG = logging.getLogger(__name__)

T = typing.TypeVar('T')

# To start a thread takes longer than most calls do, so some wait for the next
# call: how many, and for how many seconds.
_MOST_IDLE = 8
_LONGEST_IDLE = 10.0
# Seconds after Ctrl-C in which nobody wonders.
_SILENT = 1.0
_Orders = queue.SimpleQueue[tuple[Callable[[], None], threading.Event]]
_idle: 'collections.deque[_Orders]' = collections.deque()


class Call(typing.Generic[T]):
    """A function at work in another thread, which it has for itself and can be left behind in.

    It starts at once.  The thread is a daemon: one that hangs must not keep
    the process from ending.  Ctrl-C while it starts is raised by ``wait``, so
    that whoever has begun something also gets hold of it.

    :ivar what: what is waited for, as DeadlineExceeded says it
    :ivar ended: set when the function has returned or raised, never before
    :raises RuntimeError: the process can have no more threads
    """

    what: str
    ended: threading.Event
    _work: Callable[[], None]
    _interrupt: BaseException | None

    def __init__(self, function: Callable[[], T], *, what: str) -> None:
        self._prepare(function, what)
        try:
            self._start()
        except Exception:
            raise
        except BaseException as interrupt:
            self._interrupt = interrupt

    def wait(self, seconds: float | None, *, interruptible: bool = True) -> T:
        """Return what the function returns, or raise what it raises.

        It can be called again after DeadlineExceeded.

        :param seconds: how long to wait; None for as long as it takes
        :param interruptible: whether Ctrl-C is raised at once, or when the
            function has ended or the time is up; pressed again it is raised
            in any case
        :raises DeadlineExceeded: it takes longer; the function goes on
        """
        return self._wait(seconds, interruptible=interruptible, start=False)

    @classmethod
    def _run(
        cls, function: Callable[[], T], what: str, seconds: float, *, interruptible: bool
    ) -> T:
        # Nothing may come between the start and what guards the wait.
        self = cls.__new__(cls)
        self._prepare(function, what)
        return self._wait(seconds, interruptible=interruptible, start=True)

    def _prepare(self, function: Callable[[], T], what: str) -> None:
        self.what = what
        # Not join(), which takes a thread for ended when it is interrupted itself.
        self.ended = threading.Event()
        self._interrupt = None
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        context = contextvars.copy_context()

        def work() -> None:
            threading.current_thread().name = f'waits for {what}'
            try:
                self._results.append(context.run(function))
            except BaseException as error:
                self._errors.append(error)

        self._work = work

    def _start(self) -> None:
        order = (self._work, self.ended)
        try:
            _idle.pop().put(order)
        except IndexError:
            orders: _Orders = queue.SimpleQueue()
            orders.put(order)
            threading.Thread(target=_serve, args=(orders,), daemon=True).start()

    def _wait(self, seconds: float | None, *, interruptible: bool, start: bool) -> T:
        end = None if seconds is None else time.monotonic() + seconds
        try:
            if start:
                self._start()
            interrupt, self._interrupt = self._interrupt, None
            if interrupt is not None:
                raise interrupt
            self.ended.wait(seconds)
        except BaseException as error:
            if not interruptible and not isinstance(error, Exception):
                self._wait_all_the_same(end)
            raise
        if self._errors:
            raise self._errors[0]
        if not self._results:
            raise exception.DeadlineExceeded(what=self.what, seconds=seconds or 0.0)
        return self._results[0]

    def _wait_all_the_same(self, end: float | None) -> None:
        """Wait on after an interrupt; say so if that takes a while."""

        def left() -> float:
            return threading.TIMEOUT_MAX if end is None else max(0.0, end - time.monotonic())

        if not self.ended.wait(min(_SILENT, left())):
            LOG.warning(
                'Interrupted while waiting for %s: that is let end; interrupted once more, it '
                'is left behind',
                self.what,
            )
            self.ended.wait(left())


def _serve(orders: _Orders) -> None:
    """Do one call after the other, until there has been none for some time."""
    while True:
        try:
            work, ended = orders.get(timeout=_LONGEST_IDLE)
        except queue.Empty:
            try:
                _idle.remove(orders)
            except ValueError:
                continue  # somebody has taken it, and is about to give it something to do
            return
        work()
        # What it holds on to is not kept until the next call.
        del work
        stays = len(_idle) < _MOST_IDLE
        if stays:
            # Before the caller goes on, whose next call it can then do.
            _idle.append(orders)
        ended.set()
        del ended
        if not stays:
            return


def _forget_threads() -> None:
    # A child has none of its parent's.
    _idle.clear()


os.register_at_fork(after_in_child=_forget_threads)


def call(function: Callable[[], T], *, what: str, seconds: float, interruptible: bool = True) -> T:
    """Return what ``function`` returns, or raise what it raises.

    :param what: what is waited for, as DeadlineExceeded says it
    :param seconds: how long to wait; the function itself is not ended then,
        so it must leave nothing behind that somebody has to know of
    :param interruptible: whether Ctrl-C is raised at once, or when the
        function has ended; pressed again it is raised in any case
    :raises DeadlineExceeded: it took longer
    """
    return Call._run(function, what, seconds, interruptible=interruptible)
