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

"""A journal under pressure: many writers, a reader, and writers that are killed."""

from collections.abc import Iterator
import contextlib
import pathlib
import random
import subprocess
import sys
import time

import pytest

from tests.functional import journal_worker
from tests.long import only
from volumedrivers.attachment.journal import Journal

ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def worker(
    journal: pathlib.Path, name: str, operations: int, size: int = 100
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'tests.functional.journal_worker',
            *(str(journal), name, str(operations), str(size)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_eight_writers_and_a_reader(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'journal'
    names = [f'worker{number}' for number in range(8)]
    journal = Journal(str(path))
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(worker(path, name, 200)) for name in names]
        looks = most = 0
        while any(process.poll() is None for process in processes):
            found = journal.find()
            assert all(journal_worker.is_whole(row) for row in found)
            looks += 1
            most = max(most, len(found))
        for process in processes:
            said, errors = process.communicate()
            assert process.returncode == 0, errors
            assert len(said.splitlines()) == 200
    assert looks > 10
    assert most > 80  # it has seen them come
    journal.check()
    expected = {
        key: done for name in names for key, done in journal_worker.rows(name, 200).items()
    }
    assert {row.key: row.is_settled for row in journal.find()} == expected
    assert not journal.find(unfinished=True)


@pytest.mark.parametrize('seed', only([0], range(2)))
def test_writers_are_killed_while_they_commit(tmp_path: pathlib.Path, seed: int) -> None:
    """What was told to be written is there; what was not is there or not, as a whole."""
    choice = random.Random(seed)
    path = tmp_path / 'journal'
    survivor = Journal(str(path))
    survivor.put(journal_worker.record('survivor', 0, settled=True))
    for turn in range(4):
        # Rows of some pages, so that a commit takes its time and the log is
        # written back into the file in between.
        size = choice.choice((10, 1000, 5000))
        names = [f'{turn}-{number}' for number in range(3)]
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(worker(path, name, 0, size)) for name in names]
            done = dict.fromkeys(names, 0)
            wanted = choice.randrange(1, 40)
            for name, process in zip(names, processes, strict=True):
                for _ in range(wanted):
                    assert process.stdout is not None
                    assert process.stdout.readline()
                    done[name] += 1
            time.sleep(choice.random() * 0.01)
            for process in processes:
                process.kill()
            for name, process in zip(names, processes, strict=True):
                assert process.stdout is not None
                done[name] += process.stdout.read().count('\n')
        survivor.check()
        for name in names:
            found = survivor.find(domain_uuid=name)
            assert all(journal_worker.is_whole(row, size) for row in found)
            state = {row.key: row.is_settled for row in found}
            before = journal_worker.rows(name, done[name])
            after = journal_worker.rows(name, done[name] + 1)
            assert state in (before, after), f'seed {seed}, turn {turn}, {name}'
    assert [row.volume_id for row in survivor.find(domain_uuid='survivor')] == ['survivor-0']
    # Others go on where they were killed.
    survivor.put(journal_worker.record('survivor', 1, settled=True))
    Journal(str(path)).check()
