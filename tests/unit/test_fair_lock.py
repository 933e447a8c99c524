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

"""Fair locks between threads and processes."""

import contextlib
import fcntl
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from volumedrivers import exception
from volumedrivers.host import fair_lock
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.host.fair_lock import Holder

NAME = 'iscsi iqn.2010-10.org.openstack:volume/1 [fd00::a]:3260'
FORK = multiprocessing.get_context('fork')


@pytest.fixture(name='directory')
def _directory(tmp_path):
    return tmp_path / 'lock' / 'volumedrivers'


@pytest.fixture(name='locks')
def _locks(directory):
    return FairLocks(str(directory))


def tickets(directory):
    names = os.listdir(directory) if directory.exists() else []
    return [name for name in names if not name.startswith('gate-')]


def eventually(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, 'it never came true'
        time.sleep(0.002)


class Process:
    """A child that runs a function and is killed at the end of the test."""

    def __init__(self, function, *args):
        self._process = FORK.Process(target=function, args=args)
        self._process.start()
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_args):
        self.kill()

    def kill(self):
        self._process.kill()
        self._process.join()

    def join(self):
        self._process.join(30)
        return self._process.exitcode


def hold(directory, names, what, seconds=30.0):
    with FairLocks(str(directory)).acquire(names, what=what, seconds=seconds):
        time.sleep(60)


class TestAcquire:
    def test_nothing_is_made_before_it_is_used(self, locks, directory):
        assert locks.holder(NAME) is None
        assert not directory.exists()

    def test_one_after_the_other(self, locks, directory):
        for _ in range(3):
            with locks.acquire([NAME], what='attach', seconds=0) as held:
                assert held.names == (NAME,)
                assert len(tickets(directory)) == 1
            assert tickets(directory) == []

    def test_who_has_it(self, locks):
        before = time.time()
        with locks.acquire([NAME], what='attach of volume X\nto guest web1', seconds=0):
            holder = locks.holder(NAME)
            assert (holder.process, holder.what) == (
                os.getpid(),
                'attach of volume X to guest web1',
            )
            assert before - 0.001 <= holder.since <= time.time()
            assert locks.holder('another') is None
        assert locks.holder(NAME) is None

    def test_a_holder_in_words(self):
        text = str(Holder(123, 'attach of volume X to guest web1', time.time() - 12.2))
        assert text == 'attach of volume X to guest web1 (process 123, for 12 s)'

    @pytest.mark.parametrize('seconds', [0, 0.05])
    def test_one_that_is_held(self, locks, directory, seconds):
        with (
            locks.acquire([NAME], what='attach of volume X', seconds=0),
            pytest.raises(exception.LockHeld) as caught,
        ):
            FairLocks(str(directory)).acquire([NAME], what='detach', seconds=seconds)
        assert caught.value.lock == NAME
        assert caught.value.seconds == seconds
        assert 'attach of volume X (process' in caught.value.holder
        assert tickets(directory) == []

    def test_all_or_none(self, locks, directory):
        with locks.acquire(['b'], what='first', seconds=0):
            with pytest.raises(exception.LockHeld, match='waiting for b'):
                locks.acquire(['c', 'a', 'b'], what='second', seconds=0)
            assert locks.holder('a') is None
            assert len(tickets(directory)) == 1
            locks.acquire(['a', 'c'], what='third', seconds=0).release()

    def test_a_name_given_twice(self, locks):
        with locks.acquire(['a', 'a'], what='x', seconds=0) as held:
            assert held.names == ('a',)

    def test_no_names(self, locks):
        with locks.acquire([], what='x', seconds=0) as held:
            assert held.names == ()
            held.release_after(threading.Event())

    def test_odd_names(self, locks):
        names = ['', '/', '../../x', 'ü' * 500, 'a\nb', '\udcff']
        with locks.acquire(names, what='x' * 5000, seconds=0):
            for name in names:
                assert locks.holder(name) is not None

    def test_release_twice(self, locks):
        held = locks.acquire([NAME], what='first', seconds=0)
        held.release()
        with locks.acquire([NAME], what='second', seconds=0):
            held.release()
            assert locks.holder(NAME).what == 'second'

    def test_a_directory_that_cannot_be_used(self, tmp_path):
        (tmp_path / 'file').touch()
        for path in (tmp_path / 'file', tmp_path / 'file' / 'lock'):
            locks = FairLocks(str(path))
            with pytest.raises(exception.InvalidOption, match='lock_path is unusable'):
                locks.acquire([NAME], what='x', seconds=0)
            with pytest.raises(exception.InvalidOption, match='lock_path is unusable'):
                locks.holder(NAME)

    def test_no_descriptor_is_inherited_or_left(self, locks):
        before = set(os.listdir('/proc/self/fd'))
        held = locks.acquire(['a', 'b'], what='x', seconds=0)
        new = set(os.listdir('/proc/self/fd')) - before
        ours = [int(name) for name in new if os.path.exists(f'/proc/self/fd/{name}')]
        assert len(ours) == 2
        assert not any(os.get_inheritable(descriptor) for descriptor in ours)
        held.release()
        locks.holder('a')
        assert set(os.listdir('/proc/self/fd')) <= before


