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

"""iscsid and multipathd: what a host with iSCSI and multipath runs, configured for the lab."""

import pathlib
import re
import threading
import uuid

from tests.lab.storage.configfs import modprobe
from tests.lab.storage.server_process import CommandFailed
from tests.lab.storage.server_process import ServerProcess
from tests.lab.storage.server_process import run
from tests.lab.waiting import wait_until

INITIATOR_NAME = pathlib.Path('/etc/iscsi/initiatorname.iscsi')
ISCSID_CONF = pathlib.Path('/etc/iscsi/iscsid.conf')
MULTIPATH_CONF = pathlib.Path('/etc/multipath.conf')
HOSTNQN = pathlib.Path('/etc/nvme/hostnqn')
HOSTID = pathlib.Path('/etc/nvme/hostid')
UDEV_RULES = pathlib.Path('/etc/udev/rules.d/59-volumedrivers-lab.rules')
_SOCKETS = pathlib.Path('/proc/net/unix')
_SESSIONS = pathlib.Path('/sys/class/iscsi_session')

# Seconds until I/O fails on a path whose session is lost; multipath then takes the other.
REPLACEMENT_TIMEOUT = 5

# With find_multipaths off multipathd takes disks with one path as well, and
# keeps them busy when they are to be removed.
MULTIPATH = """\
defaults {
  user_friendly_names no
  find_multipaths yes
  polling_interval 2
}
blacklist {
  devnode "^(vd|loop|nvme|rbd|dm-)"
}
"""

# What is on a volume must not be found a second time, at the target's end.
LOOP_RULES = """\
SUBSYSTEM=="block", KERNEL=="loop*", OPTIONS+="nowatch", \
ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1", ENV{SYSTEMD_READY}="0"
"""

ISCSID = ServerProcess('iscsid', pathlib.Path('/run/iscsid.pid'))
MULTIPATHD = ServerProcess('multipathd', pathlib.Path('/run/multipathd.pid'))
# Several back ends come up at once.
_lock = threading.RLock()


def iscsid_up() -> None:
    """Configure and start iscsid; wait until it answers."""
    with _lock:
        initiator_name()
        text = ISCSID_CONF.read_text()
        for key, value in (
            ('iscsid.startup', '/sbin/iscsid'),
            ('node.session.timeo.replacement_timeout', str(REPLACEMENT_TIMEOUT)),
        ):
            text = set_option(text, key, value)
        write_if_other(ISCSID_CONF, text)
        pathlib.Path('/run/lock/iscsi').mkdir(parents=True, exist_ok=True)
        modprobe('iscsi_tcp')
        ISCSID.start('/sbin/iscsid', '-p', str(ISCSID.pid_file))
        wait_until(iscsid_answers, 'iscsid to listen')
        wait_until(iscsid_knows_sessions, 'iscsid to know the sessions that there are')


def iscsid_answers() -> bool:
    """Say whether iscsid takes orders."""
    return ISCSID.pid() is not None and '@ISCSIADM_ABSTRACT_NAMESPACE' in _SOCKETS.read_text()


def iscsid_knows_sessions() -> bool:
    """Say whether iscsid has taken over the kernel's sessions, as it does when it starts.

    It cannot log out of one that it has not.
    """
    if not _SESSIONS.is_dir() or not any(_SESSIONS.iterdir()):
        return True
    try:
        said = run('iscsiadm', '-m', 'session', '-P', '1')
    except CommandFailed:
        return False
    return 'Internal iscsid Session State: Unknown' not in said


def multipathd_up() -> None:
    """Configure and start multipathd; wait until it answers."""
    with _lock:
        write_if_other(MULTIPATH_CONF, MULTIPATH)
        modprobe('dm_multipath', 'dm_round_robin', 'scsi_dh_alua', 'sg')
        MULTIPATHD.start('/sbin/multipathd')
        wait_until(multipathd_answers, 'multipathd to answer')


def multipathd_answers() -> bool:
    """Say whether multipathd takes orders, and is done with its configuration."""
    if MULTIPATHD.pid() is None:
        return False
    try:
        said = run('multipathd', 'show', 'daemon')
    except CommandFailed:
        return False
    return 'idle' in said or 'running' in said


def initiator_name() -> str:
    """Return this host's name as an initiator; it gets one if it has none."""
    with _lock:
        found = _initiator_name()
        if found is None:
            found = f'iqn.2026-01.org.volumedrivers.lab:{uuid.uuid4().hex[:12]}'
            write_if_other(INITIATOR_NAME, f'InitiatorName={found}\n')
        return found


def _initiator_name() -> str | None:
    if not INITIATOR_NAME.exists():
        return None
    match = re.search(r'^InitiatorName=(\S+)', INITIATOR_NAME.read_text(), re.MULTILINE)
    return match and match[1]


def host_nqn() -> str:
    """Return this host's name for NVMe; it gets one, and an id, if it has none."""
    with _lock:
        if not HOSTID.exists() or not HOSTID.read_text().strip():
            write_if_other(HOSTID, f'{uuid.uuid4()}\n')
        if not HOSTNQN.exists() or not HOSTNQN.read_text().strip():
            name = f'nqn.2014-08.org.nvmexpress:uuid:{HOSTID.read_text().strip()}'
            write_if_other(HOSTNQN, f'{name}\n')
        return HOSTNQN.read_text().strip()


def loop_rules_up() -> None:
    """Let udev look away from loop devices."""
    with _lock:
        if write_if_other(UDEV_RULES, LOOP_RULES):
            run('udevadm', 'control', '--reload')


def set_option(text: str, key: str, value: str) -> str:
    """Return the text of a configuration with ``key = value`` in it once."""
    line = f'{key} = {value}'
    pattern = re.compile(rf'^[ #\t]*{re.escape(key)}[ \t]*=.*$', re.MULTILINE)
    found = list(pattern.finditer(text))
    active = [match for match in found if not match[0].lstrip().startswith('#')]
    if not found:
        return f'{text.rstrip()}\n{line}\n'
    chosen = (active or found)[-1]
    return text[: chosen.start()] + line + text[chosen.end() :]


def write_if_other(path: pathlib.Path, text: str) -> bool:
    """Write a file unless it says this already; return whether it was written."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True
