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

"""The lock of a mount point, against threads and other processes."""

from collections.abc import Iterator
import contextlib
import time
import typing

from oslo_concurrency import lockutils

from volumedrivers import exception


@contextlib.contextmanager
def hold(mount_point: str, directory: str, seconds: float) -> Iterator[None]:
    """Keep everybody else from mounting and unmounting there.

    :param directory: of the lock files; all that shall keep each other out
        use the same
    :param seconds: how long to wait for it
    :raises DeadlineExceeded: somebody else has it
    :raises InvalidOption: the directory cannot be used
    """
    name = 'mount-' + mount_point.strip('/')
    late = exception.DeadlineExceeded(
        what=f'somebody else who mounts or unmounts {mount_point}', seconds=seconds
    )
    end = time.monotonic() + seconds
    threads = typing.cast('typing.Any', lockutils.internal_lock(name))
    if not threads.acquire(timeout=seconds):
        raise late
    try:
        processes = lockutils.external_lock(name, 'volumedrivers-', directory)
        try:
            held = processes.acquire(timeout=max(0.1, end - time.monotonic()))
        except OSError as error:
            raise exception.InvalidOption(
                option='[volumedrivers] lock_path',
                found=f'unusable ({error})',
                expected='a directory this process may write',
            ) from error
        if not held:
            raise late
        try:
            yield
        finally:
            processes.release()
    finally:
        threads.release()
