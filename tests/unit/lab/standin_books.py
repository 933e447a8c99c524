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

"""Stand-ins whose books are in a test's directory, and whose devices are only noted."""

import pathlib

import pytest

from tests.lab.standins import client_device
from tests.lab.storage.records import Records

VOLUME = '0d9f3c52-6a41-4c1e-9a43-f1f1a1c0ffee'


class Devices:
    """What was done to devices.

    :ivar there: images whose device is there, with whether it is read-only
    :ivar users: who is said to have any of them open
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: dict[pathlib.Path, bool] = {}
        self.sizes_noticed = 0
        self.users: list[str] = []
        devices = self

        def appear(self: client_device.ClientDevice, *, read_only: bool = False) -> str:
            devices.there[self.image] = read_only
            return 'loop64'

        def disappear(self: client_device.ClientDevice, *, force: bool = False) -> None:
            if devices.users and not force:
                raise client_device.InUse(', '.join(devices.users))
            devices.there.pop(self.image, None)

        def notice_size(self: client_device.ClientDevice) -> None:
            devices.sizes_noticed += 1

        monkeypatch.setattr(client_device.ClientDevice, 'appear', appear)
        monkeypatch.setattr(client_device.ClientDevice, 'disappear', disappear)
        monkeypatch.setattr(client_device.ClientDevice, 'notice_size', notice_size)
        monkeypatch.setattr(client_device.ClientDevice, 'users', lambda self: devices.users)


def make_books(
    monkeypatch: pytest.MonkeyPatch, module: object, directory: pathlib.Path, **record: object
) -> Records:
    """Let a stand-in's books be below a directory, with one volume of 1 MiB in them."""
    books = Records(directory)
    monkeypatch.setattr(module, 'VOLUMES', books)
    books.save(VOLUME, dict(record))
    (directory / f'{VOLUME}.img').write_bytes(bytes(1 << 20))
    return books
