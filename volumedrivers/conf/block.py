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

"""Volumes that become a block device of this host."""

from oslo_config import cfg

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.BoolOpt('volume_use_multipath', default=False, help='Use dm-multipath.'),
    cfg.BoolOpt('volume_enforce_multipath', default=False, help='Refuse without multipathd.'),
    cfg.IntOpt('num_volume_scan_tries', default=5, min=1, help='Scan attempts: iSCSI, FC, ScaleIO.'),
    cfg.StrOpt('iscsi_iface', help='Offload interface.'),
    cfg.StrOpt('iscsi_client', default='kernel', choices=('kernel', 'qemu'), help='Whose initiator.'),
    cfg.IntOpt('num_iser_scan_tries', default=5, min=1, help='Scan attempts: iSER.'),
    cfg.BoolOpt('iser_use_multipath', default=False, help='Use dm-multipath for iSER.'),
    cfg.IntOpt('num_nvme_discover_tries', default=5, min=1, help='Attempts: NVMe-oF, LightOS.'),
    cfg.FloatOpt('device_name_timeout', default=5.0, min=0, help='Seconds to wait for udev.'),
)
