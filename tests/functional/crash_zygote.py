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

"""A process that forks children which carry out operations and kill themselves.

    python -m tests.functional.crash_zygote

Everything is imported once, and no thread is started and no connection opened
before the fork, so a child begins at once and dies alone.  One JSON object a
line asks for a child, another answers with how it ended.

A child is killed with SIGKILL, by itself: before or after a step, or at a
*hook*, which is a function of the package or of libvirt that is called while a
step is under way.
"""

from collections.abc import Callable
import contextlib
import functools
import importlib
import json
import os
import pathlib
import signal
import sys
import threading
import time
import traceback
import typing

from oslo_config import cfg

from tests.functional.crash_points import TRANSACTION
from volumedrivers import exception
from volumedrivers.attachment import manager as manager_module
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.hypervisor import Hypervisor

# Not at their first use, in every child again.
PRELOADED = (
    'oslo_utils.imageutils.format_inspector',
    'volumedrivers.libvirt.drivers.glusterfs',
    'volumedrivers.libvirt.drivers.iscsi',
    'volumedrivers.libvirt.drivers.local',
    'volumedrivers.privsep.mount',
)
Call = typing.Sequence[typing.Any]


class FileKeys:
    """Passphrases in the files of a directory, by the id of the key."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def passphrase(self, key_id: str, volume_id: str | None) -> bytes:
        return (pathlib.Path(self.directory) / key_id).read_bytes()


def make_conf(options: typing.Mapping[str, object]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    for name, value in options.items():
        conf.set_override(name, value, opts.GROUP.name)
    bootstrap.setup(conf)
    return conf


class Crash:
    """Where the child is to die, and which step is to fail before that.

    :param kill: ``step`` and ``moment`` of an observer, and ``operation`` where
        an operation is within another one; or ``step`` and
        ``hook`` with ``moment`` before, after, or a number of milliseconds
        after its beginning, and ``times`` it is called before
    :param fail: a hook that raises instead of doing anything
    """

    def __init__(self, kill: dict[str, typing.Any] | None, fail: str | None) -> None:
        self.kill = kill or {}
        self.step = ''
        self.operation = ''
        self.times = self.kill.get('times', 0)
        self.armed = False
        if self.kill.get('hook') == TRANSACTION:
            self._replace(TRANSACTION, self._not_committing)
        elif 'hook' in self.kill:
            self._replace(self.kill['hook'], self._killing)
        if fail:
            self._replace(fail, self._failing)

    def observe(self, operation: str, step: str, moment: str) -> None:
        self.step = step if moment == 'before' else ''
        self.operation = operation
        if (
            self.armed
            and 'hook' not in self.kill
            and self.kill.get('step') == step
            and self.kill.get('moment') == moment
            and self.kill.get('operation', operation) == operation
        ):
            die()

    def _replace(
        self, hook: str, wrapper: Callable[[Callable[..., typing.Any]], typing.Any]
    ) -> None:
        module, _, path = hook.partition(':')
        *owners, name = path.split('.')
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(owner, name, wrapper(getattr(owner, name)))

    def _killing(self, original: Callable[..., typing.Any]) -> Callable[..., typing.Any]:
        moment = self.kill['moment']

        @functools.wraps(original)
        def wrapped(*arguments: typing.Any, **options: typing.Any) -> typing.Any:
            mine = self.armed and self.step == self.kill['step']
            if mine and self.times:
                self.times -= 1
                mine = False
            if mine and moment == 'before':
                die()
            if mine and moment not in ('before', 'after'):
                threading.Thread(target=die, args=(moment / 1000,), daemon=True).start()
            result = original(*arguments, **options)
            if mine and moment == 'after':
                die()
            if mine and moment != 'before':
                time.sleep(10)  # it was faster, and dies all the same
            return result

        return wrapped

    def _not_committing(self, original: Callable[..., typing.Any]) -> Callable[..., typing.Any]:
        @contextlib.contextmanager
        def transaction(database: object, *, write: bool) -> typing.Iterator[typing.Any]:
            with original(database, write=write) as connection:
                yield connection
                mine = self.kill.get('operation', self.operation) == self.operation
                if write and self.armed and mine and self.step == self.kill['step']:
                    die()

        return transaction

    def _failing(self, original: Callable[..., typing.Any]) -> Callable[..., typing.Any]:
        def wrapped(*arguments: typing.Any, **options: typing.Any) -> typing.Any:
            if not self.armed:
                return original(*arguments, **options)
            raise exception.HypervisorError(action='do it', reason='it is made to fail')

        return wrapped


def die(seconds: float = 0.0) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


def perform(
    manager: manager_module.AttachmentManager, volume: dict[str, typing.Any], call: Call
) -> object:
    """Carry one operation out; ``volume`` is that of crash_volumes as a dict."""
    name, *arguments = call
    info = ConnectionInfo.parse(volume['info'])
    guest = volume['guest']
    if name == 'attach':
        encryption = volume['encryption']
        return manager.attach(
            info,
            guest,
            DiskRequest(bus='scsi'),
            encryption=None if encryption is None else VolumeEncryption.parse(encryption),
        ).to_dict()
    if name == 'detach':
        return manager.detach(guest, connection_info=info).to_dict()
    if name == 'extend':
        return manager.extend(guest, info.volume_id, *arguments).to_dict()
    if name in ('reconnect', 'repair'):
        again = getattr(manager, name)
        return again(guest, info.volume_id, connection_info=info).to_dict()
    if name == 'recover':
        outcomes = manager.recover({str(info.volume_id): info})
        return [(outcome.action, outcome.detail) for outcome in outcomes]
    return manager.forget(guest, str(info.volume_id), force=True).to_dict()


def child(order: dict[str, typing.Any], conf: cfg.ConfigOpts) -> object:
    crash = Crash(order.get('kill'), order.get('fail'))
    with Hypervisor(order['uri']) as hypervisor:
        manager = manager_module.make_manager(
            conf, hypervisor, keys=FileKeys(order['keys']), observer=crash.observe
        )
        answer: object = None
        for call in order['calls']:
            crash.armed = call is order['calls'][-1]
            answer = perform(manager, order['volume'], call)
        return answer


def fork(
    order: dict[str, typing.Any],
    conf: cfg.ConfigOpts,
    carry_out: Callable[[dict[str, typing.Any], cfg.ConfigOpts], object] = child,
) -> dict[str, typing.Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        answer: dict[str, typing.Any]
        try:
            answer = {'answer': carry_out(order, conf)}
        except BaseException as error:
            answer = {
                'error': f'{type(error).__name__}: {error}',
                'notes': getattr(error, '__notes__', []),
                'trace': traceback.format_exc(),
            }
        with open(writing, 'w', encoding='utf-8') as pipe:
            json.dump(answer, pipe, default=str)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding='utf-8') as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    ended = json.loads(text) if text else {}
    ended['killed'] = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return typing.cast(dict[str, typing.Any], ended)


def main() -> int:
    conf = make_conf(json.loads(sys.stdin.readline()))
    for name in PRELOADED:
        importlib.import_module(name)
    print(json.dumps({'ready': True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line), conf)), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
