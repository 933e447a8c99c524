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

"""The lock that os-brick's ``guard_connection`` takes, with a deadline.

cinder-volume and Glance take it, too, where they run on this host with the
same lock path: a scan for one volume must not find another one's device while
that is being mapped or unmapped.
"""

import contextlib
import time
import typing

from oslo_concurrency import lockutils

from volumedrivers import exception
from volumedrivers.host import bootstrap

_PREFIX = 'os-brick-'


def scans_by_itself() -> bool:
    """Tell whether this host's iSCSI initiator looks for devices that nobody asked for."""
    bootstrap.load_os_brick()
    from os_brick.initiator import utils  # noqa: PLC0415 - asks for open-iscsi when imported

    return not utils.ISCSI_SUPPORTS_MANUAL_SCAN


def hold(name: str, seconds: float) -> contextlib.ExitStack:
    """Return what releases the lock when it is closed, in whichever thread.

    Between the threads of one process that come through this package
    something else has to keep the order: this one is not fair.

    :param name: the service_uuid of the volume
    :param seconds: how long to wait for it
    :raises LockHeld: another process, or os-brick in this one, has it
    :raises InvalidOption: the lock path cannot be used
    """
    end = time.monotonic() + seconds
    late = exception.LockHeld(
        lock=f'{_PREFIX}{name}', holder='os-brick in another service', seconds=seconds
    )
    with contextlib.ExitStack() as stack:
        threads = typing.cast('typing.Any', lockutils.internal_lock(name))
        if not threads.acquire(timeout=seconds):
            raise late
        stack.callback(threads.release)
        try:
            processes = lockutils.external_lock(name, _PREFIX)
            held = processes.acquire(timeout=max(0.1, end - time.monotonic()))
        except OSError as error:
            raise exception.InvalidOption(
                option='[oslo_concurrency] lock_path',
                found=f'unusable ({error})',
                expected='a directory this process may write',
            ) from error
        if not held:
            raise late
        stack.callback(processes.release)
        return stack.pop_all()
