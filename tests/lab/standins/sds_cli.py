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

"""Stand-in of sds_cli, by which a host attaches volumes of Huawei FusionStorage.

    sds_cli -c attach|detach|querydev -v VOLUME

The arguments, the lines ``ret_code=``, ``ret_desc=`` and ``dev_addr=``, and the
codes are those of os-brick's ``connectors/huawei.py``; the vendor has published
nothing about it.  Of the codes only these are known: 50151401, it is attached
already, and 50155007, it is not attached to this node.  For an unknown volume
and for one that is open the stand-in has codes of its own, which os-brick takes
for failures as it does with all others.
"""

import sys

from tests.lab.standins import huawei_books
from tests.lab.standins.client_device import InUse

OK = 0
ATTACHED_ALREADY = 50151401
NOT_ATTACHED = 50155007
NO_SUCH_VOLUME = 50150005
OPEN = 50151604


def main(arguments: list[str]) -> int:
    if len(arguments) != 4 or arguments[::2] != ['-c', '-v']:
        print('Usage: sds_cli -c COMMAND -v VOLUME', file=sys.stderr)
        return 2
    command, name = arguments[1::2]
    if command not in COMMANDS:
        print(f'sds_cli: no such command: {command}', file=sys.stderr)
        return 2
    with huawei_books.VOLUMES.locked():
        COMMANDS[command](name)
    return 0


def attach(name: str) -> None:
    found = huawei_books.find(name)
    if found is None:
        tell(NO_SUCH_VOLUME, 'the volume does not exist')
        return
    volume_id, record = found
    if record['attached']:
        tell(ATTACHED_ALREADY, 'the volume has been attached')
        return
    huawei_books.VOLUMES.save(volume_id, {**record, 'attached': True})
    huawei_books.device(record, volume_id).appear()
    tell(OK, 'success')


def detach(name: str) -> None:
    found = huawei_books.find(name)
    if found is None:
        tell(NO_SUCH_VOLUME, 'the volume does not exist')
        return
    volume_id, record = found
    if not record['attached']:
        tell(NOT_ATTACHED, 'the volume is not attached to this node')
        return
    try:
        huawei_books.device(record, volume_id).disappear()
    except InUse as error:
        tell(OPEN, f'the volume is in use: {error}')
        return
    huawei_books.VOLUMES.save(volume_id, {**record, 'attached': False})
    tell(OK, 'success')


def querydev(name: str) -> None:
    found = huawei_books.find(name)
    if found is None or not found[1]['attached']:
        tell(NOT_ATTACHED, 'the volume is not attached to this node')
        return
    tell(OK, 'success')
    print(f'dev_addr=/dev/{huawei_books.device(found[1], found[0]).names[0]}')


def tell(code: int, text: str) -> None:
    print(f'ret_code={code}')
    print(f'ret_desc={text}')


COMMANDS = {'attach': attach, 'detach': detach, 'querydev': querydev}


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
