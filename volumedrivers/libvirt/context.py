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

"""Give the drivers the real services of this host."""

from oslo_config import cfg

from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.endpoint import Probe
from volumedrivers.host.shares import Elsewhere
from volumedrivers.host.shares import ShareMounts
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import Secrets


def make_context(
    conf: cfg.ConfigOpts,
    secrets: Secrets | None = None,
    *,
    elsewhere: Elsewhere | None = None,
    takes_over_mounts: bool = False,
) -> DriverContext:
    """Return what drivers work with on this host.

    :param conf: has the options of group [volumedrivers] registered
    :param secrets: a hypervisor's secrets; without them no network source
        that logs in can be connected
    :param elsewhere: who uses a share besides those whom the drivers count
    :param takes_over_mounts: as ShareMounts says
    """
    return DriverContext(
        conf=conf,
        devices=BlockDevices(),
        shares=ShareMounts(conf, elsewhere=elsewhere, takes_over=takes_over_mounts),
        endpoints=Probe(),
        secrets=secrets,
    )
