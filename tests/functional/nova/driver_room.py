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

"""Nova's LibvirtDriver on a real libvirtd, without the rest of Nova."""

import copy
import typing

from nova import block_device
from nova import context
from nova import objects
from nova.compute import power_state
from nova.compute import vm_states
import nova.conf
from nova.network import model
from nova.virt import block_device as driver_block_device
from nova.virt import driver as virt_driver
from nova.virt import fake
from nova.virt.libvirt import driver
from oslo_serialization import jsonutils
from oslo_utils import uuidutils

from tests.functional.nova.unpoisoned import Room

CONF = nova.conf.CONF


class DriverRoom(Room):
    """One LibvirtDriver; any number of instances with volumes.

    Each method does what nova-compute does with the driver, with block device
    mappings that are kept in Nova's database meanwhile.
    """

    def setUp(self) -> None:
        super().setUp()
        self.prepare()
        self.context = context.RequestContext('user', 'project', is_admin=True)
        self.context.auth_token = None
        self.driver = driver.LibvirtDriver(fake.FakeVirtAPI())
        self.driver.init_host(CONF.host)
        self.stop_with_cleanup(self.driver)

    def volume_drivers(self) -> dict[str, typing.Any]:
        return typing.cast(dict[str, typing.Any], self.driver.volume_drivers)

    def spawn(self, root: dict[str, typing.Any], device: str = 'sda', **metadata: str) -> str:
        """Start an instance that boots from a volume; return its uuid.

        :param root: connection_info of the volume
        :param metadata: properties that its image had
        """
        instance = self._make_instance(f'/dev/{device}', **metadata)
        self._map(instance, root, f'/dev/{device}', boot_index=0)
        self.driver.spawn(
            self.context,
            instance,
            instance.image_meta,
            [],
            None,
            {},
            network_info=model.NetworkInfo(),
            block_device_info=self._block_device_info(instance),
        )
        instance.vm_state = vm_states.ACTIVE
        instance.task_state = None
        instance.save()
        return str(instance.uuid)

    def destroy(self, uuid: str) -> None:
        """Delete the instance and all that it has."""
        instance = self._instance(uuid)
        self.driver.destroy(
            self.context, instance, model.NetworkInfo(), self._block_device_info(instance)
        )
        for mapping in self._mappings(uuid):
            mapping.destroy()
        instance.destroy()

    def attach(self, uuid: str, connection_info: dict[str, typing.Any], device: str) -> None:
        """Attach a volume to the running instance."""
        instance = self._instance(uuid)
        mapping = self._map(instance, connection_info, f'/dev/{device}')
        info = driver_block_device.DriverVolumeBlockDevice(mapping)['connection_info']
        self.driver.attach_volume(
            self.context, info, instance, f'/dev/{device}', disk_bus='scsi', device_type='disk'
        )
        mapping.connection_info = jsonutils.dumps(info)
        mapping.save()

    def detach(self, uuid: str, volume_id: str) -> None:
        """Detach a volume, as it is written in the database."""
        instance = self._instance(uuid)
        mapping = self._mapping(uuid, volume_id)
        self.driver.detach_volume(
            self.context, self._stored(mapping), instance, mapping.device_name
        )
        mapping.destroy()

    def extend(self, uuid: str, volume_id: str, size: int) -> None:
        """Let the instance see that a volume has become larger."""
        instance = self._instance(uuid)
        mapping = self._mapping(uuid, volume_id)
        self.driver.extend_volume(self.context, self._stored(mapping), instance, size)

    def swap(self, uuid: str, volume_id: str, new: dict[str, typing.Any]) -> None:
        """Copy a volume to another one, with which the instance goes on."""
        instance = self._instance(uuid)
        mapping = self._mapping(uuid, volume_id)
        new = copy.deepcopy(new)
        self.driver.swap_volume(
            self.context, self._stored(mapping), new, instance, mapping.device_name, 0
        )
        mapping.connection_info = jsonutils.dumps(new)
        mapping.volume_id = new['volume_id']
        mapping.save()

    def hard_reboot(self, uuid: str) -> None:
        """Destroy the guest, and make it anew from what the database says."""
        instance = self._instance(uuid)
        self.driver.reboot(
            self.context,
            instance,
            model.NetworkInfo(),
            'HARD',
            block_device_info=self._block_device_info(instance),
            share_info=objects.ShareMappingList(),
        )

    def power_off(self, uuid: str) -> None:
        """Stop the guest; its volumes stay connected."""
        self.driver.power_off(self._instance(uuid))

    def connector(self, uuid: str) -> dict[str, typing.Any]:
        """Return what Cinder is told of this host."""
        found = self.driver.get_volume_connector(self._instance(uuid))
        return dict(found)

    def stored(self, uuid: str, volume_id: str) -> dict[str, typing.Any]:
        """Return connection_info as it is in the database."""
        return self._stored(self._mapping(uuid, volume_id))

    def name(self, uuid: str) -> str:
        """Return what the guest is called in libvirt."""
        return str(self._instance(uuid).name)

    def _instance(self, uuid: str) -> objects.Instance:
        return objects.Instance.get_by_uuid(
            self.context, uuid, expected_attrs=['system_metadata', 'flavor', 'metadata']
        )

    def _make_instance(
        self, root_device: str, uuid: str | None = None, **metadata: str
    ) -> objects.Instance:
        instance = objects.Instance(
            self.context,
            host=CONF.host,
            node=CONF.host,
            compute_id=1,
            user_id='user',
            project_id='project',
            uuid=uuid or uuidutils.generate_uuid(),
            image_ref='',
            root_device_name=root_device,
            display_name='guest',
            hostname='guest',
            memory_mb=64,
            vcpus=1,
            root_gb=0,
            ephemeral_gb=0,
            os_type=None,
            architecture=None,
            ephemeral_key_uuid=None,
            task_state='spawning',
            vm_state=vm_states.BUILDING,
            power_state=power_state.NOSTATE,
            config_drive='',
            system_metadata={
                'image_hw_disk_bus': 'scsi',
                'image_hw_scsi_model': 'virtio-scsi',
                **{f'image_{name}': value for name, value in metadata.items()},
            },
        )
        instance.flavor = objects.Flavor(
            self.context, id=1, flavorid='1', name='f', memory_mb=64, vcpus=1, root_gb=0,
            ephemeral_gb=0, swap=0, rxtx_factor=1.0, vcpu_weight=0, disabled=False,
            is_public=True, extra_specs={}, description=None, projects=[],
        )  # fmt: skip
        instance.create()
        return instance

    def _map(
        self,
        instance: objects.Instance,
        connection_info: dict[str, typing.Any],
        device: str,
        boot_index: int | None = None,
    ) -> objects.BlockDeviceMapping:
        made = objects.BlockDeviceMapping(
            self.context,
            **block_device.BlockDeviceDict(
                {
                    'source_type': 'volume',
                    'destination_type': 'volume',
                    'volume_id': connection_info['volume_id'],
                    'instance_uuid': instance.uuid,
                    'boot_index': boot_index,
                    'device_name': device,
                    'disk_bus': 'scsi',
                    'device_type': 'disk',
                    'delete_on_termination': False,
                    'connection_info': jsonutils.dumps(connection_info),
                }
            ),
        )
        made.create()
        return made

    def _mappings(self, uuid: str) -> objects.BlockDeviceMappingList:
        return objects.BlockDeviceMappingList.get_by_instance_uuid(self.context, uuid)

    def _mapping(self, uuid: str, volume_id: str) -> objects.BlockDeviceMapping:
        (found,) = (one for one in self._mappings(uuid) if one.volume_id == volume_id)
        return found

    def _stored(self, mapping: objects.BlockDeviceMapping) -> dict[str, typing.Any]:
        return typing.cast(dict[str, typing.Any], jsonutils.loads(mapping.connection_info))

    def _block_device_info(self, instance: objects.Instance) -> dict[str, typing.Any]:
        found = virt_driver.get_block_device_info(instance, self._mappings(instance.uuid))
        return typing.cast(dict[str, typing.Any], found)
