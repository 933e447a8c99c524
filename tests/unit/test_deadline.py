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

"""Calls with a deadline."""

import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from volumedrivers import exception
from volumedrivers.host import deadline


@pytest.fixture(autouse=True)
def no_thread_waits():
    """Threads that an earlier test has left are no part of this one."""
    deadline._idle.clear()


def test_what_a_call_returns_or_raises():
    assert deadline.call(lambda: 5, what='x', seconds=5) == 5
    with pytest.raises(KeyError):
        deadline.call(lambda: {}['x'], what='x', seconds=5)


def test_a_call_that_takes_too_long():
    end = threading.Event()
    with pytest.raises(exception.DeadlineExceeded, match=r'0\.05 s waiting for x'):
        deadline.call(lambda: end.wait(10), what='x', seconds=0.05)
    end.set()


@pytest.mark.parametrize(('interruptible', 'finished'), [(True, False), (False, True)])
def test_an_interrupt(interruptible, finished):
    end = threading.Event()
    done = threading.Event()

    def work():
        time.sleep(0.05)  # Python does not see one that comes just before it waits
        os.kill(os.getpid(), signal.SIGINT)
        end.wait(0.2)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        deadline.call(work, what='x', seconds=10, interruptible=interruptible)
    assert done.is_set() is finished
    end.set()
    assert done.wait(10)


def test_an_interrupt_that_does_not_seem_to_be_heard(monkeypatch, caplog):
    monkeypatch.setattr(deadline, '_SILENT', 0.01)
    end = threading.Event()

    def work():
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        end.wait(0.5)

    with pytest.raises(KeyboardInterrupt):
        deadline.call(work, what='a guest', seconds=10, interruptible=False)
    assert 'Interrupted while waiting for a guest: that is let end' in caplog.text


def test_a_thread_that_cannot_be_started(monkeypatch):
    def start(_self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', start)
    with pytest.raises(RuntimeError, match='start new thread'):
        deadline.call(lambda: 5, what='x', seconds=10, interruptible=False)
    with pytest.raises(RuntimeError, match='start new thread'):
        deadline.Call(lambda: 5, what='x')


class TestCall:
    def test_it_starts_at_once(self):
        call = deadline.Call(lambda: 5, what='x')
        assert call.ended.wait(10)
        assert call.wait(0) == 5
        assert call.wait(None) == 5

    def test_what_it_raises(self):
        call = deadline.Call(lambda: {}['x'], what='x')
        for _ in range(2):
            with pytest.raises(KeyError):
                call.wait(10)

    def test_one_that_is_left_behind_and_met_again(self):
        end = threading.Event()
        call = deadline.Call(lambda: end.wait(10), what='x')
        with pytest.raises(exception.DeadlineExceeded, match=r'0\.05 s waiting for x'):
            call.wait(0.05)
        assert not call.ended.is_set()
        end.set()
        assert call.wait(10) is True
        assert call.ended.is_set()

    def test_none_is_an_answer(self):
        assert deadline.Call(lambda: None, what='x').wait(10) is None

    def test_the_callers_context_is_seen_and_not_changed(self):
        variable = contextvars.ContextVar('variable')
        variable.set('given')

        def work():
            found = variable.get()
            variable.set('changed')
            return found

        assert deadline.Call(work, what='x').wait(10) == 'given'
        assert variable.get() == 'given'

    @pytest.mark.parametrize(('interruptible', 'finished'), [(True, False), (False, True)])
    def test_an_interrupt(self, interruptible, finished):
        waiting = threading.Event()
        end = threading.Event()
        done = threading.Event()

        def work():
            waiting.wait(10)
            # A signal is not seen before the next one if it comes just when
            # the interpreter is about to sleep.
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            end.wait(0.2)
            done.set()

        call = deadline.Call(work, what='x')
        wait = call.ended.wait

        def tell_and_wait(seconds):
            waiting.set()
            return wait(seconds)

        call.ended.wait = tell_and_wait
        with pytest.raises(KeyboardInterrupt):
            call.wait(10, interruptible=interruptible)
        assert done.is_set() is finished
        end.set()
        call.wait(10)

    def test_an_interrupt_while_the_thread_starts(self, monkeypatch):
        start = threading.Thread.start

        def interrupted(self):
            start(self)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', interrupted)
            call = deadline.Call(lambda: 5, what='x')
        with pytest.raises(KeyboardInterrupt):
            call.wait(10)
        assert call.wait(10) == 5

    def test_a_thread_that_has_ended_a_call_gets_the_next(self):
        def who():
            return threading.get_ident()

        assert len({deadline.Call(who, what='x').wait(10) for _ in range(5)}) == 1
        end = threading.Event()
        hangs = deadline.Call(end.wait, what='y')
        another = deadline.Call(who, what='x').wait(10)
        assert not hangs.ended.is_set()
        assert deadline.Call(who, what='x').wait(10) == another
        end.set()
        hangs.wait(10)

    def test_what_a_call_holds_on_to_is_let_go(self):
        held = type('Held', (), {})()
        gone = weakref.ref(held)
        call = deadline.Call(lambda held=held: None, what='x')
        call.wait(10)
        del held, call
        gc.collect()
        assert gone() is None

    def test_a_thread_that_waited_long_ends(self, monkeypatch):
        monkeypatch.setattr(deadline, '_LONGEST_IDLE', 0.01)
        call = deadline.Call(threading.current_thread, what='x')
        thread = call.wait(10)
        thread.join(10)
        assert not thread.is_alive()
        assert not deadline._idle

    def test_no_more_threads_wait_than_needed(self):
        barrier = threading.Barrier(deadline._MOST_IDLE + 5)
        calls = [deadline.Call(lambda: barrier.wait(10), what='x') for _ in range(barrier.parties)]
        for call in calls:
            call.wait(10)
        assert 0 < len(deadline._idle) <= deadline._MOST_IDLE + 4

    def test_a_forked_child_has_threads_of_its_own(self):
        code = (
            'import os\n'
            'from volumedrivers.host import deadline\n'
            'deadline.Call(lambda: 5, what="x").wait(10)\n'
            'if not os.fork():\n'
            '    assert deadline.Call(lambda: 5, what="x").wait(10) == 5\n'
            '    os._exit(7)\n'
            'assert os.waitstatus_to_exitcode(os.wait()[1]) == 7\n'
        )
        subprocess.run([sys.executable, '-c', code], check=True, timeout=60)

    def test_one_that_hangs_does_not_keep_the_process(self):
        code = (
            'import threading\n'
            'from volumedrivers.host import deadline\n'
            'deadline.Call(threading.Event().wait, what="x")\n'
        )
        subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
