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

"""Check what this host needs for volumes, and say what to do.

Nothing is changed, and nothing can hang: each check has a deadline.
"""

from collections.abc import Callable
from collections.abc import Iterable
import typing

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.host import bootstrap
from volumedrivers.host import deadline
from volumedrivers.host import finding
from volumedrivers.host import health_paths
from volumedrivers.host import health_services

Check = Callable[[typing.Any], Iterable[finding.Finding]]

_SECONDS = 15.0


def check(conf: cfg.ConfigOpts) -> tuple[finding.Finding, ...]:
    """Look at everything.

    :param conf: has the options of group [volumedrivers] registered
    """
    options = conf.volumedrivers
    checks: tuple[tuple[str, Check], ...] = (
        ('privilege', health_paths.privilege),
        ('state path', health_paths.state_path),
        ('lock path', lambda options: health_paths.lock_path(options, _lock_path(conf))),
        ('mount point bases', health_paths.mount_point_bases),
        ('mounts', health_paths.hung_mounts),
        ('udev', health_services.udev),
        ('iscsid', health_services.iscsid),
        ('multipathd', health_services.multipath),
        ('initiator name', health_paths.initiator_name),
        ('host NQN', health_paths.host_nqn),
        ('tools', health_services.tools),
        ('kernel modules', health_services.kernel_modules),
        ('QEMU block drivers', health_services.qemu_drivers),
    )
    return tuple(found for name, function in checks for found in run(name, function, options))


def run(
    name: str, function: Check, options: typing.Any, *, seconds: float = _SECONDS
) -> tuple[finding.Finding, ...]:
    """Do one check; what goes wrong with it is a finding as well."""
    try:
        return deadline.call(
            lambda: tuple(function(options)), what=f'the check of {name}', seconds=seconds
        )
    except exception.DeadlineExceeded as error:
        return (finding.unknown(name, str(error)),)
    except (OSError, exception.VolumeDriversError) as error:
        return (finding.unknown(name, f'cannot be checked: {error}'),)


def _lock_path(conf: cfg.ConfigOpts) -> str:
    bootstrap.load_os_brick()
    # Not before os-brick was loaded in the right way.
    from volumedrivers.host import process_settings  # noqa: PLC0415

    return process_settings.lock_path(conf)
