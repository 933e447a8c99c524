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

"""What the guest sees, and how long it may take to let go."""

from oslo_config import cfg

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt('virt_type', default='kvm', choices=('kvm', 'qemu', 'lxc', 'parallels'), help='Hypervisor.'),
    cfg.ListOpt('disk_cachemodes', default=[], help='source type=mode, ...'),
    cfg.BoolOpt('use_default_aio_mode_for_volumes', default=False, help='Do not force io=native.'),
    cfg.StrOpt('disk_prefix', help='Prefix of target names, such as vd.'),
    cfg.IntOpt('device_detach_attempts', default=8, min=1, help='Live detach attempts.'),
    cfg.IntOpt('device_detach_timeout', default=20, min=1, help='Seconds for each.'),
    cfg.StrOpt('disk_io_mode', choices=('native', 'threads', 'io_uring'), help='Force the I/O mode of every volume.'),
    cfg.StrOpt('disk_detect_zeroes', choices=('off', 'on', 'unmap'), help='What QEMU does with zeroes.'),
    cfg.StrOpt('disk_error_policy', choices=('stop', 'report', 'ignore', 'enospace'), help='What QEMU does on an I/O error.'),
    cfg.BoolOpt('disk_qos_bursts', default=False, help='Also honour *_max_length and group_name of qos_specs, which Nova ignores.'),
    cfg.IntOpt('disk_queues', min=1, help='Queues of a virtio-blk disk.'),
    cfg.IntOpt('disk_iothread', min=1, help='IOThread of a virtio-blk disk.'),
)
