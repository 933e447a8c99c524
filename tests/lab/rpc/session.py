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

"""One session: a forked process with one object, whose public methods are called."""

import contextlib
import faulthandler
import importlib
import logging
import signal
import socket
import time
import traceback
import typing

from tests.lab.rpc import messages

LOG = logging.getLogger('lab')


class Lines(logging.Handler):
    """Says what is logged at once, so that a session that is killed has said it."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(name)s %(message)s'))
        self._connection = connection
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        with contextlib.suppress(OSError):
            # Nobody listens any more, which the session learns when it answers.
            self.say({'session': self._name, 'log': [line]})

    def say(self, message: dict[str, typing.Any]) -> None:
        """Send a message; a whole one, whatever other threads log."""
        with self.lock or contextlib.nullcontext():
            self._connection.sendall(messages.encode(message))


def serve(connection: socket.socket, name: str) -> int:
    """Carry out calls until the other side closes; return the process's exit code."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    log = Lines(connection, name)
    logging.getLogger().addHandler(log)
    logging.getLogger().setLevel(logging.DEBUG)
    # All drivers, by every session again.
    logging.getLogger('stevedore').setLevel(logging.INFO)
    served: typing.Any = None
    with connection, connection.makefile('rb') as orders:
        for line in orders:
            order = messages.decode(line)
            answer: dict[str, typing.Any] = {'id': order.get('id'), 'session': name}
            try:
                if 'open' in order:
                    served = _make(order['open'], order['arguments'])
                    answer['result'] = None
                else:
                    answer['result'] = _call(served, order['call'], order['arguments'])
            except Exception as error:
                answer['error'] = describe(error)
            log.say(answer)
    if hasattr(served, 'close'):
        served.close()
    return 0


def describe(error: BaseException) -> dict[str, typing.Any]:
    """Return an error as data: its type, sentence, public attributes, notes and trace."""
    return {
        'type': type(error).__name__,
        'types': [kind.__name__ for kind in type(error).__mro__],
        'message': str(error),
        'attributes': {
            key: value if isinstance(value, str | int | float | bool | None) else str(value)
            for key, value in vars(error).items()
            if not key.startswith('_')
        },
        'notes': list(getattr(error, '__notes__', [])),
        'trace': traceback.format_exception(error),
    }


def _make(path: str, arguments: dict[str, typing.Any]) -> typing.Any:
    module, _, name = path.partition(':')
    return getattr(importlib.import_module(module), name)(**arguments)


def _call(served: typing.Any, name: str, arguments: dict[str, typing.Any]) -> typing.Any:
    if name.startswith('_'):
        raise AttributeError(f'{name} is not public')
    # Not the arguments: secrets are among them.
    LOG.debug('%s begins', name)
    began = time.monotonic()
    try:
        return getattr(served, name)(**arguments)
    finally:
        LOG.debug('%s ended after %.3f s', name, time.monotonic() - began)
