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

"""A process that lets a guest go over to another volume, and is killed on the way.

Its only argument is what to do, as JSON.
"""

import json
import os
import pathlib
import signal
import sys
import typing

from oslo_config import cfg

from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder import bound_share


def connect(url: str) -> BlockStorage:
    """Return the Cinder at that URL; the rows of it are of no other one."""
    import openstack

    connection = openstack.connect(
        auth_type='none',
        block_storage_endpoint_override=url,
        block_storage_api_version='3',
        load_envvars=False,
        load_yaml_config=False,
    )
    return BlockStorage(connection, retries=3, pause=0.05)


def main(told: dict[str, typing.Any]) -> None:
    """Do it; come to its end only where the point is never reached."""

    conf = cfg.ConfigOpts()
    conf([])
    bootstrap.opts.register_opts(conf)
    for name, value in told['options'].items():
        conf.set_override(name, value, group='volumedrivers')
    bootstrap.setup(conf)
    point = tuple(told['point'])

    def at(*here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def progress(done: int, total: int) -> None:
        if done:
            at('swap', 'copy', 'during')

    with Hypervisor(told['libvirt']) as hypervisor:
        exports = {name: pathlib.Path(path) for name, path in told['exports'].items()}
        manager = bound_share.make_manager(conf, hypervisor, exports, observer=at)
        volumes = make_volume_manager(conf, connect(told['url']), manager)
        volumes.swap(told['guest'], told['volume'], told['new'], progress=progress)


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
