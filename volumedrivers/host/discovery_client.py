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

"""The discovery client of Lightbits LightOS, which connects what files tell it."""

import os

from oslo_config import cfg

from volumedrivers.host import bootstrap


def forget(uuid: str) -> None:
    """Remove the file by which os-brick told it of a volume; once more is fine.

    :param uuid: the volume's
    :raises OSError: it cannot be removed
    """
    bootstrap.load_os_brick()
    from os_brick.privileged import lightos  # noqa: PLC0415 - after load_os_brick

    directory = cfg.CONF.os_brick.lightos_discovery_client_dir_path
    lightos.delete_dsc_file(os.path.join(directory, f'{uuid}.conf'))
