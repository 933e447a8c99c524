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

"""A whole Nova in one process: API, conductor, scheduler, compute, and Placement.

It is started by the base class of Nova's own functional tests: SQLite, messages in
memory, Nova's stand-ins for Glance and Neutron, no Keystone.  What is real, other
than there: libvirtd and its guests, and Cinder, which is reached by HTTP.
"""

from collections.abc import Callable
from collections.abc import Iterable
import io
import time
import typing
from unittest import mock

from nova import context
from nova import objects
import nova.conf
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional import integrated_helpers
from nova.tests.functional.api import client
from oslo_serialization import jsonutils

from tests.functional.nova import unpoisoned
from volumedrivers.testing.cinder import loopback
from volumedrivers.testing.cinder import nova_events

CONF = nova.conf.CONF
_HOST = 'compute1'
_IMAGE = '11111111-2222-4333-8444-555555555555'


class WholeNova(unpoisoned.Room, integrated_helpers._IntegratedTestBase):
    """Started by ``setUp``; servers are made and used through its API.

    :param settings: also ``cinder``: URL of Cinder; ``port``: where Nova's API is
        served for Cinder
    """

    ADMIN_API = True
    CAST_AS_CALL = False
    microversion = 'latest'

    def setUp(self) -> None:
        with mock.patch.object(nova_fixtures, 'CinderFixture', unpoisoned.Nothing):
            super().setUp()
        self._serve()
        self._make_image()
        self.flavor = self._create_flavor(
            id='small', vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0, name='small'
        )

    def _setup_services(self) -> None:
        self._given['options'].setdefault('cinder', {}).update(
            endpoint_template=self._given['cinder'], auth_type='none'
        )
        self.prepare()
        super()._setup_services()

    def _setup_compute_service(self) -> object:
        started = self._start_compute(_HOST)
        self.stop_with_cleanup(started.manager.driver)
        return started

    def _serve(self) -> None:
        """Let Cinder call this Nova; who calls is taken for an administrator."""
        application = self.api_fixture.app()
        identity = nova_events.FakeNova()
        self.addCleanup(identity.stop)

        def call(
            environment: dict[str, typing.Any], start_response: Callable[..., typing.Any]
        ) -> Iterable[bytes]:
            if environment['PATH_INFO'].startswith('/identity/'):
                return identity(environment, start_response)
            environment.update(
                HTTP_X_AUTH_USER='admin',
                HTTP_X_AUTH_PROJECT_ID=self.api.project_id,
                HTTP_X_ROLES='admin,member,reader,service',
            )
            return typing.cast(Iterable[bytes], application(environment, start_response))

        served = loopback.LoopbackServer(call, self._given['port'])
        self.addCleanup(served.stop)
        identity.url = served.url

    def _make_image(self) -> None:
        """Put an image into the stand-in for Glance: raw, of nothing."""
        properties = {'hw_disk_bus': 'scsi', 'hw_scsi_model': 'virtio-scsi'}
        self.glance.create(
            None,
            {
                'id': _IMAGE,
                'name': 'empty',
                'status': 'active',
                'container_format': 'bare',
                'disk_format': 'raw',
                'size': 1 << 20,
                'min_disk': 0,
                'min_ram': 0,
                'protected': False,
                'visibility': 'public',
                'properties': properties,
                'tags': [],
            },
            data=io.BytesIO(bytes(1 << 20)),
        )

    def boot(self) -> str:
        """Start a server from an empty image; return its id when it is active."""
        server = self._build_server(
            image_uuid=_IMAGE, flavor_id=self.flavor, networks='none', name='guest'
        )
        made = str(self.api.post_server({'server': server})['id'])
        self._until(made, 'ACTIVE')
        return made

    def delete(self, server: str) -> None:
        """Delete a server, and wait until it is gone."""
        self.api.delete_server(server)
        wait(lambda: self._is_gone(server), f'server {server} is deleted')

    def hard_reboot(self, server: str) -> None:
        """Reboot a server, and wait until it runs again."""
        self.api.post_server_action(server, {'reboot': {'type': 'HARD'}})
        self._until(server, 'ACTIVE')

    def stop_server(self, server: str) -> None:
        """Stop a server, and wait until it has."""
        self.api.post_server_action(server, {'os-stop': None})
        self._until(server, 'SHUTOFF')

    def start_server(self, server: str) -> None:
        """Start a server that was stopped."""
        self.api.post_server_action(server, {'os-start': None})
        self._until(server, 'ACTIVE')

    def attach(self, server: str, volume: str) -> None:
        """Ask for a volume to be attached; it is done later."""
        self.api.post_server_volume(server, {'volumeAttachment': {'volumeId': volume}})

    def detach(self, server: str, volume: str) -> None:
        """Detach a volume, and wait until the server has it no more."""
        self.api.delete_server_volume(server, volume)
        wait(lambda: volume not in self.volumes(server), f'{volume} is detached')

    def volumes(self, server: str) -> list[str]:
        """Return the volumes that Nova knows of."""
        return [one['volumeId'] for one in self.api.get_server_volumes(server)]

    def stored(self, server: str, volume: str) -> dict[str, typing.Any]:
        """Return connection_info of the block device mapping in the cell's database."""
        admin = context.get_admin_context()
        with context.target_cell(admin, self.cell_mappings['cell1']) as cell:
            found = objects.BlockDeviceMapping.get_by_volume_and_instance(cell, volume, server)
        return typing.cast(dict[str, typing.Any], jsonutils.loads(found.connection_info))

    def actions(self, server: str) -> list[tuple[str, str | None]]:
        """Return what was done to a server, the last first, with what became of it."""
        return [(one['action'], one['message']) for one in self.api.get_instance_actions(server)]

    def wait_for_action(self, server: str, name: str) -> None:
        """Wait until Nova has done this to a server as the last thing, or has failed to."""

        def is_done() -> bool:
            last = self.api.get_instance_actions(server)[0]
            if last['action'] != name:
                return False
            shown = self.api.api_get(
                f'/servers/{server}/os-instance-actions/{last["request_id"]}'
            ).body['instanceAction']
            return bool(shown['events']) and all(one['finish_time'] for one in shown['events'])

        wait(is_done, f'{name} of server {server}')

    def volume_drivers(self) -> dict[str, typing.Any]:
        return typing.cast(dict[str, typing.Any], self.compute.manager.driver.volume_drivers)

    def _until(self, server: str, status: str) -> None:
        def reached() -> bool:
            found = self.api.get_server(server)
            if found['status'] == 'ERROR' != status:
                raise AssertionError(found.get('fault'))
            return found['status'] == status and found['OS-EXT-STS:task_state'] is None

        wait(reached, f'server {server} is {status}')

    def _is_gone(self, server: str) -> bool:
        try:
            self.api.get_server(server)
        except client.OpenStackApiNotFoundException:
            return True
        return False


def wait(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """:raises TimeoutError: says what"""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f'not in {seconds} s: {what}')
        time.sleep(0.05)
