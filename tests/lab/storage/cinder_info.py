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

"""What Cinder wraps around a driver's data before a host gets it."""

import typing


def connection_info(
    driver_volume_type: str,
    volume_id: str,
    data: dict[str, typing.Any],
    *,
    encrypted: bool = False,
    multiattach: bool = False,
) -> dict[str, typing.Any]:
    """Return a connection_info as an attachment of Cinder has it.

    :param data: what the volume driver answers to initialize_connection
    """
    return {
        'driver_volume_type': driver_volume_type,
        'data': {
            'volume_id': volume_id,
            'access_mode': 'rw',
            'qos_specs': None,
            'encrypted': encrypted,
            'cacheable': False,
            **data,
        },
        'serial': volume_id,
        'volume_id': volume_id,
        'multiattach': multiattach,
    }
