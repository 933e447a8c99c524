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

"""What of a storage two operations of one host must not work on at once.

os-brick logs in to a target, counts who uses it and logs out again; two of
these at once on one target take it from under each other.
"""

from volumedrivers.connection_info import FibreChannelData
from volumedrivers.connection_info import IscsiData
from volumedrivers.connection_info import LightOSData
from volumedrivers.connection_info import NvmeData
from volumedrivers.connection_info import ProtocolData


def target_locks(data: ProtocolData) -> tuple[str, ...]:
    """Return the names of a volume's targets, sorted; none where it has none.

    Sorted, so that two volumes that share two targets lock them in one order.
    """
    return tuple(sorted({f'{kind} {name}' for kind, name in _targets(data)}))


def _targets(data: ProtocolData) -> tuple[tuple[str, str], ...]:
    if isinstance(data, IscsiData):
        return tuple(('iscsi', f'{way.portal} {way.iqn}') for way in data.targets)
    if isinstance(data, FibreChannelData):
        return tuple(('fc', wwpn) for wwpn in data.wwpns)
    if isinstance(data, NvmeData):
        return tuple(('nvme', target.nqn) for target in data.targets)
    if isinstance(data, LightOSData):
        return (('nvme', data.subsystem_nqn),)
    return ()