class TestFair:
    def test_first_come_first_served(self, locks, directory):
        order = []

        def work(number):
            with FairLocks(str(directory)).acquire([NAME], what=str(number), seconds=30):
                order.append(number)

        first = locks.acquire([NAME], what='first', seconds=0)
        threads = []
        for number in range(6):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            eventually(lambda number=number: len(tickets(directory)) == number + 2)
        first.release()
        for thread in threads:
            thread.join()
        assert order == list(range(6))
        assert tickets(directory) == []

    def test_one_who_comes_late_does_not_overtake(self, locks, directory):
        first = locks.acquire([NAME], what='first', seconds=0)
        with Process(hold, directory, [NAME], 'second') as second:
            eventually(lambda: len(tickets(directory)) == 2)
            first.release()
            with pytest.raises(exception.LockHeld, match=f'second .process {second.pid}'):
                locks.acquire([NAME], what='third', seconds=0)

    def test_since_is_when_it_was_got(self, locks, directory):
        first = locks.acquire([NAME], what='first', seconds=0)
        with Process(hold, directory, [NAME], 'second'):
            eventually(lambda: len(tickets(directory)) == 2)
            time.sleep(0.05)
            released = time.time()
            first.release()
            eventually(lambda: locks.holder(NAME).since >= released)

    def test_an_interrupt_while_waiting_leaves_no_ticket(self, locks, directory):
        def interrupt():
            eventually(lambda: len(tickets(directory)) == 3)
            os.kill(os.getpid(), signal.SIGINT)

        with locks.acquire(['b'], what='first', seconds=0):
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                locks.acquire(['a', 'b'], what='second', seconds=30)
            thread.join()
            assert len(tickets(directory)) == 1
        assert tickets(directory) == []

    def test_others_are_not_held_up(self, locks):
        with locks.acquire(['a'], what='hangs', seconds=0):
            for number in range(40):
                locks.acquire([f'b{number}'], what='x', seconds=0).release()

    def test_files_do_not_grow_in_number(self, locks, directory):
        for number in range(100):
            locks.acquire([f'volume {number}'], what='x', seconds=0).release()
        assert len(list(directory.iterdir())) <= 16


