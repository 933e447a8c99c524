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

"""What the sessions of the RPC's tests serve."""

import logging
import os
import threading
import typing

LOG = logging.getLogger(__name__)


class Refused(ValueError):
    """An error with data."""

    def __init__(self, device: str) -> None:
        super().__init__(f'{device} is refused')
        self.device = device
        self.paths = ['a']
        self._hidden = 'nobody sees this'


class Served:
    def __init__(self, name: str) -> None:
        if name == 'impossible':
            raise Refused(name)
        self.name = name
        self.calls = 0

    def echo(self, **what: typing.Any) -> dict[str, typing.Any]:
        self.calls += 1
        return {'name': self.name, 'calls': self.calls, **what}

    def refuse(self) -> None:
        error = Refused('/dev/sdz')
        error.add_note('a note')
        raise error

    def hang(self) -> None:
        LOG.warning('about to hang')
        threading.Event().wait()

    def leave(self, code: int) -> None:
        os._exit(code)

    def say(self, text: str) -> None:
        LOG.info('%s', text)
        print('nothing of this may be in the answers')

    def _private(self) -> None:
        raise AssertionError
