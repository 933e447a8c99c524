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

"""Nova's test case without what keeps it away from the machine."""

from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib
import sys
import typing
from unittest import mock

import fixtures
from nova import test
import nova.conf
import nova.privsep
from nova.tests import fixtures as nova_fixtures
import os_brick.privileged

from volumedrivers.attachment.host_manager import HostManager
from volumedrivers.nova import registration
from volumedrivers.nova import services
from volumedrivers.testing.cinder import bound_share
from volumedrivers.testing.cinder import settings

CONF = nova.conf.CONF
_PASTE = 'etc/nova/api-paste.ini'


class Nothing(fixtures.Fixture):
    """In the place of a fixture of Nova's that forbids something."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


#: names of nova.tests.fixtures that forbid what a real guest needs: the thread for
#: libvirt's events, /sys, the host's name, the import of libvirt, a root helper; the
#: last makes errors of what an SQLAlchemy later than Nova's says about its queries
FORBIDDING = (
    'PoisonFunctions',
    'SysFsPoisonFixture',
    'GenericPoisonFixture',
    'ImportModulePoisonFixture',
    'PrivsepNoHelperFixture',
    'WarningsFixture',
)


@contextlib.contextmanager
def permitted() -> Iterator[None]:
    """Let test.TestCase.setUp forbid nothing of these."""
    with contextlib.ExitStack() as stack:
        for name in FORBIDDING:
            stack.enter_context(mock.patch.object(nova_fixtures, name, Nothing))
        yield


class Room(test.TestCase):
    """Databases, messages, configuration and objects of Nova's tests; the machine is real.

    :param settings: ``directory``: where all files go; ``uri``: of libvirtd;
        ``options``: of nova.conf, by group; ``register``: whether the drivers of
        this package take the place of Nova's; ``exports``: directories by the name of
        the share of NFS that they stand for
    """

    REQUIRES_LOCKING = True

    def __init__(self, settings: dict[str, typing.Any]) -> None:
        super().__init__('runTest')
        self._given = settings

    def runTest(self) -> None:
        """Nothing is run: this is for the fixtures."""

    def setUp(self) -> None:
        with permitted():
            super().setUp()

    def _write_log(self) -> None:
        """Write what Nova has logged, which is kept in memory, to this process's own log."""
        print(self.stdlog.logger.output, flush=True)

    def prepare(self) -> None:
        """Configure Nova; before anything of it is started, and after ``setUp`` of a base."""
        self.addCleanup(self._write_log)
        self._as_root()
        self._configure()
        self._registered: typing.Any = None
        self.addCleanup(self.register, False)
        self.register(self._given['register'])

    def _as_root(self) -> None:
        """Call what needs root in this process, which has it."""
        for context in (
            nova.privsep.sys_admin_pctxt,
            os_brick.privileged.default,
            os_brick.privileged.brick_privsep_hide_output,
        ):
            self.useFixture(fixtures.MockPatchObject(context, 'client_mode', False))

    def _configure(self) -> None:
        directory = pathlib.Path(self._given['directory'])
        instances = directory / 'instances'
        instances.mkdir(parents=True, exist_ok=True)
        options: dict[str, dict[str, object]] = {
            'DEFAULT': {
                'compute_driver': 'libvirt.LibvirtDriver',
                'instances_path': str(instances),
                'my_ip': '127.0.0.1',
                'use_cow_images': False,
                'force_raw_images': False,
                # No guest here has an operating system that could shut down.
                'shutdown_timeout': 0,
            },
            'libvirt': {
                'connection_uri': self._given['uri'],
                'virt_type': 'qemu',
                'cpu_mode': 'none',
                'images_type': 'raw',
                'device_detach_attempts': 3,
                'device_detach_timeout': 5,
            },
            # Installed below the prefix; the tests look for it beside the sources.
            'wsgi': {'api_paste_config': str(pathlib.Path(sys.prefix) / _PASTE)},
            'vnc': {'enabled': False},
            'spice': {'enabled': False},
        }
        for group, values in self._given['options'].items():
            options.setdefault(group, {}).update(values)
        written = {
            group: {name: str(value) for name, value in values.items()}
            for group, values in options.items()
        }
        path = directory / 'nova.conf'
        path.write_text(settings.text(written))
        # As it was called for the fixtures, but for the file.
        CONF(['--config-file', str(path)], project='nova', default_config_files=[])

    def stop_with_cleanup(self, driver: typing.Any) -> None:
        """Let the threads of a LibvirtDriver end; Nova's own leaves one to the process."""
        self.addCleanup(driver._host._conn_event_handler_queue.put, sys.exit)
        self.addCleanup(driver.cleanup_host, CONF.host)

    def register(self, wanted: bool) -> None:
        """Let the drivers of this package take the place of Nova's, or Nova's theirs."""
        if self._registered is not None:
            self._registered.unregister()
            self._registered = None
        if wanted:
            self._registered = registration.register()
            self._bind_exports()

    def volume_drivers(self) -> dict[str, typing.Any]:
        """Return what the LibvirtDriver has made, by driver_volume_type."""
        raise NotImplementedError

    def drivers(self) -> dict[str, str]:
        """Return class names of those that were used, by driver_volume_type."""
        return {
            kind: f'{type(used).__module__}.{type(used).__qualname__}'
            for kind, used in self.volume_drivers().items()
        }

    def restart(self, register: bool) -> None:
        """Do what a restart of nova-compute does to the volume drivers: they are made anew.

        :param register: whether they are those of this package, or Nova's
        """
        self.volume_drivers().clear()
        self.register(register)

    def _bind_exports(self) -> None:
        """Let directories of this host be bound where shares of NFS would be mounted."""
        exports = {name: pathlib.Path(path) for name, path in self._given['exports'].items()}
        if exports:
            made = services.make()
            context = bound_share.bind(made.manager.context, made.conf, exports)
            services.use(
                dataclasses.replace(
                    made,
                    registry=context.registry,
                    manager=HostManager(context, services.MANAGER),
                )
            )
