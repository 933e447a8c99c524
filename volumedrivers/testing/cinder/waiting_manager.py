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

"""A volume manager of Cinder that leaves growing an attached volume to the host.

Cinder's specification "extend volume completion action" has drivers that
cannot extend what a guest has open let the manager wait: the volume stays in
state extending until the host has said how it ended.  Of that, Cinder 29 has
the action and no manager that waits.  Cinder loads this one by option
``volume_manager``; nothing of this package imports it.
"""

import contextlib
import json
import typing

from cinder import compute
from cinder import exception
from cinder import objects
from cinder.api import api_utils
from cinder.volume import configuration
from cinder.volume import manager
from oslo_config import cfg

OPTIONS = [
    cfg.BoolOpt(
        'extended_by_host',
        default=False,
        help='Wait for the host that an attached volume of this back end is on.',
    ),
]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)

_SIZE = 'extend_new_size'
_RESERVATIONS = 'extend_reservations'


class WaitingVolumeManager(manager.VolumeManager):  # type: ignore[misc]
    """Where the back end says so; otherwise Cinder's own."""

    def __init__(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)
        if _SIZE not in api_utils._visible_admin_metadata_keys:
            api_utils._visible_admin_metadata_keys.append(_SIZE)

    def extend_volume(
        self, context: typing.Any, volume: typing.Any, new_size: int, reservations: typing.Any
    ) -> None:
        """Write the size down, tell the host, and leave the rest to the action."""
        guests = [one.instance_uuid for one in volume.volume_attachment if one.instance_uuid]
        if not self.configuration.extended_by_host or not guests:
            super().extend_volume(context, volume, new_size, reservations)
            return
        # Refused where a guest has the file open.
        with contextlib.suppress(exception.ExtendVolumeError):
            self.driver.extend_volume(volume, new_size)
        if len(guests) > 1:
            # One answer could not be that of all of them.
            self.extend_volume_completion(context, volume, new_size, reservations, error=True)
            return
        with volume.obj_as_admin():
            volume.admin_metadata[_SIZE] = str(new_size)
            volume.admin_metadata[_RESERVATIONS] = json.dumps(reservations)
            volume.save()
        if compute.API().extend_volume(context, guests, volume.id):
            return
        latest = objects.Volume.get_by_id(context.elevated(), volume.id)
        if latest.status != 'extending':
            return
        with latest.obj_as_admin():
            del latest.admin_metadata[_SIZE]
            del latest.admin_metadata[_RESERVATIONS]
            latest.save()
        self.extend_volume_completion(context, latest, new_size, reservations, error=True)
