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

import multiprocessing
import threading
import types

from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.attachment.block_storage import shared_target
from volumedrivers.attachment.block_storage.shared_target import SharedTarget
from volumedrivers.host import bootstrap
from volumedrivers.host import guard
from volumedrivers.host.fair_lock import FairLocks

UUID = 'c0ffee00-0000-0000-0000-000000000001'
LONG = 20.0


@pytest.fixture
def conf(tmp_path):
    made = cfg.ConfigOpts()
    made([])
    bootstrap.opts.register_opts(made)
    made.set_override('state_path', str(tmp_path), group='volumedrivers')
    bootstrap.setup(made)
    return made


class Storage:
    def __init__(self, most):
        self.most = most

    def speaks(self, microversion):
        return float(microversion) <= self.most


def volume(shared, uuid=UUID):
    return types.SimpleNamespace(shared_targets=shared, service_uuid=uuid)


def context(tmp_path, *, seconds=LONG, most=3.71):
    return types.SimpleNamespace(
        storage=Storage(most),
        locks=FairLocks(str(tmp_path / 'fair')),
        options=types.SimpleNamespace(lock_timeout=seconds),
    )


@pytest.mark.parametrize(
    ('shared', 'most', 'scans', 'locked'),
    [
        (False, 3.71, True, False),
        (False, 3.71, False, False),
        (True, 3.71, True, True),
        (True, 3.71, False, False),
        (None, 3.71, True, True),
        (None, 3.71, False, True),
        # It says yes where a newer one would say that it always matters.
        (True, 3.59, False, True),
        (False, 3.59, True, False),
        # It does not say anything.
        (None, 3.44, True, False),
    ],
)
def test_who_has_to_wait(monkeypatch, shared, most, scans, locked):
    monkeypatch.setattr(guard, 'scans_by_itself', lambda: scans)
    name = shared_target.name_of(Storage(most), volume(shared))
    assert name == (UUID if locked else None)


def test_the_rules_are_those_of_os_brick(monkeypatch, conf):
    """Where Cinder has all three: its guard takes a lock exactly when this one does."""
    from os_brick.initiator import utils

    taken = []

    class Lock:
        def __init__(self, name, *args, **kwargs):
            taken.append(name)

        def __enter__(self):
            """Nothing is held."""

        def __exit__(self, *exc):
            """Nothing is released."""

    monkeypatch.setattr(utils.lockutils, 'lock', Lock)
    for manual in (True, False):
        monkeypatch.setattr(utils, 'ISCSI_SUPPORTS_MANUAL_SCAN', manual)
        for shared in (True, False, None):
            taken.clear()
            with utils.guard_connection({'shared_targets': shared, 'service_uuid': UUID}):
                pass
            name = shared_target.name_of(Storage(3.71), volume(shared))
            assert [name] == (taken or [None]), (manual, shared)


def test_a_volume_that_cinder_does_not_know_or_name_waits_for_nobody():
    assert shared_target.name_of(Storage(3.71), None) is None
    assert shared_target.name_of(Storage(3.71), volume(None, uuid=None)) is None


def test_two_threads_go_one_after_the_other(conf, tmp_path):
    """From the export of one to its connect the other one exports nothing."""
    said = []
    begun = threading.Event()
    shared = context(tmp_path)

    def first():
        with SharedTarget(shared, volume(None), 'first') as target:
            target.hold()
            target.hold()
            said.append('first exported')
            begun.set()
            waiting = threading.Event()
            for _ in range(1000):
                if len(list((tmp_path / 'fair').iterdir())) > 2 or waiting.wait(0.01):
                    break
            said.append('first connected')
            target.drop()

    def second():
        begun.wait(LONG)
        with SharedTarget(shared, volume(None), 'second') as target:
            target.hold()
            said.append('second exported')

    threads = [threading.Thread(target=one) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert said == ['first exported', 'first connected', 'second exported']


def test_volumes_of_different_back_ends_do_not_wait_for_each_other(conf, tmp_path):
    shared = context(tmp_path, seconds=0.0)
    with (
        SharedTarget(shared, volume(None), 'one') as one,
        SharedTarget(shared, volume(None, 'other'), 'two') as two,
        SharedTarget(shared, volume(False), 'three') as three,
    ):
        one.hold()
        two.hold()
        three.hold()


def test_it_is_not_waited_for_longer_than_allowed(conf, tmp_path):
    shared = context(tmp_path, seconds=0.0)
    with SharedTarget(shared, volume(None), 'the other one') as other:
        other.hold()
        mine = SharedTarget(shared, volume(None), 'mine')
        with pytest.raises(exception.LockHeld, match='the other one'):
            mine.hold()
    mine.hold()
    mine.drop()


def test_os_brick_s_own_guard_keeps_it_out(conf, tmp_path):
    """As cinder-volume on this host takes it, in this process or in another one."""
    from os_brick.initiator import utils

    shared = context(tmp_path, seconds=0.1)
    mine = SharedTarget(shared, volume(None), 'mine')
    with (
        utils.guard_connection({'shared_targets': None, 'service_uuid': UUID}),
        pytest.raises(exception.LockHeld, match='os-brick'),
    ):
        mine.hold()
    mine.hold()
    mine.drop()


def _guarded_elsewhere(path, go, done):
    from os_brick.initiator import utils
    from oslo_concurrency import lockutils

    lockutils.set_defaults(path)
    go.wait(LONG)
    with utils.guard_connection({'shared_targets': None, 'service_uuid': UUID}):
        done.set()


def test_it_keeps_os_brick_s_own_guard_out_in_another_process(conf, tmp_path):
    processes = multiprocessing.get_context('spawn')
    go, done = processes.Event(), processes.Event()
    other = processes.Process(
        target=_guarded_elsewhere, args=(cfg.CONF.oslo_concurrency.lock_path, go, done)
    )
    other.start()
    try:
        with SharedTarget(context(tmp_path), volume(None), 'mine') as mine:
            mine.hold()
            go.set()
            assert not done.wait(1.0)
            mine.drop()
            assert done.wait(LONG)
    finally:
        other.join(LONG)
    assert other.exitcode == 0


def test_an_operation_that_was_given_up_leaves_nothing_held(conf, tmp_path):
    """Its step waits on in a thread of its own, and gets the lock in the end."""
    shared = context(tmp_path)
    other = SharedTarget(shared, volume(None), 'other')
    other.hold()
    mine = SharedTarget(shared, volume(None), 'mine')
    errors = []

    def wait():
        try:
            mine.hold()
        except exception.LockHeld as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    with mine:
        pass
    other.drop()
    thread.join(LONG)
    assert len(errors) == 1
    other.hold()
    other.drop()
