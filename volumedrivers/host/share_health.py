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

"""Ask many shares at once whether they answer, and for files on them."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import time
import typing

from volumedrivers import exception
from volumedrivers.host.deadline import Call


class Answer(typing.NamedTuple):
    """What a mount said of its files.

    :ivar problem: why it said nothing; '' when it did
    :ivar inodes: the number of each file, by path; None: it is not there
    :ivar timed_out: whether it may still say something
    """

    problem: str
    inodes: Mapping[str, int | None]
    timed_out: bool = False


def ask(files: Mapping[str, Sequence[str]], seconds: float) -> dict[str, Answer]:
    """Ask each mount for its files; return what each said, by mount point.

    A thread for each; one whose server hangs is left behind.

    :param files: the paths to look for, by mount point
    :param seconds: how long to wait for all of them together
    """
    end = time.monotonic() + seconds
    calls = {
        place: Call(_looker(place, paths), what=f'what is mounted at {place}')
        for place, paths in files.items()
    }
    answers = {}
    for place, call in calls.items():
        try:
            answers[place] = Answer('', call.wait(max(0.0, end - time.monotonic())))
        except exception.DeadlineExceeded:
            answers[place] = Answer(f'it does not answer in {seconds:g} s', {}, timed_out=True)
        except OSError as error:
            answers[place] = Answer(error.strerror or str(error), {})
    return answers


def _looker(place: str, paths: Sequence[str]) -> typing.Callable[[], dict[str, int | None]]:
    def look() -> dict[str, int | None]:
        # A client that has died or hangs says so here.
        os.statvfs(place)
        return {path: _inode(path) for path in paths}

    return look


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
