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

"""Wait for conditions, never for seconds: the machines are slow and noisy."""

from collections.abc import Callable
import time
import typing

T = typing.TypeVar('T')


class WaitedInVain(Exception):
    """What was waited for did not come."""


def wait_until(
    condition: Callable[[], T], what: str, *, timeout: float = 60.0, interval: float = 0.1
) -> T:
    """Return what the condition returns, once that is true.

    :param what: what is waited for, for people
    :param timeout: seconds
    :raises WaitedInVain
    """
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise WaitedInVain(f'{what}: not within {timeout:g} s')
        time.sleep(interval)
