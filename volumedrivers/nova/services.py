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

"""What all volume drivers of one nova-compute share; made when the first is asked for."""

import dataclasses
import threading
import typing

import nova.conf
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging

from volumedrivers.attachment.host_manager import HostManager
from volumedrivers.attachment.manager import make_context_of_host
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.nova import options

if typing.TYPE_CHECKING:
    from oslo_config import cfg

    from volumedrivers.libvirt.driver import Secrets
    from volumedrivers.libvirt.registry import Registry

LOG = logging.getLogger(__name__)

#: what the rows of the journal are marked with
MANAGER = 'nova'

_lock = threading.Lock()
_services: 'Services | None' = None


@dataclasses.dataclass(frozen=True)
class Services:
    """Drivers, journal and locks of this host, with Nova's options.

    :ivar secrets: libvirt's; an error of libvirt is one here, and not "there is none"
    """

    conf: 'cfg.ConfigOpts'
    registry: 'Registry'
    manager: HostManager
    secrets: 'Secrets'


def get() -> Services:
    """Return those of this process.

    :raises VolumeDriversError: this host is not fit for them
    """
    global _services  # noqa: PLW0603 - one process, one configuration
    with _lock:
        if _services is None:
            _services = make()
        return _services


def use(services: Services | None) -> None:
    """Take these, or none, so that the next who asks makes them anew."""
    global _services  # noqa: PLW0603 - one process, one configuration
    with _lock:
        _services = services


def conf_of_nova() -> 'cfg.ConfigOpts':
    """Return this package's configuration as Nova's gives it."""
    return options.make_conf(nova.conf.CONF, uri=libvirt_driver.LibvirtDriver._uri())


def make() -> Services:
    """Make them of Nova's configuration; nothing is connected or written yet."""
    conf = conf_of_nova()
    bootstrap.setup_within(conf)
    own = conf.volumedrivers
    # Nova registers libvirt's event loop, and runs it, before it connects a volume.
    hypervisor = Hypervisor(
        own.connection_uri, own_event_loop=False, answer_timeout=own.libvirt_timeout
    )
    context = make_context_of_host(conf, hypervisor, takes_over_mounts=True)
    LOG.info('The journal of volumes is below %s', own.state_path)
    return Services(
        conf=conf,
        registry=context.registry,
        manager=HostManager(context, MANAGER),
        secrets=hypervisor.secrets,
    )
