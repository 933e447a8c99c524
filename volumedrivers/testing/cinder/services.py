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

"""Cinder's scheduler, volume managers and API application in this process.

Import it after ``preload.load``; ``embedded`` does.
Each thing that Cinder has to be persuaded to is a function here that says why.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
import contextlib
import logging
import pathlib
import sys
import typing
import warnings

import cinder
from cinder import context
from cinder import coordination
from cinder import privsep
from cinder import rpc
from cinder import service
from cinder import version
from cinder.common import config
from cinder.common import constants
from cinder.db import api as db
from cinder.db import migration
from cinder.scheduler import host_manager
from cinder.volume import volume_types
import os_brick
from os_brick import privileged
from oslo_config import cfg
from oslo_service import wsgi
import sqlalchemy

from volumedrivers.testing.cinder import settings

CONF = cfg.CONF
# Their messages go to Cinder's log.  The last two complain each time that the
# key manager is named by its class, and Cinder's has no other name.
_LOGGERS = (
    'cinder',
    'oslo_messaging',
    'oslo_service',
    'oslo_db',
    'alembic',
    'stevedore.named',
    'castellan.key_manager',
)
_empty_database: bytes | None = None


def etc() -> pathlib.Path:
    """Return where the wheel puts the paste file: below the prefix it was installed to."""
    beside = pathlib.Path(cinder.__file__).parents[4] / 'etc' / 'cinder'
    return beside if beside.is_dir() else pathlib.Path(sys.prefix) / 'etc' / 'cinder'


class Services:
    """The services of one Cinder; only one at a time in a process."""

    def __init__(self, directory: pathlib.Path, backends: Sequence[str]) -> None:
        """Prepare.

        :param directory: has cinder.conf
        :param backends: names of their groups
        """
        self.directory = directory
        self.backends = tuple(backends)
        self.application: typing.Any = None
        self._services: list[typing.Any] = []
        self._managers: list[typing.Any] = []
        self._undo = contextlib.ExitStack()

    def start(self) -> None:
        """Start all; afterwards ``application`` serves the API."""
        self._undo.enter_context(_own_log(self.directory / 'cinder.log'))
        self._undo.callback(CONF.clear)
        CONF(
            ['--config-file', str(self.directory / 'cinder.conf')],
            project='cinder',
            version=version.version_string(),
        )
        config.set_middleware_defaults()
        os_brick.setup(CONF)
        _run_as_this_user()
        _copy_of_a_mapping()
        self._undo.callback(_forget_database)
        _make_database(self.directory / 'cinder.sqlite')
        _serialize_transactions()
        self._make_types()
        rpc.init(CONF)
        self._undo.callback(rpc.cleanup)
        coordination.COORDINATOR.start()
        self._undo.callback(coordination.COORDINATOR.stop)
        self._undo.callback(self._stop_drivers)
        self._undo.callback(self._stop_services)
        for name in self.backends:
            CONF.register_opt(cfg.StrOpt('backend_host'), group=name)
            self._serve(
                host=f'{settings.HOST}@{name}',
                service_name=name,
                binary=constants.VOLUME_BINARY,
                coordination=True,
            )
        # The last: it asks the others what they can do, and is ready at once.
        self._serve(binary=constants.SCHEDULER_BINARY)
        self.application = wsgi.Loader(CONF).load_app(name='osapi_volume')

    def stop(self) -> None:
        """Stop all, and leave no global behind that another one would trip over."""
        self._undo.close()

    def _serve(self, **arguments: object) -> None:
        made = service.Service.create(**arguments)
        self._services.append(made)
        self._managers.append(made.manager)
        made.start()

    def _stop_services(self) -> None:
        for made in reversed(self._services):
            made.stop()
        # Each waits for threads that look up once in half a second.
        with futures.ThreadPoolExecutor(len(self._services) or 1) as pool:
            list(pool.map(lambda made: made.wait(), self._services))
        self._services.clear()

    def _stop_drivers(self) -> None:
        """End what a driver of ours has started; Cinder itself has no such call."""
        for manager in self._managers:
            stop = getattr(getattr(manager, 'driver', None), 'stop', None)
            if stop is not None:
                stop()

    def _make_types(self) -> None:
        """Make a volume type for each back end, before somebody asks for the default one."""
        admin = context.get_admin_context()
        there = volume_types.get_all_types(admin)
        for name in self.backends:
            if name not in there:
                volume_types.create(admin, name, {'volume_backend_name': name})


@contextlib.contextmanager
def _own_log(path: pathlib.Path) -> Iterator[None]:
    """Write what Cinder logs to a file; the process's own logging stays as it is."""
    handler = logging.FileHandler(path)
    handler.setFormatter(
        logging.Formatter('%(asctime)s %(levelname)s %(threadName)s %(name)s %(message)s')
    )
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if logger.name == 'cinder' else logging.WARNING)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        handler.close()


def _run_as_this_user() -> None:
    """Run what is for root in this process: there is no sudo, and no helper to start."""
    for each in (
        privsep.sys_admin_pctxt,
        privileged.default,
        privileged.brick_privsep_hide_output,
    ):
        each.set_client_mode(False)


def _copy_of_a_mapping() -> None:
    """Let the scheduler's read-only mappings be copied.

    Another transport makes plain ones of them on the way; the fake one hands
    the object over, and listing pools in detail fails.
    """
    if not hasattr(host_manager.ReadOnlyDict, 'copy'):
        host_manager.ReadOnlyDict.copy = dict


def _make_database(path: pathlib.Path) -> None:
    """Make the tables; the second time in a process they are copied from the first."""
    global _empty_database  # noqa: PLW0603 - the migrations take long
    if _empty_database is not None and not path.exists():
        path.write_bytes(_empty_database)
        return
    fresh = not path.exists()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        migration.db_sync()
    db.get_engine().dispose()
    if fresh:
        _empty_database = path.read_bytes()


def _serialize_transactions() -> None:
    """Let a transaction take SQLite's write lock when it begins.

    One that reads first and writes later cannot wait for the lock when
    another thread has written in between: it fails at once.
    """
    engine = db.get_engine()

    @sqlalchemy.event.listens_for(engine, 'connect')  # type: ignore[untyped-decorator]
    def connect(connection: typing.Any, record: object) -> None:
        connection.execute('PRAGMA journal_mode=WAL')
        connection.execute('PRAGMA synchronous=OFF')
        connection.execute('PRAGMA busy_timeout=60000')

    @sqlalchemy.event.listens_for(  # type: ignore[untyped-decorator]
        engine, 'before_cursor_execute', retval=True
    )
    def execute(  # noqa: PLR0917 - SQLAlchemy's
        connection: object,
        cursor: object,
        statement: str,
        parameters: object,
        execution_context: object,
        many: bool,
    ) -> tuple[str, object]:
        return ('BEGIN IMMEDIATE' if statement == 'BEGIN' else statement), parameters

    # Those that were made before do not have it.
    engine.dispose()


def _forget_database() -> None:
    """Let the next one open its own database, not this one's."""
    db.get_engine().dispose()
    db.main_context_manager._factory._started = False
