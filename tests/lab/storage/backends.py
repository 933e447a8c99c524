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

"""Every back end of the lab, by the name that rows use; ``up`` takes them in this order."""

BACKENDS = {
    'iscsi': 'tests.lab.storage.iscsi:IscsiBackend',
    'iser': 'tests.lab.storage.iser:IserBackend',
    'fibre_channel': 'tests.lab.storage.fibre_channel:FibreChannelBackend',
    'nvme_tcp': 'tests.lab.storage.nvmet:NvmeTcpBackend',
    'nvme_rdma': 'tests.lab.storage.nvmet:NvmeRdmaBackend',
    'nfs': 'tests.lab.storage.nfs:NfsBackend',
    'smb': 'tests.lab.storage.samba:SmbBackend',
    'gluster': 'tests.lab.storage.gluster:GlusterBackend',
    'ceph': 'tests.lab.storage.ceph:CephBackend',
    'lvm': 'tests.lab.storage.lvm:LvmBackend',
    # Stand-ins of vendors whose hardware cannot be here.
    'scaleio': 'tests.lab.standins.scaleio:ScaleIOBackend',
    'storpool': 'tests.lab.standins.storpool:StorPoolBackend',
    'lightos': 'tests.lab.standins.lightos:LightOSBackend',
    'huaweisds': 'tests.lab.standins.huawei:HuaweiBackend',
    'quobyte': 'tests.lab.standins.quobyte:QuobyteBackend',
    'vzstorage': 'tests.lab.standins.vzstorage:VzstorageBackend',
    'gpfs': 'tests.lab.standins.gpfs:GpfsBackend',
    'scality': 'tests.lab.standins.scality:ScalityBackend',
}