class TestDeath:
    def test_a_holder_that_is_killed(self, locks, directory):
        with Process(hold, directory, [NAME, 'b'], 'first') as first:
            eventually(lambda: len(tickets(directory)) == 2)
            with pytest.raises(exception.LockHeld, match=f'first .process {first.pid}'):
                locks.acquire(['b'], what='x', seconds=0)
            first.kill()
            assert len(tickets(directory)) == 2
            assert locks.holder(NAME) is None
            with locks.acquire([NAME], what='second', seconds=0):
                assert locks.holder(NAME).what == 'second'
        locks.acquire(['b'], what='x', seconds=0).release()
        assert tickets(directory) == []

    def test_a_waiter_that_is_killed(self, locks, directory):
        first = locks.acquire([NAME], what='first', seconds=0)
        with Process(hold, directory, [NAME], 'second') as second:
            eventually(lambda: len(tickets(directory)) == 2)
            with Process(hold, directory, [NAME], 'third') as third:
                eventually(lambda: len(tickets(directory)) == 3)
                second.kill()
                first.release()
                eventually(lambda: locks.holder(NAME).what == 'third')
                third.kill()
        locks.acquire([NAME], what='x', seconds=0).release()
        assert tickets(directory) == []

    def test_what_the_dead_left_of_other_locks_is_removed_by_newcomers(self, locks, directory):
        names = [f'volume {number}' for number in range(40)]
        with Process(hold, directory, names, 'first') as first:
            eventually(lambda: len(tickets(directory)) == 40)
            first.kill()
        new = directory / (fair_lock._hash(NAME) + '-7.new')
        new.touch()
        newcomers = FairLocks(str(directory))
        for number in range(100, 200):
            newcomers.acquire([f'volume {number}'], what='x', seconds=0).release()
        assert tickets(directory) == []

    def test_a_child_does_not_keep_what_its_parent_had(self, locks, directory):
        read, write = os.pipe()

        def parent():
            FairLocks(str(directory)).acquire([NAME], what='parent', seconds=0)
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            os.write(write, str(pid).encode())
            time.sleep(60)

        with Process(parent) as process:
            child = int(os.read(read, 20))
            try:
                assert locks.holder(NAME).process == process.pid
                process.kill()
                eventually(lambda: locks.holder(NAME) is None)
                locks.acquire([NAME], what='x', seconds=0).release()
            finally:
                os.kill(child, signal.SIGKILL)
        os.close(read)
        os.close(write)

    def test_a_child_cannot_release_what_its_parent_has(self, locks):
        with locks.acquire([NAME], what='parent', seconds=0) as held:
            pid = os.fork()
            if pid == 0:
                try:
                    held.release_after(threading.Event())
                    held.release()
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            assert locks.holder(NAME).what == 'parent'
            with pytest.raises(exception.LockHeld):
                locks.acquire([NAME], what='x', seconds=0)

    def test_a_program_that_was_started_does_not_keep_it(self, locks):
        with (
            locks.acquire([NAME], what='parent', seconds=0),
            subprocess.Popen(['sleep', '60'], close_fds=False) as child,
        ):
            try:
                held = os.listdir(f'/proc/{child.pid}/fd')
                assert not any(
                    'volumedrivers' in os.readlink(f'/proc/{child.pid}/fd/{name}') for name in held
                )
            finally:
                child.kill()

    def test_somebody_stuck_at_the_gate(self, locks, directory, monkeypatch):
        monkeypatch.setattr(fair_lock, '_LEAST_WAIT_AT_GATE', 0.05)
        locks.acquire([NAME], what='x', seconds=0).release()
        (gate,) = directory.glob('gate-*')
        with gate.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(exception.LockHeld, match='held by another process'):
                locks.acquire([NAME], what='x', seconds=0)
        locks.acquire([NAME], what='x', seconds=0).release()


