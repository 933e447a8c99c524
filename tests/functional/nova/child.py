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

"""The process that Nova runs in; it does what it is told on a connection.

Nova and Cinder have options of the same names in the one configuration object of
a process, and Nova's test fixtures replace parts of the standard library: both
are kept away from the process of the other tests.  Run by ``process``.
"""

import argparse
import functools
import importlib
import json
from multiprocessing.connection import Connection
import traceback
import typing

from nova import monkey_patch

# Before anything of Nova or os-brick that decides by itself: native threads.
monkey_patch.patch(backend='threading')


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('room', help='module:class')
    parser.add_argument('channel', type=int, help='file descriptor')
    parser.add_argument('settings', help='JSON, for the class')
    given = parser.parse_args()
    channel: Connection[typing.Any, typing.Any] = Connection(given.channel)
    module, _, name = given.room.partition(':')
    room = None
    try:
        made = getattr(importlib.import_module(module), name)
        room = made(json.loads(given.settings))
        room.setUp()
    except BaseException as error:
        channel.send(_failed(error))
        _end(room)
        return
    channel.send((True, None))
    try:
        while (said := channel.recv()) is not None:
            path, arguments, named = said
            channel.send(_answer(room, path, arguments, named))
    finally:
        channel.send(_end(room))


def _answer(
    room: object, path: str, arguments: tuple[object, ...], named: dict[str, object]
) -> tuple[bool, object]:
    try:
        function = functools.reduce(getattr, path.split('.'), room)
        return True, function(*arguments, **named)
    except Exception as error:
        return _failed(error)


def _failed(error: BaseException) -> tuple[bool, object]:
    kind = f'{type(error).__module__}.{type(error).__name__}'
    return False, (kind, str(error), ''.join(traceback.format_exception(error)))


def _end(room: typing.Any) -> tuple[bool, object]:
    """Undo what the fixtures of the room did."""
    try:
        if room is not None:
            room.doCleanups()
    except BaseException as error:
        return _failed(error)
    return True, None


if __name__ == '__main__':
    main()
