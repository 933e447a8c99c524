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

"""The rate of this processor's time stamp counter, which an emulated machine sees as well.

Its kernel would find the rate out by itself while it boots, and is wrong by a
factor where this machine is busy: then its clock runs away, and every deadline
in it comes too early.
"""

import ctypes
import mmap
import platform
import statistics
import time
import typing

# rdtsc; shl rdx, 32; or rax, rdx; ret
_READ_COUNTER = b'\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3'

_SAMPLES = 5
_SECONDS = 0.02
_ATTEMPTS = 20


def kilohertz() -> int | None:
    """Return the rate; None on a processor without such a counter."""
    if platform.machine() != 'x86_64':
        return None
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as m:
        m.write(_READ_COUNTER)
        start = ctypes.c_char.from_buffer(m)
        read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start))
        rates = [_rate(read) for _ in range(_SAMPLES)]
        del start, read
    return round(statistics.median(rates) * 1_000_000)


def _rate(read: typing.Callable[[], int]) -> float:
    """Return ticks a nanosecond."""
    first = _both(read)
    time.sleep(_SECONDS)
    second = _both(read)
    return (second[1] - first[1]) / (second[0] - first[0])


def _both(read: typing.Callable[[], int]) -> tuple[float, int]:
    """Return the time in nanoseconds and the counter, read at the same moment.

    Of some attempts that one counts in which the least came in between.
    """
    best: tuple[int, float, int] | None = None
    for _ in range(_ATTEMPTS):
        before = time.monotonic_ns()
        counter = read()
        after = time.monotonic_ns()
        if best is None or after - before < best[0]:
            best = (after - before, (before + after) / 2, counter)
    assert best is not None
    return best[1], best[2]
