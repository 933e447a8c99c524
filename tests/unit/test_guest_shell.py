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

import pathlib
import socket
import threading

import pytest

from volumedrivers import exception
from volumedrivers.testing.guests import GuestShell


class Line:
    """The serial line of a guest that loses what it is first told.

    :param lost: so many lines
    """

    def __init__(self, path: pathlib.Path, lost: int) -> None:
        self.path = path
        self.lost = lost
        self.heard: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        channel, _ = self._listener.accept()
        with channel, channel.makefile('r') as lines:
            for line in lines:
                self.heard.append(line.strip())
                if len(self.heard) > self.lost:
                    said = line.strip().removeprefix('echo').strip()
                    channel.sendall(f'{said}\n\n@@0\n'.encode() if said else b'\n@@0\n')


def test_guest_that_loses_a_line_is_asked_again(tmp_path: pathlib.Path) -> None:
    line = Line(tmp_path / 'line', 2)
    shell = GuestShell.connect('guest', line.path, timeout=4)
    first, second = (word for word in line.heard if word)
    assert first != second
    assert shell.run('echo yes') == (0, 'yes\n')
    shell.close()


def test_guest_that_says_nothing(tmp_path: pathlib.Path) -> None:
    line = Line(tmp_path / 'line', 1000)
    with pytest.raises(exception.DeadlineExceeded, match='from guest guest'):
        GuestShell.connect('guest', line.path, timeout=0.4)
