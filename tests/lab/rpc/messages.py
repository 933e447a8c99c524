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

"""Messages of the RPC: JSON, one a line, with bytes and the package's data in it."""

import base64
import dataclasses
import enum
import json
import pathlib
import typing


def encode(message: dict[str, typing.Any]) -> bytes:
    """Return a message as a line; dataclasses become dicts, and sets sorted lists."""
    return json.dumps(message, default=_plain).encode() + b'\n'


def decode(line: bytes | str) -> dict[str, typing.Any]:
    """Return the message of a line.

    :raises ValueError: it is none
    """
    found: dict[str, typing.Any] = json.loads(line, object_hook=_bytes)
    return found


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        return {'base64': base64.b64encode(value).decode()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, pathlib.PurePath):
        return str(value)
    return list(value) if isinstance(value, typing.Iterable) else str(value)


def _bytes(found: dict[str, typing.Any]) -> object:
    if set(found) == {'base64'}:
        return base64.b64decode(found['base64'])
    return found
