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

"""A LibvirtDriver that guests are migrated from and to, live."""

import typing
from unittest import mock

import fixtures
from nova import objects
from nova.compute import manager
from nova.compute import vm_states
import nova.conf
from nova.network import model
from nova.objects import base
from nova.virt import block_device as driver_block_device
from nova.volume import cinder

from tests.functional.nova.driver_room import DriverRoom
from volumedrivers.nova import services

CONF = nova.conf.CONF

Primitive = dict[str, typing.Any]
Mapping = tuple[Primitive, str, int | None]


class MigrationRoom(DriverRoom):
    """One of two hosts; each has a database of its own, where Nova has one for both.

    Each method does with the driver what one of nova-compute's does that others call
    by RPC, in the same order.  What goes from one to the other is in the form in
    which it would go over the wire.  What Nova asks of Cinder, Neutron and Placement
    meanwhile is left out.
    """

    def setUp(self) -> None:
        super().setUp()
        # There is no Neutron that could say.
        network = self.driver._network_api
        self.useFixture(
            fixtures.MockPatchObject(
                network, 'has_port_binding_extension', autospec=True, return_value=False
            )
        )

    def resources(self) -> Primitive:
        """Return what the scheduler knows of this host."""
        return dict(self.driver.get_available_resource(CONF.host))

    def mappings(self, uuid: str) -> list[Mapping]:
        """Return connection_info, device and boot index of each volume, as in the database."""
        return [
            (self._stored(one), one.device_name, one.boot_index) for one in self._mappings(uuid)
        ]

    def expect(self, uuid: str, source: str, mappings: list[Mapping]) -> None:
        """Write into this host's database what the source's has, with what Cinder
        says of the volumes for this host.
        """
        (root,) = (device for _, device, boot_index in mappings if boot_index == 0)
        instance = self._make_instance(root, uuid)
        _place(instance, source, 2)
        instance.vm_state = vm_states.ACTIVE
        instance.task_state = 'migrating'
        instance.save()
        for connection_info, device, boot_index in mappings:
            self._map(instance, connection_info, device, boot_index)

    def forget(self, uuid: str) -> None:
        """Take out of this host's database what only the other one has from now on."""
        for mapping in self._mappings(uuid):
            mapping.destroy()
        # It may come back, and is known by its uuid.
        self._instance(uuid).destroy(hard_delete=True)

    def check_at_destination(self, uuid: str, source: Primitive) -> Primitive:
        """Begin the checks, on the destination; they go on at the source.

        :param source: resources of the source
        """
        data = self.driver.check_can_live_migrate_destination(
            self.context, self._instance(uuid), source, self.resources(), block_migration=None
        )
        data.is_volume_backed = True
        return _sent(data)

    def end_check_at_destination(self, given: Primitive) -> None:
        """Take away what the source had to look for."""
        self.driver.cleanup_live_migration_destination_check(self.context, self._received(given))

    def check_at_source(self, uuid: str, given: Primitive) -> Primitive:
        """Go on with the checks, on the source."""
        instance = self._instance(uuid)
        data = self.driver.check_can_live_migrate_source(
            self.context, instance, self._received(given), self._block_device_info(instance)
        )
        return _sent(data)

    def pre_live_migration(self, uuid: str, given: Primitive) -> Primitive:
        """Connect the volumes, on the destination.

        :returns: what the source has to know of their disks here
        """
        instance = self._instance(uuid)
        info = self._block_device_info(instance)
        try:
            data = self.driver.pre_live_migration(
                self.context, instance, info, model.NetworkInfo(), None, self._received(given)
            )
            for volume in info['block_device_mapping']:
                volume.save()
        except Exception:
            for volume in info['block_device_mapping']:
                self._detach(volume, instance)
            raise
        return _sent(data)

    def live_migration(self, uuid: str, destination: str, given: Primitive) -> tuple[str, str]:
        """Let the guest move, on the source.

        Nova's driver starts it in one thread and watches it in another, and calls what
        is to be done afterwards; then it raises why it has failed.

        :returns: completed, failed or cancelled, and what was raised
        """
        instance = self._instance(uuid)
        data = self._received(given)
        data.migration = self._make_migration(uuid, destination)
        ended: list[str] = []

        def completed(*_: object) -> None:
            ended.append('completed')
            self._post_live_migration(instance, data)

        def rolled_back(*_: object, migration_status: str = 'failed') -> None:
            ended.append(migration_status)

        said = ''
        try:
            self.driver.live_migration(
                self.context, instance, destination, completed, rolled_back, False, data
            )
        except Exception as error:
            if not ended:
                raise
            said = f'{type(error).__name__}: {error}'
        (one,) = ended
        return one, said

    def slow_down(self, bandwidth: int) -> None:
        """Let migrations from here take their time.

        :param bandwidth: MiB a second; 0: no limit
        """
        CONF.set_override('live_migration_bandwidth', bandwidth, group='libvirt')

    def hold(self, volume_id: str) -> None:
        """Lock a volume, as another operation on this host would."""
        context = services.get().manager.context
        self._held = context.lock_volume(volume_id, 'look', 'nobody')

    def let_go(self) -> None:
        """Unlock what was locked."""
        self._held.release()

    def post_live_migration_at_destination(self, uuid: str) -> None:
        """Take the guest over, on the destination."""
        instance = self._instance(uuid)
        self.driver.post_live_migration_at_destination(
            self.context, instance, model.NetworkInfo(), False, self._block_device_info(instance)
        )
        _place(instance, CONF.host, 1)
        instance.task_state = None
        instance.save()

    def rollback_live_migration_at_source(self, uuid: str, given: Primitive) -> None:
        self.driver.rollback_live_migration_at_source(
            self.context, self._instance(uuid), self._received(given)
        )

    def remove_volume_connection(self, uuid: str, volume_id: str) -> None:
        """Disconnect a volume again, on the destination."""
        volume = driver_block_device.convert_volume(self._mapping(uuid, volume_id))
        self._detach(volume, self._instance(uuid))

    def rollback_live_migration_at_destination(self, uuid: str, given: Primitive) -> None:
        """Take away all else; of the volumes Nova does not speak any more here."""
        instance = self._instance(uuid)
        data = self._received(given)
        clean, destroy_disks = _cleanup_flags(data)
        if clean:
            self.driver.rollback_live_migration_at_destination(
                self.context,
                instance,
                model.NetworkInfo(),
                {**self._block_device_info(instance), 'block_device_mapping': []},
                destroy_disks=destroy_disks,
                migrate_data=data,
            )

    def _post_live_migration(self, instance: objects.Instance, data: typing.Any) -> None:
        """Clean up on the source, where the guest is no more."""
        self.driver.post_live_migration(
            self.context, instance, self._block_device_info(instance), data
        )
        self.driver.post_live_migration_at_source(self.context, instance, model.NetworkInfo())
        clean, destroy_disks = _cleanup_flags(data)
        if clean:
            self.driver.cleanup(
                self.context,
                instance,
                model.NetworkInfo(),
                destroy_disks=destroy_disks,
                migrate_data=data,
                destroy_vifs=False,
            )

    def _detach(self, volume: typing.Any, instance: objects.Instance) -> None:
        volume.driver_detach(
            self.context, instance, mock.create_autospec(cinder.API, instance=True), self.driver
        )

    def _make_migration(self, uuid: str, destination: str) -> objects.Migration:
        made = objects.Migration(
            self.context,
            instance_uuid=uuid,
            source_compute=CONF.host,
            source_node=CONF.host,
            dest_compute=destination,
            migration_type='live-migration',
            status='running',
        )
        made.create()
        return made

    def _received(self, given: Primitive) -> typing.Any:
        return base.NovaObject.obj_from_primitive(given, self.context)


def _place(instance: objects.Instance, host: str, number: int) -> None:
    """Say where it is.

    :param number: of the compute node in the database; 1 is this one
    """
    instance.host = instance.node = host
    instance.compute_id = number


def _sent(data: typing.Any) -> Primitive:
    return typing.cast(Primitive, data.obj_to_primitive())


def _cleanup_flags(data: typing.Any) -> tuple[bool, bool]:
    """Return whether there is something to clean up, and whether disks are a part of it."""
    clean, destroy_disks = manager.ComputeManager._live_migration_cleanup_flags(None, data)
    return bool(clean), bool(destroy_disks)
