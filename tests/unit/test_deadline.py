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

import os
import signal
import threading

import pytest

from volumedrivers import exception
from volumedrivers.host import deadline


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
        os.kill(os.getpid(), signal.SIGINT)
        end.wait(0.2)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        deadline.call(work, what='x', seconds=10, interruptible=interruptible)
    assert done.is_set() is finished
    end.set()
    assert done.wait(10)
