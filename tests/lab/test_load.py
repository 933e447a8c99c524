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

"""Many volumes at once, on one host."""

import typing

from tests.lab.hosts.host import Host
from tests.lab.life import BENCH
from tests.lab.life import SIZE
from tests.lab.rows import MULTIPATH
from tests.lab.rpc.client import Session

TARGETS = 4
VOLUMES = 4  # on each target


def attach_all(bench: Session, volumes: list[dict[str, typing.Any]], threads: int) -> float:
    """Attach volumes, detach them, and return the seconds that attaching took."""
    return typing.cast(
        float,
        bench.call(
            'attach_many',
            timeout=900,
            connection_infos=[volume['connection_info'] for volume in volumes],
            threads=threads,
            guest='second',
        ),
    )


def test_sixteen_at_once(host: Host, record_property: typing.Any) -> None:
    """16 iSCSI volumes on 4 targets, with two paths each: all at once, and one by one."""
    storage = host.storage()
    volumes = [
        storage.make_volume(
            backend='iscsi',
            size=SIZE,
            variant={'portals': 2, 'target': f'load-{number % TARGETS}'},
        )
        for number in range(TARGETS * VOLUMES)
    ]
    bench = host.benches().open(BENCH, options=dict(MULTIPATH))
    try:
        bench.remember_traces()
        one_by_one = attach_all(bench, volumes, 1)
        assert bench.traces() == []
        at_once = attach_all(bench, volumes, len(volumes))
        assert bench.traces() == []
        record_property('figure.16 volumes one by one', round(one_by_one, 1))
        record_property('figure.16 volumes at once', round(at_once, 1))
        record_property('figure.at once over one by one', round(at_once / one_by_one, 2))
    finally:
        bench.end()
        for volume in volumes:
            storage.delete(volume_id=volume['volume_id'])
