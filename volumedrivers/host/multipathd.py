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

"""Talk to multipathd on its socket, with a deadline.

The protocol: each message is its length as a native 8-byte number, and then
text that ends with a NUL byte.  Reading needs no privilege.
"""

import re
import socket
import struct

ADDRESS = '\0/org/kernel/linux/storage/multipathd'

_LENGTH = struct.Struct('=Q')
_LONGEST = 16 * 1024 * 1024
_SETTING = re.compile(r'^\s*([a-z_]+)\s+"?([^"\s]+)"?\s*$', re.MULTILINE)


def ask(command: str, *, seconds: float, address: str | None = None) -> str:
    """Return multipathd's answer to a command such as ``show config``.

    :param address: of the socket; default: ADDRESS
    :raises OSError: it does not run, or does not answer in time
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(address or ADDRESS)
        question = command.encode() + b'\0'
        connection.sendall(_LENGTH.pack(len(question)) + question)
        (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
        if length > _LONGEST:
            raise OSError(f'it announced an answer of {length} bytes')
        return _receive(connection, length).rstrip(b'\0').decode(errors='replace')


def defaults(config: str) -> dict[str, str]:
    """Return the settings of section ``defaults`` of ``show config``."""
    section = re.search(r'^defaults \{$(.*?)^\}$', config, re.MULTILINE | re.DOTALL)
    return dict(_SETTING.findall(section[1])) if section is not None else {}


def _receive(connection: socket.socket, length: int) -> bytes:
    data = b''
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise OSError('it closed the connection')
        data += part
    return data
