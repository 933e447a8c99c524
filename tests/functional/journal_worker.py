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

"""A process that writes into a journal until it is done or killed.

    python -m tests.functional.journal_worker <journal> <name> <operations> [<bytes>]

Puts a row, puts it again, and removes every second one; ``rows`` tells what
is there after so many operations.  A line is printed after each operation
has returned.
"""

import itertools
import sys

from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key


def record(worker: str, number: int, *, settled: bool, size: int = 100) -> Record:
    """Return a row whose parts belong to each other."""
    volume_id = f'{worker}-{number}'
    return Record(
        key=make_key(worker, volume_id),
        boot_id='boot',
        host='host',
        domain_uuid=worker,
        domain_name=f'guest {worker}',
        volume_id=volume_id,
        driver_volume_type='nfs',
        connection_info={'driver_volume_type': 'nfs', 'data': {'name': volume_id * size}},
        operation=None if settled else Operation.ATTACH,
        step='' if settled else 'connect',
        source=f'/{volume_id}' if settled else '',
    )


def is_whole(found: Record, size: int = 100) -> bool:
    """Tell whether a row is one that was written, and not half of one."""
    return found.connection_info['data']['name'] == found.volume_id * size and (
        found.source == (f'/{found.volume_id}' if found.is_settled else '')
    )


def rows(worker: str, operations: int) -> dict[str, bool]:
    """Return the keys that are there after so many operations, and which are settled."""
    there: dict[str, bool] = {}
    for number in range(operations):
        _, row, what = _operation(number)
        key = make_key(worker, f'{worker}-{row}')
        if what == 'remove':
            del there[key]
        else:
            there[key] = what == 'settle'
    return there


def _operation(number: int) -> tuple[int, int, str]:
    """Return an operation's number, its row, and what it does.

    Of five: row A is begun and settled, row B begun, settled and removed.
    """
    pair, place = divmod(number, 5)
    row = 2 * pair + (place > 1)
    return number, row, ('begin', 'settle', 'begin', 'settle', 'remove')[place]


def main(path: str, worker: str, operations: str, size: str = '100') -> None:
    """Work; ``operations`` 0 is for ever."""
    journal = Journal(path)
    numbers = itertools.count() if operations == '0' else range(int(operations))
    for number in numbers:
        _, row, what = _operation(number)
        if what == 'remove':
            assert journal.remove(make_key(worker, f'{worker}-{row}'))
        else:
            journal.put(record(worker, row, settled=what == 'settle', size=int(size)))
        sys.stdout.write(f'{number}\n')
        sys.stdout.flush()


if __name__ == '__main__':
    main(*sys.argv[1:])