class TestReleaseAfter:
    def test_kept_until_the_event(self, locks, directory):
        event = threading.Event()
        with locks.acquire([NAME, 'b'], what='connect of X', seconds=0) as held:
            held.release_after(event)
        held.release()
        with pytest.raises(exception.LockHeld, match=r'connect of X, which is past its deadline'):
            locks.acquire([NAME], what='x', seconds=0)
        assert locks.holder('b') is not None
        event.set()
        locks.acquire([NAME, 'b'], what='x', seconds=30).release()
        assert tickets(directory) == []

    def test_not_before_the_block_is_left(self, locks):
        event = threading.Event()
        with locks.acquire([NAME], what='first', seconds=0) as held:
            held.release_after(event)
            event.set()
            with pytest.raises(exception.LockHeld):
                locks.acquire([NAME], what='x', seconds=0.05)
        locks.acquire([NAME], what='x', seconds=30).release()

    def test_without_a_block(self, locks):
        event = threading.Event()
        held = locks.acquire([NAME], what='first', seconds=0)
        held.release_after(event)
        assert locks.holder(NAME) is not None
        event.set()
        locks.acquire([NAME], what='x', seconds=30).release()

    def test_two_events(self, locks):
        events = threading.Event(), threading.Event()
        with locks.acquire([NAME], what='first', seconds=0) as held:
            for event in events:
                held.release_after(event)
        events[1].set()
        with pytest.raises(exception.LockHeld):
            locks.acquire([NAME], what='x', seconds=0.05)
        events[0].set()
        locks.acquire([NAME], what='x', seconds=30).release()

    def test_after_release_it_does_nothing(self, locks):
        held = locks.acquire([NAME], what='first', seconds=0)
        held.release()
        held.release_after(threading.Event())
        locks.acquire([NAME], what='x', seconds=0).release()

    def test_without_a_thread_they_are_kept(self, locks, monkeypatch):
        def start(_self):
            raise RuntimeError("can't start new thread")

        event = threading.Event()
        with (
            locks.acquire([NAME], what='first', seconds=0) as held,
            monkeypatch.context() as patch,
        ):
            patch.setattr(threading.Thread, 'start', start)
            held.release_after(event)
        with pytest.raises(exception.LockHeld):
            locks.acquire([NAME], what='x', seconds=0)
        event.set()
        held.release()
        locks.acquire([NAME], what='x', seconds=0).release()

    def test_the_thread_that_waits_does_not_keep_the_process(self, directory):
        code = (
            'import sys, threading\n'
            'from volumedrivers.host.fair_lock import FairLocks\n'
            'with FairLocks(sys.argv[1]).acquire(["a"], what="x", seconds=0) as held:\n'
            '    held.release_after(threading.Event())\n'
        )
        subprocess.run([sys.executable, '-c', code, str(directory)], check=True, timeout=60)


def contend(directory, seed, count):
    """Take locks; exit with 3 if somebody else is in at the same time."""
    chance = random.Random(seed)
    locks = FairLocks(str(directory))
    done = 0
    while done != count:
        done += 1
        names = chance.sample(['a', 'b', 'c'], chance.randint(1, 3))
        with locks.acquire(names, what='x', seconds=60), contextlib.ExitStack() as inside:
            for name in names:
                # A plain flock, which the kernel drops with its owner as well.
                file = inside.enter_context((directory.parent / f'inside-{name}').open('w'))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os._exit(3)
            if chance.random() < 0.2:
                time.sleep(0.001)


def test_nobody_is_in_with_another(directory):
    directory.parent.mkdir()
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Process(contend, directory, seed, 40)) for seed in range(6)]
        assert [worker.join() for worker in workers] == [0] * 6
    assert tickets(directory) == []


def test_kills_at_any_moment(directory):
    directory.parent.mkdir()
    chance = random.Random(5)
    locks = FairLocks(str(directory))
    ended = 0
    with contextlib.ExitStack() as stack:
        for seed in range(40):
            workers = [
                stack.enter_context(Process(contend, directory, 2 * seed + number, -1))
                for number in range(2)
            ]
            time.sleep(chance.random() * 0.02)
            for worker in workers:
                worker.kill()
                # Ours, and not its own because somebody else was in.
                assert worker.join() == -signal.SIGKILL
            locks.acquire(['a', 'b', 'c'], what='test', seconds=30).release()
            ended += 1
    assert (ended, tickets(directory)) == (40, [])
