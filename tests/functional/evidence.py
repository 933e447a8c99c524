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

"""What a run lets be seen: processes, files, logs; and whether a secret is in it."""

import base64
import collections
import json
import os
import pathlib
import threading
import time
import types
import typing
import urllib.parse
from xml.sax import saxutils


def shapes(secret: str) -> set[bytes]:
    """Return what a secret may look like."""
    raw = secret.encode()
    found = {
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        urllib.parse.quote(secret, safe='').encode(),
        urllib.parse.quote_plus(secret).encode(),
        saxutils.escape(secret).encode(),
        saxutils.escape(secret, {'"': '&quot;', "'": '&apos;'}).encode(),
        json.dumps(secret)[1:-1].encode(),
        repr(secret)[1:-1].encode(),
    }
    # In base64, wherever in a longer text it begins.
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw)
        first = (0, 2, 3)[before]
        last = (len(raw) + before) * 8 // 6
        found.add(coded[first:last])
        found.add(coded[first:last].replace(b'+', b'-').replace(b'/', b'_'))
    assert min(map(len, found)) >= 8, 'too short to look for'
    return found


class Evidence:
    """Everything that was seen, by where.

    :ivar seen: bytes by the name of the place
    """

    def __init__(self) -> None:
        self.seen: dict[str, set[bytes]] = collections.defaultdict(set)

    def add(self, place: str, text: str | bytes) -> None:
        self.seen[place].add(text.encode(errors='replace') if isinstance(text, str) else text)

    def add_files(self, place: str, directory: pathlib.Path) -> None:
        """Add names and contents of all files as they are now."""
        for parent, _, names in os.walk(directory):
            for name in names:
                path = os.path.join(parent, name)
                self.add(place, path)
                try:
                    with open(path, 'rb') as file:
                        self.add(place, file.read())
                except FileNotFoundError:
                    continue  # a ticket, or a log of SQLite

    def places_of(self, secret: str) -> dict[str, list[bytes]]:
        """Return where a secret is, in whatever shape, and what is around it."""
        found: dict[str, list[bytes]] = collections.defaultdict(list)
        for shape in shapes(secret):
            for place, texts in self.seen.items():
                for text in texts:
                    at = text.find(shape)
                    if at >= 0:
                        found[place].append(text[max(0, at - 80) : at + len(shape) + 20])
        return dict(found)


class Sampler:
    """Reads arguments and environment of all processes again and again.

    :ivar samples: how often
    """

    # Processes begin with what their parents have; looked at so often at least.
    _LOOKS = 40

    def __init__(self, evidence: Evidence, *, every: float = 0.005) -> None:
        self.evidence = evidence
        self.samples = 0
        self._every = every
        self._looks: collections.Counter[str] = collections.Counter()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name='samples processes', daemon=True)

    def __enter__(self) -> typing.Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            alive = {name for name in os.listdir('/proc') if name.isdecimal()}
            for pid in set(self._looks) - alive:
                del self._looks[pid]
            for pid in alive:
                if self._looks[pid] < self._LOOKS or self.samples % 100 == 0:
                    self._look(pid)
            self.samples += 1
            self._end.wait(max(0.0, began + self._every - time.monotonic()))

    def _look(self, pid: str) -> None:
        self._looks[pid] += 1
        for name in ('cmdline', 'environ'):
            try:
                with open(f'/proc/{pid}/{name}', 'rb') as file:
                    self.evidence.add(name, file.read())
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has ended, or is of another namespace
