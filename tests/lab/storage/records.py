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

"""What has to be known again after a power cut: one small JSON file for each thing."""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import pathlib
import typing


class Records:
    """Records below a directory, each written durably before what it describes is made.

    Only root may read them: passwords are in some.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """Return the names of all records, sorted."""
        return sorted(path.stem for path in self.directory.glob('*.json'))

    def load(self, name: str) -> dict[str, typing.Any]:
        """Return a record.

        :raises KeyError: there is none
        """
        try:
            return typing.cast(dict[str, typing.Any], json.loads(self._path(name).read_text()))
        except FileNotFoundError:
            raise KeyError(name) from None

    def all(self) -> dict[str, dict[str, typing.Any]]:
        """Return all records by their names."""
        return {name: self.load(name) for name in self.names()}

    def save(self, name: str, record: dict[str, typing.Any]) -> None:
        """Write a record; it survives a power cut once this returns."""
        self.directory.mkdir(parents=True, exist_ok=True)
        new = self._path(name).with_suffix('.new')
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._path(name))
        sync_directory(self.directory)

    def forget(self, name: str) -> None:
        """Remove a record; once more is fine."""
        self._path(name).unlink(missing_ok=True)
        if self.directory.is_dir():
            sync_directory(self.directory)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from choosing numbers until the chosen one is written."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / 'lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, name: str) -> pathlib.Path:
        return self.directory / f'{name}.json'


def sync_directory(directory: pathlib.Path) -> None:
    """Let the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def smallest_free(taken: typing.Iterable[int], first: int) -> int:
    """Return the smallest number from ``first`` on that is not taken."""
    used = set(taken)
    number = first
    while number in used:
        number += 1
    return number
