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

"""The iSCSI name of this host, which storage lets in by name."""

from volumedrivers import exception

# open-iscsi writes it when it is installed; only root may read it.
NAME_FILE = '/etc/iscsi/initiatorname.iscsi'


def initiator_name(configured: str | None, path: str = NAME_FILE) -> str:
    """Return the name that QEMU's initiator shows.

    :param configured: the option iscsi_initiator_name; it comes first
    :raises VolumeDriverNotSupported: there is none, or it may not be read
    """
    if configured:
        return configured
    advice = 'set iscsi_initiator_name to the name that the storage knows this host by'
    try:
        with open(path, encoding='utf-8') as lines:
            for line in lines:
                key, _, value = line.strip().partition('=')
                if key.strip() == 'InitiatorName' and value.strip():
                    return value.strip()
    except OSError as error:
        raise exception.VolumeDriverNotSupported(
            driver_volume_type='iscsi', reason=f'{path}: {error.strerror}; {advice}'
        ) from error
    raise exception.VolumeDriverNotSupported(
        driver_volume_type='iscsi', reason=f'{path} holds no InitiatorName; {advice}'
    )
