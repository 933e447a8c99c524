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

from collections.abc import Callable
import threading
import time
import typing

from volumedrivers import exception

T = typing.TypeVar('T')


def call(function: Callable[[], T], *, what: str, seconds: float, interruptible: bool = True) -> T:
    """Return what ``function`` returns, or raise what it raises.

    :param what: what is waited for, as DeadlineExceeded says it
    :param seconds: how long to wait; the function itself is not ended then,
        so it must leave nothing behind that somebody has to know of
    :param interruptible: whether Ctrl-C is raised at once, or when the
        function has ended; pressed again it is raised in any case
    :raises DeadlineExceeded: it took longer
    """
    results: list[T] = []
    errors: list[BaseException] = []
    # Not join(), which takes a thread for ended when it is interrupted itself.
    ended = threading.Event()

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    # A daemon: one that hangs must not keep the process from ending.
    thread = threading.Thread(target=work, name=f'waits for {what}', daemon=True)
    end = time.monotonic() + seconds
    try:
        thread.start()
        ended.wait(seconds)
    except BaseException:
        if not interruptible:
            ended.wait(max(0.0, end - time.monotonic()))
        raise
    if errors:
        raise errors[0]
    if not results:
        raise exception.DeadlineExceeded(what=what, seconds=seconds)
    return results[0]
