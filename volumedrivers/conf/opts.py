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

"""The options of group [volumedrivers]; nothing is registered at import.

Groups [cinder] and [service_user] are registered where Cinder is connected.
"""

import itertools

from oslo_config import cfg

from volumedrivers.conf import block
from volumedrivers.conf import cinder
from volumedrivers.conf import deadlines
from volumedrivers.conf import guest
from volumedrivers.conf import host
from volumedrivers.conf import network
from volumedrivers.conf import nova
from volumedrivers.conf import share

GROUP = cfg.OptGroup('volumedrivers', title='Volumes of libvirt guests')
OPTIONS: tuple[cfg.Opt, ...] = tuple(
    itertools.chain(
        host.OPTIONS,
        guest.OPTIONS,
        block.OPTIONS,
        share.OPTIONS,
        network.OPTIONS,
        deadlines.OPTIONS,
        cinder.OPTIONS,
        nova.OPTIONS,
    )
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register every option of the package with a configuration object."""
    # A group keeps the values of its options: one object in two configurations
    # would let each set the other's.
    conf.register_group(cfg.OptGroup(GROUP.name, title=GROUP.title))
    conf.register_opts(OPTIONS, group=GROUP.name)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return what oslo-config-generator asks for."""
    return [
        (GROUP, list(OPTIONS)),
        (cinder.CINDER_GROUP, list(cinder.CINDER_DESCRIBED)),
        (cinder.SERVICE_GROUP, list(cinder.SERVICE_DESCRIBED)),
    ]
