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

"""Where Cinder is, and as whom it is asked: the SDK's connection."""

import typing

from volumedrivers.cinder.block_storage import BlockStorage

if typing.TYPE_CHECKING:
    from oslo_config import cfg


def connect(conf: 'cfg.ConfigOpts', cloud: str | None = None) -> BlockStorage:
    """Return the Cinder of a cloud; nothing is asked yet.

    :param conf: has the options of group [volumedrivers] registered
    :param cloud: name in clouds.yaml; default: option cinder_cloud, then the
        environment, then group [cinder]
    :raises CinderNotConfigured
    """
    import openstack  # noqa: PLC0415 - slow to import

    options = conf.volumedrivers
    connection = openstack.connect(cloud=cloud or options.cinder_cloud)
    return BlockStorage(connection, retries=options.cinder_retries)
