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

"""Volumes that a test has in the embedded Cinder."""

from collections.abc import Callable
import itertools
import pathlib
import time
import typing

from volumedrivers.testing.cinder.backends import Backend

_numbers = itertools.count(1)


class MadeVolume:
    """A volume in Cinder, and the bytes behind it."""

    def __init__(self, proxy: typing.Any, backend: Backend, volume_id: str, name: str) -> None:
        self.proxy = proxy
        self.backend = backend
        self.id = volume_id
        self.name = name

    @property
    def alias(self) -> str:
        """What the guest's disk is called."""
        return f'ua-{self.id}'

    @property
    def image(self) -> pathlib.Path:
        """The file that the back end keeps it in."""
        return self.backend.image(self.id)

    @property
    def status(self) -> str:
        return str(self.get().status)

    def get(self) -> typing.Any:
        return self.proxy.get_volume(self.id)

    def attachments(self) -> list[typing.Any]:
        return list(self.proxy.attachments(volume_id=self.id))

    def holds(self, pattern: int, offset: int) -> bool:
        """Whether the storage holds these bytes, asked past the guest's QEMU."""
        with self.image.open('rb') as opened:
            opened.seek(offset)
            return opened.read(65536) == bytes([pattern]) * 65536

    def delete(self) -> None:
        found = self.get()
        self.proxy.delete_volume(self.id)
        self.proxy.wait_for_delete(found, interval=0.05, wait=60)


class VolumeMaker:
    """Makes them."""

    def __init__(self, proxy: typing.Any) -> None:
        self.proxy = proxy

    def __call__(
        self, backend: Backend, *, size: int = 1, name: str | None = None, **more: typing.Any
    ) -> MadeVolume:
        """Return one that is available.

        :param size: GiB
        """
        name = name or f'volume {next(_numbers)}'
        more.setdefault('volume_type', backend.name)
        made = self.proxy.create_volume(name=name, size=size, **more)
        wait_for(lambda: self.proxy.get_volume(made.id), 'available')
        return MadeVolume(self.proxy, backend, made.id, name)


def wait_for(get: Callable[[], typing.Any], status: str) -> typing.Any:
    end = time.monotonic() + 60
    while (found := get()).status != status:
        assert time.monotonic() < end, f'{found.status}, not {status}'
        assert found.status != 'error'
        time.sleep(0.05)
    return found
