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

"""A process that forks children which attach and detach volumes of Cinder, and die in it.

    python -m tests.functional.cinder.crash_child

As tests.functional.crash_zygote; Cinder is served by the process that asks for
the children, and may kill one while it answers.
"""

import importlib
import json
import os
import pathlib
import sys
import typing

from oslo_config import cfg

from tests.functional import crash_zygote
from tests.functional.crash_zygote import Call
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.context import Observer
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder import bound_share

# Not at their first use, in every child again.
PRELOADED = (
    'keystoneauth1.token_endpoint',
    'openstack.block_storage.v3._proxy',
    'openstack.connection',
    'oslo_utils.imageutils.format_inspector',
    'requests.adapters',
    'volumedrivers.libvirt.drivers.iscsi',
    'volumedrivers.libvirt.drivers.nfs',
)
HOST = 'this-host'
CONNECTOR = {
    'host': HOST,
    'ip': '127.0.0.1',
    'initiator': 'iqn.2020-01.test:this-host',
    'multipath': False,
    'platform': 'x86_64',
    'os_type': 'linux',
}


def connect(url: str) -> BlockStorage:
    """Return the Cinder that is served there."""
    from keystoneauth1 import session
    from keystoneauth1 import token_endpoint
    from openstack import connection

    made = session.Session(auth=token_endpoint.Token(endpoint=url, token='notused'))
    return BlockStorage(
        connection.Connection(
            session=made,
            block_storage_api_version='3',
            block_storage_endpoint_override=url,
            block_storage_default_microversion='3.71',
        ),
        retries=2,
        pause=0.05,
    )


def make_manager(
    conf: cfg.ConfigOpts,
    hypervisor: Hypervisor,
    storage: BlockStorage,
    exports: typing.Mapping[str, str],
    observer: Observer | None = None,
) -> VolumeManager:
    """Return a manager of this host, as every process of it has one."""
    places = {name: pathlib.Path(place) for name, place in exports.items()}
    inner = bound_share.make_manager(conf, hypervisor, places, observer=observer)
    return make_volume_manager(conf, storage, inner, connector=lambda: CONNECTOR)


def perform(manager: VolumeManager, guest: str, call: Call) -> object:
    """Carry one operation out."""
    name, *arguments = call
    if name == 'attach':
        return manager.attach(guest, *arguments, DiskRequest(bus='scsi')).to_dict()
    if name == 'detach':
        return manager.detach(guest, *arguments).to_dict()
    if name == 'refresh':
        return manager.refresh(guest, *arguments).to_dict()
    outcomes = manager.recover()
    return [(one.action, one.detail) for one in outcomes]


def child(order: dict[str, typing.Any], conf: cfg.ConfigOpts) -> object:
    pathlib.Path(order['pid file']).write_text(str(os.getpid()))
    crash = crash_zygote.Crash(order.get('kill'), order.get('fail'))
    with Hypervisor(order['uri']) as hypervisor:
        manager = make_manager(
            conf, hypervisor, connect(order['url']), order['exports'], crash.observe
        )
        answer: object = None
        for call in order['calls']:
            crash.armed = call is order['calls'][-1]
            answer = perform(manager, order['guest'], call)
        return answer


def main() -> int:
    conf = crash_zygote.make_conf(json.loads(sys.stdin.readline()))
    for name in PRELOADED:
        importlib.import_module(name)
    print(json.dumps({'ready': True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(crash_zygote.fork(json.loads(line), conf, child)), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
