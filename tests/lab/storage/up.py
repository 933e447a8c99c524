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

"""Bring the lab's storage up: all back ends, or those that are named.

    python -m tests.lab.storage.up [NAME ...]

One line each, with the seconds that it took.  Those that have nothing to do
with each other come up at the same time; what they share is brought up first.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed
import sys
import time
import traceback

from tests.lab.storage import networks
from tests.lab.storage.backends import BACKENDS
from tests.lab.storage.served import make_backend


def bring_up(name: str) -> float:
    """Bring a back end up; return the seconds."""
    began = time.monotonic()
    back_end = make_backend(name)
    back_end.up()
    if not back_end.is_up():
        raise RuntimeError(f'{name} has come up, and says that it is not up')
    return time.monotonic() - began


def main(names: Sequence[str]) -> int:
    """Bring them up; return 1 if one could not be."""
    unknown = [name for name in names if name not in BACKENDS]
    if unknown:
        print(f'no such back end: {", ".join(unknown)}; there are: {", ".join(BACKENDS)}')
        return 2
    began = time.monotonic()
    networks.up()
    print(f'networks {time.monotonic() - began:.1f} s', flush=True)
    failed = 0
    with ThreadPoolExecutor() as pool:
        coming: dict[Future[float], str] = {
            pool.submit(bring_up, name): name for name in names or BACKENDS
        }
        for done in as_completed(coming):
            try:
                print(f'{coming[done]} {done.result():.1f} s', flush=True)
            except Exception:
                failed = 1
                print(f'{coming[done]} FAILED\n{traceback.format_exc()}', flush=True)
    print(f'storage {time.monotonic() - began:.1f} s', flush=True)
    return failed


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
